"""What the spectral filter guarantees for compressed updates, where it stops by its rule; derived here, not in the paper."""

from __future__ import annotations

import math

from flwr_robustcomp.errors import require

__all__ = ["filtered_contraction", "filtered_floor", "honest_loss", "payload_scatter", "stopped_bias"]


def stopped_bias(slack: float, byzantine: int, kept: int, scatter: float) -> float:
    """Return how far b Byzantine vectors among k kept ones can move the mean, once lambda_1 <= kappa lambda_{t+2}.

    Parameters
    ----------
    slack : float
        kappa, of the threshold by which the filter stopped.
    byzantine, kept : int
        0 <= b <= t and k > b.
    scatter : float
        Largest eigenvalue of the kept honest vectors' scatter about their mean, not divided by their number.

    Returns
    -------
    float
        The largest distance between the mean of all k and that of the honest among them.

    Notes
    -----
    Let Delta be the distance between honest and Byzantine mean, u the direction. The scatter of all k along u is at least that
    of two heavy points, b (k - b) / k Delta^2, and at most lambda_1 <= kappa lambda_{t+2} <= kappa lambda_H (`filters.Spectral`
    has the last step, Weyl's). The mean moves by b Delta / k.
    """
    require(0 <= byzantine < kept, "byzantine", byzantine, f"in [0, kept = {kept})")
    return math.sqrt(slack * byzantine * scatter / (kept * (kept - byzantine)))


def honest_loss(lost: int, honest: int, scatter: float) -> float:
    """Return how far the mean of h vectors can move when any r of them are dropped.

    Notes
    -----
    The same two points: r (h - r) / h Delta^2 <= lambda_H, and the mean of those that are left is r Delta / h from that of all.
    """
    require(0 <= lost < honest, "lost", lost, f"in [0, honest = {honest})")
    return math.sqrt(lost * scatter / (honest * (honest - lost)))


def payload_scatter(scatter: float, squares: float, delta: float) -> float:
    """Return the largest scatter that delta-compressed vectors can have.

    Parameters
    ----------
    scatter : float
        Largest eigenvalue of the scatter of the x_i about their mean.
    squares : float
        sum_i ||x_i||^2.
    delta : float
        ||Q(x_i) - x_i||^2 <= (1 - delta) ||x_i||^2 for each i.

    Notes
    -----
    By Minkowski's inequality along any u, sqrt(sum_i <q_i - q, u>^2) is at most that of the x_i plus sqrt(sum_i <e_i, u>^2),
    and the latter at most sqrt((1 - delta) sum_i ||x_i||^2). It is attained where all compression errors lie along one
    direction.
    """
    require(0 < delta <= 1, "delta", delta, "in (0, 1]")
    return (math.sqrt(scatter) + math.sqrt((1 - delta) * squares)) ** 2


def filtered_contraction(
    alpha: float, delta: float, *, slack: float = 3.0, lost: float = 0.0, dissimilarity: float = 0.0
) -> float:
    """Return the share of ||grad F|| by which the aggregate can miss the gradient: descent is guaranteed below 1.

    Parameters
    ----------
    alpha : float
        Share of Byzantine nodes, all of them kept, in [0, 1/2).
    delta : float
        Of the compressor, for every x.
    slack : float
        kappa.
    lost : float
        rho, share of all nodes that are honest and dropped; alpha + rho < 1.
    dissimilarity : float
        B: the honest gradients have (1/h) sum ||g_i - grad F||^2 <= G^2 + B^2 ||grad F||^2, grad F being their mean
        (Allouah et al. 2023, "Robust distributed learning: tight error bounds and breakdown point under data heterogeneity").

    Notes
    -----
    Three parts, s = sqrt(1 - delta) and R^2 = (1/h) sum ||g_i||^2 <= G^2 + (1 + B^2) ||grad F||^2: the mean compression error,
    at most s R, which no filter sees; the colluders, `stopped_bias`; honest nodes lost, `honest_loss`. The scatter of the
    payloads is at most h (sqrt(G^2 + B^2 ||grad F||^2) + s R)^2 (`payload_scatter`; the largest eigenvalue is at most the
    trace). With k = (1 - rho) m and square roots of sums split into sums,

        ||g - grad F|| <= c ||grad F|| + c_0 G,   c = s sqrt(1 + B^2) + a (B + s sqrt(1 + B^2)),   c_0 = s + a (1 + s),
        a = sqrt(kappa alpha (1 - alpha) / ((1 - rho) (1 - rho - alpha))) + sqrt(rho / (1 - alpha - rho)).

    c_0 is `filtered_floor`. Without loss a = sqrt(kappa alpha). Both terms of compression are worst cases in which all errors
    point the same way; for alike nodes without compression c = 0, which norm thresholding does not have.
    """
    a = _amplification(alpha, slack, lost)
    s = _residual(delta)
    r = math.sqrt(1 + dissimilarity**2)
    return s * r + a * (dissimilarity + s * r)


def filtered_floor(alpha: float, delta: float, *, slack: float = 3.0, lost: float = 0.0) -> float:
    """Return c_0 of `filtered_contraction`: the multiple of G, the dissimilarity at the optimum, that remains."""
    a = _amplification(alpha, slack, lost)
    return _residual(delta) * (1 + a) + a


def _residual(delta: float) -> float:
    require(0 < delta <= 1, "delta", delta, "in (0, 1]")
    return math.sqrt(1 - delta)


def _amplification(alpha: float, slack: float, lost: float) -> float:
    """Return a: bias and loss in units of the root mean square distance of honest payloads from their mean."""
    require(0 <= alpha < 0.5, "alpha", alpha, "in [0, 0.5)")
    require(slack > 1, "slack", slack, "above 1")
    require(0 <= lost < 1 - alpha, "lost", lost, f"in [0, {1 - alpha:g})")
    bias = math.sqrt(slack * alpha * (1 - alpha) / ((1 - lost) * (1 - lost - alpha)))
    return bias + math.sqrt(lost / (1 - alpha - lost))
