"""What sorting by the larger norm takes from a sender of its own bytes: `python -m benchmarks.gains` prints the table."""

from __future__ import annotations

import math

from benchmarks.forged_payloads import forge, longest
from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.theory import CATALOGUE, label
from flwr_robustcomp.theory.gain import gain, typical_length

__all__ = ["table"]

_DIMENSION = 10_000


def table() -> str:
    """Return the gains of every compressor of the catalogue on d = 10,000 coordinates, 100 x 100 for matrices, as Markdown."""
    lines = [
        "| compressor | honest length | longest | gain by the reported norm | gain by the larger norm |",
        "|---|--:|--:|--:|--:|",
    ]
    for entry in CATALOGUE.values():
        side = math.isqrt(_DIMENSION)
        shape = (side, side) if entry.matrix else (_DIMENSION,)
        for compressor in entry.configurations:
            if getattr(compressor, "coding", "entropy") == "entropy":  # another coding has the same vectors
                lines.append(_row(compressor, shape))
    return "\n".join(lines) + "\n"


def _row(compressor: Compressor, shape: tuple[int, ...]) -> str:
    most, typical = longest(compressor, forge(compressor, shape)), typical_length(compressor, shape)
    reported = gain(most, typical, rule="reported")
    larger = gain(most, typical, rule="larger", embeds_norm=compressor.embeds_norm)
    cells = (_number(value) for value in (typical, most, reported, larger))
    return f"| `{label(compressor)}` | {' | '.join(cells)} |"


def _number(value: float) -> str:
    if value == math.inf:
        return "unbounded"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    print(table(), end="")
