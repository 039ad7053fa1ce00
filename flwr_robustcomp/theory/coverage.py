"""Which of Theorems 1 and 2 a configuration is covered by, and if it is not, in which number it falls short."""

from __future__ import annotations

from dataclasses import dataclass

from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.theory.catalogue import label
from flwr_robustcomp.theory.conditions import Theorem, is_covered, needed_delta

__all__ = ["Coverage", "cover", "shortfall"]


@dataclass(frozen=True)
class Coverage:
    """What a theorem asks of a configuration, and what the configuration has.

    Attributes
    ----------
    theorem : {1, 2}
        Which.
    needed : dict of str to float
        The delta that each form of the condition asks for, `conditions.needed_delta` at the infimum over lambda_0.
    guaranteed : float or None
        The compressor's delta for every x, in expectation for a randomised one.
    covered : bool
        Whether the guarantee exceeds the sharp form and nothing else stands against it.
    obstacles : tuple of str
        What puts the configuration outside the theorem whatever delta is.
    """

    theorem: Theorem
    needed: dict[str, float]
    guaranteed: float | None
    covered: bool
    obstacles: tuple[str, ...]

    def would_be(self, delta: float) -> bool:
        """Whether the theorem would cover a run on whose vectors this delta holds."""
        return not self.obstacles and delta > self.needed["sharp"]


def cover(
    compressor: Compressor,
    delta: float | None,
    *,
    nodes: int,
    byzantine: int,
    trim: int,
    theorem: Theorem,
    error_feedback: bool = False,
    norm_order: float = 2,
) -> Coverage:
    """Hold a configuration against a theorem.

    Parameters
    ----------
    compressor : Compressor
        Q.
    delta : float or None
        What Q guarantees for the vectors in question, `Compressor.delta_of`.
    nodes, byzantine, trim : int
        m, alpha m and beta m, 0 <= byzantine <= trim < m/2.
    theorem : {1, 2}
        Which.
    error_feedback : bool
        Whether clients keep residuals.
    norm_order : float
        q of the norm that replies are sorted by.

    Notes
    -----
    Beyond delta, four things stand outside; the order of replies matters only where some are trimmed:

    - a compressor of C_normless under Theorem 2, whose norms say nothing (section 5);
    - a randomised compressor under Theorem 2 where delta holds in expectation only: replies are sorted after the draw, and the
      proof needs the largest of m draws, whose expectation one draw's does not bound. Under Theorem 1 the order does not depend
      on the draws, and the bound holds in expectation (Minkowski's inequality takes the place of the triangle's);
    - error feedback with Byzantine nodes: what is sorted and sent is p = x + e, not x, and section 6 has alpha = 0;
    - a norm of order q other than 2. Footnote 4 admits "any convex norm", but ||x_i||_1 <= ||x_j||_1 bounds ||x_i||_2 by
      sqrt(d) ||x_j||_2 only, and so does the maximum norm. The exception is a compressor whose norms of every order sort alike,
      as the scaled sign's do.
    """
    obstacles = []
    if error_feedback and byzantine:
        obstacles.append("no theorem covers error feedback with Byzantine nodes")
    if trim and theorem == 2 and not compressor.embeds_norm:
        obstacles.append("its output does not embed the norm")
    if trim and theorem == 2 and not compressor.pointwise:
        obstacles.append("its delta holds in expectation only, and replies are sorted after the draw")
    if trim and norm_order != 2 and not (theorem == 2 and compressor.name == "l1-sign"):
        obstacles.append(f"replies are sorted by the l{norm_order:g} norm, and the proofs need the l2 norm")
    alpha, beta = byzantine / nodes, trim / nodes
    return Coverage(
        theorem,
        {
            "stated": needed_delta(alpha, beta, theorem=theorem, form="stated"),
            "exact": needed_delta(alpha, beta, theorem=theorem, form="exact"),
            "sharp": needed_delta(alpha, beta, theorem=theorem, form="sharp"),
        },
        delta,
        not obstacles and is_covered(delta, alpha, beta, theorem=theorem),
        tuple(obstacles),
    )


def shortfall(coverage: Coverage, compressor: Compressor) -> str | None:
    """Return in a few words why a configuration is not covered, None where it is."""
    if coverage.covered:
        return None
    if coverage.obstacles:
        return coverage.obstacles[0]
    if coverage.needed["sharp"] >= 1:
        return "no compressor would do, not even none at all"
    if coverage.guaranteed is None:
        return f"delta must exceed {coverage.needed['sharp']:.3g}, and {label(compressor)} guarantees none"
    return f"delta must exceed {coverage.needed['sharp']:.3g}, and {label(compressor)} guarantees {coverage.guaranteed:.3g}"
