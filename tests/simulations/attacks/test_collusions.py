"""Each formula against a direct computation, or a property that its paper states."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flwr_robustcomp.compressors import vector_norm
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters.norm import shortest
from flwr_robustcomp.simulations.attacks import (
    ATTACKS,
    COLLUSIONS,
    Collusion,
    InnerProduct,
    LittleIsEnough,
    Mimic,
    MinMax,
    MinSum,
    Seen,
    UnderThreshold,
)
from flwr_robustcomp.simulations.attacks.little_is_enough import largest_z
from flwr_robustcomp.simulations.attacks.under_threshold import largest_kept_norm, longest

sizes = st.tuples(st.integers(2, 12), st.integers(1, 9), st.integers(1, 4), st.integers(0, 10**6))


def _seen(honest: Tensor, byzantine: int = 2, trim: int | None = None, seed: int = 0) -> Seen:
    return Seen(
        honest,
        tuple(range(100, 100 + len(honest))),
        tuple(vector_norm(x, 2) for x in honest),
        byzantine,
        lambda x: vector_norm(x, 2),
        trim,
        np.random.default_rng(seed),
        _gaussian(byzantine, honest.shape[1], seed + 1).to(honest.dtype),
        lambda rows: rows,
    )


def _gaussian(h: int, d: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(1.0, 1.0, (h, d)))


def _craft(attack: Collusion, seen: Seen) -> Tensor:
    return attack.craft(seen, attack.init())[0]


def test_one_registry_names_every_attack_and_its_kind() -> None:
    kinds = {name: cls.kind for name, cls in ATTACKS.items()}
    assert {name for name, kind in kinds.items() if kind == "colluding"} == set(COLLUSIONS)
    assert {kind for kind in kinds.values()} == {"label", "update", "colluding"}


@pytest.mark.parametrize("name", COLLUSIONS)
@given(size=sizes)
def test_what_is_sent_is_finite_of_the_right_form_and_leaves_the_honest_alone(
    name: str, size: tuple[int, int, int, int]
) -> None:
    h, d, b, seed = size
    for honest in (_gaussian(h, d, seed).float(), torch.zeros(h, d), torch.ones(1, d, dtype=torch.float64)):
        before = honest.clone()
        x = _craft(COLLUSIONS[name](), _seen(honest, b))
        assert x.shape in {(d,), (b, d)}
        assert x.dtype == honest.dtype
        assert bool(torch.isfinite(x).all())
        assert torch.equal(honest, before)


def test_z_is_that_of_the_papers_example() -> None:
    # Baruch et al. 2019: n = 50, m = 24 corrupted, s = 2, and Phi(z) < (50 - 24 - 2) / (50 - 24) = 24/26.
    z = largest_z(50, 24)
    assert 0.5 * (1 + math.erf(z / math.sqrt(2))) == pytest.approx(24 / 26)
    assert z == pytest.approx(1.43, abs=0.01)  # the table's entry
    assert largest_z(10, 1) == 0.0  # nine honest, five of them needed: even the mean has fewer beyond it
    assert math.isfinite(largest_z(10, 9))


def test_a_little_is_so_many_standard_deviations() -> None:
    honest = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    assert _craft(LittleIsEnough(z=1.5), _seen(honest)).tolist() == pytest.approx([2 - 1.5, 2 - 3.0])


@given(size=sizes, epsilon=st.floats(0.1, 100))
def test_a_large_epsilon_turns_the_mean_of_all_around(size: tuple[int, int, int, int], epsilon: float) -> None:
    h, d, b, seed = size
    seen = _seen(_gaussian(h, d, seed), b)
    everything = torch.cat([seen.honest, _craft(InnerProduct(epsilon=epsilon), seen).expand(b, d)]).mean(dim=0)
    inner = float(everything @ seen.mean)
    assert inner == pytest.approx((h - epsilon * b) / seen.m * float(seen.mean @ seen.mean))


@pytest.mark.parametrize("direction", ["unit", "sign", "std"])
@given(size=sizes)
def test_min_max_goes_exactly_as_far_as_the_honest_are_apart(direction: Any, size: tuple[int, int, int, int]) -> None:
    h, d, _, seed = size
    seen = _seen(_gaussian(h, d, seed))
    bound = float(torch.cdist(seen.honest, seen.honest).max())

    def farthest(x: Tensor) -> float:
        return float((seen.honest - x).norm(dim=1).max())

    x = _craft(MinMax(direction=direction), seen)
    assert farthest(x) == pytest.approx(bound, rel=1e-6)
    assert farthest(seen.mean + 1.01 * (x - seen.mean)) > bound  # gamma is the largest


@pytest.mark.parametrize("direction", ["unit", "sign", "std"])
@given(size=sizes)
def test_min_sum_goes_exactly_as_far_as_the_honest_sum_allows(direction: Any, size: tuple[int, int, int, int]) -> None:
    h, d, _, seed = size
    seen = _seen(_gaussian(h, d, seed))
    bound = float((torch.cdist(seen.honest, seen.honest) ** 2).sum(dim=1).max())
    x = _craft(MinSum(direction=direction), seen)
    assert float(((seen.honest - x) ** 2).sum()) == pytest.approx(bound, rel=1e-6)


@pytest.mark.parametrize("attack", [MinMax, MinSum])
def test_perturbations_point_against_the_mean(attack: type[MinMax] | type[MinSum]) -> None:
    seen = _seen(_gaussian(8, 5, 1) + 3)
    for direction in ("unit", "sign", "std"):
        assert float((_craft(attack(direction=direction), seen) - seen.mean) @ seen.mean) < 0


def test_mimic_repeats_the_node_that_stands_out_and_stays_with_it() -> None:
    rng = np.random.default_rng(0)
    outlier, attack = 3, Mimic(warmup=4)
    state = attack.init()
    for t in range(8):
        honest = torch.from_numpy(rng.normal(0, 0.1, (6, 5)))
        honest[outlier if t < 4 else 0, 1] += 5.0  # after the warm-up another node stands out
        x, state = attack.craft(_seen(honest, seed=t), state)
        assert torch.equal(x, honest[outlier])
    assert state.rounds == 4
    assert state.direction is not None
    assert abs(float(state.direction[1])) == pytest.approx(1.0, abs=0.02)


def test_mimic_has_a_stand_in_where_its_node_is_missing() -> None:
    honest = _gaussian(5, 3, 4)
    attack = Mimic(warmup=1)
    first, state = attack.craft(_seen(honest), attack.init())
    (target,) = [i for i, row in enumerate(honest) if torch.equal(row, first)]
    rest = [i for i in range(5) if i != target]
    seen = _seen(honest)
    missing = Seen(
        honest[rest], tuple(seen.nodes[i] for i in rest), seen.norms, 2, seen.norm, None, seen.rng, seen.own, seen.sent
    )
    second, _ = attack.craft(missing, state)
    assert any(torch.equal(second, row) for row in honest[rest])


@given(size=sizes, trim=st.integers(0, 6))
def test_under_the_threshold_nothing_crafted_is_trimmed_and_a_little_longer_is(
    size: tuple[int, int, int, int], trim: int
) -> None:
    h, d, b, seed = size
    trim = max(1, min(trim, h, (h + b - 1) // 2))
    seen = _seen(_gaussian(h, d, seed), b, trim)

    def trimmed(factor: float) -> set[int]:
        norm = vector_norm(x * factor, 2)
        # The crafted come last: ties would be decided against them.
        return set(range(h, h + b)) - set(shortest([*seen.norms, *[norm] * b], h + b - trim).tolist())

    x = _craft(UnderThreshold(), seen)
    assert trimmed(1.0) == set()
    assert trimmed(1.001) != set()
    assert float(x @ seen.mean) < 0


def test_the_norm_to_stay_below() -> None:
    norms = [1.0, 5.0, 3.0, 4.0]
    assert [largest_kept_norm(norms, trim) for trim in (0, 1, 2, 4, 9)] == [5.0, 5.0, 4.0, 1.0, 1.0]


@given(limit=st.floats(1e-6, 1e6), bend=st.floats(0.5, 2))
def test_the_longest_multiple_is_found_where_the_norm_is_not_homogeneous(limit: float, bend: float) -> None:
    direction = torch.tensor([3.0, 4.0], dtype=torch.float64)
    c = longest(direction, lambda x: vector_norm(x, 2) * bend, limit)
    assert vector_norm(c * direction, 2) * bend == pytest.approx(limit, rel=1e-6)
    assert longest(direction, lambda x: 7.0, limit) == 1.0  # plain signs


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: LittleIsEnough(z=-1.0), "z must be non-negative and finite, got -1.0"),
        (lambda: InnerProduct(epsilon=0.0), "epsilon must be positive and finite, got 0.0"),
        (lambda: MinMax(direction="up"), "direction must be one of unit, sign, std, got 'up'"),  # type: ignore[arg-type]
        (lambda: Mimic(warmup=0), "warmup must be at least 1, got 0"),
        (lambda: UnderThreshold(trim=-1), "trim must be at least 0, got -1"),
        (lambda: UnderThreshold(margin=1.0), r"margin must be in \(0, 1\), got 1.0"),
    ],
)
def test_bad_options_raise_at_construction(make: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()
