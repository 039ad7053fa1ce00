"""What is advised agrees with the conditions that it comes from."""

from __future__ import annotations

import math
from typing import Any

import pytest

from flwr_robustcomp.compressors import COMPRESSORS, Compressor, Drive, Identity, L1Sign, RandomK, Sign, TopK
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.theory import is_covered, label, lag_factor
from flwr_robustcomp.theory.advice import advise, gaussian_delta


def test_the_scaled_sign_is_covered_on_gaussian_vectors_alone() -> None:
    advice = advise(L1Sign(), nodes=200, byzantine=20, trim=22, dimension=1000)
    assert [c.covered for c in advice.coverages] == [False, False]
    assert [c.would_be(advice.typical) for c in advice.coverages] == [True, True]
    assert advice.guaranteed == 0.001 and advice.typical == pytest.approx(2 / math.pi, abs=0.03)
    assert advice.most_byzantine[0] == 0 and list(advice.trims[0]) == []
    most = advice.most_byzantine[1]
    assert most is not None and is_covered(advice.typical, most / 200, most / 200)
    assert not is_covered(advice.typical, (most + 1) / 200, (most + 1) / 200)
    assert 22 in advice.trims[1] and advice.trims[1][0] == 20
    up = advice.down.dense.up
    assert (up.packed, up.dense) == (200 * (8 + 125), 200 * 4000)


def test_alternatives_walk_the_catalogue() -> None:
    advice = advise(Sign(), nodes=200, byzantine=20, dimension=1000)
    assert advice.trim == 20
    found = {label(c): (first, second) for c, first, second in advice.alternatives}
    assert {type(c).name for c, _, _ in advice.alternatives} <= set(COMPRESSORS)
    assert found["Identity()"] == found["TopK(ratio=0.5)"] == (True, True)
    assert found["RandomK(ratio=0.5)"] == (True, True)  # in expectation
    assert found["TopK(ratio=0.1)"] == found["Sign()"] == (False, False)


def test_error_feedback_is_covered_without_byzantine_nodes_alone() -> None:
    advice = advise(TopK(ratio=0.5), nodes=20, byzantine=1, error_feedback=True)
    assert not any(c.covered or c.would_be(1.0) for c in advice.coverages)
    assert not any(first or second for _, first, second in advice.alternatives)
    assert all(c.covered for c in advise(TopK(ratio=0.5), nodes=20, byzantine=0, error_feedback=True).coverages)


def test_how_far_a_replica_lags_and_what_has_no_bound() -> None:
    def lags(replica: Compressor) -> tuple[float | None, float | None]:
        return advise(L1Sign(), nodes=20, byzantine=2, dimension=1000, replica=replica).down.lags

    guaranteed, typical = lags(Drive())
    assert guaranteed == lag_factor(0.5) and typical == pytest.approx(lag_factor(2 / math.pi), rel=0.05)
    assert lags(Identity()) == (0.0, 0.0)
    assert lags(RandomK(k=10, unbiased=True)) == (None, None)
    assert advise(L1Sign(), nodes=20, byzantine=2).down.replica == Drive()


@pytest.mark.parametrize("compressor", [L1Sign(), Identity(), RandomK(ratio=0.2)], ids=label)
def test_a_typical_delta_is_measured_alike_every_time(compressor: Compressor) -> None:
    assert gaussian_delta(compressor, 500) == gaussian_delta(compressor, 500) != gaussian_delta(L1Sign(), 501)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"nodes": 0}, "nodes must be at least 1, got 0"),
        ({"byzantine": 10}, r"byzantine must be in \[0, nodes/2 = 10\), got 10"),
        ({"byzantine": -1}, "byzantine must be in"),
        ({"trim": 2}, r"trim must be in \[byzantine = 3, nodes/2 = 10\).*got 2"),
        ({"trim": 10}, "trim must be in"),
        ({"dimension": 0}, r"dimension must be in \[1, 10\*\*8\], got 0"),
        ({"dimension": 3}, r"k must be in \[1, 3\]"),
    ],
)
def test_bad_values_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        advise(TopK(k=5), **{"nodes": 20, "byzantine": 3, "dimension": 100, **options})


@pytest.mark.parametrize(
    ("compressor", "text"),
    [
        (TopK(ratio=0.5), "TopK(ratio=0.5)"),
        (RandomK(k=3, unbiased=True), "RandomK(k=3, unbiased=True)"),
        (L1Sign(), "L1Sign()"),
    ],
)
def test_a_label_is_what_one_would_write(compressor: Compressor, text: str) -> None:
    assert label(compressor) == text
    assert eval(text, {type(compressor).__name__: type(compressor)}) == compressor
