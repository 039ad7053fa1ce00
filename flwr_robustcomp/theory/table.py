"""The delta that each theorem asks for, as the table of docs/theory.md; `python -m flwr_robustcomp.theory.table` prints it."""

from __future__ import annotations

import math

from flwr_robustcomp.theory.conditions import largest_alpha, needed_delta

__all__ = ["as_markdown"]

_SETTINGS = ((5, 7), (10, 12), (20, 22), (5, 5), (10, 10), (20, 20), (40, 40))
"""Byzantine and trimmed of 200 nodes: those of the experiments (section 7), then beta = alpha."""

_DELTAS = (("1 (no compression)", 1.0), ("2/pi (scaled sign, Gaussian)", 2 / math.pi), ("0.5", 0.5), ("0.1", 0.1))


def as_markdown() -> str:
    """Return both tables, at the infimum over lambda_0."""
    lines = [
        "| Byzantine, trimmed of 200 | Theorem 1 stated | exact | Theorem 2 stated | exact | sharp, both |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for byzantine, trim in _SETTINGS:
        alpha, beta = byzantine / 200, trim / 200
        first, second = (
            [needed_delta(alpha, beta, theorem=theorem, form=form) for form in ("stated", "exact")] for theorem in (1, 2)
        )
        row = (*first, *second, needed_delta(alpha, beta, form="sharp"))
        lines.append(f"| {byzantine}, {trim} | " + " | ".join(f"{delta:.4f}" for delta in row) + " |")
    lines += [
        "",
        "| delta | Theorem 1 stated | exact | Theorem 2 stated | exact | sharp, both |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, delta in _DELTAS:
        first, second = (
            [largest_alpha(delta, theorem=theorem, form=form) for form in ("stated", "exact")] for theorem in (1, 2)
        )
        row = (*first, *second, largest_alpha(delta, form="sharp"))
        lines.append(f"| {name} | " + " | ".join(f"{alpha:.4f}" for alpha in row) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
