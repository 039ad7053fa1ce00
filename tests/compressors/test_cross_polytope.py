"""Vertices of a cross-polytope: the exact variance, the o(d) bits, what the decoder refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from flwr_robustcomp.compressors import CrossPolytope
from flwr_robustcomp.compressors.bits import pack_uints
from flwr_robustcomp.errors import ConfigurationError, WireError
from tests.compressors.samples import gaussian, rng


@pytest.mark.parametrize("repetitions", [1, 7])
def test_it_is_unbiased_with_exactly_its_variance(repetitions: int) -> None:
    x, q = gaussian(12, torch.float64), CrossPolytope(repetitions, contraction=False)
    draws = torch.stack([q.decompress(q.compress(x, rng(seed))) for seed in range(6000)])
    assert q.unbiased
    assert bool(((draws.mean(dim=0) - x).abs() <= 4 * draws.std(dim=0) / math.sqrt(6000)).all())
    squares = (draws - x).square().sum(dim=1)
    exact = float(x.abs().sum() ** 2 - x.square().sum()) / repetitions
    assert float(squares.mean()) == pytest.approx(exact, abs=4 * float(squares.std()) / math.sqrt(6000))
    assert exact <= q.omega(12) * float(x.square().sum())


def test_a_flat_vector_attains_omega_and_a_spike_is_exact() -> None:
    q = CrossPolytope(contraction=False)
    assert 1 - q.measured_delta(torch.ones(9, dtype=torch.float64), rng()) == pytest.approx(q.omega(9))
    spike = torch.zeros(9)
    spike[4] = -3.0
    assert torch.equal(q.decompress(q.compress(spike, rng())), spike)


def test_the_contraction_is_the_unbiased_form_divided() -> None:
    x, plain, shrunk = gaussian(20), CrossPolytope(5, contraction=False), CrossPolytope(5)
    assert torch.allclose(
        plain.decompress(plain.compress(x, rng())), shrunk.decompress(shrunk.compress(x, rng())) * (1 + 19 / 5)
    )
    assert (
        shrunk.delta(20) == pytest.approx(5 / 24)
        and plain.delta(20) is None
        and CrossPolytope(38, contraction=False).delta(20) == 0.5
    )


def test_bits_grow_with_the_logarithm_of_d() -> None:
    bits = {d: 8 * CrossPolytope(8).body_size(d, torch.float32) for d in (2**10, 2**20, 2**30)}
    assert bits == {2**10: 8 * 11, 2**20: 8 * 21, 2**30: 8 * 31}


def test_entries_of_zero_are_never_drawn() -> None:
    x, q = torch.tensor([0.0, 1.0, 0.0, -2.0, 0.0]), CrossPolytope(500)
    assert q.decompress(q.compress(x, rng())).nonzero().flatten().tolist() == [1, 3]


@pytest.mark.parametrize(
    ("codes", "norm", "named"),
    [
        ([4, 3, 2], 1.0, "codes must ascend"),
        ([2, 3, 8], 1.0, "one sign"),
        ([0, 1, 20], 1.0, "below 20"),
        ([0, 0, 2], 0.0, "zero norm"),
    ],
    ids=["unsorted", "both signs", "beyond", "zero norm"],
)
def test_other_codes_are_refused(codes: list[int], norm: float, named: str) -> None:
    q = CrossPolytope(3)
    payload = q.compress(gaussian(10), rng())
    with pytest.raises(WireError, match=named):
        q.check(replace(payload, scalars=(payload.scalars[0], norm), body=pack_uints(np.array(codes, np.uint32), 5)))


@pytest.mark.parametrize("norm", [-1.0, -0.0, math.nan, math.inf])
def test_other_norms_are_refused(norm: float) -> None:
    q = CrossPolytope(3)
    payload = q.compress(gaussian(10), rng())
    with pytest.raises(WireError, match="the norm must be"):
        q.check(replace(payload, scalars=(payload.scalars[0], norm)))


def test_bad_parameters() -> None:
    with pytest.raises(ConfigurationError, match=r"repetitions must be an integer in \[1, 2\*\*31\), got 0"):
        CrossPolytope(0)
