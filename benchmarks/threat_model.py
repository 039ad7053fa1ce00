"""The computed tables of docs/threat-model.md: ``python -m benchmarks.threat_model`` writes them into the page."""

from __future__ import annotations

import inspect
import math
from pathlib import Path

from benchmarks.gains import table
from benchmarks.parts.filters import CHAINS
from flwr_robustcomp.filters import FILTERS, reach_of

__all__ = ["reaches"]

_SIZES = ((20, 4), (40, 16))
_PAGE = Path("docs/threat-model.md")


def reaches() -> str:
    """Return what every filter and chain of the registry promises, in its own words and in numbers."""
    lines = ["| filter or chain | reach | " + " | ".join(f"m = {m}, t = {t}" for m, t in _SIZES) + " |", "|---|---|--:|--:|"]
    for name in dict.fromkeys([*FILTERS, *CHAINS]):
        words, values = _words(name), " | ".join(_value(name, m, t) for m, t in _SIZES)
        lines.append(f"| {name} | {words} | {values} |")
    return "\n".join(lines) + "\n"


def _words(name: str) -> str:
    """Return what a filter's own docstring says of its bound; chains have none of their own."""
    if name not in FILTERS:
        return "of the parts"
    own = FILTERS[name]
    for method in ("reach", "longest"):
        if method in vars(own):
            doc = inspect.getdoc(getattr(own, method)) or ""
            return doc.removeprefix("Return ").removesuffix(".").split(";")[0].split(":")[0].replace("``", "`")
    return "none alone"


def _value(name: str, m: int, trim: int) -> str:
    value = reach_of(CHAINS[name](trim) if name in CHAINS else [FILTERS[name](trim)], m)
    return "-" if math.isinf(value) else f"{value:.3g}"


def main() -> None:
    """Write the tables between their marks."""
    text = _PAGE.read_text(encoding="utf-8")
    for mark, made in (("reach", reaches()), ("gains", table())):
        begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
        before, rest = text.split(begin)
        text = before + begin + made + end + rest.split(end)[1]
    _PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
