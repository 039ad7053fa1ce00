"""`python -m benchmarks`: measure, print, and write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import aggregate, codecs, downlink, figure4, filters, inner_products, load, regression, rounds
from benchmarks.machine import describe
from benchmarks.report import Section

_SUBJECTS: dict[str, Callable[[bool], Section]] = {
    "aggregate": aggregate.measure,
    "filters": filters.measure,
    "inner-products": inner_products.measure,
    "load": load.measure,
    "round": rounds.measure,
    "codecs": codecs.measure,
    "downlink": downlink.measure,
    "regression": regression.measure,
    "figure4": figure4.measure,
}

_PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"

_INTRO = """# Benchmarks

Written by `make bench` (`python -m benchmarks`; `--only NAME --update` measures one section anew). What is compared was
measured side by side, by turns, in one run on one machine; the ratios say more than the times. A missed target is reported,
and is not an error.
"""


def main() -> None:
    """Measure what the command line asks for; a target that is missed does not change the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed, size and memory side by side.")
    parser.add_argument("--only", action="append", choices=_SUBJECTS, help="measure this subject only; may be repeated")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works; writes nothing")
    parser.add_argument("--update", action="store_true", help="with --only: put these sections in the place of the page's own")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md as it is")
    options = parser.parse_args()

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    sections = []
    for name in options.only or _SUBJECTS:
        with console.status(f"measuring: {name}"):
            section = _SUBJECTS[name](options.quick)
        section.show(console)
        sections.append(section)
    if not (options.only or options.quick or options.no_write):
        machine = "".join(f"- {line}\n" for line in describe())
        _PAGE.write_text("\n".join([_INTRO, machine, *(section.markdown() for section in sections)]), encoding="utf-8")
        console.print("\nwritten: docs/benchmarks.md")
    elif options.update and not options.quick:
        _PAGE.write_text(_updated(_PAGE.read_text(encoding="utf-8"), sections), encoding="utf-8")
        console.print("\nupdated: docs/benchmarks.md")


def _updated(page: str, sections: Sequence[Section]) -> str:
    """Return the page with some sections measured anew; what is compared still comes from one run, the section's."""
    for section in sections:
        found = re.search(rf"^## {re.escape(section.title)}\n.*?(?=^## |\Z)", page, flags=re.DOTALL | re.MULTILINE)
        fresh = section.markdown()
        page = f"{page}\n{fresh}" if found is None else f"{page[: found.start()]}{fresh}\n{page[found.end() :]}"
    return page.rstrip() + "\n"


if __name__ == "__main__":
    main()
