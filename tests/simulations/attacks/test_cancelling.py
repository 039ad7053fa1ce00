"""The attacks that hide a push among long orthogonal vectors: cancelling pairs and the swamp."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from flwr_robustcomp.compressors import L1Sign
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.attacks import CancellingPairs, Swamp
from flwr_robustcomp.simulations.attacks.lengths import against, honest_length
from tests.simulations.attacks.kit import gaussian, lengths, seen_of

H, D = 20, 64


@pytest.mark.parametrize("b", [1, 2, 5, 8])
@pytest.mark.parametrize("length", [1.0, 1e3])
def test_the_mean_of_the_pairs_is_the_push_and_each_is_long(b: int, length: float) -> None:
    seen = seen_of(gaussian(H, D), b)
    rows, _ = CancellingPairs(length=length, push=0.5).craft(seen, None)
    n, paired = honest_length(seen), 2 * (b // 2)
    assert torch.allclose(rows.mean(dim=0), 0.5 * n * against(seen), atol=1e-9)
    assert lengths(rows[:paired]).tolist() == pytest.approx([n * math.hypot(0.5, length)] * paired)
    assert lengths(rows[paired:]).tolist() == pytest.approx([0.5 * n] * (b - paired))


def test_those_of_different_pairs_have_little_in_common() -> None:
    seen = seen_of(gaussian(H, D), 6)
    rows, _ = CancellingPairs(length=2.0, push=1.0).craft(seen, None)
    cosines = (rows @ rows.T) / float(rows[0].norm()) ** 2
    assert cosines[0].tolist() == pytest.approx([1.0, -3 / 5, 1 / 5, 1 / 5, 1 / 5, 1 / 5])


def test_axes_are_drawn_anew_in_each_round() -> None:
    first, second = (CancellingPairs().craft(seen_of(gaussian(H, D), 2, seed=s), None)[0] for s in (0, 1))
    assert not torch.allclose(first, second)


def test_under_a_scaled_sign_the_axis_is_dither_and_the_push_is_left() -> None:
    seen = seen_of(gaussian(H, 4096), 8, compressor=L1Sign())
    rows, _ = CancellingPairs(length=3.0, push=1.0).craft(seen, None)
    assert float(seen.sent(rows).mean(dim=0) @ against(seen)) > 0.5 * honest_length(seen)


@pytest.mark.parametrize("b", [1, 2, 8, 16])
def test_the_push_stands_out_exactly_as_far_as_the_noise(b: int) -> None:
    seen = seen_of(gaussian(H, D), b)
    rows, _ = Swamp(length=3.0, share=0.5).craft(seen, None)
    n, noisy = honest_length(seen), b // 2
    assert rows.shape == (b, D)
    eigenvalues = np.linalg.eigvalsh((rows @ rows.T).numpy())[-noisy - 1 :]
    assert eigenvalues.tolist() == pytest.approx([(3 * n) ** 2] * (noisy + 1))
    assert torch.allclose(rows[noisy:], 3 * n / math.sqrt(b - noisy) * against(seen))
    assert torch.allclose(rows[:noisy] @ seen.mean, torch.zeros(noisy, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: CancellingPairs(length=0.0), "length must be positive and finite, got 0.0"),
        (lambda: CancellingPairs(push=0.0), "push must be positive and finite, got 0.0"),
        (lambda: Swamp(length=-1.0), "length must be positive and finite, got -1.0"),
        (lambda: Swamp(share=1.0), r"share must be in \(0, 1\), got 1.0"),
    ],
)
def test_bad_options_raise_at_construction(make: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()
