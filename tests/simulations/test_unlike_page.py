"""docs/unlike.md: what the page says follows from its data file, and every cell can be run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.unlike_cells import MEAN, TABLES, Case, Outcome, cases, scenario_of
from benchmarks.unlike_page import page
from flwr_robustcomp.simulations.scenario.setup import check_components, make_strategy
from flwr_robustcomp.strategies import RobustCompressed
from tests.simulations.kit import ROOT

OUTCOMES = [Outcome.from_json(line) for line in (ROOT / "docs/unlike.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_page_is_made_of_its_data() -> None:
    assert (ROOT / "docs/unlike.md").read_text(encoding="utf-8") == page(OUTCOMES)


def test_no_seed_of_the_page_chose_a_threshold() -> None:
    assert {one.seed for one in OUTCOMES}.isdisjoint(range(5))


@pytest.mark.parametrize("table", TABLES)
def test_a_seed_that_lacks_a_cell_is_left_out(table: str) -> None:
    own = [one for one in OUTCOMES if one.table == table]
    lacking = next(one for one in own if one.seed == min(two.seed for two in own))
    without = [one for one in OUTCOMES if one != lacking]
    assert page(without) == page([one for one in OUTCOMES if (one.table, one.seed) != (table, lacking.seed)]) != page(OUTCOMES)
    with pytest.raises(ValueError, match=f"no seed has every cell of {table!r} yet"):
        page([one for one in OUTCOMES if (one.table, one.attack) != (table, lacking.attack)])


def test_a_worse_run_shows() -> None:
    found = next(i for i, one in enumerate(OUTCOMES) if (one.defence, one.attack) == (MEAN, "none"))
    worse = [*OUTCOMES[:found], replace(OUTCOMES[found], accuracy=0.0023), *OUTCOMES[found + 1 :]]
    assert "(0.2)" in page(worse) and "(0.2)" not in page(OUTCOMES)


@pytest.mark.parametrize(("name", "defence"), [(name, defence) for name, table in TABLES.items() for defence in table.defences])
def test_every_defence_can_be_run_on_every_partition(name: str, defence: str) -> None:
    table = TABLES[name]
    attack = next(one for one in table.attacks if one != "none")
    for partition in table.partitions:
        scenario = scenario_of(Case(name, partition, attack, defence, 5))
        check_components(scenario)
        strategy = make_strategy(scenario)
        assert scenario.byzantine == table.byzantine
        assert not isinstance(strategy, RobustCompressed) or strategy.trim in (0, table.byzantine)


def test_cells_come_table_by_table_and_seed_by_seed_and_once_each() -> None:
    found = cases([7, 8])
    per_seed = sum(len(one.partitions) * len(one.attacks) * len(one.defences) for one in TABLES.values())
    assert len(set(found)) == len(found) == 2 * per_seed
    places = {table: place for place, table in enumerate(TABLES)}
    assert [(places[one.table], one.seed) for one in found] == sorted((places[one.table], one.seed) for one in found)
