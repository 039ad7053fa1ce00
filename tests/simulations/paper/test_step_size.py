from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from flwr_robustcomp.simulations.paper.step_size import best_step, inverse_smoothness, largest_descending_step
from flwr_robustcomp.simulations.records.record import RoundRecord


class Pilots:
    """Stands for the runs: the error after the last round as a function of the step."""

    def __init__(self, error: Callable[[float], float | None]) -> None:
        self.error = error
        self.asked: list[float] = []

    def __call__(self, steps: Sequence[float]) -> list[list[RoundRecord]]:
        self.asked += steps
        return [[{"round": 0, "error": 1.0}, {"round": 1, "error": self.error(step)}] for step in steps]


@pytest.mark.parametrize("optimum", [0.0011, 0.018, 0.05, 0.1])
def test_the_best_step_is_within_a_factor_of_the_fourth_root_of_two(optimum: float) -> None:
    pilots = Pilots(lambda step: math.log(step / optimum) ** 2)
    best, errors = best_step(pilots)
    assert abs(math.log2(best / optimum)) <= 0.25 + 1e-9
    assert len(pilots.asked) == len(set(pilots.asked)) == 12  # what a figure counts on for its progress bar
    assert len(errors) == 12
    assert errors[f"{best:.6g}"] == min(errors.values())
    assert [float(step) for step in errors] == sorted(float(step) for step in errors)


def test_ties_go_to_the_smaller_step() -> None:
    best, errors = best_step(Pilots(lambda step: 7.0))
    assert best == pytest.approx(2**-11.5)
    assert set(errors.values()) == {7.0}


@pytest.mark.parametrize("diverged", [None, math.inf])
def test_steps_that_diverge_lose(diverged: float | None) -> None:
    best, errors = best_step(Pilots(lambda step: diverged if step > 0.01 else 1 / step))
    assert best == pytest.approx(2**-7)
    assert errors["0.25"] == math.inf


def test_all_steps_may_diverge() -> None:
    best, errors = best_step(Pilots(lambda step: None))
    assert best == pytest.approx(2**-11.5)
    assert set(errors.values()) == {math.inf}


def test_inverse_smoothness_is_that_of_the_papers_regression() -> None:
    assert inverse_smoothness(4000, 1000) == pytest.approx(1 / 2.25)
    a = np.random.default_rng(0).standard_normal((2000, 100))
    largest = float(np.linalg.eigvalsh(a.T @ a / 2000)[-1])
    assert inverse_smoothness(2000, 100) == pytest.approx(1 / largest, rel=0.05)


def _pilot(losses: dict[float, list[float | None]], asked: list[float]) -> Callable[[float], list[dict[str, Any]]]:
    def run(step: float) -> list[dict[str, Any]]:
        asked.append(step)
        return [{"round": t, "loss": loss} for t, loss in enumerate(losses[step])]

    return run


def test_the_largest_descending_step_ends_the_search() -> None:
    asked: list[float] = []
    losses: dict[float, list[float | None]] = {8.0: [3, 2, None], 4.0: [3, 2, 2], 2.0: [3, 2, 1], 1.0: [3, 2.5, 2]}
    step, found = largest_descending_step(_pilot(losses, asked), [1.0, 8.0, 2.0, 4.0])
    assert (step, asked) == (2.0, [8.0, 4.0, 2.0])
    assert found == {"8": [3, 2, math.inf], "4": [3, 2, 2], "2": [3, 2, 1]}


def test_where_no_step_descends_the_smallest_is_taken() -> None:
    step, found = largest_descending_step(_pilot({2.0: [1, 2], 1.0: [1, 1]}, []), [2.0, 1.0])
    assert step == 1.0
    assert list(found) == ["2", "1"]
