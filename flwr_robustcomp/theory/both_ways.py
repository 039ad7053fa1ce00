"""Compression with memory in both directions: error feedback up and a replica down, and Byz-EF21-BC beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flwr_robustcomp.errors import require
from flwr_robustcomp.theory.lag import lag_factor
from flwr_robustcomp.theory.primal_feedback import bound_of_descent, largest_fraction, largest_root

__all__ = ["ByzEF21BC", "FeedbackBothWays"]


@dataclass(frozen=True, kw_only=True)
class FeedbackBothWays:
    """Algorithm 3 with a replica down: all nodes honest, each with a residual, one step a round; what this project runs.

    Parameters
    ----------
    gap : float
        F(w_0) - inf F, positive.
    smoothness : float
        L_F, positive.
    delta_up, delta_down : float
        Of the nodes' compressor Q and the server's C, in (0, 1]; in expectation as for `PrimalErrorFeedback`.
    rounds : int
        T: gradients at v_0 to v_{T-1}.
    dissimilarity : float
        zeta, (1/m) sum_i ||grad F_i(w) - grad F(w)||^2 <= zeta^2 for every w, at least 0.

    Notes
    -----
    Node i sends Q(p_i), p_i = gamma grad F_i(v_t) + r_i, and keeps r_i' = p_i - Q(p_i); w_{t+1} = w_t - mean Q(p_i), v_{t+1} =
    v_t + C(w_{t+1} - v_t); r_i = 0 and v_0 = w_0 at the start.

    *Theorem (ours).* Let x = gamma L_F, theta as in `lag_factor`, U = theta_up (1 + 2 theta_down), Theta = U + theta_down = up
    + down + 2 up down, and b = Theta x / sqrt(1 - x) < 1. Then, with A = 2 gap / (gamma T) and c = x U zeta,

        mean_{t<T} E||grad F(v_t)||^2 <= ((b c + sqrt(c^2 + (1 - b^2) A)) / (1 - b^2))^2 / (1 - x).

    It is about v_t, the model that nodes hold. Unlike Theorem 3 it asks for no Lipschitz losses. With nodes alike, zeta = 0,
    the rate is 1/T; else c^2 = O(gamma^2), and gamma of the order T^(-1/3) gives T^(-2/3), the rate of Theorem 3.

    The lags multiply, and that is not the proof's fault: F(w) = L_F/2 w^2 with Q(z) = (1 + s_up) z and C(z) = (1 + s_down) z
    does not converge from x = 2 / (1 + 2 Theta) on, which `largest_step` tends to for small deltas.

    *Proof.* Let r be the mean of the r_i, u_t = w_t - r_t and h_t = grad F(v_t). Then u_{t+1} = u_t - gamma h_t exactly, and
    (i) of `PrimalErrorFeedback`'s proof for u in the place of w is

        (1 - x) H^2 <= T A + L_F^2 Z^2,  Z^2 = sum E||u_t - v_t||^2.

    Residuals: the root P of the sum over t of mean_i E||r_i||^2 has P <= theta_up gamma sqrt(H^2 + zeta^2 T), by Minkowski over
    nodes and rounds. Lag: w_{t+1} - w_t = -gamma h_t - r_t + r_{t+1}, and so E <= theta_down (gamma H + 2 P) for e = w - v.
    Since u - v = e - r, Z <= E + P <= gamma (Theta H + U zeta sqrt(T)). With G = sqrt((1 - x) / T) H, that is G^2 - (b G + c)^2
    <= A.

    Examples
    --------
    >>> from flwr_robustcomp.theory import FeedbackBothWays
    >>> drive = FeedbackBothWays(gap=1.0, smoothness=1.0, delta_up=0.637, delta_down=0.637, rounds=1000)
    >>> round(drive.largest_step, 3), round(drive.bound(0.06), 3)
    (0.123, 0.046)
    """

    gap: float
    smoothness: float
    delta_up: float
    delta_down: float
    rounds: int
    dissimilarity: float = 0.0

    def __post_init__(self) -> None:
        _check(self.gap, self.smoothness, self.delta_up, self.delta_down, self.rounds, self.dissimilarity)

    @property
    def largest_step(self) -> float:
        """The gamma below which the theorem holds, 2 / (1 + sqrt(1 + 4 Theta^2)) / L_F."""
        return largest_fraction(self._lag + lag_factor(self.delta_down), 0.0) / self.smoothness

    def bound(self, step_size: float) -> float:
        """Return what the mean of E||grad F(v_t)||^2 over t < T is at most for gamma in (0, `largest_step`)."""
        require(0 < step_size < self.largest_step, "step_size", step_size, f"in (0, {self.largest_step:g})")
        x = step_size * self.smoothness
        if x >= 1:  # a rounding below the largest step
            return math.inf
        b = (self._lag + lag_factor(self.delta_down)) * x / math.sqrt(1 - x)
        budget = 2 * self.gap / (step_size * self.rounds)
        return largest_root(b, x * self._lag * self.dissimilarity, budget) ** 2 / (1 - x)

    @property
    def _lag(self) -> float:
        return lag_factor(self.delta_up) * (1 + 2 * lag_factor(self.delta_down))


@dataclass(frozen=True, kw_only=True)
class ByzEF21BC:
    """Byz-EF21-BC: nodes send compressed differences of gradients, the server those of the model, and aggregates robustly.

    Parameters
    ----------
    gap : float
        F(w_0) - inf F, positive; F is the mean of the honest F_i.
    smoothness : float
        L_F, positive.
    delta_up, delta_down : float
        Of the nodes' compressor Q and the server's C, in (0, 1]; in expectation as for `PrimalErrorFeedback`.
    rounds : int
        T: gradients at v_0 to v_{T-1}.
    robustness : float
        rho, ||g - mean_i g_i|| <= rho (mean_i ||g_i - mean_j g_j||^2)^(1/2) over honest i, whatever Byzantine nodes send. rho^2
        is kappa of Allouah et al. (2023), and 2 c delta G / (G - 1) for a (delta, c)-robust aggregator of G honest nodes.
    mean_smoothness : float
        L' >= L_F, ||grad F_i(v) - grad F_i(w)|| has a root mean square over honest i of at most L' ||v - w||.
    dissimilarity, growth : float
        zeta and B, mean_i ||grad F_i(w) - grad F(w)||^2 <= zeta^2 + B ||grad F(w)||^2 over honest i for every w; rho sqrt(B) <
        1.

    Notes ----- The algorithm is by Rammal, Gruntkowska, Fedin, Gorbunov and Richtarik (AISTATS 2024), who have rates for smooth
    losses, also under the Polyak-Lojasiewicz inequality. Their theorem is not restated: the one below, its constants and its
    proof are ours. This project does not run the algorithm, whose server keeps a gradient for each node. It stands here to
    compare with `contraction`, which needs no memory but bounds delta from below. Here any delta > 0 will do, against whatever
    number of Byzantine nodes the aggregator withstands.

    w_{t+1} = w_t - gamma g_t, v_{t+1} = v_t + C(w_{t+1} - v_t), and g_i += Q(grad F_i(v_{t+1}) - g_i) on node and server; g_i =
    grad F_i(v_0) and v_0 = w_0 at the start.

    *Theorem.* Let x = gamma L_F, theta as in `lag_factor`, kappa = rho sqrt(B), Theta = (1 + kappa) theta_down + (1 + rho) (L'
    / L_F) theta_up (1 + 2 theta_down), n = sqrt(1 - Theta^2 x^2 / (1 - x)) and q = kappa / n < 1. Then

        mean_{t<T} E||grad F(w_t)||^2 <= ((q c + sqrt(c^2 + (1 - q^2) A)) / (1 - q^2))^2,

    A = 2 gap / (gamma T) and c = rho zeta / n. The floor for small steps is (rho zeta / (1 - kappa))^2: neither compressor is
    in it.

    *Proof.* Let h_i = grad F_i(v_t), d_i = h_i - g_i, and capitals roots of sums over t of expected squares, over honest i of
    their mean too. (i) of `PrimalErrorFeedback`'s proof holds with g_t itself: D^2 + (1 - x) G^2 - R^2 <= T A, R^2 = sum
    E||grad F(w_t) - g_t||^2. The lag has E <= theta_down gamma G. The replica moves by e_t - gamma g_t - e_{t+1}, whose root V
    is at most (1 + 2 theta_down) gamma G. What Q drops is d_i' = z - Q(z), z = d_i + grad F_i(v_{t+1}) - grad F_i(v_t), hence U
    <= theta_up L' V for the root U of the d_i. The aggregate: ||g - mean g_i|| <= rho (sqrt(zeta^2 + B ||grad F(v)||^2) + U_t)
    and ||mean g_i - grad F(v)|| <= U_t. Together R <= kappa D + rho zeta sqrt(T) + Theta x G, and the rest is as there.

    Examples
    --------
    >>> from flwr_robustcomp.theory import ByzEF21BC
    >>> options = {"gap": 1.0, "smoothness": 1.0, "delta_up": 0.1, "delta_down": 0.1, "rounds": 1000}
    >>> round(ByzEF21BC(**options, robustness=0.3, mean_smoothness=2.0, dissimilarity=0.5).floor, 4)
    0.0225
    """

    gap: float
    smoothness: float
    delta_up: float
    delta_down: float
    rounds: int
    robustness: float
    mean_smoothness: float
    dissimilarity: float = 0.0
    growth: float = 0.0

    def __post_init__(self) -> None:
        _check(self.gap, self.smoothness, self.delta_up, self.delta_down, self.rounds, self.dissimilarity)
        require(self.robustness >= 0, "robustness", self.robustness, "at least 0")
        require(self.growth >= 0, "growth", self.growth, "at least 0")
        require(self._kappa < 1, "robustness * sqrt(growth)", self._kappa, "below 1, or nothing converges")
        least = f"at least L_F = {self.smoothness:g}: the mean of nodes is no rougher than they are"
        require(self.mean_smoothness >= self.smoothness, "mean_smoothness", self.mean_smoothness, least)

    @property
    def largest_step(self) -> float:
        """The gamma below which the theorem holds, 2 / (1 + sqrt(1 + 4 Theta^2 / (1 - kappa^2))) / L_F."""
        return largest_fraction(self._lag, self._kappa) / self.smoothness

    @property
    def floor(self) -> float:
        """What the bound tends to for many rounds and small steps, (rho zeta / (1 - kappa))^2."""
        return (self.robustness * self.dissimilarity / (1 - self._kappa)) ** 2

    def bound(self, step_size: float) -> float:
        """Return what the mean of E||grad F(w_t)||^2 over t < T is at most for gamma in (0, `largest_step`)."""
        require(0 < step_size < self.largest_step, "step_size", step_size, f"in (0, {self.largest_step:g})")
        x = step_size * self.smoothness
        budget = 2 * self.gap / (step_size * self.rounds)
        return bound_of_descent(self._lag, x, self._kappa, self.robustness * self.dissimilarity, budget)

    @property
    def _kappa(self) -> float:
        return self.robustness * math.sqrt(self.growth)

    @property
    def _lag(self) -> float:
        ratio = self.mean_smoothness / self.smoothness
        up, down = lag_factor(self.delta_up), lag_factor(self.delta_down)
        return (1 + self._kappa) * down + (1 + self.robustness) * ratio * up * (1 + 2 * down)


def _check(gap: float, smoothness: float, delta_up: float, delta_down: float, rounds: int, dissimilarity: float) -> None:
    for name, value in (("gap", gap), ("smoothness", smoothness)):
        require(value > 0, name, value, "positive")
    for name, value in (("delta_up", delta_up), ("delta_down", delta_down)):
        require(0 < value <= 1, name, value, "in (0, 1]")
    require(rounds >= 1, "rounds", rounds, "at least 1")
    require(dissimilarity >= 0, "dissimilarity", dissimilarity, "at least 0")
