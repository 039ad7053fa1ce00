"""What the theorems say to somebody who is about to choose a compressor and a trim."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.errors import require
from flwr_robustcomp.randomness import generator
from flwr_robustcomp.theory.catalogue import CATALOGUE
from flwr_robustcomp.theory.conditions import Theorem, allowed_trims, largest_byzantine
from flwr_robustcomp.theory.cost import Cost, uplink
from flwr_robustcomp.theory.coverage import Adversary, Coverage, cover, deciding_form

__all__ = ["Advice", "advise", "gaussian_delta"]

_LARGEST_DIMENSION = 10**8


@dataclass(frozen=True)
class Advice:
    """A configuration, how it stands, and what stands better.

    Attributes
    ----------
    compressor : Compressor
        Q.
    nodes, byzantine, trim, dimension : int
        m, alpha m, beta m and d.
    error_feedback : bool
        Whether clients keep residuals.
    guaranteed : float or None
        What Q guarantees for d coordinates.
    typical : float
        What Q had on one Gaussian vector, drawn and compressed here and now.
    coverages : tuple of Coverage
        Theorems 1 and 2.
    most_byzantine : tuple of (int or None, int or None)
        The most Byzantine nodes that the guaranteed and the typical delta allow, trimming as many.
    trims : tuple of (range, range)
        The trims that they allow against ``byzantine``.
    alternatives : tuple of (Compressor, bool, bool)
        The catalogue, and whether Theorem 1 and Theorem 2 would cover it by its guarantee.
    cost : Cost
        Of a round, in single precision.
    """

    compressor: Compressor
    nodes: int
    byzantine: int
    trim: int
    dimension: int
    error_feedback: bool
    guaranteed: float | None
    typical: float
    coverages: tuple[Coverage, Coverage]
    most_byzantine: tuple[int | None, int | None]
    trims: tuple[range, range]
    alternatives: tuple[tuple[Compressor, bool, bool], ...]
    cost: Cost


def advise(
    compressor: Compressor,
    *,
    nodes: int,
    byzantine: int,
    trim: int | None = None,
    dimension: int = 1000,
    error_feedback: bool = False,
    adversary: Adversary = "arbitrary",
) -> Advice:
    """Hold a configuration against Theorems 1 and 2.

    Parameters
    ----------
    compressor : Compressor
        Q.
    nodes, byzantine : int
        m and alpha m.
    trim : int, optional
        beta m; by default ``byzantine``, the smallest that any theorem covers.
    dimension : int
        d, at most 10^8.
    error_feedback : bool
        Whether clients keep residuals.
    adversary : {"restricted", "arbitrary"}
        As for `cover`.

    Raises
    ------
    ConfigurationError
        For a value out of range.
    """
    require(nodes >= 1, "nodes", nodes, "at least 1")
    require(0 <= 2 * byzantine < nodes, "byzantine", byzantine, f"in [0, nodes/2 = {nodes / 2:g})")
    trim = byzantine if trim is None else trim
    allowed = f"in [byzantine = {byzantine}, nodes/2 = {nodes / 2:g}): no theorem covers a trim of fewer than are Byzantine"
    require(byzantine <= trim and 2 * trim < nodes, "trim", trim, allowed)
    require(1 <= dimension <= _LARGEST_DIMENSION, "dimension", dimension, "in [1, 10**8]")
    compressor.check_shape((dimension,))
    guaranteed, typical = compressor.delta_of((dimension,)), gaussian_delta(compressor, dimension)

    def held(other: Compressor, theorem: Theorem) -> Coverage:
        delta = other.delta_of((dimension,))
        counts = {"nodes": nodes, "byzantine": byzantine, "trim": trim}
        return cover(other, delta, **counts, theorem=theorem, adversary=adversary, error_feedback=error_feedback)

    deltas, form = (guaranteed, typical), deciding_form(compressor)
    first, second = (largest_byzantine(delta, nodes, form=form) for delta in deltas)
    low, high = (allowed_trims(delta, nodes, byzantine, form=form) for delta in deltas)
    shown = [other for entry in CATALOGUE.values() if not entry.matrix for other in entry.configurations]
    return Advice(
        compressor,
        nodes,
        byzantine,
        trim,
        dimension,
        error_feedback,
        guaranteed,
        typical,
        (held(compressor, 1), held(compressor, 2)),
        (first, second),
        (low, high),
        tuple((other, held(other, 1).covered, held(other, 2).covered) for other in shown),
        uplink(compressor, nodes, (dimension,)),
    )


def gaussian_delta(compressor: Compressor, dimension: int, seed: int = 0) -> float:
    """Return the delta of a compressor on one vector of independent standard normal entries, float32."""
    rng = generator(seed, "typical vector")
    x = torch.from_numpy(rng.standard_normal(dimension, dtype="float32"))
    return compressor.measured_delta(x, rng)
