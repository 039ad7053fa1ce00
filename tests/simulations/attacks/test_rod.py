"""The rods: what they shadow, and that a filter which looks only at what is left sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import Spectral, Vectors, chain
from flwr_robustcomp.simulations.attacks import Rod, RodWithResiduals
from flwr_robustcomp.simulations.attacks.lengths import against, carried, honest_length
from tests.simulations.attacks.kit import everyone, gaussian, lengths, seen_of

H, B, D = 32, 8, 100
EPS = np.finfo(np.float64).eps


def _scatter(x: np.ndarray) -> float:
    return float(np.linalg.norm(x - x.mean(axis=0), 2) ** 2)


def test_one_sends_the_rod_and_the_others_push() -> None:
    seen = seen_of(gaussian(H, D), B)
    rows, _ = Rod(length=1e6, push=3.0).craft(seen, None)
    n = honest_length(seen)
    assert lengths(rows).tolist() == pytest.approx([1e6 * n] + [3 * n] * (B - 1))
    assert torch.allclose(rows / lengths(rows)[:, None], against(seen).expand(B, -1))


@pytest.mark.parametrize("push", [1.0, 10.0, 1e4])
def test_beside_the_rod_all_others_are_the_same_but_for_rounding(push: float) -> None:
    """The fault that switched `Spectral` off: it measured what is left against the Gram matrix of all."""
    x = everyone(seen := seen_of(gaussian(H, D), B), Rod(push=push).craft(seen, None)[0])
    left = np.delete(x, H, axis=0)  # without the rod, the first of the Byzantine
    assert _scatter(left) <= EPS * len(left) * np.abs(x @ x.T).max()
    assert _scatter(left) > EPS * len(left) * np.abs(left @ left.T).max()


@pytest.mark.parametrize("attack", [Rod(), RodWithResiduals(push=10.0), RodWithResiduals(push=10.0, rungs=1)])
def test_a_filter_that_looks_at_what_is_left_drops_them_all(attack: Any) -> None:
    x = everyone(seen := seen_of(gaussian(H, D), B), attack.craft(seen, None)[0])
    weights = chain([Spectral(trim=B + 1)], Vectors.of_gram(x @ x.T))
    assert not weights[H:].any()
    assert (weights > 0).sum() >= H - 1


def test_a_rod_of_single_precision_is_as_long_as_it_can_be() -> None:
    seen = seen_of((1e6 * gaussian(H, D)).float(), B)
    rows, _ = Rod().craft(seen, None)
    assert float(rows[0].norm()) == pytest.approx(carried(float("inf"), torch.float32), rel=1e-5)


@pytest.mark.parametrize(("rungs", "used"), [(1, 1), (3, 3), (9, B // 2)])
def test_the_ladder_falls_geometrically_and_stands_on_honest_vectors(rungs: int, used: int) -> None:
    seen = seen_of(gaussian(H, D), B)
    rows, _ = RodWithResiduals(length=1e6, push=1.0, rungs=rungs).craft(seen, None)
    added = (rows - seen.own) / honest_length(seen)
    wanted = [1e6 ** (1 - j / used) for j in range(used)] + [1.0] * (B - used)
    assert (added @ against(seen)).tolist() == pytest.approx(wanted)
    assert lengths(added).tolist() == pytest.approx(wanted)


def test_the_upper_rungs_shadow_the_push_one_after_the_other() -> None:
    x = everyone(seen := seen_of(gaussian(H, D), B), RodWithResiduals(rungs=4).craft(seen, None)[0])
    below = _scatter(np.delete(x, range(H, H + 4), axis=0))
    squares = np.square(x[H : H + 4]).sum(axis=1)
    assert (below <= EPS * len(x) * squares).tolist() == [True, True, True, False]  # 1e15, 2e11, 3e7 and 6e3 long


def test_a_single_colluder_sends_a_rod() -> None:
    seen = seen_of(gaussian(H, D), 1)
    for attack in (Rod(), RodWithResiduals()):
        rows, _ = attack.craft(seen, None)
        assert rows.shape == (1, D)
        assert float(rows.norm()) > 1e14


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Rod(length=0.0), "length must be positive and finite, got 0.0"),
        (lambda: Rod(push=-1.0), "push must be positive and finite, got -1.0"),
        (lambda: RodWithResiduals(length=float("inf")), "length must be positive and finite, got inf"),
        (lambda: RodWithResiduals(push=0.0), "push must be positive and finite, got 0.0"),
        (lambda: RodWithResiduals(rungs=0), "rungs must be at least 1, got 0"),
    ],
)
def test_bad_options_raise_at_construction(make: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()
