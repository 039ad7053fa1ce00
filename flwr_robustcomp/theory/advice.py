"""What the theorems say to somebody who is about to choose a compressor and a trim."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from flwr_robustcomp.compressors import Compressor, Drive, Eden
from flwr_robustcomp.errors import require
from flwr_robustcomp.randomness import generator
from flwr_robustcomp.theory.catalogue import CATALOGUE
from flwr_robustcomp.theory.conditions import Theorem, allowed_trims, largest_byzantine
from flwr_robustcomp.theory.cost import Traffic, traffic
from flwr_robustcomp.theory.coverage import Adversary, Coverage, cover, deciding_form
from flwr_robustcomp.theory.lag import lag_factor

__all__ = ["Advice", "Down", "advise", "gaussian_delta"]

_LARGEST_DIMENSION = 10**8


@dataclass(frozen=True)
class Down:
    """What the server may send for nodes to train from, in the three forms, and how far a replica lags.

    Attributes
    ----------
    replica, model : Compressor
        Of the changes of a shared replica, and of the model itself.
    dense, quantised, shared : Traffic
        Of a round in single precision, both ways, where every node gets the model as it is, the model packed, or the change of
        the replica.
    lags : tuple of (float or None, float or None)
        `lag_factor` of the replica's guaranteed delta and of the one on a Gaussian vector; None where there is no bound.
    """

    replica: Compressor
    model: Compressor
    dense: Traffic
    quantised: Traffic
    shared: Traffic
    lags: tuple[float | None, float | None]


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
    down : Down
        What a round costs in both directions.
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
    down: Down


def advise(
    compressor: Compressor,
    *,
    nodes: int,
    byzantine: int,
    trim: int | None = None,
    dimension: int = 1000,
    error_feedback: bool = False,
    adversary: Adversary = "arbitrary",
    replica: Compressor | None = None,
    model: Compressor | None = None,
) -> Advice:
    """Hold a configuration against Theorems 1 and 2, and count what it sends.

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
    replica, model : Compressor, optional
        What packs the changes of a shared replica, by default `Drive`, and the model where nobody keeps a replica, by default
        four bits of `Eden`.

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
        _down(
            compressor,
            Drive() if replica is None else replica,
            Eden(bits=4) if model is None else model,
            nodes,
            dimension,
        ),
    )


def _down(up: Compressor, replica: Compressor, model: Compressor, nodes: int, dimension: int) -> Down:
    dense, quantised, shared = (traffic(up, down, nodes, (dimension,)) for down in (None, model, replica))
    deltas = (replica.delta_of((dimension,)), gaussian_delta(replica, dimension))
    # A delta of zero or less is no contraction: what was dropped may grow from round to round.
    guaranteed, typical = (None if delta is None or delta <= 0 else lag_factor(min(delta, 1.0)) for delta in deltas)
    return Down(replica, model, dense, quantised, shared, (guaranteed, typical))


def gaussian_delta(compressor: Compressor, dimension: int, seed: int = 0) -> float:
    """Return the delta of a compressor on one vector of independent standard normal entries, float32."""
    rng = generator(seed, "typical vector")
    x = torch.from_numpy(rng.standard_normal(dimension, dtype="float32"))
    return compressor.measured_delta(x, rng)
