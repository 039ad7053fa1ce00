"""The summary: what the figures show, in sentences, the first defence's losses as plainly as its successes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from flwr_robustcomp.simulations.report.estimate import quantity
from flwr_robustcomp.simulations.report.section import Section, Setting
from flwr_robustcomp.simulations.report.verdicts import Defence, Verdicts
from flwr_robustcomp.simulations.scenario.suite import NO_ATTACK

__all__ = ["beaten_in_words", "cost_in_words", "incomparable", "join", "summary"]


def summary(section: Section, verdicts: Verdicts) -> list[str]:
    """Return the summary of a comparison, one sentence or two to a line.

    First the whole, then how the first defence of the suite and norm thresholding fare, then best and worst for each
    attack, then the bytes.
    """
    attacks = [setting for setting in section.settings if setting[1] != NO_ATTACK]
    seeds = len({cell.scenario.seed for cell in section.cells})
    lines = [
        f"{_count(len(section.strategies), 'defence')} against {_count(len(attacks), 'attack')} with "
        f"{_count(len(section.compressors), 'compressor')} and {_count(seeds, 'seed')}: {len(section.runs)} of "
        f"{_count(len(section.cells), 'run')} finished."
    ]
    if not section.runs:
        return [*lines, "No run has finished, so there is nothing to say yet."]
    if seeds == 1:
        lines.append("With one seed nothing says how much of a difference is chance; figures are rounded to two digits.")
    if attacks and not verdicts.comparable:
        lines.append(incomparable(section))
    else:
        for subject in _subjects(section):
            lines += beaten_in_words(section, verdicts, subject)
    lines += [text for setting in section.settings if (text := _extremes(section, verdicts, setting))]
    return [line[0].upper() + line[1:] for line in [*lines, *cost_in_words(section)]]


def incomparable(section: Section) -> str:
    """Say why there are no verdicts: no result without attack."""
    none = "No run without attack has ended with a figure" if _has_clean(section) else "There is no run without attack"
    return f"{none} to compare with, so nothing is said about who withstands what."


def _has_clean(section: Section) -> bool:
    return any(attack == NO_ATTACK for _, attack in section.settings)


def _subjects(section: Section) -> list[str]:
    """Return whose fate the summary tells: the first defence of the suite, and norm thresholding if it is another."""
    rows = {cell.group.strategy: cell.scenario.strategy for cell in section.cells}
    norm = [row for row, made in rows.items() if made.name == "norm-threshold" and made.params.get("trim", 0) not in (0, "0")]
    first = section.strategies[0]
    return [first] if first in norm else [first, *norm[:1]]


def beaten_in_words(section: Section, verdicts: Verdicts, subject: str) -> list[str]:
    """Say what a defence withstands, which attacks beat it, and who withstands these.

    Parameters
    ----------
    section : Section
        The comparison.
    verdicts : Verdicts
        `judge` of it: nothing else is asked.
    subject : str
        The defence, as it is called in the table.

    Returns
    -------
    list of str
        One line for all that it withstands, one for each attack that beats it; where none does, or where that cannot be
        known without a run of its own without attack, a line that says so.
    """
    attacks = [setting for setting in section.settings if setting[1] != NO_ATTACK]
    own = [defence for defence in dict.fromkeys(d for d, _ in verdicts.finals) if defence.strategy == subject]
    lines, withstood = [], []
    for setting in attacks:
        stand = [defence for defence in own if verdicts.withstands(defence, setting)]
        if stand:
            withstood.append(section.name_of(setting) + _with(stand, own))
        if not (beaten := [defence for defence in own if verdicts.beaten(defence, setting)]):
            continue
        values = join(str(verdicts.finals[defence, setting]) for defence in beaten)
        others = [d for d, _ in verdicts.ranked(setting) if d.strategy != subject and verdicts.withstands(d, setting)]
        names = list(dict.fromkeys(_name(section, defence) for defence in others))
        answer = (
            f"{join(names)} {'withstands' if len(names) == 1 else 'withstand'} it." if names else "No other one withstands it."
        )
        lines.append(
            f"{subject} is beaten by {section.name_of(setting)}{_with(beaten, own)} ({section.metric} {values}). {answer}"
        )
    unknown = [defence for defence in own if verdicts.clean(defence) is None]
    known = all(verdicts.withstands(defence, setting) is not None for defence in own for setting in attacks)
    if attacks and unknown:
        lines.append(
            f"{subject}{_with(unknown, own)} has no finished run of its own without attack, "
            "so nothing is said about what beats it."
        )
    elif attacks and known and not lines:
        weak = "" if withstood else ", but it ends far from the best without attack"
        lines = [f"No attack of this table beats {subject}{weak}."]
    return ([f"{subject} withstands {join(withstood)}."] if withstood else []) + lines


def _with(some: Sequence[Defence], of: Sequence[Defence]) -> str:
    """Return which compressors are meant, unless all are."""
    return "" if len(some) == len(of) else f" with {join(defence.compressor for defence in some)}"


def _extremes(section: Section, verdicts: Verdicts, setting: Setting) -> str:
    """Name the best and the worst defence of a setting, or say that the spread does not tell them apart."""
    ranked = verdicts.ranked(setting)
    if len(ranked) < 2:
        return ""
    (best, top), (worst, bottom) = ranked[0], ranked[-1]
    tied = [d for d, e in ranked if not e.diverged and not top.diverged and abs(e.mean - top.mean) <= e.spread + top.spread]
    where = section.name_of(setting)
    if len(tied) == len(ranked):
        return f"{where}: all defences end within each other's spread, {top} to {bottom}."
    also = f", within the spread of {_count(len(tied) - 1, 'other')}" if len(tied) > 1 else ""
    return f"{where}: best is {_name(section, best)}, {top}{also}; worst is {_name(section, worst)}, {bottom}."


def cost_in_words(section: Section) -> list[str]:
    """Say what an update costs with each compressor, and against sending every coordinate as a 32-bit number."""
    if section.dimension is None:
        return []
    dense = 4 * section.dimension
    texts = []
    for compressor in section.compressors:
        sizes = [
            record["bytes"] / run.cell.scenario.asked
            for run in section.of(compressor=compressor)
            for record in run.records[1:]
            if record.get("bytes")
        ]
        if sizes:
            size = math.fsum(sizes) / len(sizes)
            times = quantity(dense / size, None) if dense >= size else "no"
            texts.append(f"{size:,.0f} with {compressor} ({times} times less)")
    return (
        [f"One update of {section.dimension:,} coordinates takes {dense:,} bytes as float32: {join(texts)}."] if texts else []
    )


def join(items: Iterable[str]) -> str:
    """Return items as English lists them."""
    texts = list(items)
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}" if texts else ""


def _name(section: Section, defence: Defence) -> str:
    """Return a defence's name, with its compressor where it was run with several."""
    own = section.compressors_of(defence.strategy)
    return f"{defence.strategy} with {defence.compressor}" if len(own) > 1 else defence.strategy


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
