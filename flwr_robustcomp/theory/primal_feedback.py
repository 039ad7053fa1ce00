"""Gradient descent from a replica of the model that is updated by compressed differences: primal error feedback, EF21-P."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flwr_robustcomp.errors import require
from flwr_robustcomp.theory.lag import lag_factor

__all__ = ["PrimalErrorFeedback", "bound_of_descent", "largest_fraction", "largest_root", "sampling_noise"]


@dataclass(frozen=True, kw_only=True)
class PrimalErrorFeedback:
    """w_{t+1} = w_t - gamma g_t, v_{t+1} = v_t + C(w_{t+1} - v_t), where g_t is what the server makes of gradients at v_t.

    Parameters
    ----------
    gap : float
        F(w_0) - inf F, positive.
    smoothness : float
        L_F, positive.
    delta : float
        Of C, in (0, 1]; for every draw, or in expectation given all that came before: then bounds are on expectations.
    rounds : int
        T: gradients at v_0 to v_{T-1}.
    kappa, error : float
        With h_t = E[g_t | v_t], ||h_t - grad F(v_t)|| <= kappa ||grad F(v_t)|| + error; kappa in [0, 1), error at least 0. For
        Algorithms 1 and 2 of the paper, `contraction` is kappa, and the error is what its derivation has beside it.
    noise : float
        sigma, E ||g_t - h_t||^2 <= sigma^2 given v_t, at least 0; for sampled nodes, `sampling_noise`.
    initial_lag : float
        ||w_0 - v_0||, at least 0.

    Notes ----- The method is EF21-P (Gruntkowska, Tyurin and Richtarik, ICML 2023), there with exact gradients or with
    compressed ones of honest nodes. For the order of its rate, L_F / (delta mu) log(1/eps) rounds under strong convexity, their
    theory is quoted in the abstract of Tyurin and Richtarik, "2Direction" (NeurIPS 2023). The theorem, its constants and its
    proof here are ours.

    *Theorem.* Let x = gamma L_F, s = sqrt(1 - delta), theta = s / (1 - s), b = (1 + kappa) theta x / sqrt(1 - x), n = sqrt(1 -
    b^2), q = kappa / n. If q < 1, then

        mean_{t<T} E||grad F(w_t)||^2 <= ((q c + sqrt(c^2 + (1 - q^2) A)) / (1 - q^2))^2,
        A = 2 gap / (gamma T) + x sigma^2,
        c = (error + (1 + kappa) L_F sqrt((1 + s) ||e_0||^2 / (delta T) + s theta gamma^2 sigma^2)) / n.

    *Proof.* Let e_t = w_t - v_t, and D, H, E the roots of the sums over t < T of E||grad F(w_t)||^2, E||h_t||^2, E||e_t||^2.
    The descent lemma and -2 <a, h> = ||a - h||^2 - ||a||^2 - ||h||^2 give, summed,

        D^2 + (1 - x) H^2 - R^2 <= T A,  R^2 = sum E||grad F(w_t) - h_t||^2.                                          (i)

    By smoothness ||grad F(w_t) - h_t|| <= kappa ||grad F(w_t)|| + (1 + kappa) L_F ||e_t|| + error, so by Minkowski

        R <= kappa D + (1 + kappa) L_F E + error sqrt(T).                                                             (ii)

    What C drops has E||e_{t+1}||^2 <= s^2 E||e_t - gamma h_t||^2 + s^2 gamma^2 sigma^2, as the noise has mean zero. Young's
    inequality with 1 + lambda = 1/s makes that s E||e_t||^2 + s theta gamma^2 E||h_t||^2 + s^2 gamma^2 sigma^2, and the sum is

        E^2 <= (1 + s) ||e_0||^2 / delta + theta^2 gamma^2 H^2 + s theta gamma^2 sigma^2 T.                           (iii)

    So R <= u + b sqrt(1 - x) H with u = kappa D + c n sqrt(T). Over all H, (1 - x) H^2 - (u + b sqrt(1 - x) H)^2 is at least
    -u^2 / n^2, and (i) leaves D^2 - (q D + c sqrt(T))^2 <= T A; the larger root of that is the bound.

    *What it says.* The step may go up to `largest_step`, about delta / (2 L_F) for small delta, and up to there nothing is lost
    but the step: with kappa = error = noise = 0 the bound is 2 gap / (gamma T), that of gradient descent. No theorem for all
    such C can allow much more: F(w) = L_F/2 w^2 with C(z) = (1 + s) z does not converge from x = 2 / (1 + 2 theta) on. For a
    small step, n tends to 1 and the floor to (error / (1 - kappa))^2, that of a dense downlink. Noise costs at most 5/3 of what
    it costs there, up to half of the largest step and for kappa = error = 0.

    *What it does not say.* It has one step a round along g_t, gradients at one v_t, and a delta that C keeps on the differences
    that occur. Local epochs, nodes that train from another point than v_t, server momentum and Adam are outside. A rotation
    that an adversary foresees is not drawn given all that came before.

    Examples
    --------
    >>> from flwr_robustcomp.theory import PrimalErrorFeedback
    >>> options = {"gap": 1.0, "smoothness": 1.0, "rounds": 1000}
    >>> [round(PrimalErrorFeedback(**options, delta=delta).largest_step, 3) for delta in (1.0, 0.637, 0.1)]
    [1.0, 0.477, 0.053]
    """

    gap: float
    smoothness: float
    delta: float
    rounds: int
    kappa: float = 0.0
    error: float = 0.0
    noise: float = 0.0
    initial_lag: float = 0.0

    def __post_init__(self) -> None:
        for name in ("gap", "smoothness"):
            require(getattr(self, name) > 0, name, getattr(self, name), "positive")
        for name in ("error", "noise", "initial_lag"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        require(0 < self.delta <= 1, "delta", self.delta, "in (0, 1]")
        require(self.rounds >= 1, "rounds", self.rounds, "at least 1")
        require(0 <= self.kappa < 1, "kappa", self.kappa, "in [0, 1)")

    @property
    def largest_step(self) -> float:
        """The gamma below which the theorem holds: 2 / (1 + sqrt(1 + 4 theta^2 (1 + kappa) / (1 - kappa))) / L_F."""
        return largest_fraction((1 + self.kappa) * lag_factor(self.delta), self.kappa) / self.smoothness

    def bound(self, step_size: float) -> float:
        """Return what the mean of E||grad F(w_t)||^2 over t < T is at most for gamma in (0, `largest_step`)."""
        require(0 < step_size < self.largest_step, "step_size", step_size, f"in (0, {self.largest_step:g})")
        x, s, theta = step_size * self.smoothness, math.sqrt(1 - self.delta), lag_factor(self.delta)
        lag = (1 + self.kappa) * theta
        apart = (1 + s) * self.initial_lag**2 / (self.delta * self.rounds) + s * theta * (step_size * self.noise) ** 2
        c = self.error + (1 + self.kappa) * self.smoothness * math.sqrt(apart)
        budget = 2 * self.gap / (step_size * self.rounds) + x * self.noise**2
        return bound_of_descent(lag, x, self.kappa, c, budget)

    def linear_bound(self, step_size: float, mu: float) -> float:
        """Return what E[F(w_T)] - inf F is at most where F grows: ||grad F(w)||^2 >= 2 mu (F(w) - inf F), for exact gradients.

        Parameters
        ----------
        step_size : float
            gamma, with gamma mu < 1 - s and x^2 s^2 / ((1 - s) (1 - s - gamma mu)) <= 1 - x.
        mu : float
            Of the Polyak-Lojasiewicz inequality, which strong convexity implies, in (0, L_F].

        Notes ----- Let Psi_t = F(w_t) - inf F + a ||e_t||^2, a = gamma L_F^2 / (2 (1 - s - gamma mu)). By the descent lemma and
        the third step of the proof above, Psi_{t+1} <= (1 - gamma mu) (F(w_t) - inf F) + (gamma L_F^2 / 2 + a s) ||e_t||^2 + (a
        s theta gamma^2 - gamma (1 - x) / 2) ||h_t||^2. The choice of a makes the second bracket (1 - gamma mu) a, and the
        condition makes the third at most 0. So Psi_T <= (1 - gamma mu)^T Psi_0: of the order L_F / (delta mu) log(1/eps)
        rounds, which is the paper's.
        """
        given = (self.kappa, self.error, self.noise)
        require(not any(given), "kappa, error, noise", given, "0: the linear rate is for exact gradients")
        require(0 < mu <= self.smoothness, "mu", mu, f"in (0, L_F = {self.smoothness:g}]")
        x, s = step_size * self.smoothness, math.sqrt(1 - self.delta)
        rest = self.delta / (1 + s) - step_size * mu
        fits = step_size > 0 and x <= 1 and rest > 0 and x**2 * s * lag_factor(self.delta) <= (1 - x) * rest
        require(fits, "step_size", step_size, "positive, with gamma mu and gamma L_F small enough for delta")
        a = step_size * self.smoothness**2 / (2 * rest)
        return (1 - step_size * mu) ** self.rounds * (self.gap + a * self.initial_lag**2)


def sampling_noise(nodes: int, sampled: int, dissimilarity: float) -> float:
    """Return sigma of the mean gradient of m' nodes, drawn from m without replacement, about the mean of all.

    Parameters
    ----------
    nodes, sampled : int
        m and m', 1 <= m' <= m.
    dissimilarity : float
        zeta, (1/m) sum_i ||grad F_i - grad F||^2 <= zeta^2 at every point.

    Notes ----- The variance of a mean of draws without replacement, zeta^2 (m - m') / (m' (m - 1)). It is for honest nodes that
    are sampled uniformly and averaged. Of a trimmed sample the mean is not unbiased: there Theorems 1 and 2 hold for the nodes
    of a round, if no more of them are Byzantine than are trimmed, with epsilon_1 in the place of epsilon_2, as
    `PrimalErrorFeedback.error`.
    """
    require(nodes >= 1, "nodes", nodes, "at least 1")
    require(1 <= sampled <= nodes, "sampled", sampled, f"in [1, nodes = {nodes}]")
    require(dissimilarity >= 0, "dissimilarity", dissimilarity, "at least 0")
    return dissimilarity * math.sqrt((nodes - sampled) / (sampled * max(nodes - 1, 1)))


def largest_fraction(lag: float, kappa: float) -> float:
    """Return the x in (0, 1] with kappa^2 + (lag x)^2 / (1 - x) = 1: below it, the step is small enough for the lag."""
    return 2 / (1 + math.sqrt(1 + 4 * lag**2 / (1 - kappa**2)))


def bound_of_descent(lag: float, x: float, kappa: float, c: float, budget: float) -> float:
    """Return what D^2 is at most in the proof of `PrimalErrorFeedback`, c and the budget being per round and c not over n."""
    square = 1 - (lag * x) ** 2 / (1 - x) if x < 1 else 0.0
    if square <= kappa**2:  # a rounding below the largest step
        return math.inf
    n = math.sqrt(square)
    return largest_root(kappa / n, c / n, budget) ** 2


def largest_root(q: float, c: float, budget: float) -> float:
    """Return the largest D with D^2 - (q D + c)^2 <= budget for q in [0, 1); infinite for q = 1, where rounding gives that."""
    if 1 - q**2 <= 0:
        return math.inf
    return (q * c + math.sqrt(c**2 + (1 - q**2) * budget)) / (1 - q**2)
