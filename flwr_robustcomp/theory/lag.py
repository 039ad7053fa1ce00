"""How far a replica that is updated by compressed differences can be from the model, and what there is without a memory."""

from __future__ import annotations

import math

from flwr_robustcomp.errors import require

__all__ = ["lag_factor", "memoryless_floor", "replica_lag"]


def lag_factor(delta: float) -> float:
    """Return theta = s / (1 - s), s = sqrt(1 - delta): how many steps a replica can be behind; 0 at delta = 1.

    Parameters
    ----------
    delta : float
        Of the compressor of differences, in (0, 1].
    """
    require(0 < delta <= 1, "delta", delta, "in (0, 1]")
    s = math.sqrt(1 - delta)
    return s * (1 + s) / delta  # 1 - s = delta / (1 + s), which does not cancel for a small delta


def replica_lag(delta: float, step: float, *, initial: float = 0.0, rounds: int | None = None) -> float:
    """Return what ||w_t - v_t|| is at most, v_{t+1} = v_t + C(w_{t+1} - v_t).

    Parameters
    ----------
    delta : float
        Of C, in (0, 1].
    step : float
        What every ||w_{t+1} - w_t|| is at most, at least 0.
    initial : float
        ||w_0 - v_0||, at least 0; sqrt(1 - delta') ||w_0|| where v_0 is w_0 itself, compressed with delta'.
    rounds : int, optional
        t; by default the bound that holds for every t.

    Returns
    -------
    float
        For every draw where C has delta for every draw; where it has it in expectation, and steps are random, of the root mean
        square, ``step`` and ``initial`` being root mean squares too.

    Notes
    -----
    Let e_t = w_t - v_t. What C drops is e_{t+1} = z - C(z) with z = w_{t+1} - v_t = e_t + (w_{t+1} - w_t), so

        ||e_{t+1}|| <= s ||z|| <= s (||e_t|| + ||w_{t+1} - w_t||),  s = sqrt(1 - delta),

    and by induction ||e_t|| <= s^t ||e_0|| + (s + ... + s^t) S = s^t ||e_0|| + (1 - s^t) theta S. That is a mean of the two
    ends, so no round exceeds the larger. In root mean squares the second inequality is Minkowski's. It is attained: C(z) =
    (1 - s) z is such a compressor, and equal steps along e_0 give equality in both.

    How the model came to its step does not matter. Nodes that are sampled, late or Byzantine change ``step`` and nothing else,
    if each node that trains has every payload.
    """
    theta = lag_factor(delta)
    require(step >= 0, "step", step, "at least 0")
    require(initial >= 0, "initial", initial, "at least 0")
    if rounds is None:
        return max(initial, theta * step)
    require(rounds >= 0, "rounds", rounds, "at least 0")
    left = math.sqrt(1 - delta) ** rounds
    return left * initial + (1 - left) * theta * step


def memoryless_floor(delta: float, smoothness: float, norm: float, *, kappa: float = 0.0, error: float = 0.0) -> float:
    """Return what the mean of ||grad F(w_t)||^2 tends to at most where nodes train from Q(w_t) and nobody keeps what Q drops.

    Parameters
    ----------
    delta : float
        Of Q, in (0, 1].
    smoothness : float
        L_F, positive.
    norm : float
        What every ||w_t|| is at most.
    kappa, error : float
        ||g_t - grad F(Q(w_t))|| <= kappa ||grad F(Q(w_t))|| + error, kappa in [0, 1).

    Returns
    -------
    float
        The limit for many rounds and gamma <= 1/L_F. Smaller steps do not lower it, unlike that of `PrimalErrorFeedback`.

    Notes ----- ||grad F(w) - grad F(Q(w))|| <= L_F s ||w||, so R_t = ||grad F(w_t) - g_t|| <= kappa ||grad F(w_t)|| + (1 +
    kappa) L_F s W + error, W the norm. The descent lemma with gamma <= 1/L_F gives sum ||grad F(w_t)||^2 <= 2 gap / gamma + sum
    R_t^2. With D and c the roots of the means of ||grad F(w_t)||^2 and of ((1 + kappa) L_F s W + error)^2, D^2 - (kappa D +
    c)^2 <= 2 gap / (gamma T), and so D tends to c / (1 - kappa) at most.

    Noise of mean zero in g_t, as of a sample of nodes, adds gamma L_F sigma^2 on the right, which smaller steps do lower.

    For kappa = error = 0 it is attained: F(w) = L_F/2 ||w - a||^2 and Q(z) = (1 - s) z stand still where (1 - s) w = a, with
    ||grad F(w)|| = L_F s ||w||.
    """
    require(0 < delta <= 1, "delta", delta, "in (0, 1]")
    require(smoothness > 0, "smoothness", smoothness, "positive")
    require(norm >= 0, "norm", norm, "at least 0")
    require(0 <= kappa < 1, "kappa", kappa, "in [0, 1)")
    require(error >= 0, "error", error, "at least 0")
    dropped = smoothness * math.sqrt(1 - delta) * norm
    return (((1 + kappa) * dropped + error) / (1 - kappa)) ** 2
