"""Low-rank factors of matrices: the guarantees of the three methods, vectors through another compressor, refusals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import wire
from flwr_robustcomp.clients import CompressionMod
from flwr_robustcomp.compressors import QSGD, ByShape, LowRank, vector_norm, working_dtype
from flwr_robustcomp.compressors.factorization import atomic_probabilities, subspace_iteration
from flwr_robustcomp.compressors.low_rank import Method
from flwr_robustcomp.errors import ConfigurationError, WireError
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.packing import Packing
from flwr_robustcomp.strategies import NormThreshold
from tests.compressors.samples import DTYPE_LIST, gaussian, rng
from tests.strategies.rounds import MODEL, SAMPLING, answers, moved, updates

methods = pytest.mark.parametrize("method", ["svd", "atomo", "power"])
SHAPES = [(7, 5), (5, 7), (6, 6), (4, 3, 2, 2)]


def _matrix(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return gaussian(math.prod(shape), dtype, seed).reshape(shape)


# -- guarantees -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_svd_keeps_the_largest_singular_values(shape: tuple[int, ...], rank: int) -> None:
    x, q = _matrix(shape), LowRank(rank)
    squares = torch.linalg.svdvals(x.reshape(shape[0], -1)).square()
    assert q.measured_delta(x) == pytest.approx(float(squares[:rank].sum() / squares.sum()))
    delta = q.delta_of(shape)
    assert delta is not None and q.measured_delta(x) >= delta and q.pointwise


def test_svd_attains_its_guarantee_on_orthogonal_matrices() -> None:
    assert LowRank(2).measured_delta(torch.eye(6, dtype=torch.float64)) == pytest.approx(2 / 6) == LowRank(2).delta_of((6, 6))


@pytest.mark.parametrize("flat", [False, True], ids=["gaussian", "orthogonal"])
@pytest.mark.parametrize("shape", [(9, 5), (5, 9)])
def test_power_has_its_delta_in_expectation(shape: tuple[int, int], flat: bool) -> None:
    x = torch.eye(*shape, dtype=torch.float64) if flat else _matrix(shape)
    found = [LowRank(2, method="power").measured_delta(x, rng(seed)) for seed in range(300)]
    assert np.mean(found) >= 2 / 5 - 3 * np.std(found) / math.sqrt(300) - 1e-12
    if flat:
        assert np.allclose(found, 2 / 5)  # where A = I both sides of the inequality are equal


@given(seed=st.integers(0, 2**32), rank=st.integers(1, 4), tall=st.booleans())
def test_no_iteration_loses_what_an_earlier_one_had(seed: int, rank: int, tall: bool) -> None:
    x = _matrix((8, 5) if tall else (5, 8), seed=seed)
    captured = [float(subspace_iteration(x, rank, count, rng(seed))[1].square().sum()) for count in (1, 2, 3, 20)]
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(captured))
    assert captured[-1] <= float(torch.linalg.svdvals(x)[:rank].square().sum()) + 1e-9


@pytest.mark.parametrize("rank", [1, 3])
def test_atomo_is_unbiased_with_the_variance_of_its_probabilities(rank: int) -> None:
    x, q = _matrix((6, 4)), LowRank(rank, method="atomo")
    draws = torch.stack([q.decompress(q.compress(x, rng(seed))) for seed in range(3000)])
    assert q.unbiased
    assert bool(((draws.mean(dim=0) - x).abs() <= 4.5 * draws.std(dim=0) / math.sqrt(3000) + 1e-12).all())
    s = torch.linalg.svdvals(x).numpy()
    wanted = float((s**2 * (1 / atomic_probabilities(s, rank) - 1)).sum())
    squares = (draws - x).square().sum(dim=(1, 2))
    assert float(squares.mean()) == pytest.approx(wanted, abs=4 * float(squares.std()) / math.sqrt(3000))
    assert wanted <= (4 / rank - 1) * float(x.square().sum()) + 1e-12
    assert q.delta_of((6, 4)) == (None if rank == 1 else pytest.approx(2 - 4 / 3))


def test_atomo_probabilities_by_hand() -> None:
    # Budget 2: 10 * 2 > 14, so the first is certain; of the budget that is left the others get 1 * s / 4.
    assert atomic_probabilities(np.array([10.0, 2.0, 1.0, 1.0]), 2).tolist() == [1.0, 0.5, 0.25, 0.25]
    assert atomic_probabilities(np.array([3.0, 3.0, 3.0]), 1).tolist() == pytest.approx([1 / 3] * 3)
    assert atomic_probabilities(np.array([5.0, 0.0, 0.0]), 2).tolist() == [1.0, 0.0, 0.0]
    assert atomic_probabilities(np.zeros(3), 2).tolist() == [0.0] * 3


@given(s=st.lists(st.floats(0, 100), min_size=1, max_size=8), rank=st.integers(1, 8))
def test_atomo_probabilities_spend_the_budget(s: list[float], rank: int) -> None:
    ordered = np.array(sorted(s, reverse=True))
    rank = min(rank, len(s))
    p = atomic_probabilities(ordered, rank)
    assert ((p >= 0) & (p <= 1)).all() and (np.diff(p) <= 1e-12).all()
    assert p.sum() == pytest.approx(min(rank, np.count_nonzero(ordered)), abs=1e-6)


def test_few_live_rows_are_completed_without_a_square_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x, sizes, qr = torch.zeros(3000, 8), [], torch.linalg.qr
    x[[5, 900]] = gaussian(16).reshape(2, 8)

    def watched(*args: Any, **options: Any) -> Any:
        found = qr(*args, **options)
        sizes.append(found.Q.numel())
        return found

    monkeypatch.setattr(torch.linalg, "qr", watched)
    q = LowRank(4)
    payload = q.compress(x)
    q.check(payload)
    assert torch.allclose(q.decompress(payload), x, atol=1e-6)
    assert sizes and max(sizes) <= 3000 * 8


# -- packed form ----------------------------------------------------------------------------------------------------------


@methods
@pytest.mark.parametrize("dtype", DTYPE_LIST, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_matrices_go_over_the_wire_in_every_dtype(method: Method, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    q, x = LowRank(2, method=method), _matrix(shape, dtype)
    payload = q.compress(x, rng())
    array = wire.pack(payload, q)
    assert array.stype == "robustcomp/low-rank/2"
    assert len(payload.body) == 2 * (shape[0] + math.prod(shape[1:])) * dtype.itemsize == q.body_size_of(shape, dtype)
    assert wire.read_packed(array, q, shape, dtype) == payload
    found = q.decompress(payload)
    assert (found.dtype, tuple(found.shape)) == (dtype, shape)
    for order in (1, 2, math.inf):
        assert q.norm(payload, order) == pytest.approx(vector_norm(found, order), rel=2e-2 if dtype.itemsize == 2 else 1e-5)
        low, high = q.norm_bounds(payload, order)
        slack = 64 * torch.finfo(dtype).eps
        assert low * (1 - slack) <= vector_norm(x, order) <= high * (1 + slack)
    other, same = wire.unpack_trusted(array)
    assert torch.equal(other.decompress(same), found) and other.codec == q.codec
    assert wire.pack(other.compress(x, rng()), other).data == array.data


@methods
@pytest.mark.parametrize("dtype", DTYPE_LIST, ids=str)
def test_accumulate_is_the_weighted_sum(method: Method, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flwr_robustcomp.compressors.low_rank._STACKED", 3 * 2 * 12)  # three clients at a time
    q = LowRank(2, method=method)
    payloads = [q.compress(_matrix((7, 5), dtype, seed), rng(seed)) for seed in range(8)]
    weights, out = rng().standard_normal(8).tolist(), torch.ones(35, dtype=working_dtype(dtype))
    q.accumulate(out, payloads, weights)
    wanted = 1 + sum(w * q.decompress(p).double().reshape(-1) for p, w in zip(payloads, weights, strict=True))
    assert torch.allclose(out.double(), wanted, atol=5e-2 if dtype.itemsize == 2 else 1e-5)


@methods
def test_a_zero_matrix_and_a_matrix_of_smaller_rank(method: Method) -> None:
    q = LowRank(3, method=method)
    zero = q.compress(torch.zeros(6, 4), rng())
    q.check(zero)
    assert not bool(q.decompress(zero).any())
    thin = _matrix((6, 1)) @ _matrix((1, 4))
    payload = q.compress(thin, rng())
    q.check(payload)
    assert torch.allclose(q.decompress(payload), thin)


@methods
@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e36])
def test_tiny_and_huge_matrices(method: Method, size: float) -> None:
    q, x = LowRank(2, method=method), (_matrix((6, 4)) * size).float()
    q.check(q.compress(x, rng()))
    if size > 1e-40 and method == "svd":
        assert q.measured_delta(x) >= 0.5


@methods
@pytest.mark.parametrize("shape", [(9,), (9, 1), (1, 9), (1, 3, 3)])
def test_a_vector_is_a_matrix_of_rank_one(method: Method, shape: tuple[int, ...]) -> None:
    x, q = gaussian(9).reshape(shape), LowRank(1, method=method)
    payload = q.compress(x, rng())
    assert torch.allclose(q.decompress(payload), x) and q.delta_of(shape) == 1.0
    other, same = wire.unpack_trusted(wire.pack(payload, q))
    assert torch.equal(other.decompress(same), q.decompress(payload)) and other == q


# -- refusals -------------------------------------------------------------------------------------------------------------


def _with_factors(p: torch.Tensor, q: torch.Tensor) -> bytes:
    return torch.cat([p, q]).reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize(
    ("p", "q", "named"),
    [
        (torch.eye(4, 2) * 1.01, torch.ones(3, 2), "orthonormal"),
        (torch.ones(4, 2) / 2, torch.ones(3, 2), "orthonormal"),
        (torch.eye(4, 2), torch.full((3, 2), math.nan), "NaN or inf"),
        (torch.full((4, 2), math.inf), torch.ones(3, 2), "NaN or inf"),
    ],
    ids=["long", "parallel", "nan", "inf"],
)
def test_other_factors_are_refused(p: torch.Tensor, q: torch.Tensor, named: str) -> None:
    compressor = LowRank(2)
    payload = compressor.compress(_matrix((4, 3), torch.float32))
    with pytest.raises(WireError, match=named):
        compressor.check(replace(payload, body=_with_factors(p, q)))


def test_a_product_that_overflows_is_refused() -> None:
    compressor, p = LowRank(2), torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / 2**0.5
    payload = compressor.compress(torch.eye(2))
    compressor.check(replace(payload, body=_with_factors(p, torch.full((2, 2), 1e38))))
    with pytest.raises(WireError, match="overflows"):
        compressor.check(replace(payload, body=_with_factors(p, torch.full((2, 2), 3e38))))


def test_other_parameters_are_refused() -> None:
    x, ours = _matrix((6, 6), torch.float32), LowRank(2, method="power", iterations=2)
    for theirs in (LowRank(2, method="power"), LowRank(2, iterations=2)):
        with pytest.raises(WireError, match=r"\(rank, method, iterations\) must be"):
            wire.read_packed(wire.pack(theirs.compress(x, rng()), theirs), ours, (6, 6), torch.float32)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: LowRank(0), r"rank must be an integer in \[1, 2\*\*16\), got 0"),
        (lambda: LowRank(1, method="pca"), "method must be one of svd, atomo, power, got 'pca'"),  # type: ignore[arg-type]
        (lambda: LowRank(1, iterations=0), r"iterations must be an integer in \[1, 255\], got 0"),
        (
            lambda: LowRank(4).compress(torch.ones(5, 3)),
            r"rank must be in \[1, 3\], the smaller side of .* \(5, 3\), got 4",
        ),
        (lambda: CompressionMod(LowRank(1)), "granularity must be \"array\" for 'low-rank'"),
        (lambda: NormThreshold(compressor=LowRank(1)), "granularity must be \"array\" for 'low-rank'"),
        (
            lambda: LowRank(2).check_shape((5,)),
            r"rank must be in \[1, 1\], the smaller side of an array of shape \(5,\), got 2",
        ),
    ],
)
def test_bad_configurations(make: Callable[[], object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()


# -- end to end -----------------------------------------------------------------------------------------------------------


@methods
def test_a_strategy_filters_and_averages_factors_array_by_array(method: Method) -> None:
    choice, xs = ByShape(matrices=LowRank(2, method=method), vectors=QSGD(levels=8)), updates(9)
    packing = Packing(choice, granularity="array")
    xs[4] = xs[4] * 50
    strategy = NormThreshold(compressor=packing, trim=1, **SAMPLING)
    got = moved(strategy, answers(strategy, xs, packing))
    assert set(strategy.reports[-1].trimmed) == {1004} and strategy.reports[-1].rejected == ()
    layout, wanted = Layout.of(MODEL), []
    for i in (0, 1, 2, 3, 5, 6, 7, 8):
        generator = rng(1000 + i)
        parts = []
        for name, array in layout.split(xs[i]).items():
            compressor = choice.compressor_of(name, array.shape)
            parts.append(compressor.decompress(compressor.compress(array, generator)).reshape(-1))
        wanted.append(torch.cat(parts))
    assert torch.allclose(got, torch.stack(wanted).mean(dim=0), atol=1e-5)
