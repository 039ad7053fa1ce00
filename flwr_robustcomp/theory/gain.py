"""How much longer than an honest vector one can be that a sender of its own bytes gets past the norm threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch

from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.errors import require
from flwr_robustcomp.randomness import generator

__all__ = ["SortRule", "gain", "typical_length"]

SortRule = Literal["reported", "larger", "compressed"]
"""The norm that replies are sorted by: the reported ||x||, the larger of it and ||Q(x)||, or ||Q(x)||."""

_DRAWS = 10


def gain(longest: float, typical: float, *, rule: SortRule, embeds_norm: bool = True) -> float:
    """Return the length of the longest payload that is sorted beside an honest one, in units of that one's length.

    Parameters
    ----------
    longest : float
        The largest ||Q'||_2 of a payload Q' that the server believes to have ||x||_2 = 1; infinite where there is none. The
        sender of Q' chooses its bytes, so it chooses x, the draws and the report.
    typical : float
        ||Q(x)||_2 of an honest x with ||x||_2 = 1, as `typical_length` measures it.
    rule : {"reported", "larger", "compressed"}
        What replies are sorted by.
    embeds_norm : bool
        Whether Q is C_norm. If not, the server sorts by the report whatever the rule, `strategies.sort_norm.sort_norm`.

    Notes
    -----
    Lengths are proportional to the announced norm or scale, so all that is sent may be multiplied by one number.

    - "reported": the honest vector is sorted by 1, and so is Q' with its report of 1.
    - "larger": the honest vector is sorted by r = max(1, typical), and a multiple c Q' by c max(1, longest). At equality c
      longest = min(longest, 1) r. That is at most r, and r is at most 1 + sqrt(1 - delta): what Theorems 1 and 2 allow for.
    - "compressed": what is sorted by is the length itself.

    What is left under "larger" is what the honest compressor loses of its own x, at most 1 / typical: near 1 where delta is
    near 1. Only "compressed" leaves nothing.
    """
    require(rule in get_args(SortRule), "rule", rule, f"one of {', '.join(get_args(SortRule))}")
    require(longest > 0, "longest", longest, "positive")
    require(0 < typical < math.inf, "typical", typical, "positive and finite")
    if rule == "reported" or not embeds_norm:
        return longest / typical
    return min(longest, 1.0) * max(1.0, typical) / typical if rule == "larger" else 1.0


def typical_length(compressor: Compressor, shape: Sequence[int], seed: int = 0) -> float:
    """Return the root mean square of ||Q(x)||_2 over Gaussian x with ||x||_2 = 1, each with draws and a round of its own."""
    total = 0.0
    for round_ in range(1, _DRAWS + 1):
        rng = generator(seed, "typical length", round_=round_)
        x = torch.from_numpy(rng.standard_normal(tuple(shape)))
        mine = compressor.for_round(round_)
        total += mine.norm(mine.compress(x / torch.linalg.vector_norm(x), rng)) ** 2
    return math.sqrt(total / _DRAWS)
