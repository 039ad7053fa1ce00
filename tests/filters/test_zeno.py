"""Zeno against its dense definition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.parts.vectors import known
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import Beside, NearestNeighborMixing, Vectors, Zeno, chain


@given(m=st.integers(2, 20), d=st.integers(1, 20), rho=st.sampled_from([0.0, 0.01, 1.0]), seed=st.integers(0, 200))
def test_it_is_the_definition(m: int, d: int, rho: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, root, trim = rng.standard_normal((m, d)) * 2, rng.standard_normal(d), int(rng.integers(m))
    at_w = np.square(root).sum() / 2  # the loss of `known` at a mixture of none
    scores = [at_w - np.square(row - root).sum() / 2 - rho * row @ row for row in x]
    kept = np.sort(np.argsort(scores)[::-1][: m - trim])
    assert np.flatnonzero(chain([Zeno(trim, rho)], known(x, root))).tolist() == kept.tolist()


def test_a_majority_that_raises_the_loss_is_dropped() -> None:
    x = np.concatenate([np.ones((3, 4)), -np.ones((12, 4)) * np.arange(1, 13)[:, None]])
    assert np.flatnonzero(chain([Zeno(12)], known(x, np.ones(4)))).tolist() == [0, 1, 2]


def test_the_losses_of_mixtures_are_those_of_the_mixtures() -> None:
    x, root = np.random.default_rng(0).standard_normal((8, 5)), np.ones(5)
    mixing = NearestNeighborMixing().combine(known(x, root), 2)
    assert np.allclose(known(x, root).combined(mixing).losses, known(mixing @ x, root).losses)
    assert np.allclose(known(x, root).subset(np.array([4, 1])).losses, known(x, root).losses[[4, 1]])


def test_a_loss_that_is_no_number_is_the_worst() -> None:
    losses = np.array([math.nan, 1.0, math.inf, 2.0])
    vectors = Vectors.of_gram(np.eye(4), Beside(losses=lambda mixing: mixing @ np.nan_to_num(losses) * 0 + losses))
    assert np.flatnonzero(chain([Zeno(2)], vectors)).tolist() == [1, 3]
    nowhere = Vectors.of_gram(np.eye(4), Beside(losses=lambda mixing: np.full(len(mixing), math.nan)))
    with pytest.raises(ConfigurationError, match="finite losses of the model less one update must be at least 1, got 0"):
        chain([Zeno(2)], nowhere)


@pytest.mark.parametrize("rho", [-1.0, math.inf, math.nan])
def test_a_bad_price_is_refused(rho: Any) -> None:
    with pytest.raises(ConfigurationError, match="rho must be finite and not negative"):
        Zeno(2, rho)


def test_one_vector_must_be_left() -> None:
    with pytest.raises(ConfigurationError, match="'zeno' with trim 4 needs at least 5 updates, got 4"):
        chain([Zeno(4)], known(np.eye(4)))
