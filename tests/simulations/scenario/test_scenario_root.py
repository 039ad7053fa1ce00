"""A scenario's root: what it holds, which parts have the use of it, and that it is the same everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.parts.problems import SMALL
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import Scenario, run_scenario
from flwr_robustcomp.simulations.problems import PROBLEMS, RootedProblem, true_labels
from flwr_robustcomp.simulations.problems.root_sample import root_sample
from flwr_robustcomp.simulations.scenario.setup import check_components, make_problem, make_strategy
from flwr_robustcomp.simulations.scenario.suite import Suite
from flwr_robustcomp.strategies import RobustCompressed
from tests.simulations.kit import small

ROOTED: dict[str, Any] = {
    "problem": {"name": "classification", "hidden": 8, "training": "local", "learning_rate": 0.2},
    "nodes": 10,
    "byzantine": 6,
    "attack": {"name": "scaling", "factor": -10.0},
    "compressor": "drive",
    "error_feedback": True,
    "strategy": {"name": "robust-compressed", "filters": "fl-trust"},
    "rounds": 2,
    "root_samples": 60,
}


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("filters", ["fl-trust", "zeno"])
def test_it_works_for_every_problem_with_a_majority_of_liars(name: str, filters: str) -> None:
    strategy = {"name": "robust-compressed", "filters": filters, "trim": "byzantine", "step_size": 0.05}
    problem = {"name": name, **SMALL[name]}
    if name == "least-squares":
        problem["samples"] = 20
    rounds = run_scenario(Scenario.parse({**ROOTED, "problem": problem, "strategy": strategy, "root_samples": 12}))
    assert [one["skipped"] for one in rounds[1:]] == [None, None]
    metric = PROBLEMS[name].metric  # type: ignore[attr-defined]
    assert np.isfinite(rounds[-1][metric])


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_gradient_of_all_examples_is_the_mean_of_the_nodes(name: str) -> None:
    if name == "least-squares":
        return  # the server's rows are its own
    problem = make_problem(Scenario.parse({"problem": {"name": name, **SMALL[name]}, "nodes": 1}))
    assert isinstance(problem, RootedProblem)
    model = problem.initial()
    own = problem.gradient(0, model, true_labels)
    found = problem.train_root(problem.num_examples(0), model, 1)
    assert all(torch.allclose(found[key], own[key], atol=1e-5) for key in model)


def test_the_rows_of_a_least_squares_root_have_the_solution_of_the_nodes() -> None:
    problem = make_problem(small())
    assert isinstance(problem, RootedProblem)
    solution = {"w": torch.from_numpy(problem._solution)}  # type: ignore[attr-defined]
    assert problem.root_loss(7, solution) < 1e-20 < problem.root_loss(7, problem.initial())
    assert float(problem.train_root(7, solution, 1)["w"].abs().max()) < 1e-10


def test_training_a_root_changes_nothing_of_the_nodes() -> None:
    scenario = Scenario.parse(ROOTED)
    problem = make_problem(scenario)
    assert isinstance(problem, RootedProblem)
    model = problem.initial()
    before = problem.train(3, model, true_labels, 1)
    once = problem.train_root(60, model, 1)
    assert all(torch.equal(one, problem.train_root(60, model, 1)[name]) for name, one in once.items())
    after = problem.train(3, model, true_labels, 1)
    assert all(torch.equal(before[name], after[name]) for name in model)
    for other in ((60, model, 2), (60, model, 1, 2)):
        assert any(not torch.equal(one, problem.train_root(*other)[name]) for name, one in once.items())


def test_the_sample_is_a_function_of_the_seed() -> None:
    assert root_sample(3, 20, 500).tolist() == root_sample(3, 20, 500).tolist() != root_sample(4, 20, 500).tolist()
    assert len(set(root_sample(3, 500, 500).tolist())) == 500


@pytest.mark.processes
@pytest.mark.usefixtures("ray")
def test_the_curve_is_the_same_on_ray() -> None:
    scenario = Scenario.parse(ROOTED)
    assert run_scenario(scenario, engine="ray", num_workers=2) == run_scenario(scenario)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"root_samples": -1}, "root_samples: input should be greater than or equal to 0"),
        ({"root_samples": 10**6}, "root_samples must be at most 1438, the number of training examples, got 1000000"),
        (
            {"root_epochs": 2, "problem": "digits"},
            "root_epochs must be 1 for the problem 'digits', whose nodes",
        ),
        ({"root_samples": 0}, "filters must be one that works without root, which is not set up, got 'fl-trust'"),
        ({"strategy": {"name": "norm-threshold", "trim": 3}}, "root_samples must be 0 with the strategy 'norm-threshold'"),
        (
            {"strategy": {"name": "robust-compressed", "filters": "spectral", "trim": 6}},
            "root must be left out where no filter looks at it",
        ),
        ({"strategy": {"name": "robust-compressed", "filters": "zeno", "trim": 10}}, "strategy.trim must be below half"),
        ({"problem": "tests.simulations.scenario.test_scenario_root:rootless"}, "root_samples must be 0 for the problem"),
    ],
)
def test_what_has_no_use_for_a_root_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        check_components(Scenario.parse({**ROOTED, **changes}))


def rootless(nodes: int, seed: int) -> Any:
    """Return a problem of one's own, without a sample for the server."""
    whole = PROBLEMS["least-squares"](nodes, seed, samples=20, dimension=5)

    class Rootless:
        metric, better, labelled, reply = "error", "lower", False, "update"
        initial, gradient, train = whole.initial, whole.gradient, whole.train
        num_examples, evaluate = whole.num_examples, whole.evaluate

    return Rootless()


def test_records_without_a_root_are_found_again() -> None:
    assert small().key == Scenario.parse(small().model_dump()).key == "e9924978d6249ee5"
    assert small().key != small(root_samples=1).key


def test_a_suite_gives_each_strategy_its_own_root() -> None:
    strategies = [{"name": "norm-threshold", "trim": 1}, {"name": "robust-compressed", "root_samples": 20}]
    cells = Suite.model_validate({"title": "", "base": {"nodes": 10}, "strategies": strategies}).cells()
    assert [cell.scenario.root_samples for cell in cells] == [0, 20]
    strategy = make_strategy(cells[1].scenario)
    assert isinstance(strategy, RobustCompressed) and [one.name for one in strategy.filters] == ["fl-trust"]
