"""The text of docs/accuracy.md, from its data file alone."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.accuracy_cells import ATTACKED, COMPRESSED, DENSE, HONEST, LEFT_OUT, PROBLEM, RECIPES, ROBUST, SETTINGS
from benchmarks.accuracy_curves import Curve
from benchmarks.accuracy_network import WEIGHTS
from benchmarks.accuracy_tables import Table, attacks, compressors, verdicts

__all__ = ["BYTES_PICTURE", "DRIVE", "ROUNDS_PICTURE", "complete", "page"]

ROUNDS_PICTURE, BYTES_PICTURE = "accuracy-rounds.png", "accuracy-bytes.png"

DRIVE = next(one for one in COMPRESSED if one.name == "drive" and one.error_feedback)
"""The recipe's compressor under a plain mean: what an attack does without a filter."""


def complete(curves: Sequence[Curve]) -> Table:
    """Return the curves of the seeds that every row of the page has: other means are not comparable.

    Raises
    ------
    ValueError
        If there is no such seed, or the runs have different numbers of rounds.
    """
    rows = [(setting, recipe) for setting in SETTINGS for recipe in RECIPES]
    rows += [(setting, recipe) for setting in ATTACKED for recipe in (DENSE, HONEST, DRIVE, ROBUST)]
    seeds = {one.seed for one in curves}
    for setting, recipe in rows:
        seeds &= {one.seed for one in Table(tuple(curves)).of(setting, recipe)}
    if not seeds:
        raise ValueError("no seed has every row of the page yet")
    if len({one.rounds for one in curves}) > 1:
        raise ValueError("all runs must have the same number of rounds")
    return Table(tuple(one for one in curves if one.seed in seeds))


def page(curves: Sequence[Curve]) -> str:
    """Return docs/accuracy.md."""
    table = complete(curves)
    seeds, rounds = sorted({one.seed for one in table.curves}), table.rounds
    asked = {one.seed for one in curves}
    strategy, trim = ROBUST.strategy["filters"], ROBUST.strategy["trim"]
    screen = ROBUST.strategy["length_screen"]
    lines = [
        "# Accuracy for the bytes",
        "",
        "Made by `make accuracy` (`python -m benchmarks.accuracy`). Every number comes from the",
        f"[data file](accuracy.jsonl), which has {len(curves)} runs through real Flower messages.",
        f"A network of {WEIGHTS:,} weights learns scikit-learn's digits from 10 clients, which train for {PROBLEM['epochs']}",
        "local epochs of SGD with momentum in each round.",
        f"The numbers are test accuracies after {_rounds(rounds)}: means over {len(seeds)} of {len(asked)} seeds",
        f"({', '.join(map(str, seeds))}){_BRACKETS if len(seeds) > 1 else ''}. Bytes are per client and round.",
        "Dense FedAvg is Flower's own strategy behind `Decompressed`, so that it goes through the same code.",
        "All other rows but the recommended recipe take the plain mean of what clients send (`NormThreshold` with `trim=0`).",
        "[compressors.md](compressors.md) says what each compressor does, and which parameters it has by default.",
        "",
        f"**The recommended recipe** is `{ROBUST.compressor['name']}` with error feedback under",
        f'`RobustCompressed(filters="{strategy}", trim={trim}, length_screen={screen:g})`.',
        "",
        *verdicts(table),
        "",
        f"![accuracy against rounds](images/{ROUNDS_PICTURE})",
        "",
        f"![accuracy against bytes](images/{BYTES_PICTURE})",
    ]
    for setting in SETTINGS:
        lines += ["", f"## {setting.title}", "", f"Accuracy after {_rounds(rounds)} (worst seed).", ""]
        lines += compressors(table, setting)
    lines += [
        "",
        *_ATTACKS,
        f"Accuracy after {_rounds(rounds)} (worst seed).",
        "",
        *attacks(table, (DENSE, HONEST, DRIVE, ROBUST)),
    ]
    lines += ["", "## What is not in the tables", ""]
    lines += [f"- `{name}`: {why}." for name, why in LEFT_OUT.items()]
    return "\n".join(lines) + "\n"


_BRACKETS = ", and in brackets the worst seed after the last round"

_ATTACKS = (
    "## Two of ten clients attack",
    "",
    "Each attacker sends -10 times its own update, after compression.",
    "If the attack drives the model to values on which no client can train, the run ends.",
    "Its last accuracy then stands for the rounds that are missing.",
    "A strategy that drops an attacker loses the images of that client with it.",
    "*The honest alone* is dense FedAvg on the other eight, as if somebody knew the attackers: what is left to learn from.",
)


def _rounds(rounds: Sequence[int]) -> str:
    if len(rounds) == 1:
        return f"round {rounds[0]}"
    return f"rounds {', '.join(map(str, rounds[:-1]))} and {rounds[-1]}"
