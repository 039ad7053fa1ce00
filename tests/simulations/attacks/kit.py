"""What the tests of the collusions share: a round as the adversary sees it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp.compressors import Compressor, vector_norm
from flwr_robustcomp.simulations.attacks import Seen


def seen_of(
    honest: Tensor, byzantine: int = 4, *, compressor: Compressor | None = None, shape: tuple[int, ...] = (-1,), seed: int = 0
) -> Seen:
    """Return a round in which everybody sends through a compressor, by default as it is."""

    def sent(rows: Tensor) -> Tensor:
        if compressor is None:
            return rows
        decoded = []
        for j, row in enumerate(rows):
            payload = compressor.compress(row.reshape(shape), np.random.default_rng(j))
            decoded.append(compressor.decompress(payload).reshape(-1).to(row.dtype))
        return torch.stack(decoded)

    own = gaussian(byzantine, honest.shape[1], seed + 100, float(honest.mean())).to(honest.dtype)
    honest, own = sent(honest), sent(own)
    norms = tuple(vector_norm(x, 2) for x in honest)
    rng = np.random.default_rng(seed)
    return Seen(honest, tuple(range(len(honest))), norms, byzantine, lambda x: vector_norm(x, 2), byzantine + 1, rng, own, sent)


def gaussian(rows: int, d: int, seed: int = 0, mean: float = 0.2) -> Tensor:
    """Return independent normal vectors about one mean."""
    return torch.from_numpy(np.random.default_rng(seed).normal(mean, 1.0, (rows, d)))


def lengths(rows: Tensor) -> Tensor:
    """Return l2 norms, shape (b,)."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norms


def everyone(seen: Seen, rows: Tensor) -> np.ndarray:
    """Return what the server decodes of all nodes, the Byzantine last."""
    return torch.cat([seen.honest, seen.sent(rows)]).double().numpy()
