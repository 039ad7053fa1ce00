"""Which coordinates a round's inner products come from, and which vectors those do not show as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.compressors import Compressor, Payload
from flwr_robustcomp.compressors.products import energies_of_runs, runs_of, scale_of
from flwr_robustcomp.filters import Matrix
from flwr_robustcomp.randomness import generator

__all__ = ["Runs", "Shown", "choose_runs", "misleading", "shown"]

Runs = npt.NDArray[np.intp]
"""The runs of coordinates that a sketch takes from one span."""

_DEVIATIONS = 5.0
"""Standard errors within which chance explains a difference: beyond, once in a million and a half vectors for a normal one."""
_HIDDEN = 8.0
"""Beyond chance, how many times the squared length that a sketch shows the true one may be, or the other way round."""
_TYPICAL = 2.0
"""The same for the median over the vectors; beyond it the sketch shows nobody as they are."""


@dataclass(frozen=True)
class Shown:
    """What a sketch shows of m vectors.

    Attributes
    ----------
    squares : numpy.ndarray, shape (m,), float64
        Estimated squared lengths, without bias.
    errors : numpy.ndarray, shape (m,), float64
        Their standard errors, estimated from the same coordinates.
    """

    squares: Matrix
    errors: Matrix


def choose_runs(sizes: Sequence[int], size: int | None, seed: int, server_round: int) -> list[Runs] | None:
    """Return the runs that a round's sketch takes from each span; None for all of them.

    Parameters
    ----------
    sizes : sequence of int
        Coordinates of each span.
    size : int or None
        About how many coordinates to take in all.
    seed : int
        The strategy's.
    server_round : int
        t.
    """
    share = 1.0 if size is None else size / sum(sizes)
    if share >= 1:
        return None
    rng = generator(seed, "sketch", round_=server_round)
    counts = [max(1, round(share * runs_of(d))) for d in sizes]
    return [np.sort(rng.permutation(runs_of(d))[:count]) for d, count in zip(sizes, counts, strict=True)]


def shown(compressors: Sequence[Compressor], vectors: Sequence[Sequence[Payload]], runs: Sequence[Runs]) -> Shown:
    """Return what runs of coordinates show of vectors, each given as one payload for each span."""
    squares, variances = np.zeros(len(vectors)), np.zeros(len(vectors))
    for i, payloads in enumerate(vectors):
        for compressor, payload, chosen in zip(compressors, payloads, runs, strict=True):
            energies = energies_of_runs(compressor.decompress(payload).reshape(-1), chosen)
            squares[i] += energies.sum() * scale_of(payload.size, chosen)
            unseen = 1 - chosen.size / runs_of(payload.size)
            if chosen.size > 1:  # a sum of s out of N, drawn without replacement
                variances[i] += runs_of(payload.size) ** 2 / chosen.size * unseen * float(energies.var(ddof=1))
    return Shown(squares, np.sqrt(variances))


def misleading(norms: Matrix, seen: Shown) -> npt.NDArray[np.bool_] | None:
    """Return which vectors a sketch does not show as they are, shape (m,); None where it shows nobody so.

    Parameters
    ----------
    norms : numpy.ndarray, shape (m,), float64
        Exact l2 norms.
    seen : Shown
        What the sketch shows.

    Notes
    -----
    Length that lies in coordinates that nobody looks at has no inner products: a filter cannot judge it. A vector is misleading
    where its squared length and the one that the sketch shows differ by more than a factor of 8 beyond what chance explains, 5
    standard errors of the estimate. The errors come from the coordinates that were looked at, so that energy in a few others
    does not excuse itself. The factor leaves room for honest vectors of uneven arrays. What hides within it is, chance apart,
    less than three times as long as it looks.
    """
    squares = np.square(norms)
    there = squares > 0
    if not there.any():
        return np.zeros(norms.size, np.bool_)
    typical = float(np.median(seen.squares[there] / squares[there]))
    if not 1 / _TYPICAL <= typical <= _TYPICAL or not math.isfinite(typical):
        return None
    room = _DEVIATIONS * seen.errors
    return np.asarray((squares > _HIDDEN * (seen.squares + room)) | (seen.squares - room > _HIDDEN * squares))
