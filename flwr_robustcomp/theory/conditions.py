"""How much compression Theorems 1 and 2 allow: as they state it, as their proofs need it, and as those proofs can have it."""

from __future__ import annotations

import math
from typing import Literal, get_args

from flwr_robustcomp.errors import require

__all__ = [
    "Form",
    "Theorem",
    "allowed_trims",
    "contraction",
    "is_covered",
    "largest_alpha",
    "largest_byzantine",
    "needed_delta",
]

Theorem = Literal[1, 2]
"""1: Algorithm 1, which sorts by ||x||_2 (section 4). 2: Algorithm 2, which sorts by ||Q(x)||_2 (section 5)."""

Form = Literal["stated", "exact", "sharp", "drawn"]
"""The condition as the theorem states it, as the recursion of its proof needs it, or with the proof's sums bounded tightly.

"sharp" is for a delta that holds for every draw, "drawn" for one that holds in expectation over the draws.
"""


def contraction(delta: float, alpha: float, beta: float, *, theorem: Theorem = 2, form: Form = "sharp") -> float:
    """Return kappa with ||g(w) - grad F(w)|| <= kappa ||grad F(w)|| + a statistical error.

    Parameters
    ----------
    delta : float
        Of the compressor, in (0, 1].
    alpha, beta : float
        Shares of Byzantine and of trimmed nodes, 0 <= alpha <= beta < 1/2.
    theorem : {1, 2}
        Whose algorithm.
    form : {"exact", "sharp", "drawn"}
        "exact": Lemma 1 and Lemma 4 of the paper's appendix. "sharp" and "drawn": below.

    Notes
    -----
    With s = sqrt(1 - delta), G = ||grad F|| and epsilon_1, epsilon_2 as in (2), (3), the paper bounds the kept nodes' errors by
    sums over all honest nodes and divides by (1 - beta) m: kappa = (s + 2 alpha) / (1 - beta) in Lemma 1, and
    ((1 + beta) s + 2 alpha) / (1 - beta) in Lemma 4.

    Nothing forces the compression errors of nodes that were trimmed into the sum. Let U be kept, T trimmed, M honest, B
    Byzantine. Each x_i, i in M, has ||x_i|| <= G + epsilon_1. Where a Byzantine node is kept, beta >= alpha leaves an honest
    one trimmed, whose norm is no smaller. Hence, for either algorithm,

    - an honest kept node contributes Q(x_i) - x_i, at most s (G + epsilon_1), and x_i - grad F;
    - a Byzantine kept node contributes at most (2 + s) G + (1 + s) epsilon_1: what it sends is no longer than what an honest
      node is sorted by, at most (1 + s)(G + epsilon_1). In Algorithm 2 that is some ||Q(x_j)||. In Algorithm 1 it is the
      larger of ||x_j|| and ||Q(x_j)|| (`strategies.sort_norm.sort_norm`), whatever the Byzantine node reports and whatever
      draws it chose. So Theorem 1 holds against the arbitrary adversary of section 5 too. Sorted by the report alone, as
      printed, it needs ||Q(x_i) - x_i|| <= s ||x_i|| of Byzantine nodes: the restricted adversary of section 4;
    - the x_i - grad F of M & U sum to those of M, at most (1 - alpha) m epsilon_2, less those of M & T, at most beta m
      epsilon_1.

    Since |M & U| + |B & U| = (1 - beta) m and |B & U| <= alpha m, the same holds for both:

        ||g - grad F|| <= (s + 2 alpha / (1 - beta)) G + (s + (alpha + beta) / (1 - beta)) epsilon_1
                          + (1 - alpha) / (1 - beta) epsilon_2.

    This kappa cannot be lowered for all delta-approximate compressors: let all honest gradients be g, Q(g) = (1 - s) g, Q(-g) =
    -(1 + s) g, and let Byzantine nodes feed -g to Q. All norms are equal, honest nodes may be the trimmed ones, and the step
    is (1 - s - 2 alpha / (1 - beta)) g, no descent from kappa = 1 on.

    *Drawn.* Where delta holds in expectation only, E||e_i||^2 <= s^2 ||x_i||^2 for e_i = Q(x_i) - x_i, i in M, and the order of
    the replies depends on the draws: which e_i are kept, and how long the longest honest Q(x_j) is, no expectation of one draw
    bounds. But the kept Byzantine nodes need not be held against the longest: |M & T| = beta m - |B & T| >= |B & U|, so each of
    them has a trimmed honest node j of its own, and by the order ||Q_b|| <= ||x_j|| + ||e_j||. With J those j, for every draw

        (1 - beta) m ||g - grad F|| <= sum over (M & U) + J of ||e_i|| + |B & U| (2 G + epsilon_1) + (1 - alpha) m epsilon_2
                                       + beta m epsilon_1.

    The first sum is over different honest nodes, so it is at most that over M, whose root mean square is at most (1 - alpha) m
    s (G + epsilon_1) by Minkowski's inequality, and the recursion asks for no more than the mean of ||g - grad F||^2. Hence

        kappa = ((1 - alpha) s + 2 alpha) / (1 - beta)

    for both algorithms, whatever Byzantine nodes send, be it with the honest draws in sight. It is the sharp kappa at
    beta = alpha, and below the exact one of Theorem 1 wherever alpha > 0.
    """
    _check(alpha, beta, theorem, form)
    require(0 < delta <= 1, "delta", delta, "in (0, 1]")
    require(form != "stated", "form", form, "exact, sharp or drawn: the theorems state no contraction")
    s = math.sqrt(1 - delta)
    if form == "sharp":
        return s + 2 * alpha / (1 - beta)
    if form == "drawn":
        return ((1 - alpha) * s + 2 * alpha) / (1 - beta)
    return (s * (1 + beta if theorem == 2 else 1) + 2 * alpha) / (1 - beta)


def needed_delta(alpha: float, beta: float, *, theorem: Theorem = 2, form: Form = "sharp", lambda0: float = 0.0) -> float:
    """Return the delta that a compressor must exceed.

    Parameters
    ----------
    alpha, beta : float
        Shares of Byzantine and of trimmed nodes, 0 <= alpha <= beta < 1/2.
    theorem : {1, 2}
        Which.
    form : {"stated", "exact", "sharp", "drawn"}
        In which form.
    lambda0 : float
        The paper's lambda_0 >= 0, from Young's inequality. 0 stands for the infimum: whatever exceeds it exceeds the condition
        of some lambda_0 > 0, at the price of a factor 1 + 1/lambda_0 in the error floor.

    Returns
    -------
    float
        At least 0. Where no delta will do, infinity, or a number >= 1 ("stated").

    Notes
    -----
    The recursion of both proofs, (gamma/2 - gamma^2 L_F) ||grad F||^2 <= F(w_t) - F(w_{t+1}) + (gamma/2 + gamma^2 L_F)
    ||Delta||^2, gives descent for some gamma > 0 if and only if (1 + lambda_0) kappa^2 < 1, kappa as in `contraction`. With
    r = 1 / sqrt(1 + lambda_0), and only where the base of the square is positive, that is

        exact 1:  delta > 1 - (r (1 - beta) - 2 alpha)^2
        exact 2:  delta > 1 - ((r (1 - beta) - 2 alpha) / (1 + beta))^2
        sharp:    delta > 1 - (r - 2 alpha / (1 - beta))^2
        drawn:    delta > 1 - ((r (1 - beta) - 2 alpha) / (1 - alpha))^2

    against delta_0 + 4 alpha - 9 alpha^2 + 4 alpha^3, delta_0 = 1 - r^2 (1 - beta)^2, and delta~_0 + 4 alpha - 8 alpha^2 + 4
    alpha^3, delta~_0 = 1 - r^2 (1 - beta)^2 / (1 + beta)^2, as stated. "Stated" less "exact" is

        1:  alpha (4 (1 - r (1 - beta)) - 5 alpha + 4 alpha^2)
        2:  4 alpha ((1 - alpha)^2 - (r (1 - beta) - alpha) / (1 + beta)^2)

    The second is never negative for beta >= alpha: at beta = alpha, r = 1 it is 4 alpha^2 (2 - 2 alpha + alpha^3) / (1 +
    alpha)^2, and it grows with beta and as r falls. The first is negative where beta < alpha (5/4 - alpha), for r = 1: there
    Theorem 1 states less than its proof uses, for example with the 20 Byzantine and 22 trimmed nodes of the experiments. It
    holds all the same: "stated" is never below "drawn", nor that below "sharp" (tests/theory/test_conditions.py goes over a
    grid).
    """
    _check(alpha, beta, theorem, form)
    require(lambda0 >= 0, "lambda0", lambda0, "at least 0")
    r = 1 / math.sqrt(1 + lambda0)
    grown = 1 + beta if theorem == 2 else 1.0
    if form == "stated":
        square = 9 if theorem == 1 else 8
        return 1 - (r * (1 - beta) / grown) ** 2 + 4 * alpha - square * alpha**2 + 4 * alpha**3
    if form == "sharp":
        root = r - 2 * alpha / (1 - beta)
    else:
        root = (r * (1 - beta) - 2 * alpha) / (1 - alpha if form == "drawn" else grown)
    return 1 - root**2 if root > 0 else math.inf


def is_covered(
    delta: float | None, alpha: float, beta: float, *, theorem: Theorem = 2, form: Form = "sharp", lambda0: float = 0.0
) -> bool:
    """Whether a compressor's delta exceeds `needed_delta`; None, no delta at all, never does."""
    return delta is not None and delta > needed_delta(alpha, beta, theorem=theorem, form=form, lambda0=lambda0)


def largest_alpha(delta: float, *, theorem: Theorem = 2, form: Form = "sharp", lambda0: float = 0.0) -> float:
    """Return the supremum of the shares alpha that are covered with beta = alpha, the smallest trim.

    Notes
    -----
    From kappa = r at beta = alpha, with s and r as above: (r - s) / (2 + r - s) for "sharp" and "drawn", (r - s) / (2 + r) for
    "exact" 1 and (r - s) / (2 + r + s) for "exact" 2. Without compression all are 1/3, not the 1/2 that the theorems
    mention: a third of the nodes, each as long as an honest one and opposite to it, is where kappa reaches 1.
    """
    require(0 < delta <= 1, "delta", delta, "in (0, 1]")
    if not is_covered(delta, 0.0, 0.0, theorem=theorem, form=form, lambda0=lambda0):
        return 0.0
    s, r = math.sqrt(1 - delta), 1 / math.sqrt(1 + lambda0)
    if form in ("sharp", "drawn"):
        return (r - s) / (2 + r - s)
    if form == "exact":
        return (r - s) / (2 + r + (s if theorem == 2 else 0.0))
    low, high = 0.0, 0.35  # where the stated condition exceeds 1; it grows up to there
    for _ in range(60):
        middle = (low + high) / 2
        covered = is_covered(delta, middle, middle, theorem=theorem, form=form, lambda0=lambda0)
        low, high = (middle, high) if covered else (low, middle)
    return low


def largest_byzantine(
    delta: float | None,
    nodes: int,
    *,
    trim: int | None = None,
    theorem: Theorem = 2,
    form: Form = "sharp",
    lambda0: float = 0.0,
) -> int | None:
    """Return the largest number of Byzantine nodes that is covered, None where not even 0 is.

    Parameters
    ----------
    delta : float or None
        Of the compressor.
    nodes : int
        m.
    trim : int, optional
        beta m; by default as many as are Byzantine.
    theorem, form, lambda0
        As in `needed_delta`.
    """
    _check_nodes(nodes, trim or 0)
    candidates = range(trim, -1, -1) if trim is not None else range((nodes - 1) // 2, -1, -1)
    return next(
        (
            b
            for b in candidates
            if is_covered(delta, b / nodes, (b if trim is None else trim) / nodes, theorem=theorem, form=form, lambda0=lambda0)
        ),
        None,
    )


def allowed_trims(
    delta: float | None, nodes: int, byzantine: int, *, theorem: Theorem = 2, form: Form = "sharp", lambda0: float = 0.0
) -> range:
    """Return the numbers of trimmed nodes that are covered against ``byzantine`` of ``nodes``; empty if there are none.

    The smallest is ``byzantine`` itself: every condition asks for beta >= alpha, and gets harder as beta grows.
    """
    _check_nodes(nodes, byzantine)
    stop = byzantine
    while 2 * stop < nodes and is_covered(delta, byzantine / nodes, stop / nodes, theorem=theorem, form=form, lambda0=lambda0):
        stop += 1
    return range(byzantine, stop)


def _check(alpha: float, beta: float, theorem: int, form: str) -> None:
    require(theorem in get_args(Theorem), "theorem", theorem, "1 or 2")
    require(form in get_args(Form), "form", form, f"one of {', '.join(get_args(Form))}")
    require(0 <= beta < 0.5, "beta", beta, "in [0, 0.5)")
    require(0 <= alpha <= beta, "alpha", alpha, f"in [0, beta = {beta:g}]")


def _check_nodes(nodes: int, some: int) -> None:
    require(nodes >= 1, "nodes", nodes, "at least 1")
    require(0 <= 2 * some < nodes, "byzantine, trim", some, f"below half of the {nodes} nodes")
