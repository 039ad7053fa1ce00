"""docs/traffic.md: what the page says follows from its data file, and every cell can be run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks import traffic_attacks
from benchmarks.accuracy_network import mnist_network
from benchmarks.traffic_attacks import NONE, AttackCase
from benchmarks.traffic_cells import BASE, DOWNS, ONE_BIT, OURS, PARTITIONS, TABLES, UPLINK, Case, cases, scenario_of
from benchmarks.traffic_mnist import TEST, TRAIN, cut
from benchmarks.traffic_outcomes import Attacked, Data, Outcome, read_data, updated
from benchmarks.traffic_page import page
from benchmarks.traffic_tables import rows, table, verdicts
from flwr_robustcomp.component import Component, build
from flwr_robustcomp.downlink import DOWNLINKS, Downlink
from flwr_robustcomp.simulations.attacks import ATTACKS
from flwr_robustcomp.simulations.problems.folder import read_folder
from flwr_robustcomp.simulations.runs.sweep import run_cells
from flwr_robustcomp.simulations.scenario.setup import check_components
from tests.simulations.kit import ROOT, small

COST = {BASE: (1000, 1000), UPLINK: (30, 1000)}


def _outcome(case: Case, final: float = 0.9) -> Outcome:
    """Return a run that learns evenly and costs the same in each round."""
    rounds = TABLES[case.table].rounds
    up, down = COST.get(case.down, (30, 40))
    accuracy = tuple(final * t / rounds for t in range(rounds + 1))
    return Outcome(**asdict(case), accuracy=accuracy, up=(up,) * rounds, down_bytes=(down,) * rounds)


def _digits(final: Callable[[Case], float] = lambda case: 0.9) -> list[Outcome]:
    return [_outcome(case, final(case)) for case in cases([5, 6], ["digits"]) if case.partition == "IID"]


def test_the_page_is_made_of_its_data() -> None:
    assert (ROOT / "docs/traffic.md").read_text(encoding="utf-8") == page(read_data(ROOT / "docs/traffic.jsonl"))


def test_no_seed_of_the_page_chose_a_parameter() -> None:
    data = read_data(ROOT / "docs/traffic.jsonl")
    assert {*(one.seed for one in data.outcomes), *(one.seed for one in data.attacked)}.isdisjoint(range(5))


def test_bytes_are_counted_until_the_target_is_first_reached() -> None:
    one = Outcome("digits", "IID", BASE, 5, accuracy=(0.1, 0.5, 0.4, 0.8), up=(1, 2, 4), down_bytes=(10, 20, 40))
    assert one.total == (0, 11, 33, 77)
    assert [one.bytes_to(target) for target in (0.05, 0.5, 0.6, 0.9)] == [0, 11, 77, None]


def test_the_row_says_how_many_times_fewer() -> None:
    found = rows("digits", "IID", _digits())
    assert found is not None
    assert found.ratio(OURS) == pytest.approx(2000 / 70) and found.ratio(BASE) == 1
    late = rows("digits", "IID", _digits(lambda case: 0.9 if case.down == BASE else 0.6))
    assert late is not None and late.ratio(OURS) is None
    assert "not reached" in "\n".join(table(late))


@pytest.mark.parametrize(
    ("final", "missed"),
    [
        ({}, "yes"),
        ({OURS: 0.894}, "**no**: accuracy"),
        ({UPLINK: 1.2, ONE_BIT: 1.0}, "**no**: lag"),  # 10 points behind after ten of thirty rounds, and 6.7
        ({UPLINK: 1.2, ONE_BIT: 0.3}, "yes"),
        ({OURS: 0.5}, "**no**: bytes, accuracy, lag"),
    ],
)
def test_what_is_wanted_is_held_against_what_is_reached(final: dict[str, float], missed: str) -> None:
    found = rows("digits", "IID", _digits(lambda case: final.get(case.down, 0.9)))
    assert found is not None
    assert verdicts([found])[-1].endswith(f"| {missed} |")


def test_rows_have_the_same_seeds_and_a_missing_one_is_empty() -> None:
    runs = [one for one in _digits() if one.down != ONE_BIT and (one.down, one.seed) != (UPLINK, 6)]
    found = rows("digits", "IID", runs)
    assert found is not None and found.seeds == (5,)
    assert f"| {ONE_BIT} |  |  |  |  |  |  |" in table(found)
    assert rows("digits", "IID", [one for one in runs if one.down != BASE]) is None
    assert "have not been run yet" in page(Data(tuple(runs)))
    whole = [_outcome(case) for case in cases([5])]
    liars = tuple(Attacked(**asdict(case), accuracy=0.9) for case in traffic_attacks.cases([5, 6, 7]))
    assert "have not been run yet" in page(Data(tuple(whole)))
    assert "have not been run yet" not in page(Data(tuple(whole), liars))


def test_an_attack_that_gains_more_than_its_spread_is_named() -> None:
    def run(attack: str, down: str, seed: int, accuracy: float) -> Attacked:
        return Attacked("IID", attack, down, seed, accuracy)

    packed = {NONE: 0.90, "mimic": 0.80, "zero": 0.89}
    runs = [run(name, down, seed, (0.90 if down == "dense" else of) - 0.01 * seed) for name, of in packed.items()
            for down in ("dense", OURS) for seed in (5, 6)]  # fmt: skip
    text = page(Data(tuple(_digits()), tuple(runs)))
    assert f"2 of {len(ATTACKS)} attacks have run. More than its seed spread gains: mimic." in text
    assert "| mimic | 84.5 (84.0) | 74.5 (74.0) | +10.0 | 1.0 | **yes** |" in text
    assert "| zero | 84.5 (84.0) | 83.5 (83.0) | +1.0 | 1.0 | no |" in text


def test_the_data_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    data = Data(tuple(_digits()), (Attacked("IID", "zero", OURS, 5, 0.5),))
    (tmp_path / "data.jsonl").write_text(data.text(), encoding="utf-8")
    assert read_data(tmp_path / "data.jsonl") == data
    assert updated(data, [5], ["digits"], [tmp_path / "nothing"]) == data


def test_what_a_run_sent_is_in_its_record(tmp_path: Path) -> None:
    scenario = small(downlink={"name": "replica"}, compressor="drive")
    records = run_cells([scenario], tmp_path)[scenario.key]
    found = Outcome.of(Case("digits", "IID", OURS, 5), [{"accuracy": 0.5, **record} for record in records])
    assert len(found.down_bytes) == 3 and 0 < found.down_bytes[1] < 10 * 8 * 12


@pytest.mark.parametrize("name", [name for name in TABLES if not name.startswith("mnist")])
def test_every_row_can_be_run_on_every_partition(name: str) -> None:
    for down in DOWNS:
        check_components(scenario_of(Case(name, "IID", down, 5)))
    for partition in PARTITIONS:
        check_components(scenario_of(Case(name, partition, OURS, 5)))


def test_the_row_of_the_defaults_spells_them_out() -> None:
    assert build("downlink", DOWNLINKS, Component(**DOWNS[OURS])) == Downlink()


def test_every_attack_of_the_registry_can_be_run() -> None:
    for case in traffic_attacks.cases([5]):
        if case.partition == "IID":
            check_components(traffic_attacks.scenario_of(case))
    assert {case.attack for case in traffic_attacks.cases([5])} == {NONE, *ATTACKS}
    assert traffic_attacks.scenario_of(AttackCase("IID", NONE, OURS, 5)).byzantine == 0


def test_the_part_of_mnist_is_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    whole: dict[str, npt.NDArray[Any]] = {}
    for part, count in (("train", TRAIN + 5), ("test", TEST + 5)):
        whole |= {f"x_{part}": rng.integers(0, 256, (count, 2, 2), np.uint8), f"y_{part}": np.arange(count) % 10}
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data/all.npz", **whole)  # type: ignore[arg-type]
    cut(tmp_path / "data")
    images = read_folder(tmp_path / "out/traffic-mnist")
    assert (len(images.train), len(images.test)) == (TRAIN, TEST)
    found = {row.tobytes() for row in images.train.pixels.numpy()}
    assert found <= {row.tobytes() for row in whole["x_train"]}


def test_the_network_takes_mnist() -> None:
    network = mnist_network()
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert sum(weights.numel() for weights in network.parameters()) == 105_866
