"""How long crafted vectors are: as asked for once decoded, and never more than dtype and compressor carry."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.parts.compressors import COMPONENTS
from flwr_robustcomp.compressors import COMPRESSORS, Compressor, Drive, Identity, L1Sign, Sign, TopK
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.simulations import run_scenario
from flwr_robustcomp.simulations.attacks import (
    Bounce,
    CancellingPairs,
    Collusion,
    MostAgreedSignFlip,
    Rod,
    RodWithResiduals,
    SlowDrift,
    Spike,
    Swamp,
)
from flwr_robustcomp.simulations.attacks.lengths import against, carried, decoded_at, honest_length, orthonormal
from tests.simulations.attacks.kit import gaussian, lengths, seen_of
from tests.simulations.kit import digits, small

AIMED = [Bounce, CancellingPairs, MostAgreedSignFlip, Rod, RodWithResiduals, SlowDrift, Spike, Swamp]
aimed = pytest.mark.parametrize("attack", AIMED, ids=lambda cls: cls.name)


@pytest.mark.parametrize("compressor", [Identity(), L1Sign(), Drive(), TopK(k=3)], ids=str)
def test_a_vector_is_decoded_at_the_length_asked_for(compressor: Compressor) -> None:
    seen = seen_of(gaussian(9, 32), compressor=compressor)
    rows = decoded_at(seen, gaussian(4, 32, 5), 7.0)
    assert lengths(seen.sent(rows)).tolist() == pytest.approx([7.0] * 4)


def test_signs_have_the_length_that_they_have() -> None:
    seen = seen_of(gaussian(9, 32), compressor=Sign())
    rows = gaussian(4, 32, 5)
    assert torch.equal(seen.sent(decoded_at(seen, rows, 7.0)), seen.sent(rows))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_longer_than_the_dtype_carries_is_shortened(dtype: torch.dtype) -> None:
    most = carried(float("inf"), dtype)
    assert carried(1.0, dtype) == 1.0
    assert np.isfinite(np.float64(most) ** 2 if dtype == torch.float64 else np.float32(most) ** 2)
    seen = seen_of(gaussian(9, 16).to(dtype))
    rows = decoded_at(seen, gaussian(4, 16, 5).to(dtype), float("inf"))
    assert lengths(rows).tolist() == pytest.approx([most] * 4, rel=1e-5)


def test_against_is_of_length_one_and_against() -> None:
    seen = seen_of(gaussian(9, 16))
    assert float(against(seen) @ seen.mean) == pytest.approx(-float(seen.mean.norm()))
    assert not against(seen_of(torch.zeros(3, 4))).any()
    assert honest_length(seen_of(torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 9.0]]))) == 5.0


@pytest.mark.parametrize(("count", "d", "rank"), [(5, 16, 5), (20, 6, 5), (3, 1, 1), (0, 4, 0)])
def test_axes_are_orthogonal_to_each_other_and_to_the_mean(count: int, d: int, rank: int) -> None:
    seen = seen_of(gaussian(9, d))
    axes = orthonormal(seen, count)
    assert axes.shape == (count, d)
    assert lengths(axes).tolist() == pytest.approx([1.0] * count)
    if d > 1:
        assert torch.allclose(axes @ seen.mean, torch.zeros(count, dtype=torch.float64), atol=1e-12)
        different = axes[:rank]
        assert torch.allclose(different @ different.T, torch.eye(rank, dtype=torch.float64), atol=1e-12)


@aimed
@pytest.mark.parametrize("name", sorted(COMPONENTS))
def test_every_compressor_takes_it(name: str, attack: type[Collusion]) -> None:
    for scale, dtype in itertools.product([1e-30, 1.0, 1e8], [torch.float32, torch.float64]):
        options = {key: value for key, value in COMPONENTS[name].items() if key != "name"}
        compressor, shape = COMPRESSORS[name](**options), (3, 4) if COMPRESSORS[name].wants_matrices else (12,)
        seen = seen_of((scale * gaussian(9, 12)).to(dtype), 6, compressor=compressor, shape=shape)
        made = attack()
        rows, _ = made.craft(seen, made.init())
        assert rows.dtype == dtype
        assert bool(torch.isfinite(seen.sent(rows)).all())


@aimed
@pytest.mark.parametrize("compressor", ["identity", "l1-sign", "drive"])
@pytest.mark.parametrize("make", [small, digits])  # in double and in single precision
def test_it_is_sent_and_never_replaced_by_an_honest_vector(
    make: Any, compressor: str, attack: type[Collusion], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[Any] = []
    monkeypatch.setattr(LOG, "warning", lambda *words: refused.append(words))
    records = run_scenario(make(attack=attack.name, compressor=compressor, error_feedback=True))
    assert not refused
    assert [record["rejected"] for record in records[1:]] == [{}] * 3


@aimed
def test_honest_vectors_that_are_all_zero_are_answered_by_honest_ones_or_zero(attack: type[Collusion]) -> None:
    seen = seen_of(torch.zeros(9, 5))
    rows, _ = attack().craft(seen, attack().init())
    assert bool(((rows == 0) | (rows == seen.own)).all())
