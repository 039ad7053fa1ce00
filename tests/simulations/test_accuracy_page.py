"""docs/accuracy.md: what the page says follows from its data file, and its rows are those of the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import accuracy_page
from benchmarks.accuracy_cells import (
    ATTACKED,
    COMPRESSED,
    DENSE,
    LEFT_OUT,
    RECIPES,
    ROBUST,
    SETTINGS,
    Case,
    Recipe,
    cases,
    scenario_of,
)
from benchmarks.accuracy_curves import Curve, curves_of, read_curves_file, written
from benchmarks.accuracy_network import WEIGHTS, network
from benchmarks.accuracy_page import DRIVE, complete, page
from benchmarks.accuracy_pictures import draw_bytes, draw_rounds
from benchmarks.accuracy_sampling import drawn
from benchmarks.accuracy_tables import summary
from flwr_robustcomp.compressors import COMPRESSORS
from flwr_robustcomp.simulations.runs.run import run_scenario
from flwr_robustcomp.strategies import Policy
from tests.simulations.kit import ROOT

ROUNDS = 20
SENT = {DENSE.name: 3000.0, ROBUST.name: 99.0}


def _curve(case: Case, final: float) -> Curve:
    recipe = case.recipe
    accuracy = tuple(final * t / case.rounds for t in range(case.rounds + 1))
    return Curve(case.setting.name, recipe.name, recipe.error_feedback, case.seed, SENT.get(recipe.name, 50.0), accuracy)


def _final(case: Case) -> float:
    """Return an accuracy: the recipe is as good as FedAvg and withstands the attack IID, and loses two points with shards."""
    lost = 0.01 * case.seed
    if case.recipe == DENSE:
        return (0.10 if case.setting in ATTACKED else 0.90) - lost
    if case.recipe == ROBUST:
        return (0.88 if case.setting.name == "shards attacked" else 0.90) - lost
    return 0.5 - lost


def _curves(final: Callable[[Case], float] = _final, rounds: int = ROUNDS) -> list[Curve]:
    return [_curve(case, final(case)) for case in cases([0, 1], rounds)]


def test_the_page_in_docs_is_what_its_data_file_says() -> None:
    data, text = ROOT / "docs" / "accuracy.jsonl", ROOT / "docs" / "accuracy.md"
    curves = read_curves_file(data)
    assert text.read_text(encoding="utf-8") == page(curves)
    table = complete(curves)
    assert table.rounds == (5, 10, 20)  # no shortened study


def test_the_page_in_docs_has_five_seeds() -> None:
    table = complete(read_curves_file(ROOT / "docs" / "accuracy.jsonl"))
    assert {one.seed for one in table.curves} == set(range(5))


def test_the_readme_shows_what_the_page_says() -> None:
    table = complete(read_curves_file(ROOT / "docs" / "accuracy.jsonl"))
    assert "\n".join(summary(table)) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_summary_has_six_accuracies() -> None:
    assert summary(complete(_curves()))[2:] == [
        "| FedAvg, dense | 1 | 89.5 % | 89.5 % | 9.5 % |",
        "| recommended recipe | 1/30.3 | 89.5 % | 89.5 % | 87.5 % |",
    ]


def test_the_tables_follow_from_the_curves() -> None:
    text = page(_curves())
    tables = {part.partition("\n")[0]: part.splitlines() for part in text.split("\n## ")[1:]}
    assert list(tables)[: len(SETTINGS)] == [setting.title for setting in SETTINGS]
    for setting in SETTINGS:
        rows = tables[setting.title]
        assert "| FedAvg, dense | 3,000 | 0.224 / 0.448 / 0.895 (0.890) | | |" in rows
        assert "| **recommended recipe** | | | 99 | 0.224 / 0.448 / 0.895 (0.890) |" in rows
        assert "| l1-sign | 50 | 0.124 / 0.247 / 0.495 (0.490) | 50 | 0.124 / 0.247 / 0.495 (0.490) |" in rows
        assert len([row for row in rows if row.startswith("| ")]) == 3 + len(COMPRESSED) // 2
    attacked = tables["Two of ten clients attack"]
    dense = next(row for row in attacked if row.startswith("| FedAvg, dense"))
    assert dense.split(" | ")[1:3] == ["0.224 / 0.448 / 0.895 (0.890)", "0.024 / 0.048 / 0.095 (0.090)"]
    assert any(row.startswith("| drive with error feedback, mean |") for row in attacked)
    assert "2 of 2 seeds" in " ".join(text.split())


def test_the_verdicts_compare_with_fedavg_and_with_the_clean_run() -> None:
    lines = page(_curves()).splitlines()
    assert "| IID, against dense FedAvg: at most 0.5 points less | +0.0 points | yes |" in lines
    assert "| bytes: at most 1/30 of dense FedAvg's | 1/30.3 | yes |" in lines
    assert "| IID, two of ten attack, against its clean run: at most 1 point less | +0.0 points | yes |" in lines
    assert "| two shards, two of ten attack, against its clean run: at most 1 point less | -2.0 points | **no** |" in lines
    worse = page(_curves(lambda case: _final(case) - 0.01 * (case.recipe == ROBUST))).splitlines()
    assert "| two shards, against dense FedAvg: no less | -1.0 points | **no** |" in worse


def test_only_seeds_that_every_row_has_count() -> None:
    curves = _curves()
    left = [one for one in curves if (one.seed, one.recipe, one.setting) != (1, DRIVE.name, "iid attacked")]
    assert len(left) == len(curves) - 1
    text = page(left)
    assert "| FedAvg, dense | 3,000 | 0.225 / 0.450 / 0.900 | | |" in text
    assert "1 of 2 seeds" in " ".join(text.split())
    with pytest.raises(ValueError, match="no seed has every row"):
        page([one for one in curves if one.recipe != DENSE.name])
    with pytest.raises(ValueError, match="same number of rounds"):
        page([*curves[1:], replace(curves[0], accuracy=(0.1, 0.2))])


def test_a_shorter_study_shows_its_own_last_round() -> None:
    assert "Accuracy after rounds 5 and 7 (worst seed)." in page(_curves(rounds=7))
    assert "Accuracy after round 3 (worst seed)." in page(_curves(rounds=3))


def test_the_data_file_keeps_every_curve(tmp_path: Path) -> None:
    file = tmp_path / "accuracy.jsonl"
    file.write_text(written(_curves()), encoding="utf-8")
    read = read_curves_file(file)
    assert page(read) == page(_curves())
    assert written(read) == file.read_text(encoding="utf-8")


def test_every_compressor_has_a_row_with_and_without_error_feedback() -> None:
    rows = [(recipe.compressor["name"], recipe.error_feedback) for recipe in COMPRESSED]
    assert sorted(rows) == sorted((name, kept) for name in COMPRESSORS if name not in LEFT_OUT for kept in (False, True))
    text = page(_curves())
    assert all(f"- `{name}`: " in text for name in LEFT_OUT)


def test_every_run_is_another_scenario_on_seeds_that_nothing_was_tuned_on() -> None:
    wanted = cases(range(5), ROUNDS)
    assert len({(case.setting.name, case.recipe.name, case.recipe.error_feedback, case.seed) for case in wanted}) == len(wanted)
    assert len(wanted) == 5 * (len(SETTINGS) * len(RECIPES) + len(ATTACKED) * 4)
    first = [case for case in wanted if case.seed == 0]
    assert len({scenario_of(case).key for case in first}) == len(first)


def _record(t: int, accuracy: float | None, skipped: str | None = None) -> dict[str, Any]:
    told = {"kept": 8, "trimmed": [1], "rejected": {"2": "no"}, "bytes": 100}
    return {"round": t, "accuracy": accuracy, "skipped": skipped, **(told if skipped is None else {"bytes": 0, "kept": 0})}


def test_curves_come_from_ended_runs_alone() -> None:
    iid, sampled = (next(case for case in cases([0], 2) if case.setting.name == name) for name in ("iid", "sampled"))
    records = [{"round": 0, "accuracy": 0.1}, _record(1, 0.5), _record(2, None)]
    found = {scenario_of(iid).key: records, scenario_of(sampled).key: records[:2]}
    assert curves_of([iid, sampled], found) == [Curve("iid", DENSE.name, False, 0, 10.0, (0.1, 0.5, 0.0))]


def test_a_run_that_gave_up_keeps_its_accuracy_and_an_interrupted_one_has_none_yet() -> None:
    case, patience = cases([0], ROUNDS)[0], Policy().patience or 0
    assert 0 < patience < ROUNDS - 1
    records = [{"round": 0, "accuracy": 0.1}, _record(1, 0.2)]
    records += [_record(t, 0.2, "no reply was accepted") for t in range(2, patience + 2)]
    (curve,) = curves_of([case], {scenario_of(case).key: records})
    assert curve.accuracy == (0.1, *[0.2] * ROUNDS)
    assert curve.sent == 10.0
    assert not curves_of([case], {scenario_of(case).key: records[:-1]})


@pytest.mark.parametrize("recipe", [DENSE, ROBUST, DRIVE], ids=lambda recipe: recipe.name)
def test_ten_of_a_hundred_nodes_train_in_a_round(recipe: Recipe) -> None:
    case = next(case for case in cases([3], 1) if case.setting.name == "sampled" and case.recipe == recipe)
    scenario = scenario_of(case)
    small = scenario.varied(problem={**scenario.problem.model_dump(), "model": "logistic", "epochs": 1})
    _, record = run_scenario(small)
    assert record["skipped"] is None
    assert record["kept"] + len(record["trimmed"]) + len(record["rejected"]) == case.setting.replies == 10


def test_the_nodes_of_a_round_follow_from_the_seed_and_change_with_the_round() -> None:
    nodes = range(100)
    assert drawn(nodes, 10, 0, 1) == drawn(reversed(nodes), 10, 0, 1)
    rounds = [tuple(drawn(nodes, 10, seed, t)) for seed in (0, 1) for t in range(1, 6)]
    assert len(set(rounds)) == len(rounds)
    assert all(len(set(one)) == 10 for one in rounds)


def test_the_network_has_the_weights_that_the_page_names() -> None:
    assert sum(parameter.numel() for parameter in network().parameters()) == WEIGHTS
    assert network()(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_both_pictures_are_drawn(tmp_path: Path) -> None:
    table = complete(_curves())
    for draw, name in ((draw_rounds, accuracy_page.ROUNDS_PICTURE), (draw_bytes, accuracy_page.BYTES_PICTURE)):
        draw(table, tmp_path / "images" / name)
        assert (tmp_path / "images" / name).read_bytes().startswith(b"\x89PNG")
        assert f"(images/{name})" in page(_curves())
