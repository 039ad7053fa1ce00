"""A sketch hides nothing: what its coordinates do not show of a vector's length drops the vector."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flwr_robustcomp.compressors import Compressor, Identity, L1Sign, TopK
from flwr_robustcomp.compressors.products import RUN, runs_of
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.scenario import Scenario
from flwr_robustcomp.simulations.scenario.setup import make_strategy
from flwr_robustcomp.strategies import ByzFL, RobustCompressed
from flwr_robustcomp.strategies.sketch import Shown, choose_runs, misleading, shown
from tests.compressors.samples import gaussian
from tests.optional import needs_byzfl
from tests.strategies.rounds import SAMPLING, answers, moved

D, SIZE = 6400, 1280
MODEL = {"w": torch.zeros(D)}


def unseen_coordinates(seed: int, round_: int = 1) -> torch.Tensor:
    runs = choose_runs([D], SIZE, seed, round_)
    assert runs is not None
    mask = torch.ones(D // RUN, RUN, dtype=torch.bool)
    mask[torch.from_numpy(runs[0])] = False
    return mask.reshape(-1)


@pytest.mark.parametrize("filters", ["spectral", "multi-krum", "geometric-median", "centred-clipping"])
@pytest.mark.parametrize("times", [30.0, 1e18])  # within the length screen, and beyond it
def test_who_knows_the_seed_can_hide_nothing_where_nobody_looks(filters: str, times: float) -> None:
    honest = [gaussian(D, seed=i) for i in range(16)]
    hidden = times * float(torch.linalg.vector_norm(honest[0])) * unseen_coordinates(seed=7).float() / D**0.5
    xs = [*honest, *(gaussian(D, seed=i) + hidden for i in range(16, 20))]
    strategy = RobustCompressed(compressor=Identity(), trim=4, filters=filters, sketch=SIZE, seed=7, **SAMPLING)
    step = moved(strategy, answers(strategy, xs, Identity(), model=MODEL), model=MODEL)
    longest = max(float(torch.linalg.vector_norm(x)) for x in honest)
    assert float(torch.linalg.vector_norm(step)) <= longest
    assert set(strategy.reports[-1].trimmed) == {1016, 1017, 1018, 1019}


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    scales=st.lists(st.floats(0.01, 100), min_size=1, max_size=6),
    compressor=st.sampled_from([Identity(), L1Sign(), TopK(ratio=0.1)]),
)
def test_honest_vectors_of_uneven_arrays_are_not_misleading(seed: int, scales: list[float], compressor: Compressor) -> None:
    """Coordinates in blocks of different scales, as the arrays of a network have: nobody is dropped, or nothing is sketched."""
    rng = np.random.default_rng(seed)
    scale = np.repeat(scales, -(-D // len(scales)))[:D]
    xs = [torch.from_numpy(rng.standard_normal(D) * scale * rng.uniform(0.5, 2)) for _ in range(12)]
    vectors = [[compressor.compress(x, rng)] for x in xs]
    runs = choose_runs([D], SIZE, seed, 1)
    assert runs is not None
    hidden = misleading(np.array([compressor.norm(v[0]) for v in vectors]), shown([compressor], vectors, runs))
    assert hidden is None or not hidden.any()


def test_a_sketch_estimates_squared_lengths_and_its_own_error() -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(D) * np.linspace(0, 2, D))
    vectors, compressor = [[Identity().compress(x)]], Identity()
    estimates, errors = [], []
    for seed in range(400):
        runs = choose_runs([D], SIZE, seed, 1)
        assert runs is not None
        seen = shown([compressor], vectors, runs)
        estimates.append(seen.squares[0])
        errors.append(seen.errors[0])
    assert np.mean(estimates) == pytest.approx(float(x.square().sum()), rel=0.02)
    assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.1)


def test_a_sketch_that_shows_nobody_as_they_are_is_not_used() -> None:
    norms = np.ones(5)
    assert misleading(norms, Shown(np.full(5, 0.1), np.zeros(5))) is None
    assert misleading(norms, Shown(np.full(5, 10.0), np.zeros(5))) is None
    judged = misleading(np.array([1, 1, 1, 1, 1e10]), Shown(np.ones(5), np.zeros(5)))
    assert judged is not None and judged.tolist() == [False] * 4 + [True]
    assert misleading(np.zeros(3), Shown(np.zeros(3), np.zeros(3))) is not None  # nothing to hide


def test_spikes_that_a_sketch_misses_are_filtered_by_all_coordinates() -> None:
    """All honest length in one run that the sketch does not take: the round falls back to whole inner products."""
    place = int(torch.nonzero(unseen_coordinates(seed=3))[0])
    xs = []
    for i in range(20):
        x = 1e-3 * gaussian(D, seed=i)
        x[place] = 1.0 if i < 16 else -1.0
        xs.append(x)
    strategy = RobustCompressed(compressor=Identity(), trim=4, sketch=SIZE, seed=3, **SAMPLING)
    step = moved(strategy, answers(strategy, xs, Identity(), model=MODEL), model=MODEL)
    assert float(step[place]) == pytest.approx(1.0)


def test_without_a_seed_it_is_drawn_in_secret_and_kept_in_checkpoints() -> None:
    first, second = (RobustCompressed(compressor=L1Sign(), sketch=SIZE, **SAMPLING) for _ in range(2))
    assert first.seed != second.seed
    second.restore(first.state())
    assert second.seed == first.seed


@needs_byzfl
def test_the_draws_of_byzfl_rules_are_secret_too() -> None:
    first, second = (ByzFL(compressor=L1Sign(), **SAMPLING) for _ in range(2))
    assert first.seed != second.seed
    second.restore(first.state())
    assert second.seed == first.seed


def test_a_simulation_draws_its_sketch_from_its_own_seed() -> None:
    def strategy(**params: object) -> RobustCompressed:
        problem = {"name": "least-squares", "samples": 40, "dimension": 130}
        made = make_strategy(
            Scenario.parse(
                {"nodes": 8, "seed": 5, "problem": problem, "strategy": {"name": "robust-compressed", "sketch": 64, **params}}
            )
        )
        assert isinstance(made, RobustCompressed)
        return made

    assert strategy().seed == 5
    assert strategy(seed=9).seed == 9


@pytest.mark.parametrize("seed", [-1, 1.5, "secret"])
def test_bad_seeds_are_refused(seed: Any) -> None:
    with pytest.raises(ConfigurationError, match="seed must be an integer from 0, or None"):
        RobustCompressed(compressor=L1Sign(), seed=seed, **SAMPLING)


def test_a_sketch_takes_runs_from_every_span() -> None:
    runs = choose_runs([64, 6400, 100], 656, 0, 1)
    assert runs is not None and [r.size for r in runs] == [1, 10, 1]
    assert all((np.diff(r) > 0).all() and r[-1] < runs_of(d) for r, d in zip(runs, [64, 6400, 100], strict=True))
    assert choose_runs([64, 64], 128, 0, 1) is None and choose_runs([64], None, 0, 1) is None
