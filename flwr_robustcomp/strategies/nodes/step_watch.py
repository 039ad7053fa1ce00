"""Whether a round's step is out of line with the last ones: the sign of a model that was frozen or thrown."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable

__all__ = ["StepWatch"]

_REMEMBERED = 10
_TIMES = 1000.0


class StepWatch:
    """The lengths of the last ten steps that moved the model, and what they say about the next one.

    Parameters
    ----------
    norms : iterable of float
        Those of an earlier part of the run.

    Notes
    -----
    An adaptive step that a huge reply froze is zero from then on, and a model that an attack threw is far away after one step.
    Neither shows in the counts of kept and trimmed replies. One step of ten moves their median little.

    Examples
    --------
    >>> watch = StepWatch()
    >>> [watch.judge(norm) for norm in (1.0, 0.9, 5000.0, 0.0)]
    [None, None, 'the step is 5e+03 long, the last ones 0.95 (median)', 'the step is zero: the model stays as it is']
    """

    def __init__(self, norms: Iterable[float] = ()) -> None:
        self.norms = deque(norms, maxlen=_REMEMBERED)

    def judge(self, norm: float) -> str | None:
        """Return what is wrong with a step of this length, None if nothing is; remember it."""
        if norm == 0:
            return "the step is zero: the model stays as it is"
        usual = statistics.median(self.norms) if self.norms else math.inf
        self.norms.append(norm)
        return f"the step is {norm:.3g} long, the last ones {usual:.3g} (median)" if norm >= _TIMES * usual else None
