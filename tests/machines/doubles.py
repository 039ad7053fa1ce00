"""Stand-ins for what a library computes, with other last bits: what another processor's kernels may give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

__all__ = ["other_last_bits", "with_other_eigenvectors", "with_other_factors", "with_other_products", "with_other_rotation"]

Array = npt.NDArray[Any]

ULPS = 4
"""By how many units in the last place an entry moves at most."""


def other_last_bits(values: Array, seed: int = 0) -> Array:
    """Return values that differ in the last bits, each by its own amount; zeros stay."""
    eps = np.finfo(values.dtype).eps
    steps = np.random.default_rng(seed).integers(-ULPS, ULPS, values.shape, endpoint=True)
    moved: Array = (values * (1 + steps * eps)).astype(values.dtype)
    return moved


def with_other_products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let torch's products of matrices have two triangles that differ; return a list that grows with each product."""
    calls: list[int] = []
    dense, sparse = Tensor.addmm_, torch.sparse.mm

    def addmm_(out: Tensor, a: Tensor, b: Tensor) -> Tensor:
        calls.append(len(calls))
        product = other_last_bits(dense(torch.zeros_like(out), a, b).numpy(), len(calls))
        return out.add_(torch.from_numpy(product))

    def mm(a: Tensor, b: Tensor) -> Tensor:
        calls.append(len(calls))
        return torch.from_numpy(other_last_bits(sparse(a, b).numpy(), len(calls)))

    monkeypatch.setattr(Tensor, "addmm_", addmm_)
    monkeypatch.setattr(torch.sparse, "mm", mm)
    return calls


def with_other_rotation(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let numpy's products of matrices add up their terms from the last to the first, one after the other."""
    calls: list[int] = []

    def matmul(a: Array, b: Array) -> Array:
        calls.append(len(calls))
        out = np.zeros((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), a.dtype)
        for j in reversed(range(a.shape[-1])):
            out += a[..., :, j, None] * b[..., j, None, :]
        return out

    monkeypatch.setattr(np, "matmul", matmul)
    return calls


def with_other_eigenvectors(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let numpy's eigenvectors have the other sign, and their last bits and those of the eigenvalues be others."""
    calls: list[int] = []
    own: Callable[[Array], tuple[Array, Array]] = np.linalg.eigh

    def eigh(matrix: Array) -> tuple[Array, Array]:
        calls.append(len(calls))
        values, vectors = own(other_last_bits(matrix, len(calls)))
        return other_last_bits(values, 1), -other_last_bits(vectors, 2)

    monkeypatch.setattr(np.linalg, "eigh", eigh)
    return calls


def with_other_factors(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let torch's singular vectors and orthonormal bases have other signs and other last bits."""
    calls: list[int] = []
    svd, qr = torch.linalg.svd, torch.linalg.qr

    def near(x: Tensor, sign: float) -> Tensor:
        return sign * torch.from_numpy(other_last_bits(np.ascontiguousarray(x.numpy()), len(calls)))

    def other_svd(x: Tensor, full_matrices: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        calls.append(len(calls))
        u, s, vt = svd(x, full_matrices=full_matrices)
        return near(u, -1.0), near(s, 1.0), near(vt, -1.0)

    def other_qr(x: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(len(calls))
        q, r = qr(x)
        return near(q, -1.0), near(r, -1.0)

    monkeypatch.setattr(torch.linalg, "svd", other_svd)
    monkeypatch.setattr(torch.linalg, "qr", other_qr)
    return calls
