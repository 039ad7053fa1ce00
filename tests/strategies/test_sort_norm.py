"""What an update is sorted by, and which of the sorted ones are kept."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.forged_payloads import Upward, forge
from flwr_robustcomp import wire
from flwr_robustcomp.compressors import NORM_ORDERS, Compressor, CrossPolytope, L1Sign, Payload, Sign, TopK
from flwr_robustcomp.errors import ConfigurationError, WireError
from flwr_robustcomp.filters.base import check_trim, trim_of
from flwr_robustcomp.filters.norm import shortest
from flwr_robustcomp.strategies.sort_norm import combine_norms, sort_norm
from tests.compressors.samples import ALL, gaussian, rng

norm_lists = st.lists(st.floats(0, 1e6), min_size=1, max_size=30)


@given(norms=norm_lists, share=st.floats(0, 0.49))
def test_the_smallest_are_kept(norms: list[float], share: float) -> None:
    trim = int(share * len(norms))
    kept = shortest(norms, len(norms) - trim)
    assert len(set(kept)) == len(norms) - trim
    assert sorted(norms[i] for i in kept) == sorted(norms)[: len(norms) - trim]
    assert list(kept) == sorted(kept)


@given(norms=st.lists(st.floats(0, 1e6), min_size=3, max_size=30, unique=True), seed=st.randoms())
def test_order_does_not_matter(norms: list[float], seed: random.Random) -> None:
    shuffled = norms.copy()
    seed.shuffle(shuffled)
    count = len(norms) // 2 + 1
    assert {norms[i] for i in shortest(norms, count)} == {shuffled[i] for i in shortest(shuffled, count)}


def test_ties_go_to_the_first() -> None:
    assert list(shortest([1.0, 1.0, 1.0, 1.0, 1.0], 3)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("trim", "m", "count"),
    [(22, 200, 22), (0.11, 200, 22), (0.1, 5, 1), (0.0, 9, 0), (0, 9, 0), (0.49, 200, 98), (1e-12, 9, 0)],
)
def test_counts_and_fractions(trim: int | float, m: int, count: int) -> None:
    assert trim_of(trim, m) == count


@pytest.mark.parametrize("trim", [-1, 0.5, 0.7, -0.1, True, "2", math.nan])
def test_bad_trims_name_the_value_and_the_interval(trim: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"trim must be a count \(integer >= 0\) or a fraction in \[0, 0.5\), got"):
        check_trim(trim)


@given(
    parts=st.lists(st.lists(st.floats(-100, 100), min_size=1, max_size=5), min_size=1, max_size=5),
    order=st.sampled_from([1, 2, math.inf]),
)
def test_norms_of_parts_combine_to_the_norm_of_the_whole(parts: list[list[float]], order: float) -> None:
    def norm(x: list[float]) -> float:
        return max(map(abs, x)) if order == math.inf else sum(abs(v) ** order for v in x) ** (1 / order)

    assert combine_norms([norm(p) for p in parts], order) == pytest.approx(norm([v for p in parts for v in p]))


@pytest.mark.parametrize("order", [1, 2, math.inf])
def test_norms_that_overflow_together_are_infinite_and_trimmed_first(order: float) -> None:
    norm = combine_norms([1.7e308, 1.7e308], order)
    assert norm == (1.7e308 if order == math.inf else math.inf)
    assert list(shortest([norm, 1.0, 2.0], 2)) == [1, 2]


# -- what an update is sorted by ------------------------------------------------------------------------------------------

EMBEDDING = [compressor for compressor in ALL if compressor.embeds_norm]


def _shape(compressor: Compressor) -> tuple[int, ...]:
    return (5, 8) if compressor.wants_matrices else (40,)


def _foreign(compressor: Compressor, data: st.DataObject) -> Payload:
    """Return a payload that `check` accepts: of any x, of chosen draws, forged, or with a byte changed."""
    shape, seed = _shape(compressor), data.draw(st.integers(0, 2**16))
    kind = data.draw(st.sampled_from(["honest", "upward", "forged", "changed"]))
    if kind == "forged":
        return forge(compressor, shape)
    x = gaussian(40, torch.float64, seed).reshape(shape) ** data.draw(st.sampled_from([1, 5, 15]))
    draws: Any = Upward() if kind == "upward" else rng(seed)
    payload = compressor.compress(x, draws)
    if kind == "changed":
        array = wire.pack(payload, compressor)
        changed = bytearray(array.data)
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
        array.data = bytes(changed)
        try:
            return wire.read_packed(array, compressor, shape, torch.float64)
        except WireError:
            return payload
    return payload


@pytest.mark.parametrize("compressor", EMBEDDING, ids=repr)
@settings(max_examples=20)
@given(data=st.data(), share=st.floats(0, 2), order=st.sampled_from(NORM_ORDERS))
def test_no_report_makes_a_payload_sort_below_its_own_length(
    compressor: Compressor, data: st.DataObject, share: float, order: float
) -> None:
    payload = _foreign(compressor, data)
    compressor.check(payload)
    length = compressor.norm(payload, order)
    for reported in (share * length, compressor.norm_bounds(payload, order)[0], None):
        by = sort_norm([(compressor, payload)], order, reported)
        assert by >= length
        assert by == (length if reported is None else max(length, reported))


@pytest.mark.parametrize("compressor", EMBEDDING, ids=repr)
@settings(max_examples=8)
@given(data=st.data(), honest=st.integers(5, 8), liars=st.integers(1, 4), seed=st.integers(0, 2**16))
def test_what_is_kept_of_liars_is_no_longer_than_what_the_honest_are_sorted_by(
    compressor: Compressor, data: st.DataObject, honest: int, liars: int, seed: int
) -> None:
    shape = _shape(compressor)
    by: list[float] = []
    for i in range(honest):
        x = gaussian(40, torch.float64, seed + i).reshape(shape)
        payload = compressor.compress(x, rng(seed + i))
        by.append(sort_norm([(compressor, payload)], 2, float(x.norm())))
    forged = [_foreign(compressor, data) for _ in range(liars)]
    by += [sort_norm([(compressor, p)], 2, compressor.norm_bounds(p)[0]) for p in forged]
    for i in shortest(by, honest):
        if i >= honest:
            assert compressor.norm(forged[i - honest]) <= max(by[:honest])


@pytest.mark.parametrize("compressor", [Sign(), TopK(k=4, values=Sign())], ids=repr)
def test_without_an_embedded_norm_the_report_is_all_there_is(compressor: Compressor) -> None:
    payload = compressor.compress(gaussian(40).reshape(_shape(compressor)), rng())
    assert not compressor.embeds_norm
    assert [sort_norm([(compressor, payload)], 2, reported) for reported in (0.0, 0.1, 1e9)] == [0.0, 0.1, 1e9]


def test_the_lengths_of_several_arrays_are_combined_before_they_are_compared() -> None:
    q = L1Sign()
    packed = [(q, q.compress(torch.full((9,), size))) for size in (1.0, 2.0)]  # of lengths 3 and 6
    assert sort_norm(packed, 2) == pytest.approx(math.hypot(3, 6))
    assert sort_norm(packed, 2, 6.5) == pytest.approx(math.hypot(3, 6))
    assert sort_norm(packed, 2, 7.0) == 7.0
    assert sort_norm(packed, math.inf) == 2.0


def _descend(larger: bool, *, rounds: int = 40) -> float:
    """Return ||w|| after gradient descent on ||w||^2 / 2 from ||w|| = 20: 27 honest nodes, 3 that choose their draws."""
    compressor, generator = CrossPolytope(repetitions=999), rng()  # delta = 1/2 at d = 1000

    def by(payload: Payload, reported: float) -> float:
        return sort_norm([(compressor, payload)], 2, reported) if larger else reported

    w = gaussian(1000, torch.float64)
    w *= 20 / w.norm()
    for _ in range(rounds):
        size = float(w.norm())
        payloads = [compressor.compress(w, generator) for _ in range(27)]
        norms = [by(payload, size) for payload in payloads]
        place = int(w.abs().argmax())
        vertex = torch.zeros(1000, dtype=torch.float64)
        vertex[place] = -float(w[place].sign())  # one vertex in all draws
        forged = compressor.compress(vertex, generator)
        limit = sorted(norms)[-3] * (1 - 1e-9)  # beyond it one of them would be trimmed
        vertex *= limit / by(forged, compressor.norm_bounds(forged)[0])
        forged = compressor.compress(vertex, generator)
        payloads += [forged] * 3
        norms += [by(forged, compressor.norm_bounds(forged)[0])] * 3
        kept = shortest(norms, 27)
        assert set(range(27, 30)) <= set(kept)
        mean = torch.zeros(1000, dtype=torch.float64)
        compressor.accumulate(mean, [payloads[i] for i in kept], np.full(27, 1 / 27).tolist())
        w = w - 0.1 * mean
    return float(w.norm())


def test_chosen_draws_turn_descent_around_by_the_reported_norm_alone() -> None:
    assert _descend(larger=False) > 20 * 10
    assert _descend(larger=True) < 20 / 4
