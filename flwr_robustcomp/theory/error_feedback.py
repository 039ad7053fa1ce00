"""Theorem 3: compressed gradient descent with error feedback, all honest; its bound, and the steps of remarks 9 and 10."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from flwr_robustcomp.errors import require

__all__ = ["ErrorFeedback"]


@dataclass(frozen=True, kw_only=True)
class ErrorFeedback:
    """Algorithm 3 on one problem.

    Parameters
    ----------
    gap : float
        F(w_0) - F(w*), positive.
    smoothness : float
        L_F, positive.
    lipschitz : float
        L: every local loss is L-Lipschitz, that is ||grad F_i|| <= L (Assumption 5), positive.
    delta : float
        Of the compressor, in (0, 1]; for a randomised one in expectation, and then the bound is on the expectation.
    rounds : int
        T: w_0 to w_T.
    form : {"stated", "exact"}
        The bound as Theorem 3 states it, or with the constant that its proof gives.

    Notes
    -----
    With x = gamma L_F in (0, 1) the bound is A / (x (1 - x)) + B x^2 / (1 - x), A = 2 L_F gap / (T + 1). Stated, B = 8 L^2 (1 -
    delta) / delta^2. The proof's gamma L_F^2 / 2 ||e||^2 with its Lemma 5 gives half of that: the 1/2 is dropped on the way.
    Lemma 5 has room too: ||e_{t+1}|| <= s (||e_t|| + gamma L), s = sqrt(1 - delta), sums to s / (1 - s) gamma L, and (s / (1 -
    s))^2 = (1 - delta) (1 + s)^2 / delta^2 <= 4 (1 - delta) / delta^2. "exact" takes both: B = L^2 (1 - delta) (1 + s)^2 /
    delta^2. The same holds for the root of the mean square where delta holds in expectation.

    Remark 10's gamma: the derivative of the bound vanishes where B x^3 (2 - x) = A (1 - 2 x), whose left side grows from 0 and
    whose right side falls to 0 at x = 1/2: one root, in (0, 1/2], found by bisection. For B >> A it is (A / (2 B))^(1/3), that
    is gamma = (gap delta^2 / (8 L_F^2 L^2 (1 - delta) (T + 1)))^(1/3) with the stated B, and the bound 6 (gap L_F L)^(2/3) ((1
    - delta) / delta^2)^(1/3) / (T + 1)^(2/3): the paper's rate. It is not the rate for delta near 1, where it would tend to 0:
    the step may not exceed 1 / (2 L_F), and the bound never falls below 8 L_F gap / (T + 1), which it reaches at delta = 1.
    For delta near 0 it says less than ||grad F||^2 <= L^2 until T is about 6^(3/2) L_F gap / (L^2 delta): rounds grow like
    1/delta, that is like d for a compressor that guarantees 1/d.
    """

    gap: float
    smoothness: float
    lipschitz: float
    delta: float
    rounds: int
    form: Literal["stated", "exact"] = "stated"

    def __post_init__(self) -> None:
        for name in ("gap", "smoothness", "lipschitz"):
            require(getattr(self, name) > 0, name, getattr(self, name), "positive")
        require(0 < self.delta <= 1, "delta", self.delta, "in (0, 1]")
        require(self.rounds >= 1, "rounds", self.rounds, "at least 1")
        require(self.form in ("stated", "exact"), "form", self.form, "stated or exact")

    def bound(self, step_size: float) -> float:
        """Return what min_t ||grad F(w_t)||^2 is at most for gamma in (0, 1/L_F) (Theorem 3)."""
        x = step_size * self.smoothness
        require(0 < x < 1, "step_size", step_size, f"in (0, 1/L_F = {1 / self.smoothness:g})")
        return self._descent / (x * (1 - x)) + self._compression * x**2 / (1 - x)

    @property
    def remark_9(self) -> float:
        """Gamma = 1 / (L_F sqrt(T + 1)): the first term falls like 1/sqrt(T), the second like 1/T, "compression for free".

        Free beside a first term that this step made slow: without compression gamma = 1 / (2 L_F) has 1/T.
        """
        return 1 / (self.smoothness * math.sqrt(self.rounds + 1))

    @property
    def remark_10(self) -> float:
        """The gamma that minimises the bound over (0, 1/L_F)."""
        low, high = 0.0, 0.5
        for _ in range(200):
            x = (low + high) / 2
            rising = self._compression * x**3 * (2 - x) >= self._descent * (1 - 2 * x)
            low, high = (low, x) if rising else (x, high)
        return high / self.smoothness

    @property
    def remark_10_asymptotic(self) -> float:
        """(A / (2 B))^(1/3) / L_F, what `remark_10` tends to for many rounds or small delta; infinite for delta = 1."""
        if self._compression == 0:
            return math.inf
        return math.cbrt(self._descent / (2 * self._compression)) / self.smoothness

    @property
    def _descent(self) -> float:
        return 2 * self.smoothness * self.gap / (self.rounds + 1)

    @property
    def _compression(self) -> float:
        s = math.sqrt(1 - self.delta)
        constant = 8.0 if self.form == "stated" else (1 + s) ** 2
        return constant * self.lipschitz**2 * (1 - self.delta) / self.delta**2
