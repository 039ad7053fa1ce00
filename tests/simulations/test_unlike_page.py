"""docs/unlike.md: what the page says follows from its data file, and every cell can be run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.unlike_cells import ATTACKS, BYZANTINE, DEFENCES, MEAN, PARTITIONS, Case, Outcome, cases, scenario_of
from benchmarks.unlike_page import page
from flwr_robustcomp.simulations.scenario.setup import check_components, make_strategy
from flwr_robustcomp.strategies import RobustCompressed
from tests.simulations.kit import ROOT

OUTCOMES = [Outcome.from_json(line) for line in (ROOT / "docs/unlike.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_page_is_made_of_its_data() -> None:
    assert (ROOT / "docs/unlike.md").read_text(encoding="utf-8") == page(OUTCOMES)


def test_no_seed_of_the_page_chose_a_threshold() -> None:
    assert {one.seed for one in OUTCOMES}.isdisjoint(range(5))


def test_a_seed_that_lacks_a_cell_is_left_out() -> None:
    seeds = sorted({one.seed for one in OUTCOMES})
    assert page(OUTCOMES[1:]) == page([one for one in OUTCOMES if one.seed != seeds[0]])
    with pytest.raises(ValueError, match="no seed has every cell yet"):
        page([one for one in OUTCOMES if one.attack != "mimic"])


def test_a_worse_run_shows() -> None:
    found = next(i for i, one in enumerate(OUTCOMES) if (one.defence, one.attack) == (MEAN, "none"))
    worse = [*OUTCOMES[:found], replace(OUTCOMES[found], accuracy=0.0023), *OUTCOMES[found + 1 :]]
    assert "(0.2)" in page(worse) and "(0.2)" not in page(OUTCOMES)


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("defence", DEFENCES)
def test_every_defence_can_be_run_on_every_partition(partition: str, defence: str) -> None:
    scenario = scenario_of(Case(partition, "mimic", defence, 5))
    check_components(scenario)
    strategy = make_strategy(scenario)
    assert not isinstance(strategy, RobustCompressed) or strategy.trim == BYZANTINE == scenario.byzantine


def test_cells_come_seed_by_seed_and_once_each() -> None:
    found = cases([7, 8])
    assert len(set(found)) == len(found) == 2 * len(PARTITIONS) * len(ATTACKS) * len(DEFENCES)
    assert [one.seed for one in found] == sorted(one.seed for one in found)
