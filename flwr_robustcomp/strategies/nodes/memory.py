"""What nodes have sent over the rounds, as a few numbers for each: a fading mean of the sketches of their updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.filters import Matrix

__all__ = ["MOST_NODES", "Memory"]

MOST_NODES = 1024
"""How many nodes are remembered. With 4,096 numbers of 8 bytes for each that is 32 MB, here and in a checkpoint."""

_NEGLIGIBLE = 0.01
"""Of the weight of one new update: below, a node's past is forgotten."""


@dataclass(frozen=True)
class Memory:
    """A sum s_i and a weight c_i for each node that is remembered; immutable.

    Parameters
    ----------
    keep : float
        In (0, 1): what a round leaves of the rounds before.
    sums : mapping of int to numpy.ndarray, shape (k,), float64
        s_i by node id. Who took part last stands last.
    weights : mapping of int to float
        c_i by node id, in the same order.

    Notes
    -----
    A round sets s_i <- keep s_i + x_i and c_i <- keep c_i + 1 for the nodes that took part, x_i being the sketch of the update;
    s_i <- keep s_i and c_i <- keep c_i for all others. The history of a node is s_i / c_i, the mean of its updates, recent ones
    counting more: a mean, so that nodes which are sampled more often do not stand out by their lengths. For independent noise
    of variance sigma^2 and a node that always took part its variance is near sigma^2 (1 - keep) / (1 + keep).

    *Bounds.* A node whose weight is below 0.01 is forgotten, which is 44 rounds of absence with keep = 0.9 after having taken
    part once. So are those that have been absent longest where there are more than 1,024 nodes; never one of the round. A node
    that nothing is known of, or that was forgotten, has its update of the round as its history.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.strategies.nodes.memory import Memory
    >>> first = Memory(0.5).after({7: np.array([1.0, 0.0]), 8: np.array([0.0, 2.0])})
    >>> second = first.after({7: np.array([4.0, 0.0])})
    >>> second.gram([7, 8])
    array([[9., 0.],
           [0., 4.]])
    """

    keep: float
    sums: Mapping[int, Matrix] = field(default_factory=lambda: MappingProxyType({}))
    weights: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        require(0 < self.keep < 1, "memory", self.keep, "in (0, 1)")

    def __len__(self) -> int:
        return len(self.sums)

    def after(self, sketches: Mapping[int, Matrix]) -> Self:
        """Return the memory after a round.

        Parameters
        ----------
        sketches : mapping of int to numpy.ndarray, shape (k,), float64
            Of the updates of the nodes that took part. Sums of another length are of another model, and are forgotten.
        """
        size = next(iter(sketches.values())).size if sketches else None
        sums, weights = {}, {}
        for node, weight in self.weights.items():
            fits = size is None or self.sums[node].size == size
            if fits and (node in sketches or weight * self.keep >= _NEGLIGIBLE):
                sums[node], weights[node] = self.keep * self.sums[node], self.keep * weight
        for node, sketch in sketches.items():
            # Taken out and put back: at the end.
            sums[node], weights[node] = sums.pop(node, 0.0) + sketch, weights.pop(node, 0.0) + 1.0
        for node in [node for node in sums if node not in sketches][: max(0, len(sums) - MOST_NODES)]:
            del sums[node], weights[node]
        return replace(self, sums=MappingProxyType(sums), weights=MappingProxyType(weights))

    def gram(self, nodes: Sequence[int]) -> Matrix:
        """Return the inner products of the histories of nodes, shape (m, m); all of them must be remembered."""
        rows = np.stack([self.sums[node] / self.weights[node] for node in nodes])  # (m, k)
        gram = rows @ rows.T
        return np.asarray((gram + gram.T) / 2)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps: for each node its weight and then its sum, shape (1 + k,)."""
        return {str(node): torch.from_numpy(np.append(weight, self.sums[node])) for node, weight in self.weights.items()}

    def restored(self, state: Mapping[str, Tensor], size: int | None = None) -> Self:
        """Return the memory of which `state` returned this.

        Parameters
        ----------
        state : mapping of str to Tensor
            From a checkpoint.
        size : int, optional
            k, where the model is known.

        Raises
        ------
        ConfigurationError
            For what no memory with this ``keep`` has.
        """
        nodes = [_node(name) for name in state]
        length = next((row.numel() for row in state.values()), 1) - 1 if size is None else size
        most = 1 / (1 - self.keep) * (1 + 1e-9)  # the sum of a geometric series, with room for its rounding
        for name, row in state.items():
            what = f"what is remembered of node {name}"
            fits = row.dtype == torch.float64 and tuple(row.shape) == (length + 1,) and length > 0
            require(fits, what, f"{row.dtype} {tuple(row.shape)}", f"torch.float64 {(length + 1,)}")
            require(bool(torch.isfinite(row).all()), what, "NaN or inf", "finite")
            require(0 < float(row[0]) <= most, f"the weight of node {name}", float(row[0]), f"in (0, {most:.3g}]")
        rows = [row.numpy() for row in state.values()]
        return replace(
            self,
            sums=MappingProxyType({node: row[1:].copy() for node, row in zip(nodes, rows, strict=True)}),
            weights=MappingProxyType({node: float(row[0]) for node, row in zip(nodes, rows, strict=True)}),
        )


def _node(name: str) -> int:
    digits = name.isascii() and name.isdecimal() and len(name) <= 20
    if not digits or str(int(name)) != name or int(name) >= 2**64:
        raise ConfigurationError(f"a node that is remembered must be an integer in [0, 2**64), got {name[:20]!r}")
    return int(name)
