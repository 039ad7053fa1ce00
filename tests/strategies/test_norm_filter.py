"""Which updates a norm threshold keeps."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.strategies.norm_filter import check_trim, combine_norms, keep_smallest, trim_count

norm_lists = st.lists(st.floats(0, 1e6), min_size=1, max_size=30)


@given(norms=norm_lists, share=st.floats(0, 0.49))
def test_the_smallest_are_kept(norms: list[float], share: float) -> None:
    trim = int(share * len(norms))
    selection = keep_smallest(norms, trim)
    assert sorted(selection.kept + selection.trimmed) == list(range(len(norms)))
    assert len(selection.trimmed) == trim
    assert sorted(norms[i] for i in selection.kept) == sorted(norms)[: len(norms) - trim]
    assert selection.threshold == max(norms[i] for i in selection.kept)


@given(norms=st.lists(st.floats(0, 1e6), min_size=3, max_size=30, unique=True), seed=st.randoms())
def test_order_does_not_matter(norms: list[float], seed: object) -> None:
    shuffled = norms.copy()
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    trim = (len(norms) - 1) // 2
    kept = {norms[i] for i in keep_smallest(norms, trim).kept}
    assert kept == {shuffled[i] for i in keep_smallest(shuffled, trim).kept}


def test_ties_go_to_the_first() -> None:
    assert keep_smallest([1.0, 1.0, 1.0, 1.0, 1.0], 2).kept == (0, 1, 2)


@pytest.mark.parametrize(
    ("trim", "m", "count"),
    [(22, 200, 22), (0.11, 200, 22), (0.1, 5, 1), (0.0, 9, 0), (0, 9, 0), (0.49, 200, 98), (1e-12, 9, 0)],
)
def test_counts_and_fractions(trim: int | float, m: int, count: int) -> None:
    assert trim_count(trim, m) == count


@pytest.mark.parametrize("trim", [-1, 0.5, 0.7, -0.1, True, "2", math.nan])
def test_bad_trims_name_the_value_and_the_interval(trim: object) -> None:
    with pytest.raises(ConfigurationError, match=r"trim must be a count \(integer >= 0\) or a fraction in \[0, 0.5\), got"):
        check_trim(trim)  # type: ignore[arg-type]


@pytest.mark.parametrize(("trim", "m"), [(1, 2), (5, 10), (-1, 3)])
def test_half_or_more_is_never_trimmed(trim: int, m: int) -> None:
    with pytest.raises(ConfigurationError, match=f"below half of the {m} replies, got {trim}"):
        keep_smallest([1.0] * m, trim)


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
    assert keep_smallest([norm, 1.0, 2.0], 1).trimmed == (0,)
