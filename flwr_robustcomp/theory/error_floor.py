"""The statistical errors of section 4: epsilon_1 (2), epsilon_2 (3), and the floor that Theorems 1 and 2 converge to."""

from __future__ import annotations

import math

from flwr_robustcomp.errors import require
from flwr_robustcomp.theory.conditions import Form, Theorem

__all__ = ["convergence_bound", "epsilon_1", "epsilon_2", "error_floor", "failure_probability"]


def epsilon_1(nu: float, dimension: int, samples: int, lipschitz: float, *, diameter: float | None = None) -> float:
    """Return epsilon_1, which bounds ||grad F_i(w) - grad F(w)|| for every honest node i and every w in W (Lemma 2).

    Parameters
    ----------
    nu : float
        v: the partial derivatives of the loss are v-sub-exponential (Assumption 2), v > 0.
    dimension : int
        d.
    samples : int
        n, the number of a node's data points.
    lipschitz : float
        L^ = sqrt(sum_k L_k^2), L_k the Lipschitz constant of the k-th partial derivative (Assumption 1).
    diameter : float, optional
        D of the parameter space W (section 2). Without it, equation (2) as printed; with it, the form below.

    Notes
    -----
    As printed: v sqrt(d) max(a, sqrt(a)) + 1/n, a = (d/n) log(1 + 2 n L^ d). The probability claimed for it, 1 - 2 (1 - alpha)
    m d / (1 + n L^ D)^d, does not follow: a 1/(2 n L^)-cover of W has up to (1 + 2 n L^ D)^d points, each fails with
    probability 2 d exp(-n a) = 2 d (1 + 2 n L^ d)^(-d), and the union over the cover is 2 d ((1 + 2 n L^ D) / (1 + 2 n L^
    d))^d: at least 2 d, no bound at all, unless D < d. Moreover Definition 1 gives exp(-(n/2) min(t/v, t^2/v^2)) by Chernoff's
    argument (lambda = t/v^2 up to t = v, 1/v beyond), not exp(-n min(...)).

    With ``diameter``, a = (4 d/n) log(1 + 2 n L^ D): each point fails with probability 2 d (1 + 2 n L^ D)^(-2d) and the union
    with `failure_probability`, which is below what the paper claims. Same order, other constants.
    """
    _check(nu, dimension, samples, lipschitz, diameter)
    return nu * math.sqrt(dimension) * _rate(dimension, samples, lipschitz, diameter) + 1 / samples


def epsilon_2(
    nu: float,
    dimension: int,
    samples: int,
    lipschitz: float,
    *,
    nodes: int,
    alpha: float,
    diameter: float | None = None,
) -> float:
    """Return epsilon_2, which bounds the error of the mean gradient of all honest nodes, (1 - alpha) m n points (Lemma 3).

    Parameters
    ----------
    nu, dimension, samples, lipschitz, diameter
        As in `epsilon_1`.
    nodes : int
        m.
    alpha : float
        Share of Byzantine nodes, in [0, 1/2).

    Notes
    -----
    Equation (3) as printed lacks the discretisation error 1/((1 - alpha) m n) that (2) has; with ``diameter`` it is there.
    """
    _check(nu, dimension, samples, lipschitz, diameter)
    require(nodes >= 1, "nodes", nodes, "at least 1")
    require(0 <= alpha < 0.5, "alpha", alpha, "in [0, 0.5)")
    points = (1 - alpha) * nodes * samples
    rest = 0.0 if diameter is None else 1 / points
    return nu * math.sqrt(dimension) * _rate(dimension, points, lipschitz, diameter) + rest


def failure_probability(dimension: int, samples: int, lipschitz: float, diameter: float, *, nodes: int, alpha: float) -> float:
    """Return the probability with which `epsilon_1` and `epsilon_2`, with ``diameter``, may fail; at most 1.

    (1 - alpha) m 2 d (1 + 2 n L^ D)^(-d) for the nodes and 2 d (1 + 2 N L^ D)^(-d), N = (1 - alpha) m n, for their mean. D is
    the diameter of W (section 2), which the paper leaves to the reader to choose.
    """
    _check(1.0, dimension, samples, lipschitz, diameter)
    honest = (1 - alpha) * nodes

    def one(points: float) -> float:
        return math.exp(math.log(2 * dimension) - dimension * math.log1p(2 * points * lipschitz * diameter))

    return min(1.0, honest * one(samples) + one(honest * samples))


def error_floor(
    epsilon1: float,
    epsilon2: float,
    *,
    delta: float,
    alpha: float,
    beta: float,
    lambda0: float,
    theorem: Theorem = 2,
    form: Form = "exact",
) -> float:
    """Return epsilon (4) of Theorem 1, or epsilon~ (6) of Theorem 2.

    Parameters
    ----------
    epsilon1, epsilon2 : float
        Of `epsilon_1` and `epsilon_2`.
    delta, alpha, beta : float
        As in `conditions.contraction`.
    lambda0 : float
        Positive, and small enough that (1 + lambda_0) kappa^2 < 1.
    theorem : {1, 2}
        Which.
    form : {"exact", "sharp", "drawn"}
        The paper's coefficient of epsilon_1, or that of `conditions.contraction`.

    Notes
    -----
    2 (1 + 1/lambda_0) (((1 - alpha) / (1 - beta))^2 epsilon_2^2 + c^2 epsilon_1^2): Young's inequality splits kappa G from
    the rest, and (a + b)^2 <= 2 a^2 + 2 b^2 splits the rest. c = (s + alpha + beta) / (1 - beta) in (4), ((1 + beta) s +
    alpha + beta) / (1 - beta) in (6), s + (alpha + beta) / (1 - beta) where sharp, and ((1 - alpha) s + alpha + beta) / (1 -
    beta) where drawn.
    """
    require(lambda0 > 0, "lambda0", lambda0, "positive: the floor grows like 1/lambda0")
    require(0 < delta <= 1, "delta", delta, "in (0, 1]")
    require(0 <= alpha <= beta < 0.5, "alpha, beta", (alpha, beta), "0 <= alpha <= beta < 0.5")
    require(form in ("exact", "sharp", "drawn"), "form", form, "exact, sharp or drawn")
    s = math.sqrt(1 - delta)
    grown = s * (1 - alpha) if form == "drawn" else s * (1 + beta) if theorem == 2 else s
    share = s + (alpha + beta) / (1 - beta) if form == "sharp" else (grown + alpha + beta) / (1 - beta)
    mean = (1 - alpha) / (1 - beta)
    return 2 * (1 + 1 / lambda0) * (mean**2 * epsilon2**2 + share**2 * epsilon1**2)


def convergence_bound(
    gap: float, smoothness: float, rounds: int, floor: float, *, kappa: float, lambda0: float, step: float | None = None
) -> float:
    """Return what min_t ||grad F(w_t)||^2 is at most after T rounds: remark 5 with its constants.

    Parameters
    ----------
    gap : float
        F(w_0) - F(w*).
    smoothness : float
        L_F.
    rounds : int
        T.
    floor : float
        Of `error_floor`.
    kappa : float
        Of `conditions.contraction`.
    lambda0 : float
        As for the floor.
    step : float, optional
        c = gamma L_F, below (1 - K) / (2 (1 + K)), K = (1 + lambda_0) kappa^2; by default half of that.

    Notes
    -----
    From the recursion in `conditions.needed_delta`: with a = (1 - K)/2 - c (1 + K), the bound is L_F gap / (c a (T + 1)) + (1/2
    + c) floor / a.
    """
    big = (1 + lambda0) * kappa**2
    require(big < 1, "kappa", kappa, f"below {1 / math.sqrt(1 + lambda0):.4g}, or nothing converges")
    largest = (1 - big) / (2 * (1 + big))
    c = largest / 2 if step is None else step
    require(0 < c < largest, "step", c, f"in (0, {largest:.4g}), as a multiple of 1/L_F")
    a = (1 - big) / 2 - c * (1 + big)
    return smoothness * gap / (c * a * (rounds + 1)) + (0.5 + c) * floor / a


def _rate(dimension: int, points: float, lipschitz: float, diameter: float | None) -> float:
    """Return max(a, sqrt(a)): the deviation t / v at which min(t/v, t^2/v^2) = a."""
    if diameter is None:
        a = dimension / points * math.log1p(2 * points * lipschitz * dimension)
    else:
        a = 4 * dimension / points * math.log1p(2 * points * lipschitz * diameter)
    return max(a, math.sqrt(a))


def _check(nu: float, dimension: int, samples: int, lipschitz: float, diameter: float | None) -> None:
    require(nu > 0, "nu", nu, "positive")
    require(dimension >= 1, "dimension", dimension, "at least 1")
    require(samples >= 1, "samples", samples, "at least 1")
    require(lipschitz > 0, "lipschitz", lipschitz, "positive")
    require(diameter is None or diameter > 0, "diameter", diameter, "positive or None")
