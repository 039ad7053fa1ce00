"""The attacks that know the spectral filter: they do what they say, and no more than its guarantee allows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import L1Sign, vector_norm
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import Spectral, Vectors, chain
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.simulations.app import CLIENT_APP
from flwr_robustcomp.simulations.attacks import Collusion, Decoys, Drift, Seen, Spread, UnderEigenvalue, UnderThreshold
from flwr_robustcomp.simulations.attacks.colluding_grid import ColludingGrid
from flwr_robustcomp.simulations.scenario.setup import byzantine_partitions
from tests.simulations.kit import small, training_messages

H, B, D, TRIM = 90, 10, 400, 11
seeds = pytest.mark.parametrize("seed", range(3))


def _seen(seed: int = 0, *, trim: int | None = TRIM, sign: bool = False, b: int = B) -> Seen:
    rng = np.random.default_rng(seed)
    mean = rng.standard_normal(D) * 0.3

    def sent(rows: Tensor) -> Tensor:
        return torch.stack([L1Sign().decompress(L1Sign().compress(row)) for row in rows]) if sign else rows

    honest, own = (sent(torch.from_numpy(mean + rng.standard_normal((k, D)))) for k in (H, b))
    norms = tuple(vector_norm(x, 2) for x in honest)
    return Seen(honest, tuple(range(H)), norms, b, lambda x: vector_norm(x, 2), trim, rng, own, sent)


def _everyone(seen: Seen, rows: Tensor) -> np.ndarray:
    return torch.cat([seen.honest, seen.sent(rows.expand(seen.byzantine, -1))]).numpy()


def _weights(x: np.ndarray, trim: int = TRIM) -> np.ndarray:
    return chain([Spectral(trim=trim)], Vectors.of_gram(x @ x.T))


def _bias(x: np.ndarray, seen: Seen) -> float:
    """Return how far the filtered mean has moved against the honest one."""
    mean = seen.mean.numpy()
    return float((mean - _weights(x) @ x) @ mean / np.linalg.norm(mean))


@seeds
@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize("attack", [UnderEigenvalue(), Spread(), Spread(directions=50)])
def test_nobody_is_dropped_and_a_little_more_would_be_seen(attack: Collusion, sign: bool, seed: int) -> None:
    seen = _seen(seed, sign=sign)
    rows, _ = attack.craft(seen, attack.init())
    x = _everyone(seen, rows)
    assert (_weights(x) > 0).all()
    more = _everyone(seen, seen.own + 1.3 * (rows - seen.own))
    assert not Spectral(trim=TRIM).is_quiet(more @ more.T, TRIM)
    assert _bias(x, seen) > 0.2 * B / (H + B)  # and it is worth something


@seeds
def test_the_bias_is_what_was_derived_and_within_the_guarantee(seed: int) -> None:
    seen, attack = _seen(seed), UnderEigenvalue()
    x = _everyone(seen, attack.craft(seen, None)[0])
    m, honest = H + B, seen.honest.numpy()
    largest = np.square(np.linalg.svd(honest - honest.mean(axis=0), compute_uv=False))[0]
    shift = np.linalg.norm(x.mean(axis=0) - honest.mean(axis=0))
    assert shift <= math.sqrt(attack.slack * B * largest / (m * (m - B)))
    assert shift >= 0.5 * math.sqrt((attack.slack - 1) * B * largest / (m * (m - B)))


@seeds
def test_spreading_wins_nothing_at_equal_eigenvalues(seed: int) -> None:
    seen = _seen(seed)
    one, five = (_bias(_everyone(seen, attack.craft(seen, None)[0]), seen) for attack in (UnderEigenvalue(), Spread()))
    assert five < 1.25 * one


def test_each_group_works_on_its_own_coordinates() -> None:
    seen = _seen()
    moved = (Spread(directions=3).craft(seen, None)[0] - seen.own) != 0  # (b, d)
    for node in range(B):
        assert set(np.flatnonzero(moved[node].numpy()) % 3) == {node % 3}


@seeds
def test_decoys_cost_honest_nodes_and_give_the_hidden_half_away(seed: int) -> None:
    seen = _seen(seed)
    rows, _ = Decoys(groups=1).craft(seen, None)
    (copied,) = (i for i, x in enumerate(seen.honest) if torch.equal(x, rows[0]))
    quiet = torch.cat([seen.honest, rows[B // 2 :]]).numpy()
    assert Spectral(trim=TRIM).is_quiet(quiet @ quiet.T, TRIM)  # without decoys the hidden half would pass
    x = _everyone(seen, rows)
    weights = _weights(x)
    assert weights[copied] == 0
    assert (weights[H : H + B // 2] == 0).sum() >= B // 2 - 2  # two alike are as good as one honest direction
    alone = _everyone(seen, UnderEigenvalue().craft(seen, None)[0])
    assert _bias(x, seen) < 0.6 * _bias(alone, seen)  # the lower threshold finds those who hid under the higher


@pytest.mark.parametrize("sign", [False, True])
def test_drift_keeps_one_direction_at_the_size_of_honest_noise(sign: bool) -> None:
    seen, attack = _seen(sign=sign), Drift(z=1.5)
    rows, u = attack.craft(seen, attack.init())
    assert torch.allclose(u, -seen.mean / seen.mean.norm())
    later = _seen(7, sign=sign)
    again, kept = attack.craft(later, u)
    assert kept is u
    for round_, sent in ((seen, seen.sent(rows)), (later, later.sent(again))):
        honest = round_.honest @ u
        z = float(((sent @ u).mean() - honest.mean()) / honest.std(correction=0))
        assert z == pytest.approx(1.5, abs=0.1)
        assert (_weights(_everyone(round_, sent)) > 0).all()


@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
def test_noise_under_the_threshold_hides_likeness_for_its_share_of_the_bias(noise: float) -> None:
    seen = _seen()
    rows, _ = UnderThreshold(noise=noise).craft(seen, None)
    limit = sorted(seen.norms)[-TRIM]
    lengths = torch.linalg.vector_norm(rows, dim=1)
    assert bool((lengths < limit).all())
    assert bool((lengths > 0.999 * limit).all())
    cosines = -(rows @ seen.mean) / (lengths * seen.mean.norm())
    assert float(cosines.mean()) == pytest.approx(1 / math.sqrt(1 + noise**2), abs=0.05)
    alike = float((rows @ rows.T)[0, 1:].mean()) / limit**2
    assert alike == pytest.approx(1 / (1 + noise**2), abs=0.08)


@pytest.mark.parametrize("attack", [UnderEigenvalue(trim=40), Spread(trim=60), Decoys(trim=60)])
def test_where_the_filter_has_too_few_vectors_honest_ones_are_sent(attack: Any) -> None:
    seen = _seen(b=2)
    spectral = Spectral(trim=attack.trim)
    few = Seen(seen.honest[:20], seen.nodes[:20], seen.norms[:20], 2, seen.norm, None, seen.rng, seen.own, seen.sent)
    rows, _ = attack.craft(few, None)
    assert spectral.least(attack.trim) > 22
    assert torch.equal(rows[1:], seen.own[1:])


def test_honest_vectors_that_are_all_zero_are_left_alone() -> None:
    zero = Seen(
        torch.zeros(30, 5),
        tuple(range(30)),
        (0.0,) * 30,
        4,
        lambda x: 0.0,
        4,
        np.random.default_rng(0),
        torch.zeros(4, 5),
        lambda x: x,
    )
    for attack in (UnderEigenvalue(), Spread(), Decoys(), Drift(), UnderThreshold(noise=1.0)):
        assert not attack.craft(zero, attack.init())[0].any()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: UnderEigenvalue(slack=1.0), "slack must be above 1"),
        (lambda: UnderEigenvalue(trim=-1), "trim must be at least 0, got -1"),
        (lambda: Spread(directions=0), "directions must be at least 1, got 0"),
        (lambda: Decoys(groups=0), "groups must be at least 1, got 0"),
        (lambda: Drift(z=0.0), "z must be positive and finite, got 0.0"),
        (lambda: UnderThreshold(noise=-1.0), "noise must be non-negative and finite, got -1.0"),
    ],
)
def test_bad_options_raise_at_construction(make: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()


@dataclass(frozen=True)
class _Own(Collusion):
    """Each node sends its own update, reversed."""

    name = "own"

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        return -seen.own, seen.sent(-seen.own)


@pytest.mark.parametrize("compressor", ["l1-sign", {"name": "qsgd", "levels": 4}, {"name": "random-k", "ratio": 0.5}])
def test_on_the_wire_each_node_sends_its_own_row_as_it_was_foreseen(compressor: Any) -> None:
    scenario = small(attack="under-eigenvalue", compressor=compressor)
    config, found = scenario.to_run_config(), []
    for attack in (None, _Own()):
        with InProcessGrid(CLIENT_APP, scenario.nodes, run_config=config) as inner:
            grid = ColludingGrid(inner, attack, reply="update") if attack else inner
            replies = sorted(grid.send_and_receive(training_messages(scenario, inner)), key=lambda r: r.metadata.src_node_id)
            liars = [inner.partition_of[r.metadata.src_node_id] in byzantine_partitions(scenario) for r in replies]
            arrays = [
                next(iter(r.content.array_records["arrays"].values())) for r, lies in zip(replies, liars, strict=True) if lies
            ]
            found.append(torch.stack([c.decompress(p) for c, p in map(wire.unpack_trusted, arrays)]))
    assert isinstance(grid, ColludingGrid) and torch.equal(grid._state, found[1])
    assert not torch.equal(found[1][0], found[1][1])
    if compressor == "l1-sign":
        assert torch.allclose(found[1], -found[0])
