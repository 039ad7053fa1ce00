"""docs/traffic.md, from its data file alone."""

from __future__ import annotations

from benchmarks.accuracy_cells import PROBLEM
from benchmarks.traffic_attack_table import attack_tables
from benchmarks.traffic_attacks import ATTACK_ROUNDS, ATTACK_SEEDS, BYZANTINE, NODES
from benchmarks.traffic_attacks import cases as attack_cases
from benchmarks.traffic_cells import ONE_BIT, OURS, PARTITIONS, TABLES, UPLINK
from benchmarks.traffic_mnist import TEST, TRAIN
from benchmarks.traffic_outcomes import Data
from benchmarks.traffic_tables import EARLY, MOST_LOST, TARGET, Rows, rows, table, verdicts, whole

__all__ = ["page"]


def page(data: Data) -> str:
    """Return the page.

    Raises
    ------
    ValueError
        If there is no run to compare with.
    """
    found = [one for name in TABLES for split in PARTITIONS if (one := rows(name, split, data.outcomes)) is not None]
    if not found:
        raise ValueError("no seed has dense FedAvg yet")
    runs = len(data.outcomes) + len(data.attacked)
    lines = [
        "# Traffic, both ways",
        "",
        f"Made by `make traffic`: every number is computed from the record of {runs:,} runs.",
        "",
        *_HOW,
        "",
        *_missing(found, data),
        "## What is wanted, and what is reached",
        "",
        f"For *{OURS}*, with the parameters that it has by default: enough times fewer bytes than dense FedAvg, at most",
        f"{MOST_LOST:g} points of final accuracy lost, and half the lag of *{ONE_BIT}* after round {EARLY}, or a lag of",
        f"at most {MOST_LOST:g} points. The lag is what the accuracy is behind that of *{UPLINK}*, in points.",
        "",
        *verdicts(found),
    ]
    for name in TABLES:
        if own := [one for one in found if one.name == name]:
            lines += _section(name, own)
    if tables := attack_tables(data.attacked):
        lines += ["", "## A fifth of the nodes lies", "", *_LIARS, *tables]
    return "\n".join(lines) + "\n"


_HOW = (
    "The networks, and how nodes train, are those of [accuracy.md](accuracy.md): a small convolutional network,",
    f"SGD with momentum, {PROBLEM['epochs']} local epochs per round on digits and one on MNIST. *Dense FedAvg* sends every",
    "weight both ways. All other rows have a packed uplink: `drive` with error feedback where all nodes take part, `tern-grad`",
    "without it where 10 of 100 are sampled. They differ in how the model travels down: dense (*uplink only*),",
    "through the shared replica, or quantised in each round.",
    "",
    "- *Final accuracy*: percent of the test images after the last round, mean over the seeds (worst seed);",
    f"  *round {EARLY}*: after that one.",
    "- *Bytes up, down*: of Array data, per node that takes part and round, mean over the run. Evaluation is on the server.",
    f"- *Total to reach it*: all bytes of all nodes, both ways, until the accuracy is first {100 * TARGET:.0f} % of dense",
    "  FedAvg's final one; *times fewer*: what dense FedAvg needs, divided by that.",
)

_LIARS = (
    "The [default defence](unlike.md) against every attack of the registry, with the dense model on its way down and with the",
    f"replica. {BYZANTINE} of {NODES} nodes lie; the 64-32-10 network of [unlike.md](unlike.md), {ATTACK_ROUNDS} rounds.",
    "*Gain* is what an attack gains from the packed downlink: points of final accuracy lost beside the dense one.",
    "*Seed spread* is the difference between the best and the worst seed, of the downlink in which it is larger.",
)

_MNIST = (
    f"The same {TRAIN:,} training and {TEST:,} test images of MNIST in every run, drawn once. `--data FOLDER` names a folder",
    "with MNIST's four IDX files; without it (`make traffic MNIST=FOLDER`) these tables stay as they are.",
)


def _missing(found: list[Rows], data: Data) -> list[str]:
    """Return what to say of runs that are not there."""
    if whole(found) and len(data.attacked) >= len(attack_cases(range(ATTACK_SEEDS))):
        return []
    return ["Empty cells, and tables that are not here, have not been run yet: `make traffic` runs what is missing.", ""]


def _section(name: str, found: list[Rows]) -> list[str]:
    about = TABLES[name]
    lines = ["", f"## {about.title}", "", f"{about.rounds} rounds, {about.packed.name} up."]
    lines += _MNIST if name.startswith("mnist") else []
    for one in found:
        seeds = ", ".join(map(str, one.seeds))
        lines += ["", f"### {about.title}: {one.partition}", ""]
        lines += [f"Seeds {seeds}. To be reached: {100 * one.target:.1f} %.", "", *table(one)]
    return lines
