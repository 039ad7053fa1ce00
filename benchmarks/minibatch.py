"""Filters side by side with minibatch training: ``make minibatch`` runs the suites, and this writes docs/minibatch.md."""

from __future__ import annotations

import argparse
import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flwr_robustcomp.simulations.report.estimate import Estimate
from flwr_robustcomp.simulations.report.filtering import filtered
from flwr_robustcomp.simulations.report.study import Section, Setting, read_study
from flwr_robustcomp.simulations.report.verdicts import ACCURACY_MARGIN, Defence, Verdicts, judge
from flwr_robustcomp.simulations.report.words import beaten_in_words
from flwr_robustcomp.simulations.scenario.setup import byzantine_partitions
from flwr_robustcomp.simulations.scenario.suite import NO_ATTACK

__all__ = ["page"]

SUBJECT = "spectral"
"""The row whose losses the page accounts for: `RobustCompressed` with its defaults."""


_WHY = (
    "## How to read it",
    "",
    "The first table of the unlike nodes has the filter's price in its row without attack: the honest nodes that it drops.",
    "Nodes with few classes have directions of their own that stand out of what the rest explains, the alarm is false, and",
    "the lower threshold then spends the budget. The same directions can hide colluders: honest nodes go while they stay.",
    "A rule by coordinates drops nobody as a whole. [filters.md](filters.md) says what is guaranteed.",
)


def page(sections: Sequence[Section]) -> str:
    """Return docs/minibatch.md, of the seeds that every combination of every section has: other means are not comparable.

    Raises
    ------
    ValueError
        If there is no such seed.
    """
    asked = {cell.scenario.seed for section in sections for cell in section.cells}
    seeds = asked - {cell.scenario.seed for section in sections for cell in section.unfinished}
    if not seeds:
        raise ValueError("no seed has every combination of the suites yet")
    sections = [_only(section, seeds) for section in sections]
    scenario = max((cell.scenario for cell in sections[0].cells), key=lambda one: one.byzantine)
    problem, runs = scenario.problem.params, sum(len(section.runs) for section in sections)
    lines = [
        "# Filters with minibatch training",
        "",
        "Made by `make minibatch` (`robustcomp compare examples/minibatch-iid.toml examples/minibatch-dirichlet.toml`, then",
        f"`python -m benchmarks.minibatch`): every number is computed from the record of {runs} runs.",
        f"A 64-{problem['hidden']}-10 network on scikit-learn's digits, {scenario.nodes} nodes, {scenario.byzantine}",
        f"of them Byzantine, {scenario.rounds} rounds of {_epochs(problem['epochs'])} with batches of {problem['batch_size']},",
        f"{scenario.compressor.name}. Test accuracy in percent after the last round: *mean over {len(seeds)} of {len(asked)}",
        "seeds (worst seed)*; bold is the best mean of its row.",
        f"An attack *beats* a defence (\\*) where it costs more than {100 * ACCURACY_MARGIN:.0f} points of the",
        "defence's own accuracy without attack, and no seed under attack does as well as any without.",
        "[attacks.md](attacks.md) says what each attack does, [filters.md](filters.md) each defence.",
    ]
    for section in sections:
        lines += ["", f"## {section.title}", "", *_section(section, judge(section))]
    return "\n".join([*lines, "", *_WHY]) + "\n"


def _only(section: Section, seeds: set[int]) -> Section:
    cells = [cell for cell in section.cells if cell.scenario.seed in seeds]
    return replace(section, cells=cells, runs=[run for run in section.runs if run.cell.scenario.seed in seeds], unfinished={})


def _epochs(count: int) -> str:
    return "one local epoch" if count == 1 else f"{count} local epochs"


def _section(section: Section, verdicts: Verdicts) -> list[str]:
    names = section.strategies
    return [
        f"| attack | {' | '.join(names)} |",
        "|---" + "|--:" * len(names) + "|",
        *(_row(section, verdicts, setting) for setting in section.settings),
        f"| **worst of all** | {' | '.join(_worst(section, verdicts, name) for name in names)} |",
        *_triggered(section),
        "",
        *(f"- {line}" for name in (names[0], SUBJECT) for line in beaten_in_words(section, verdicts, name)),
        "",
        f"Where `{SUBJECT}` ends more than a point below the best, and whom it drops in a round:",
        "",
        f"| attack | {SUBJECT} | the best | its accuracy | Byzantine dropped | honest dropped |",
        "|---|--:|---|--:|--:|--:|",
        *(_loss(section, verdicts, setting) for setting in section.settings),
    ]


def _finals(section: Section, verdicts: Verdicts, setting: Setting) -> dict[str, Estimate]:
    (compressor,) = section.compressors
    return {name: verdicts.finals[Defence(compressor, name), setting] for name in section.strategies}


def _row(section: Section, verdicts: Verdicts, setting: Setting) -> str:
    finals = _finals(section, verdicts, setting)
    best = max(_shown(final) for final in finals.values())
    texts = []
    for name, final in finals.items():
        text = f"{_shown(final):.1f} ({100 * min(final.values):.1f})"
        text = f"**{text}**" if _shown(final) == best else text
        texts.append(text + r"\*" * verdicts.beaten(Defence(section.compressors[0], name), setting))
    return f"| {section.name_of(setting)} | {' | '.join(texts)} |"


def _worst(section: Section, verdicts: Verdicts, name: str) -> str:
    means = {section.name_of(s): _shown(_finals(section, verdicts, s)[name]) for s in section.settings}
    attack = min(means, key=means.__getitem__)
    return f"{means[attack]:.1f} ({attack})"


def _triggered(section: Section) -> list[str]:
    """Return a row for what a backdoor is after, which accuracy does not see; none where nobody planted one."""
    marks = {
        name: [float(run.records[-1]["backdoor"]) for run in section.of(strategy=name) if "backdoor" in run.records[-1]]
        for name in section.strategies
    }
    if not all(marks.values()):
        return []
    shares = " | ".join(f"{100 * statistics.fmean(share):.1f}" for share in marks.values())
    return [f"| **backdoor: marked images called the target** | {shares} |"]


def _loss(section: Section, verdicts: Verdicts, setting: Setting) -> str:
    finals = _finals(section, verdicts, setting)
    own, best = _shown(finals[SUBJECT]), max(finals, key=lambda name: _shown(finals[name]))
    behind = _shown(finals[best]) - own > 1.0
    caught, lost = _dropped(section, setting)
    return (
        f"| {section.name_of(setting)} | {own:.1f} | {best if behind else '-'} | "
        f"{f'{_shown(finals[best]):.1f}' if behind else '-'} | "
        f"{'-' if setting[1] == NO_ATTACK else f'{caught:.1f}'} | {lost:.1f} |"
    )


def _dropped(section: Section, setting: Setting) -> tuple[float, float]:
    """Return how many Byzantine and how many honest nodes the subject left out of a round, on average."""
    caught, lost = [], []
    for run in section.of(strategy=SUBJECT, byzantine=setting[0], attack=setting[1]):
        liars = byzantine_partitions(run.cell.scenario)
        for record in run.records[1:]:
            out = filtered(record)
            caught.append(len(out & liars))
            lost.append(len(out - liars))
    return statistics.fmean(caught), statistics.fmean(lost)


def _shown(final: Estimate) -> float:
    """Return the mean in percent as the page shows it, so that what reads as a tie is one; zero where a run diverged."""
    return 0.0 if math.isnan(final.mean) else round(100 * final.mean, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, default=Path("out/minibatch"))
    parser.add_argument("--out", type=Path, default=Path("docs/minibatch.md"))
    options = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    sections: Mapping[str, Section] = {section.name: section for section in read_study(options.records).sections}
    try:
        text = page([sections[name] for name in ("minibatch-iid", "minibatch-dirichlet")])
    except (KeyError, ValueError) as error:
        raise SystemExit(f"{options.records}: {error}") from error
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
