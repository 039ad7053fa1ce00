"""The contract of `Filter`, held by every member of the registry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.parts.filters import SAMPLES
from benchmarks.parts.vectors import known
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import (
    Bucketing,
    Filter,
    FLTrust,
    GeometricMedian,
    MultiKrum,
    NearestNeighborMixing,
    Norm,
    NormClipping,
    Vectors,
    chain,
)

ALL = [one for samples in SAMPLES.values() for one in samples]
every = pytest.mark.parametrize("rule", ALL, ids=repr)


def vectors(m: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((m, d))


def of(x: np.ndarray) -> Vectors:
    return known(x)


@every
@given(m=st.integers(9, 30), d=st.integers(1, 40), seed=st.integers(0, 100))
def test_the_aggregate_is_a_combination_with_no_weight_outside_zero_and_one(rule: Filter, m: int, d: int, seed: int) -> None:
    weights = chain([rule], of(vectors(m, d, seed)))
    assert weights.shape == (m,)
    assert np.isfinite(weights).all()
    assert (weights >= -1e-12).all() and (weights.sum() <= 1 + 1e-9 or rule.lengthens)


@every
@given(m=st.integers(9, 24), seed=st.integers(0, 100))
def test_the_order_of_the_nodes_does_not_matter(rule: Filter, m: int, seed: int) -> None:
    if isinstance(rule, Bucketing):
        return  # it draws lots by place
    x = vectors(m, 50, seed)
    order = np.random.default_rng(seed + 1).permutation(m)
    assert np.allclose(chain([rule], of(x))[order], chain([rule], of(x[order])), atol=1e-9)


@every
@pytest.mark.parametrize("scale", [1e-150, 1e-3, 1e100])
def test_units_do_not_matter(rule: Filter, scale: float) -> None:
    if getattr(rule, "radius", None) is not None or getattr(rule, "rho", None):
        return  # a radius has the vectors' unit, and a price of length that of a loss
    x = vectors(20, 30)
    assert np.allclose(chain([rule], of(x)), chain([rule], of(scale * x)), atol=1e-9)


@every
def test_equal_vectors_are_their_own_aggregate(rule: Filter) -> None:
    if getattr(rule, "radius", None) is not None:
        return
    x = np.tile(vectors(1, 30), (20, 1))
    assert np.allclose(chain([rule], of(x)) @ x, x[0], rtol=1e-6)


@every
def test_zero_vectors_give_zero_and_no_warning(rule: Filter) -> None:
    if isinstance(rule, FLTrust):
        return  # it trusts no direction then, and says so
    weights = chain([rule], of(np.zeros((20, 3))))
    assert np.isfinite(weights).all()


@every
def test_too_few_vectors_are_refused_with_the_bound(rule: Filter) -> None:
    trim = rule.trim if isinstance(rule.trim, int) else 1
    if rule.least(trim) > 1:
        with pytest.raises(ConfigurationError, match=f"'{rule.name}' with trim .* needs at least .* updates, got 1"):
            chain([rule], of(np.ones((1, 3))))


@every
@pytest.mark.parametrize("trim", [-1, 0.5, 1.5, True, "many"])
def test_bad_trims_are_refused(rule: Filter, trim: Any) -> None:
    with pytest.raises(ConfigurationError, match="trim must be a count"):
        type(rule)(trim=trim)


def test_filters_chain_by_what_they_leave() -> None:
    x = vectors(20, 40)
    x[3] *= 30
    x[7:9] += 5
    kept = np.setdiff1d(np.arange(20), [3])
    assert np.allclose(chain([Norm(1), GeometricMedian()], of(x))[kept], chain([GeometricMedian()], of(x[kept])))
    assert chain([Norm(1), GeometricMedian()], of(x))[3] == 0
    mixed = np.stack([row @ x for row in NearestNeighborMixing().combine(of(x), 3)])
    assert np.allclose(
        chain([NearestNeighborMixing(3), MultiKrum(3)], of(x)) @ x, chain([MultiKrum(3)], of(mixed)) @ mixed, atol=1e-9
    )


def test_a_chain_that_leaves_too_few_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'multi-krum' with trim 4 needs at least 11 updates, got 8"):
        chain([Norm(4), MultiKrum(4)], of(vectors(12, 5)))


def test_no_filter_is_the_mean() -> None:
    assert chain([], of(vectors(5, 3))).tolist() == [0.2] * 5


def test_a_filter_of_norms_asks_for_no_inner_products() -> None:
    def never() -> np.ndarray:
        raise AssertionError("asked for the Gram matrix")

    weights = chain([Norm(1), NormClipping(1)], Vectors(np.array([3.0, 1.0, 2.0, 9.0, 1.5]), never))
    assert weights[3] == 0
