"""TernGrad and sparse ternary compression: their formulas, statistics and refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor

from flwr_robustcomp.compressors import SparseTernary, TernGrad
from flwr_robustcomp.compressors.rounding import coin_flips
from flwr_robustcomp.errors import ConfigurationError, WireError
from tests.compressors.samples import gaussian, rng, vectors


def test_tern_grad_is_unbiased_and_within_its_variance() -> None:
    x, q = gaussian(30, torch.float64), TernGrad(contraction=False)
    draws = torch.stack([q.decompress(q.compress(x, rng(seed))) for seed in range(4000)])
    assert bool(((draws.mean(dim=0) - x).abs() <= 4 * draws.std(dim=0) / math.sqrt(4000) + 1e-12).all())
    exact = float(x.abs().max() * x.abs().sum() - x.square().sum())  # s ||x||_1 - ||x||^2
    assert float((draws - x).square().sum(dim=1).mean()) == pytest.approx(exact, rel=0.05)
    assert exact <= q.omega(30) * float(x.square().sum())


def test_omega_is_attained() -> None:
    x = torch.cat([torch.tensor([math.sqrt(100) + 1]), torch.ones(99)]).double()  # b = a (sqrt(d) - 1) up to scale
    ratio = float(x.max() * x.sum() / x.square().sum()) - 1
    assert ratio == pytest.approx(TernGrad().omega(100), rel=1e-3)


def test_the_largest_entry_is_always_sent_and_the_scale_is_its_magnitude() -> None:
    x, q = torch.tensor([0.5, -4.0, 0.0, 1.0]), TernGrad(contraction=False)
    for seed in range(20):
        out = q.decompress(q.compress(x, rng(seed)))
        assert out[1] == -4 and out[2] == 0 and set(out.abs().tolist()) <= {0.0, 4.0}


def test_clipping_by_hand() -> None:
    # Mean zero, so that the root mean square is the standard deviation of Wen et al.: sqrt(2 (9 + 1) / 20) = 1.
    x = torch.cat([torch.tensor([3.0, -3.0, 1.0, -1.0]), torch.zeros(16)]).double()
    assert float(x.std(correction=0)) == pytest.approx(1.0)
    q = TernGrad(contraction=False, clip=2.5)
    payload = q.compress(x, rng())
    assert payload.scalars[2] == pytest.approx(2.5)
    assert q.decompress(payload)[:2].tolist() == pytest.approx([2.5, -2.5])  # clipped to the scale: sent with certainty


def test_a_constant_vector_is_not_clipped_away() -> None:
    q = TernGrad(clip=2.5, contraction=False)
    assert q.decompress(q.compress(torch.full((8,), 0.3), rng())).tolist() == pytest.approx([0.3] * 8)


def test_the_delta_with_clipping_holds_where_it_is_hardest() -> None:
    q = TernGrad(contraction=True, clip=0.5)
    x = torch.zeros(64, dtype=torch.float64)
    x[0] = 3.0
    errors = [float((q.decompress(q.compress(x, rng(s))) - x).square().sum()) for s in range(200)]
    delta = q.delta(64)
    assert delta is not None and delta == pytest.approx(0.5 / 8 * 2 / 9)
    assert np.mean(errors) <= (1 - delta) * 9


@given(x=vectors())
def test_sparse_ternary_has_exactly_its_delta(x: Tensor) -> None:
    x = x.double()
    if float(x.abs().max()) < 1e-3:
        return
    q = SparseTernary(ratio=0.3)
    k = q.kept(x.numel())
    kept = float(x.abs().sort(descending=True).values[:k].sum())
    exact = kept**2 / (k * float(x.square().sum()))
    assert q.measured_delta(x) == pytest.approx(exact, abs=1e-9)
    assert exact >= q.delta(x.numel()) - 1e-9


def test_sparse_ternary_attains_its_guarantee_at_both_ends() -> None:
    spike, flat = torch.zeros(50), torch.ones(50)
    spike[9] = -2.0
    assert SparseTernary(k=10).measured_delta(spike) == pytest.approx(1 / 10, abs=1e-6)
    assert SparseTernary(k=5).measured_delta(flat) == pytest.approx(5 / 50, abs=1e-6)


@pytest.mark.parametrize("scale", [math.nan, math.inf, -1.0, -0.0, 0.1])
@pytest.mark.parametrize("q", [TernGrad(), SparseTernary(k=4)], ids=repr)
def test_scales_that_no_vector_has_are_refused(q: TernGrad | SparseTernary, scale: float) -> None:
    payload = q.compress(gaussian(30), rng())
    with pytest.raises(WireError, match="scale"):
        q.check(replace(payload, scalars=(*payload.scalars[:2], scale)))


def test_one_and_minus_one_at_once_are_refused() -> None:
    q = TernGrad(coding="fixed")
    payload = q.compress(gaussian(8), rng())
    with pytest.raises(WireError, match="cannot be 1 and -1"):
        q.check(replace(payload, body=b"\x03\x01"))


def test_a_scale_without_symbols_and_symbols_without_a_scale_are_refused() -> None:
    q = TernGrad(coding="fixed")
    payload = q.compress(gaussian(8), rng())
    for body, scale in ((b"\0\0", 1.0), (b"\1\0", 0.0)):
        with pytest.raises(WireError, match="the scale must be zero"):
            q.check(replace(payload, scalars=(*payload.scalars[:2], scale), body=body))


def test_chances_are_exact() -> None:
    chances = np.array([0.0, 1.0, 0.5, 1e-6, 1 / 65536 + 1e-7, 0.999999])
    drawn = sum((coin_flips(chances.copy(), 1.0, rng(s)).astype(int) for s in range(20_000)), np.zeros(len(chances), int))
    assert drawn[0] == 0 and drawn[1] == 20_000
    error = 5 * np.sqrt(chances * (1 - chances) / 20_000) + 1e-4
    assert (np.abs(drawn / 20_000 - chances) <= error).all()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: TernGrad(clip=0.0), "clip must be positive and finite, or None, got 0.0"),
        (lambda: TernGrad(coding="huffman"), "coding must be one of entropy, fixed, got 'huffman'"),  # type: ignore[arg-type]
        (lambda: SparseTernary(), "k, ratio must be given one or the other"),
        (lambda: SparseTernary(k=9).compress(torch.ones(4)), r"k must be in \[1, 4\]"),
    ],
)
def test_bad_parameters(make: Callable[[], object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()


@pytest.mark.parametrize("q", [TernGrad(), SparseTernary(k=4)], ids=repr)
def test_a_scale_whose_norm_overflows_is_refused(q: TernGrad | SparseTernary) -> None:
    payload = q.compress(gaussian(30, torch.float64), rng())  # found by the fuzzer
    with pytest.raises(WireError, match="must leave their norms finite"):
        q.check(replace(payload, scalars=(*payload.scalars[:2], 1e308)))
