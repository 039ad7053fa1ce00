"""docs/minibatch.md: what the page says follows from the records, and from complete seeds only."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from benchmarks.minibatch import page
from flwr_robustcomp.component import Component
from flwr_robustcomp.simulations.attacks import ATTACKS
from flwr_robustcomp.simulations.report.study import Run, Section
from flwr_robustcomp.simulations.scenario.setup import byzantine_partitions
from flwr_robustcomp.simulations.scenario.suite import Suite, SuiteCell
from tests.simulations.kit import ROOT

EPOCHS = {"name": "classification", "hidden": 4, "training": "local", "epochs": 1, "batch_size": 16}
SUITE = Suite.model_validate(
    {
        "title": "T",
        "base": {"nodes": 10, "rounds": 2, "problem": EPOCHS},
        "strategies": [
            {"name": "norm-threshold", "trim": 2, "label": "norm threshold"},
            {"name": "robust-compressed", "trim": 2, "label": "spectral"},
        ],
        "attacks": ["inner-product", "mimic"],
        "byzantine": [0, 2],
        "seeds": [0, 1],
    }
)
FINAL = {"none": (0.9, 0.9), "inner-product": (0.5, 0.88), "mimic": (0.89, 0.86)}


def _section(missing: SuiteCell | None = None) -> Section:
    """Return a record in which inner products beat norm thresholding, and the filter drops a liar and an honest node."""
    runs = []
    for cell in SUITE.cells():
        final = FINAL[cell.group.attack][cell.group.strategy == "spectral"] - 0.02 * cell.scenario.seed
        liars = byzantine_partitions(cell.scenario)
        dropped = [*sorted(liars)[:1], min(set(range(10)) - liars)] if cell.group.strategy == "spectral" else []
        records: list[dict[str, Any]] = [{"round": 0, "accuracy": 0.1}]
        records += [{"round": t, "accuracy": final, "trimmed": dropped, "rejected": {}} for t in (1, 2)]
        if cell != missing:
            runs.append(Run(cell, records, {}))
    unfinished = {} if missing is None else {missing: 1}
    return Section("t", "T", SUITE.cells(), runs, unfinished, "accuracy", "higher", 12, {})


def test_the_tables_and_the_sentences_follow_from_the_record() -> None:
    text = page([_section()])
    lines = text.splitlines()
    assert "| no attack | **89.0 (88.0)** | **89.0 (88.0)** |" in lines
    assert r"| inner-product | 49.0 (48.0)\* | **87.0 (86.0)** |" in lines
    assert "| **worst of all** | 49.0 (inner-product) | 85.0 (mimic) |" in lines
    (beaten,) = [line for line in lines if line.startswith("- norm threshold is beaten by inner-product")]
    assert "spectral withstands it." in beaten
    assert "- No attack of this table beats spectral." in lines
    assert "| mimic | 85.0 | norm threshold | 88.0 | 1.0 | 1.0 |" in lines
    assert "| inner-product | 87.0 | - | - | 1.0 | 1.0 |" in lines
    assert "record of 12 runs" in text
    assert "mean over 2 of 2" in text


def test_only_seeds_that_every_combination_has_count() -> None:
    missing = next(cell for cell in SUITE.cells() if cell.scenario.seed == 1)
    text = page([_section(missing)])
    assert "| no attack | **90.0 (90.0)** | **90.0 (90.0)** |" in text
    assert "mean over 1 of 2" in text
    nothing = Section("t", "T", SUITE.cells(), [], dict.fromkeys(SUITE.cells(), 0), "accuracy", "higher", 12, {})
    with pytest.raises(ValueError, match="no seed has every combination"):
        page([nothing])


def test_the_suites_have_every_attack_on_labels() -> None:
    suite = Suite.from_toml(ROOT / "examples" / "minibatch-iid.toml")
    assert {attack.name for attack in suite.attacks} > {name for name, attack in ATTACKS.items() if attack.kind == "label"}


def test_what_the_backdoors_trigger_achieves_stands_below_the_accuracies() -> None:
    suite = SUITE.model_copy(update={"attacks": [Component(name="backdoor")]})
    runs = []
    for cell in suite.cells():
        last = {"round": 2, "accuracy": 0.9, "backdoor": 0.8 if cell.group.strategy == "spectral" else 0.25}
        if not cell.scenario.byzantine:
            del last["backdoor"]
        runs.append(Run(cell, [{"round": 0, "accuracy": 0.1}, {"round": 1, "accuracy": 0.5}, last], {}))
    lines = page([Section("t", "T", suite.cells(), runs, {}, "accuracy", "higher", 12, {})]).splitlines()
    assert "| **backdoor: marked images called the target** | 25.0 | 80.0 |" in lines


def test_the_two_suites_differ_in_title_and_partition_only() -> None:
    """So that what differs between their tables is due to the partition."""
    alike, unlike = (
        tomllib.loads((ROOT / f"examples/minibatch-{name}.toml").read_text(encoding="utf-8")) for name in ("iid", "dirichlet")
    )
    assert (alike["base"]["problem"].pop("partition"), alike.pop("title")) == ("iid", "Minibatch training, IID")
    assert unlike["base"]["problem"].pop("partition") == "dirichlet"
    assert (unlike["base"]["problem"].pop("alpha"), unlike.pop("title")) == (0.3, "Minibatch training, Dirichlet 0.3")
    assert alike == unlike
