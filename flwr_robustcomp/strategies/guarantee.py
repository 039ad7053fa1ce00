"""One line at the start of a run that Theorems 1 and 2 do not cover."""

from __future__ import annotations

import math
from collections.abc import Sequence
from logging import INFO, WARNING

from flwr_robustcomp.filters import Filter
from flwr_robustcomp.filters.base import trim_of
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.packing import Packing
from flwr_robustcomp.rules import Rule
from flwr_robustcomp.spans import Span
from flwr_robustcomp.theory import Adversary, Theorem, cover, shortfall

__all__ = ["delta_of_spans", "guarantee_line", "length_line"]


def delta_of_spans(spans: Sequence[Span]) -> float | None:
    """Return what is guaranteed for a model: the smallest delta over the vectors that it is compressed as.

    sum_a ||Q(x_a) - x_a||^2 <= sum_a (1 - delta_a) ||x_a||^2 <= (1 - min_a delta_a) ||x||^2.
    """
    deltas = [span.compressor.delta_of(span.shape) for span in spans]
    known = [delta for delta in deltas if delta is not None]
    return min(known) if len(known) == len(deltas) else None


def guarantee_line(
    packing: Packing,
    layout: Layout,
    nodes: int,
    trim: int | float,
    *,
    theorem: Theorem,
    norm_order: float = 2,
    adversary: Adversary = "arbitrary",
) -> tuple[int, str] | None:
    """Say in one line why a configuration is outside the theory.

    Parameters
    ----------
    packing : Packing
        How updates travel. Each of its compressors is held against the theorem with the smallest delta of all vectors.
    layout : Layout
        Of the model.
    nodes : int
        m, the nodes asked in the first round.
    trim : int or float
        As configured. How many nodes are Byzantine a server does not know: as many as the trim is for, alpha = beta.
    theorem : {1, 2}
        1 where replies are sorted by the reported norm, 2 by the compressed one.
    norm_order : float
        q.
    adversary : {"restricted", "arbitrary"}
        What Byzantine nodes may do. A deployed server cannot know that they compress honestly; a simulation does.

    Returns
    -------
    (int, str) or None
        A logging level and the line; None where a theorem covers the run. The level is WARNING where no vector could put the
        run inside the theorem, and INFO where the compressor merely does not guarantee the delta, which most vectors may have:
        the scaled sign guarantees 1/d, and has 2/pi on Gaussian vectors.
    """
    trimmed = trim_of(trim, nodes)
    if 2 * trimmed >= nodes:
        return None  # the round says so itself
    delta = delta_of_spans(packing.spans(layout))
    lines: list[tuple[int, str]] = []
    for compressor in packing.compressors:
        coverage = cover(
            compressor,
            delta,
            nodes=nodes,
            byzantine=trimmed,
            trim=trimmed,
            theorem=theorem,
            adversary=adversary,
            norm_order=norm_order,
        )
        if (why := shortfall(coverage, compressor)) is not None:
            said = (
                f"Theorem {theorem} does not cover {trimmed} Byzantine of {nodes} nodes, the worst that trim={trim} is for: "
                f"{why} (docs/theory.md)"
            )
            lines.append((INFO if coverage.would_be(1.0) else WARNING, said))
    return max(lines, key=lambda line: line[0], default=None)


def length_line(filters: Sequence[Filter], rule: Rule, nodes: int, trim: int, reach: float) -> str:
    """Say in one line what is proved of filters and a rule that no theorem of the paper is about, and what is not.

    Parameters
    ----------
    filters, rule
        Of the strategy.
    nodes, trim : int
        m, and how many Byzantine nodes among them are expected.
    reach : float
        How many times as long as the longest honest update the aggregate can be; infinite where nothing is promised.
    """
    named = f"the filters {', '.join(one.name for one in filters)}" if filters else "no filters"
    head, who = f"no theorem covers {named} with the rule {rule.name}", f"with at most {trim} Byzantine of {nodes} nodes"
    if not math.isfinite(reach):
        return f"{head}: nothing is proved {who}, not even a bound on the length of the aggregate (docs/threat-model.md)"
    bound = f"the aggregate is at most {reach:.3g} times as long as the longest honest update"
    return f"{head}: proved is only that {bound}, {who}; its error and the rate of the run are not (docs/threat-model.md)"
