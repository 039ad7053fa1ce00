"""The paper's regression problem (section 7): w* = argmin ||Aw - b||_2 with b = A w*."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.randomness import generator
from flwr_robustcomp.simulations.problems.base import FullBatch, Relabel

__all__ = ["LeastSquares"]


class LeastSquares(FullBatch):
    """Rows of a Gaussian matrix, shared out equally; every node minimises (1/2n) ||A_i w - b_i||^2 in double precision.

    Parameters
    ----------
    nodes : int
        m.
    seed : int
        Of A and w*; each node's rows are drawn from the partition's own generator, so a worker makes only what it needs.
    samples : int
        N, a multiple of m.
    dimension : int
        d.

    Notes
    -----
    A server's root has rows of its own, drawn as a node's are. The metric is ``error`` = ||w_t - w*||_2; w_0 = 0.
    """

    metric = "error"
    better = "lower"
    labelled = False

    def __init__(self, nodes: int, seed: int, *, samples: int = 4000, dimension: int = 1000) -> None:
        require(dimension >= 1, "problem.dimension", dimension, "at least 1")
        require(
            samples >= nodes and samples % nodes == 0, "problem.samples", samples, f"a positive multiple of nodes ({nodes})"
        )
        self.rows = samples // nodes
        self.dimension = dimension
        self._seed = seed
        self._solution = generator(seed, "least-squares solution").standard_normal(dimension)
        self._share = functools.lru_cache(maxsize=None)(self._draw)
        self._root = functools.lru_cache(maxsize=1)(self._draw_root)

    def initial(self) -> dict[str, Tensor]:
        """Return zero."""
        return {"w": torch.zeros(self.dimension, dtype=torch.float64)}

    def gradient(self, partition: int, model: dict[str, Tensor], relabel: Relabel) -> dict[str, Tensor]:
        """Return (1/n) A_i^T (A_i w - b_i)."""
        return self._gradient(*self._share(partition), model)

    def train_root(self, samples: int, model: dict[str, Tensor], round_: int, epochs: int = 1) -> dict[str, Tensor]:
        """Return the gradient on the server's rows."""
        return self._gradient(*self._root(samples), model)

    @np.errstate(over="ignore", invalid="ignore")
    def root_loss(self, samples: int, model: dict[str, Tensor]) -> float:
        """Return ||A w - b||^2 / 2n on the server's rows."""
        a, b = self._root(samples)
        return float(np.square(a @ model["w"].numpy() - b).mean() / 2)

    def num_examples(self, partition: int) -> int:
        """Return n = N / m."""
        return self.rows

    @np.errstate(over="ignore", invalid="ignore")
    def evaluate(self, model: dict[str, Tensor]) -> dict[str, float]:
        """Return ||w - w*||_2."""
        return {"error": float(np.linalg.norm(model["w"].numpy() - self._solution))}

    def _draw(self, partition: int) -> tuple[np.ndarray, np.ndarray]:
        return self._rows(generator(self._seed, "least-squares rows", partition=partition), self.rows)

    def _draw_root(self, samples: int) -> tuple[np.ndarray, np.ndarray]:
        return self._rows(generator(self._seed, "root sample"), samples)

    def _rows(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        a = rng.standard_normal((count, self.dimension))
        return a, a @ self._solution

    @staticmethod
    @np.errstate(over="ignore", invalid="ignore")  # a run that diverges shows in its curve
    def _gradient(a: np.ndarray, b: np.ndarray, model: dict[str, Tensor]) -> dict[str, Tensor]:
        residual = a @ model["w"].numpy()  # (n,)
        residual -= b
        residual /= len(b)
        return {"w": torch.from_numpy(residual @ a)}
