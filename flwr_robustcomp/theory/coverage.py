"""Which of Theorems 1 and 2 a configuration is covered by, and if it is not, in which number it falls short."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.errors import require
from flwr_robustcomp.theory.catalogue import label
from flwr_robustcomp.theory.conditions import Form, Theorem, needed_delta

__all__ = ["Adversary", "Coverage", "cover", "deciding_form", "shortfall"]

Adversary = Literal["restricted", "arbitrary"]
"""Whether Byzantine nodes choose the input of an honest compressor (section 4), or the bytes and the norm (section 5)."""


@dataclass(frozen=True)
class Coverage:
    """What a theorem asks of a configuration, and what the configuration has.

    Attributes
    ----------
    theorem : {1, 2}
        Which.
    needed : dict of str to float
        The delta that each form of the condition asks for, `conditions.needed_delta` at the infimum over lambda_0: "stated",
        "exact", and last the one that decides, "sharp" or, for a delta in expectation, "drawn".
    guaranteed : float or None
        The compressor's delta for every x, in expectation for a randomised one.
    covered : bool
        Whether the guarantee exceeds the last form and nothing else stands against it.
    obstacles : tuple of str
        What puts the configuration outside the theorem whatever delta is.
    """

    theorem: Theorem
    needed: dict[str, float]
    guaranteed: float | None
    covered: bool
    obstacles: tuple[str, ...]

    @property
    def least(self) -> float:
        """The delta that the form that decides asks for."""
        return list(self.needed.values())[-1]

    def would_be(self, delta: float) -> bool:
        """Whether the theorem would cover a run on whose vectors this delta holds."""
        return not self.obstacles and delta > self.least


def cover(
    compressor: Compressor,
    delta: float | None,
    *,
    nodes: int,
    byzantine: int,
    trim: int,
    theorem: Theorem,
    adversary: Adversary = "arbitrary",
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
    adversary : {"restricted", "arbitrary"}
        Whether Byzantine nodes compress honestly. A deployed server cannot know that they do.
    error_feedback : bool
        Whether clients keep residuals.
    norm_order : float
        q of the norm that replies are sorted by.

    Notes
    -----
    Beyond delta, four things stand outside; the order of replies matters only where some are trimmed:

    - a compressor of C_normless under Theorem 2, whose norms say nothing (section 5);
    - a compressor of C_normless under Theorem 1 with arbitrary senders: the report is all that the server has, and a lie.
      With any other compressor both adversaries are alike, because the server sorts by the larger of the reported norm and
      ||Q(x)|| (`conditions.contraction`);
    - error feedback with Byzantine nodes: what is sorted and sent is p = x + e, not x, and section 6 has alpha = 0;
    - a norm of order q other than 2. Footnote 4 admits "any convex norm", but ||x_i||_1 <= ||x_j||_1 bounds ||x_i||_2 by
      sqrt(d) ||x_j||_2 only, and so does the maximum norm. The exception is a compressor whose norms of every order sort alike,
      as the scaled sign's do.

    A randomised compressor stands inside both theorems: replies are sorted after the draw, and the form "drawn" of the
    condition is for that; its bound holds in expectation.
    """
    require(adversary in get_args(Adversary), "adversary", adversary, f"one of {', '.join(get_args(Adversary))}")
    obstacles = []
    if error_feedback and byzantine:
        obstacles.append("no theorem covers error feedback with Byzantine nodes")
    if trim and theorem == 2 and not compressor.embeds_norm:
        obstacles.append("its output does not embed the norm")
    if trim and theorem == 1 and adversary == "arbitrary" and not compressor.embeds_norm:
        obstacles.append("its output does not embed the norm, and a client that lies may report any")
    if trim and norm_order != 2 and not (theorem == 2 and compressor.name == "l1-sign"):
        obstacles.append(f"replies are sorted by the l{norm_order:g} norm, and the proofs need the l2 norm")
    forms: tuple[Form, ...] = ("stated", "exact", deciding_form(compressor))
    needed: dict[str, float] = {f: needed_delta(byzantine / nodes, trim / nodes, theorem=theorem, form=f) for f in forms}
    covered = not obstacles and delta is not None and delta > needed[forms[-1]]
    return Coverage(theorem, needed, delta, covered, tuple(obstacles))


def deciding_form(compressor: Compressor) -> Form:
    """Return the last form of the condition for a compressor: "drawn" where its delta holds in expectation, else "sharp"."""
    return "sharp" if compressor.pointwise else "drawn"


def shortfall(coverage: Coverage, compressor: Compressor) -> str | None:
    """Return in a few words why a configuration is not covered, None where it is."""
    if coverage.covered:
        return None
    if coverage.obstacles:
        return coverage.obstacles[0]
    if coverage.least >= 1:
        return "no compressor would do, not even none at all"
    if coverage.guaranteed is None:
        return f"delta must exceed {coverage.least:.3g}, and {label(compressor)} guarantees none"
    return f"delta must exceed {coverage.least:.3g}, and {label(compressor)} guarantees {coverage.guaranteed:.3g}"
