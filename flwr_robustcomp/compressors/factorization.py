"""Three ways to factor a matrix X, shape (n, c), into P Q^T of rank r with orthonormal P, shapes (n, r) and (c, r)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["atomic_probabilities", "atomic_sample", "live_factors", "subspace_iteration", "truncated_svd"]


def truncated_svd(x: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Keep the ``rank`` largest singular values: the best P Q^T there is (Eckart and Young 1936).

    ||X - P Q^T||^2 is the sum of the squares of the other singular values, at most 1 - r / min(n, c) of all, because the r
    largest of min(n, c) squares are at least their share.
    """
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    return u[:, :rank], vt[:rank].T * s[:rank]


def live_factors(x: Tensor, rank: int, factor: Callable[[Tensor, int], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Factor the rows and columns of X that are not zero throughout; the others are zero in P Q^T, to the bit.

    Where these are fewer than ``rank``, what is missing of P is any orthonormal completion, and of Q zero.

    Parameters
    ----------
    x : Tensor, shape (n, c)
        X.
    rank : int
        r, at most min(n, c).
    factor : callable
        One of the ways of this module: a matrix and a rank to P and Q.
    """
    rows, columns = (x != 0).any(dim=1), (x != 0).any(dim=0)
    if not rows.any() or bool(rows.all() and columns.all()):
        return factor(x, rank)
    live = x[rows][:, columns]
    smaller = min(rank, *live.shape)
    left, right = factor(live, smaller)
    p, q = x.new_zeros(x.shape[0], smaller), x.new_zeros(x.shape[1], rank)
    p[rows] = left
    q[columns, :smaller] = right
    if smaller < rank:
        # Householder's Q is orthonormal whatever stands behind p: rank unit vectors complete it, and n would take n^2 entries.
        units = torch.eye(x.shape[0], rank, dtype=x.dtype)
        p = torch.cat([p, torch.linalg.qr(torch.cat([p, units], dim=1)).Q[:, smaller:rank]], dim=1)
    return p, q


def atomic_sample(x: Tensor, rank: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Keep ``rank`` singular directions at random, each divided by the probability of being kept (Wang et al. 2018).

    E[P Q^T] = X. The error is the sum over directions of s_i (kept_i / p_i - 1) u_i v_i^T, orthogonal terms, so

        E||P Q^T - X||^2 = sum_i s_i^2 (1 / p_i - 1) <= (min(n, c) / r - 1) ||X||^2

    depends on the marginal probabilities alone, and those of `atomic_probabilities` minimise it; the bound is what p_i = r /
    min(n, c) would give. Because only the marginals matter, the directions need not be drawn independently, as they are in
    the paper: systematic sampling (one uniform number u, directions at which the running sum of p passes an integer plus u)
    keeps exactly r.
    """
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    p = atomic_probabilities(s.double().numpy(), rank)
    passed = np.floor(np.cumsum(p) + rng.random())
    kept = np.flatnonzero(np.diff(passed, prepend=0.0) > 0)[:rank]
    # Fewer than r where fewer singular values differ from zero, or where rounding loses one: directions of weight zero join.
    index = np.concatenate([kept, np.setdiff1d(np.arange(p.size), kept)[: rank - kept.size]])
    weight = np.zeros(rank)
    weight[: kept.size] = s.double().numpy()[kept] / p[kept]
    return u[:, index], vt[index].T * torch.from_numpy(weight).to(x.dtype)


def atomic_probabilities(s: npt.NDArray[np.float64], rank: int) -> npt.NDArray[np.float64]:
    """Return the probabilities of Algorithm 1 of Wang et al. 2018 for a budget of ``rank`` directions.

    Parameters
    ----------
    s : numpy.ndarray, shape (q,)
        Singular values, descending.
    rank : int
        The budget, in [1, q].

    Returns
    -------
    numpy.ndarray, shape (q,)
        Proportional to s where that is at most one, else one; zero where s is zero. They sum to ``rank``, or to the number of
        singular values that are not zero where those are fewer.
    """
    p = np.zeros_like(s)
    tails = np.cumsum(s[::-1])[::-1]
    for i in range(rank):
        if s[i] <= 0.0:
            break
        if s[i] * (rank - i) <= tails[i]:
            p[i:] = np.minimum(1.0, s[i:] / tails[i] * (rank - i))
            break
        p[i] = 1.0
    return p


def subspace_iteration(x: Tensor, rank: int, iterations: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Project on the range of X Omega, with Omega a random orthonormal start on the smaller side (Vogels et al. 2019).

    Notes
    -----
    Let c <= n (else X^T is factored, and the factors change places), A = X^T X, Omega of shape (c, r) orthonormal
    and uniformly distributed (a Gaussian matrix, orthonormalised), P an orthonormal basis of the range of X Omega, Q = X^T P.
    Then ||X - P Q^T||^2 = ||X||^2 - ||P^T X||^2, and the captured energy is

        ||P^T X||^2 = tr((Omega^T A Omega)^-1 Omega^T A^2 Omega) >= tr(Omega^T A Omega),

    because I >= Omega Omega^T gives Omega^T A^2 Omega >= (Omega^T A Omega)^2 (where X Omega has a smaller rank, take the
    limit). E[Omega Omega^T] = (r / c) I, so the expectation of the right side is (r / c) tr A: E||X - P Q^T||^2 <= (1 - r /
    min(n, c)) ||X||^2.

    Another iteration starts from an orthonormal basis W of the range of Q = X^T P. The inequality with X^T in place of X and
    P in place of Omega says ||X W||^2 >= ||X^T P||^2, the energy captured before; with X and W it says that the new P
    captures at least ||X W||^2. So no iteration loses what an earlier one had.
    """
    if x.shape[0] < x.shape[1]:
        left, right = subspace_iteration(x.T, rank, iterations, rng)
        scaled, mixing = torch.linalg.qr(right)  # P Q^T = left right^T, transposed: right left^T = scaled (left mixing^T)^T
        return scaled, left @ mixing.T
    start = torch.from_numpy(rng.standard_normal((x.shape[1], rank))).to(x.dtype)
    for _ in range(iterations):
        basis = torch.linalg.qr(start)[0]
        p = torch.linalg.qr(x @ basis)[0]
        start = x.T @ p
    return p, start
