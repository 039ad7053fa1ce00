"""Mimic: every Byzantine node repeats one honest node, so that its data counts for many (Karimireddy, He and Jaggi 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen

__all__ = ["Memory", "Mimic"]


@dataclass(frozen=True)
class Memory:
    """What mimic has learnt.

    Attributes
    ----------
    rounds : int
        Rounds seen, at most the warm-up's.
    direction : Tensor or None
        z, shape (d,), of norm one: the direction in which the honest differ most.
    scores : mapping of int to float
        sum over the rounds of <z, x_i - mean> for each node.
    """

    rounds: int = 0
    direction: Tensor | None = None
    scores: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Mimic(Collusion):
    """Send x_i* of the honest node i* that lies farthest along the leading direction (Karimireddy et al. 2022, section 3.2).

    Parameters
    ----------
    warmup : int
        Rounds in which z and i* are learnt, at least 1; then i* is kept. In a round without i* the next best stands in.

    Notes
    -----
    z is learnt by Oja's rule, one power iteration a round: z' is proportional to t z + sum_i <x_i - mean, z> (x_i - mean), with
    the honest vectors centred and scaled to a total square of one, so that no round outweighs another; projections are of
    these vectors too, so that a large common mean chooses nobody. Every vector sent is one that an honest node sent: no
    filter on single vectors can find it, and where nodes have the same data it does no harm.
    """

    warmup: int = 10

    name: ClassVar[str] = "mimic"

    def __post_init__(self) -> None:
        require(self.warmup >= 1, "warmup", self.warmup, "at least 1")

    def init(self) -> Memory:
        """Return an empty memory."""
        return Memory()

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return the mimicked node's vector; learn while warming up."""
        memory: Memory = state
        if memory.rounds < self.warmup:
            memory = _learn(seen, memory)
        best = max(range(len(seen.nodes)), key=lambda i: abs(memory.scores.get(seen.nodes[i], 0.0)))
        return seen.honest[best].clone(), memory


def _learn(seen: Seen, memory: Memory) -> Memory:
    """Return the memory after one more round."""
    centred = seen.honest - seen.mean  # (h, d)
    total = torch.linalg.vector_norm(centred)
    if total > 0:
        centred = centred / total
    z = memory.direction
    if z is None or z.shape != centred.shape[1:]:
        z = torch.from_numpy(seen.rng.standard_normal(centred.shape[1])).to(centred.dtype)
        z /= torch.linalg.vector_norm(z)
    z = memory.rounds * z + centred.T @ (centred @ z)
    length = torch.linalg.vector_norm(z)
    z = z / length if length > 0 else z
    projections = (centred @ z).tolist()
    scores = {node: memory.scores.get(node, 0.0) + p for node, p in zip(seen.nodes, projections, strict=True)}
    return Memory(memory.rounds + 1, z, {**memory.scores, **scores})
