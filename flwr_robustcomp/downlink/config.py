"""How a server sends the model: the one value that says which forms it may take."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from flwr_robustcomp.compressors import Compressor, Drive, Eden
from flwr_robustcomp.errors import require

__all__ = ["DOWNLINKS", "Downlink", "dense_model", "quantised_model", "shared_replica"]


_MANY = 2**20
"""Coordinates of an array whose size tells two compressors apart."""


def _quantiser(bits: int) -> Compressor:
    """Return the compressor of so many bits a coordinate; both draw their rotation from the version that is sent."""
    return Drive() if bits == 1 else Eden(bits=bits)


@dataclass(frozen=True)
class Downlink:
    """How the model travels from the server to the nodes; each gets the form of the fewest bytes that it can read.

    Parameters
    ----------
    replica : Compressor or sequence of Compressor, optional
        What the changes of the shared replica go through. Of several, from the coarsest to the finest, a round takes the first
        that keeps the replica near enough to the model (``lag``). None for no replica.
    model : Compressor, optional
        What the whole model goes through for a node that holds no replica, its first round included. None for the dense
        model.
    lag : float
        How far the replica may be behind the model after a round, ||w - v||, in lengths of the longest of the model's last
        ten steps; positive. Steps grow shorter as a run converges, and coarse changes are then near enough.
    keep : int, optional
        K, how many changes the server keeps for nodes that missed rounds. By default as many as are together smaller than the
        model in the cheapest other form: more of them would never be sent.
    resends : int
        How many times in a round a node gets the model again because it could not read what it got.
    uncompressed : sequence of str
        Shell patterns of floating arrays that travel as they are.

    Raises
    ------
    ConfigurationError
        For neither replica nor model, a compressor that draws at random or does not unpack to the same bits everywhere, and a
        number out of range.

    Notes
    -----
    *Shared replica* (primal error feedback: EF21-P, Gruntkowska, Tyurin and Richtarik 2023). Server and nodes hold the same v;
    the server sends C(w - v), and both add it. Nodes train from v, and their updates, taken against v, move w. What C drops
    stays in w - v and is sent later, so that any contraction will do. That the two are the same bit for bit rests on
    compressors whose ``decode`` is exact (`Compressor.exact_decode`); a digest travels with each version and tells if they are
    not.

    *Rotations* are those of the version that is sent, which its bytes name. A compressor that draws from a generator of its
    own is refused: it is no contraction for every draw, and a run that goes on from a checkpoint would draw anew.

    Examples
    --------
    >>> from flwr_robustcomp import Downlink, Drive, NormThreshold
    >>> strategy = NormThreshold(compressor=Drive(), trim=1, downlink=Downlink())
    >>> Downlink(keep=0)
    Traceback (most recent call last):
        ...
    flwr_robustcomp.errors.ConfigurationError: downlink.keep must be an integer from 1, or None, got 0
    """

    replica: Compressor | Sequence[Compressor] | None = field(default_factory=lambda: tuple(map(_quantiser, (1, 2))))
    model: Compressor | None = field(default_factory=lambda: _quantiser(4))
    lag: float = 0.6
    keep: int | None = None
    resends: int = 1
    uncompressed: tuple[str, ...] = ("*running_mean", "*running_var")

    def __post_init__(self) -> None:
        rungs = () if self.replica is None else self.replica
        rungs = (rungs,) if isinstance(rungs, Compressor) else tuple(rungs)
        object.__setattr__(self, "replica", rungs or None)
        require(bool(rungs) or self.model is not None, "downlink", "neither replica nor model", "one of the two at least")
        for name, one in [*(("replica", rung) for rung in rungs), *([] if self.model is None else [("model", self.model)])]:
            _check(f"downlink.{name}", one)
        if self.model is not None:
            allowed = "a compressor whose size follows from the shape alone (drive, eden): nothing else bounds the model"
            require(self.model.exact_size and not self.model.sparse, "downlink.model", self.model.name, allowed)
            for rung in rungs:  # else every node would get the whole model, and never hold a replica again
                larger = rung.encoded_size(_MANY, torch.float32) > self.model.encoded_size(_MANY, torch.float32)
                require(not larger, "downlink.replica", rung.name, "smaller than the whole model goes through downlink.model")
        real = isinstance(self.lag, int | float) and not isinstance(self.lag, bool)
        require(real and 0 < self.lag < math.inf, "downlink.lag", self.lag, "positive and finite")
        require(self.keep is None or _is_count(self.keep, 1), "downlink.keep", self.keep, "an integer from 1, or None")
        require(_is_count(self.resends, 0), "downlink.resends", self.resends, "an integer from 0")

    @property
    def rungs(self) -> tuple[Compressor, ...]:
        """What a change of the replica may go through, the coarsest first; empty for no replica."""
        return tuple(self.replica or ())  # type: ignore[arg-type]  # __post_init__ made it a tuple


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check(name: str, compressor: Compressor) -> None:
    require(isinstance(compressor, Compressor), name, compressor, "a Compressor")
    shared = "a compressor that draws nothing, or from the round's shared seed (drive, eden)"
    require(not compressor.randomized, name, compressor.name, shared)
    require(compressor.exact_decode, name, compressor.name, "a compressor that unpacks to the same bits on every machine")
    require(not compressor.wants_matrices, name, compressor.name, "a compressor of arrays of every shape")


def shared_replica(bits: int = 0, model_bits: int = 4, lag: float = 0.6, keep: int = 0, resends: int = 1) -> Downlink:
    """Return a downlink with a shared replica.

    Parameters
    ----------
    bits : int
        Of a coordinate of each change, in [1, 8]; 0 to choose between 1 and 2 in each round by ``lag``.
    model_bits : int
        Of a coordinate where the whole model is sent, in [1, 8]; 0 for the dense model.
    lag, keep, resends
        Those of `Downlink`; ``keep = 0`` for its default.
    """
    _check_bits("downlink.bits", bits)
    _check_bits("downlink.model_bits", model_bits)
    rungs = (bits,) if bits else (1,) if model_bits == 1 else (1, 2)
    model = _quantiser(model_bits) if model_bits else None
    return Downlink(tuple(map(_quantiser, rungs)), model, lag=lag, keep=keep or None, resends=resends)


def quantised_model(bits: int = 4) -> Downlink:
    """Return a downlink without memory on either side: the whole model each time, so many bits a coordinate, in [1, 8]."""
    require(_is_count(bits, 1) and bits <= 8, "downlink.bits", bits, "an integer in [1, 8]")
    return Downlink(None, _quantiser(bits))


def dense_model() -> None:
    """Return no downlink: the model travels as Flower sends it."""
    return


def _check_bits(name: str, bits: object) -> None:
    require(_is_count(bits, 0) and int(str(bits)) <= 8, name, bits, "an integer in [0, 8]")


DOWNLINKS: dict[str, Callable[..., Downlink | None]] = {
    "replica": shared_replica,
    "quantised": quantised_model,
    "dense": dense_model,
}
"""What ``downlink`` may be in a table: a run config's or a scenario's."""
