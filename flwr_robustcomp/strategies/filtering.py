"""A chain of filters on the updates of a round, for as many liars as they can work against with what came."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import Filter, Matrix, Vectors, chain_rows, fitted
from flwr_robustcomp.filters.base import trim_of
from flwr_robustcomp.strategies.round import Round

__all__ = ["filtered"]


def filtered(filters: Sequence[Filter], vectors: Vectors, round_: Round, stopped: int) -> tuple[Matrix, str | None]:
    """Return what filters leave, shape (k, m), and for whom of the expected liars they no longer work, in words.

    Where they have too few, faulty replies spend the trim. Where that is not enough, shares fit what came (`fitted`), as
    long as one of the filters still works against somebody.

    Parameters
    ----------
    filters : sequence of Filter
        With the trims of the configuration.
    vectors : Vectors
        m of them.
    round_ : Round
        All that was accepted.
    stopped : int
        How many of it a screen has dropped already.

    Raises
    ------
    ConfigurationError
        If the filters need more than came.
    """
    count = len(round_)

    def spent(*, short: bool) -> list[Filter]:
        trims = [trim_of(round_.left_to_trim(one.trim, short=short), count) for one in filters]
        return [replace(one, trim=max(0, trim - stopped)) for one, trim in zip(filters, trims, strict=True)]

    for short in (False, True):
        with contextlib.suppress(ConfigurationError):
            return chain_rows(spent(short=short), vectors), None
    wanted = spent(short=True)
    fit = fitted(wanted, len(vectors), [isinstance(one.trim, float) for one in filters])
    if not any(one.trim for one in fit):
        return chain_rows(wanted, vectors), None  # raises, with what the filters need
    told = [f"{one.name} for {one.trim} of {full.trim}" for one, full in zip(fit, wanted, strict=True) if one != full]
    return chain_rows(fit, vectors), ", ".join(told)
