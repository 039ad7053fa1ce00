"""The attacks made for the recommended chain of filters: what each promises, on rounds of Gaussian vectors."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flwr_robustcomp.compressors import Compressor, Drive, Identity, L1Sign
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import Filter, Norm, NormClipping, Spectral, Vectors, chain
from flwr_robustcomp.simulations.attacks import (
    ClipAware,
    Cliques,
    ClusterMimic,
    Collusion,
    HiddenTails,
    ResidualPumping,
    Seen,
    WarmUp,
)
from flwr_robustcomp.simulations.attacks.clip_aware import clipping_radius
from flwr_robustcomp.simulations.attacks.cluster_mimic import largest_cluster, thin_coordinates
from flwr_robustcomp.simulations.attacks.lengths import against, honest_length
from flwr_robustcomp.simulations.attacks.residual_pumping import leading_direction
from flwr_robustcomp.simulations.attacks.unseen import CHAIN, largest_scale, largest_unseen
from tests.simulations.attacks.kit import everyone, gaussian, seen_of

H, B, D = 15, 5, 300
seeds = pytest.mark.parametrize("seed", range(3))
compressors = pytest.mark.parametrize("compressor", [Identity(), L1Sign(), Drive()], ids=str)


def _round(seed: int = 0, compressor: Compressor | None = None, *, trim: int = B, mean: float = 0.2) -> Seen:
    """Return a round whose colluders are honest but for what they add."""
    everybody = gaussian(H + B, D, seed, mean)
    seen = seen_of(everybody[:H], B, compressor=compressor, seed=seed)
    return replace(seen, own=seen.sent(everybody[H:]), trim=trim)


def _weights(seen: Seen, rows: Tensor, filters: list[Filter] | None = None) -> np.ndarray:
    x = everyone(seen, rows)
    return chain(ClipAware().chain(seen) if filters is None else filters, Vectors.of_gram(x @ x.T))


def _pushed(seen: Seen, rows: Tensor) -> float:
    """Return how far decoded rows lie, on average, against the honest mean."""
    return float(((seen.sent(rows) - seen.mean) @ against(seen)).mean())


# -- how far a direction can go -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [1e-4, 0.3, 1.0, 77.0])
def test_the_largest_scale_is_found_within_a_factor_and_never_exceeded(bound: float) -> None:
    for start in (None, 0.0, 1e-2, 50.0):
        found = largest_scale(lambda scale: scale <= bound, start)
        assert bound / 2 ** (1 / 32) <= found <= bound
    assert largest_scale(lambda scale: scale <= bound, None, most=0.2) == pytest.approx(min(bound, 0.2), rel=0.03)
    assert largest_scale(lambda scale: False, None) == 0.0


@seeds
@compressors
def test_nobody_who_passes_is_dropped_and_a_little_more_would_be(compressor: Compressor, seed: int) -> None:
    seen = _round(seed, compressor)
    filters = ClipAware().chain(seen)
    rows, scale = largest_unseen(seen, lambda c: seen.own - c * seen.mean, filters, None)
    assert scale > 0
    assert (_weights(seen, rows)[H:] > 0).all()
    assert not (_weights(seen, seen.own - 1.3 * scale * seen.mean)[H:] > 0).all()


def test_clipping_alone_is_no_harm_and_trimming_by_norm_is() -> None:
    seen = _round()

    def make(c: float) -> Tensor:
        return seen.own * c

    clipped, _ = largest_unseen(seen, make, [NormClipping(B)], None, most=10.0)
    assert torch.equal(clipped, make(10.0))
    _, scale = largest_unseen(seen, make, [Norm(B)], None, most=10.0)
    assert 0 < scale < 2


def test_the_whole_chain_is_stricter_than_a_part_of_it() -> None:
    seen = _round()
    push = -seen.mean
    whole, part = (
        largest_unseen(seen, lambda c: seen.own + c * push, filters, None)[1]
        for filters in (ClipAware().chain(seen), ClipAware(filters=CHAIN.removesuffix("+spectral")).chain(seen))
    )
    assert whole <= part
    few = replace(seen, honest=seen.honest[:4], norms=seen.norms[:4], nodes=seen.nodes[:4])
    assert largest_unseen(few, lambda c: few.own + c * push, [Spectral(B)], None)[1] == 0.0  # the server skips the round


# -- each attack ----------------------------------------------------------------------------------------------------------


def _trimmed_mean(x: np.ndarray, trim: int) -> np.ndarray:
    return np.asarray(np.sort(x, axis=0)[trim : len(x) - trim].mean(axis=0))


@seeds
@pytest.mark.parametrize("margin", [0.01, 1.0])
def test_no_coordinate_of_the_hidden_is_cut_and_beyond_the_edge_some_are(seed: int, margin: float) -> None:
    seen = _round(seed)
    rows, scale = HiddenTails(margin=margin, filters="norm-clipping").craft(seen, None)
    assert scale == 1.0
    x, mean = everyone(seen, rows), seen.mean.numpy()
    order = np.sort(x, axis=0)
    assert ((order[B - 1] < x[H:]) & (x[H:] < order[-B])).all()  # between what is cut on either side
    edge = np.where(mean > 0, np.sort(x[:H], axis=0)[B - 1], np.sort(x[:H], axis=0)[-B])
    gap = np.abs(np.where(mean > 0, np.sort(x[:H], axis=0)[B], np.sort(x[:H], axis=0)[-B - 1]) - edge)
    assert np.abs(x[H] - edge) == pytest.approx(margin * gap)
    beyond = np.vstack([x[:H], np.repeat((edge - 1e-3 * np.sign(mean))[None], B, axis=0)])
    ends = np.sort(beyond, axis=0)
    assert ((beyond[H] == ends[B - 1]) | (beyond[H] == ends[-B])).all()  # one of them is cut
    honest = _trimmed_mean(x[:H], B)
    assert (np.sign(mean) * (honest - _trimmed_mean(x, B)) >= -1e-12).all()  # against the mean's sign everywhere


@seeds
def test_the_hidden_pass_the_filters_before_the_trimmed_mean(seed: int) -> None:
    seen = _round(seed, mean=1.0)
    rows, scale = HiddenTails().craft(seen, None)
    assert 0 < scale <= 1
    assert (_weights(seen, rows)[H:] > 0).all()
    assert _pushed(seen, rows) > 0


def _clustered(seed: int = 0) -> Seen:
    """Ten nodes share their first half of coordinates and are thin in the second, where five others live."""
    rng = np.random.default_rng(seed)
    base, other = rng.uniform(1.0, 3.0, D), rng.uniform(1.0, 3.0, D)
    base[D // 2 :] = 0.0
    other[: D // 2] = 0.0
    x = np.vstack([base + 0.3 * rng.standard_normal((10, D)), other + 0.3 * rng.standard_normal((5, D))])
    return seen_of(torch.from_numpy(x), B, seed=seed)


@seeds
def test_the_cluster_is_found_agreed_with_and_left_where_it_is_thin(seed: int) -> None:
    seen = _clustered(seed)
    members = largest_cluster(seen.honest)
    assert members.tolist() == list(range(10))
    thin = thin_coordinates(seen.honest, members, 0.5)
    assert thin.tolist() == [False] * (D // 2) + [True] * (D // 2)
    rows, scale = ClusterMimic().craft(seen, None)
    assert scale > 0
    assert torch.equal(rows[:, ~thin], seen.honest[:B][:, ~thin])
    assert torch.allclose(rows[:, thin], seen.honest[:B][:, thin] - scale * seen.mean[thin])
    assert (_weights(seen, rows)[H:] > 0).all()


def test_where_nobody_has_energy_nothing_is_thin() -> None:
    honest = torch.tensor([[1.0, 0.0, 2.0], [1.0, 0.0, 0.0]])
    assert thin_coordinates(honest, torch.tensor([1]), 1.0).tolist() == [True, False, True]
    assert largest_cluster(torch.ones(1, 3)).tolist() == [0]


@seeds
@pytest.mark.parametrize("size", [1, 2, 3])
def test_cliques_share_no_direction_and_the_common_bias_scatters_as_one_of_them(seed: int, size: int) -> None:
    seen = _round(seed)
    rows, scale = Cliques(size=size).craft(seen, None)
    added, u, n = rows - seen.own, against(seen), honest_length(seen)
    along = added @ u
    apart = added - along[:, None] * u
    for j in range(B):
        for k in range(j):
            same = j // size == k // size
            assert float(apart[j] @ apart[k]) == pytest.approx((scale * n) ** 2 if same else 0.0, abs=1e-6)
    m, common = H + B, float(along[0])
    assert along.tolist() == pytest.approx([common] * B)
    own, shared = size * (1 - size / m) * (scale * n) ** 2, B * (1 - B / m) * common**2
    assert shared == pytest.approx(own)  # no direction of the attack before the others
    assert (_weights(seen, rows)[H:] > 0).all()
    assert scale > 0.1


@seeds
@compressors
@pytest.mark.parametrize("trim", [B, B + 2])
def test_a_clip_aware_vector_is_as_long_as_the_clipping_radius(compressor: Compressor, trim: int, seed: int) -> None:
    seen = _round(seed, compressor, trim=trim)
    rows, turn = ClipAware().craft(seen, None)
    x = everyone(seen, rows)
    radius = np.sort(np.linalg.norm(x, axis=1))[-trim - 1]
    assert np.linalg.norm(x[H:], axis=1) == pytest.approx([radius] * B)
    clipped = chain([NormClipping(trim)], Vectors.of_gram(x @ x.T))
    assert clipped[H:] == pytest.approx([1 / (H + B)] * B)  # a longer one would gain nothing
    longer = np.vstack([x[:H], 1.5 * x[H:]])
    assert np.sort(np.linalg.norm(longer, axis=1))[-trim - 1] == pytest.approx(radius)
    assert turn > 0 and (_weights(seen, rows)[H:] > 0).all()


def test_with_more_colluders_than_the_budget_the_longest_honest_norm_is_the_radius() -> None:
    assert clipping_radius([1.0, 3.0, 2.0], 2, 1) == clipping_radius([1.0, 3.0, 2.0], 2, 2) == 3.0
    assert clipping_radius([1.0, 3.0, 2.0], 1, 2) == 2.0
    assert clipping_radius([1.0, 3.0, 2.0], 1, 9) == 1.0


@seeds
def test_a_warm_up_grows_in_equal_shares_and_no_sum_of_it_stands_out(seed: int) -> None:
    attack = WarmUp(rounds=6, share=0.5, turn=2.0)
    state, shares = attack.init(), []
    honest, own = torch.zeros(H, D, dtype=torch.float64), torch.zeros(B, D, dtype=torch.float64)
    for t in range(8):
        seen = _round(100 * seed + t)
        rows, state = attack.craft(seen, state)
        added = float(((rows - seen.own) @ against(seen))[0]) / float(torch.linalg.vector_norm(seen.mean))
        shares.append(added / state[1])
        if t < 6:
            assert (_weights(seen, rows)[H:] > 0).all()
            honest, own = honest + seen.honest, own + rows
            assert (_weights(replace(seen, honest=honest), own)[H:] > 0).all()
        else:
            assert not (_weights(seen, rows)[H:] > 0).all()  # twice what passes: for servers that trust the past
    assert shares == pytest.approx([0.5 * t / 6 for t in range(1, 7)] + [2.0, 2.0])


def test_the_default_warm_up_turns_to_what_passes() -> None:
    seen = _round()
    rows, (rounds, most) = WarmUp(rounds=3).craft(seen, (3, None))
    assert torch.equal(rows, seen.own - most * seen.mean) and rounds == 4
    assert (_weights(seen, rows)[H:] > 0).all()
    assert WarmUp(rounds=3).craft(seen, (4, most))[1][0] == 4


@seeds
@compressors
def test_what_is_pumped_is_released_or_still_there_and_waiting_rounds_are_honest(compressor: Compressor, seed: int) -> None:
    attack = ResidualPumping(wait=3, push=0.7)
    state = attack.init()
    pushed, released = torch.zeros(D, dtype=torch.float64), torch.zeros(D, dtype=torch.float64)
    for t in range(1, 10):
        seen = _round(100 * seed + t, compressor)
        rows, state = attack.craft(seen, state)
        pushed, released = pushed - 0.7 * seen.mean, released + (rows - seen.own)[0]
        assert torch.allclose(released + state[1], pushed)
        assert torch.allclose(rows - seen.own, (rows - seen.own)[:1])
        if t % 3:
            assert torch.equal(rows, seen.own)
        else:
            assert (_weights(seen, rows)[H:] > 0).all()
            assert _pushed(seen, rows) > _pushed(seen, seen.own)


def test_the_residual_goes_around_the_direction_in_which_the_honest_scatter_most() -> None:
    honest = gaussian(H, D)
    axis = torch.zeros(D, dtype=torch.float64)
    axis[0] = 1.0
    honest[:, 0] += torch.linspace(-300, 300, H, dtype=torch.float64)
    seen = replace(_round(), honest=honest)
    assert abs(float(leading_direction(seen) @ axis)) > 0.99
    residual = -40 * axis - seen.mean
    rows, (_, left) = ResidualPumping(wait=1, push=1e-9, filters="spectral").craft(seen, (0, residual))
    assert float((rows - seen.own)[0].norm()) > 0
    assert not ResidualPumping(wait=2).craft(seen, (0, None))[0].ne(seen.own).any()
    assert left.shape == (D,)


def test_a_round_of_zeros_is_left_alone() -> None:
    zero = replace(seen_of(torch.zeros(12, 6), 3), own=torch.zeros(3, 6))
    attacks: list[Collusion] = [ClipAware(), Cliques(), ClusterMimic(), HiddenTails(), ResidualPumping(wait=1), WarmUp()]
    for attack in attacks:
        assert not attack.craft(zero, attack.init())[0].any()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: HiddenTails(margin=0.0), r"margin must be in \(0, 1\], got 0.0"),
        (lambda: ClusterMimic(share=1.5), r"share must be in \(0, 1\], got 1.5"),
        (lambda: Cliques(size=0), "size must be at least 1, got 0"),
        (lambda: ClipAware(trim=-1), "trim must be at least 0, got -1"),
        (lambda: ClipAware(filters="directions+spectre"), "filters must be one of .*, got 'spectre'"),
        (lambda: WarmUp(rounds=0), "rounds must be at least 1, got 0"),
        (lambda: WarmUp(share=0.0), r"share must be in \(0, 1\], got 0.0"),
        (lambda: WarmUp(turn=math.inf), "turn must be positive and finite, got inf"),
        (lambda: ResidualPumping(wait=0), "wait must be at least 1, got 0"),
        (lambda: ResidualPumping(push=0.0), "push must be positive and finite, got 0.0"),
    ],
)
def test_bad_options_raise_at_construction(make: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()
