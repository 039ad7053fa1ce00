"""Each inequality on random and on adversarial instances, and the cases in which it is attained."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flwr_robustcomp.compressors import L1Sign, TopK
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import Spectral, Vectors, chain
from flwr_robustcomp.theory import filtered_contraction, filtered_floor, honest_loss, payload_scatter, stopped_bias

instances = st.tuples(st.integers(30, 60), st.integers(1, 8), st.integers(2, 80), st.floats(0.01, 30), st.integers(0, 10**6))


def _scatter(x: np.ndarray) -> float:
    return float(np.linalg.svd(x - x.mean(axis=0), compute_uv=False)[0] ** 2)


def _gap(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.linalg.norm(x.mean(axis=0) - y.mean(axis=0)))


def _crowd(m: int, b: int, d: int, length: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return honest vectors, some directions stronger than others, and Byzantine ones in one of four forms."""
    rng = np.random.default_rng(seed)
    honest = rng.standard_normal((m - b, d)) * rng.uniform(0.1, 2, d) + 2 * rng.standard_normal(d)
    u = np.linalg.svd(honest - honest.mean(axis=0))[2][0] if seed % 2 else rng.standard_normal(d)
    crafted = honest.mean(axis=0) + length * u / np.linalg.norm(u) + np.zeros((b, 1))
    if seed % 4 >= 2:  # disguised as honest nodes
        crafted = crafted + honest[:b] - honest.mean(axis=0)
    return honest, crafted


@settings(max_examples=200)
@given(instance=instances, slack=st.floats(1.2, 6), extra=st.integers(0, 3))
def test_where_the_filter_stops_by_its_rule_the_mean_is_within_the_bound(
    instance: tuple[int, int, int, float, int], slack: float, extra: int
) -> None:
    m, b, _, _, _ = instance
    honest, crafted = _crowd(*instance)
    trim = b + extra
    spectral = Spectral(trim=trim, slack=slack, resume_slack=1.1)
    x = np.concatenate([crafted, honest])
    kept = np.flatnonzero(chain([spectral], Vectors.of_gram(x @ x.T)) > 0)
    values = np.linalg.eigvalsh(np.cov(x[kept].T, bias=True) * kept.size)[::-1]
    ratio = values[0] / max(values[trim + 1], 1e-300) if len(values) > trim + 1 else math.inf
    if ratio > slack:
        assert m - kept.size == trim  # the budget is spent, and nothing is promised
        return
    left, alive = int((kept < b).sum()), x[kept[kept >= b]]
    scatter = _scatter(alive)
    assert _gap(x[kept], alive) <= stopped_bias(ratio, left, kept.size, scatter) * (1 + 1e-6) + 1e-9
    lost = len(honest) - len(alive)
    whole = stopped_bias(ratio, left, kept.size, scatter) + honest_loss(lost, len(honest), _scatter(honest))
    assert _gap(x[kept], honest) <= whole * (1 + 1e-6) + 1e-9


@given(h=st.integers(3, 40), share=st.floats(0, 0.9), d=st.integers(1, 20), seed=st.integers(0, 10**6))
def test_any_loss_of_honest_vectors_moves_their_mean_no_farther(h: int, share: float, d: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((h, d))
    r = min(h - 1, int(share * h))
    worst = np.argsort(x @ np.linalg.svd(x - x.mean(axis=0))[2][0])[r:]  # the tail of the leading direction
    for kept in (worst, np.arange(r, h)):
        assert _gap(x[kept], x) <= honest_loss(r, h, _scatter(x)) * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize(("r", "h"), [(1, 10), (4, 10), (9, 10)])
def test_two_heavy_points_attain_the_loss_and_the_bias(r: int, h: int) -> None:
    x = np.zeros((h, 2))
    x[:r, 0] = 1.0
    assert _gap(x[r:], x) == pytest.approx(honest_loss(r, h, _scatter(x)))
    # The same points, the first r of them Byzantine: lambda_1 of all takes the place of kappa lambda_H.
    assert _gap(x, x[r:]) == pytest.approx(stopped_bias(1.0, r, h, _scatter(x)))


@given(m=st.integers(2, 20), d=st.integers(2, 60), k=st.integers(1, 60), seed=st.integers(0, 10**6))
def test_compression_widens_the_scatter_by_no_more(m: int, d: int, k: int, seed: int) -> None:
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((m, d)) * 3 + 1)
    for compressor, delta in ((TopK(k=min(k, d)), min(k, d) / d), (L1Sign(), None)):
        q = torch.stack([compressor.decompress(compressor.compress(row)) for row in x])
        if delta is None:  # the weakest of the instance's own
            delta = float((1 - (q - x).norm(dim=1) ** 2 / x.norm(dim=1) ** 2).min())
        bound = payload_scatter(_scatter(x.numpy()), float((x**2).sum()), delta)
        assert _scatter(q.numpy()) <= bound * (1 + 1e-9)


def test_errors_along_one_direction_attain_the_scatter() -> None:
    x = np.array([[1.0, 0.0], [-1.0, 0.0]])
    delta = 0.36
    q = x * (1 + math.sqrt(1 - delta))  # as far as delta allows, along the scatter
    assert _scatter(q) == pytest.approx(payload_scatter(_scatter(x), float((x**2).sum()), delta))


@given(
    m=st.integers(20, 40),
    b=st.integers(0, 9),
    r=st.integers(0, 5),
    delta=st.floats(0.05, 1),
    spread=st.floats(0, 2),
    seed=st.integers(0, 10**6),
)
def test_the_aggregate_misses_the_gradient_by_no_more(m: int, b: int, r: int, delta: float, spread: float, seed: int) -> None:
    rng, kappa, h, d = np.random.default_rng(seed), 3.0, m - b, 12
    gradient = rng.standard_normal(d)
    noise = rng.standard_normal((h, d)) * spread
    x = gradient + noise - noise.mean(axis=0)
    # All compression errors along one direction, each as long as delta allows.
    u = gradient / np.linalg.norm(gradient)
    q = x - math.sqrt(1 - delta) * np.linalg.norm(x, axis=1, keepdims=True) * u
    alive = q[np.argsort(q @ u)[: h - r]]  # those that point farthest away
    k = b + h - r
    # The colluders stand where the rule is just met.
    reach = math.sqrt(kappa * _scatter(alive) * k / (b * (k - b))) if b else 0.0
    aggregate = ((k - b) * alive.mean(axis=0) + b * (alive.mean(axis=0) - reach * u)) / k
    variance = float((np.linalg.norm(x - gradient, axis=1) ** 2).mean())
    length = float(np.linalg.norm(gradient))
    for dissimilarity in (0.0, math.sqrt(variance) / length):
        rest = math.sqrt(max(variance - (dissimilarity * length) ** 2, 0.0))
        c = filtered_contraction(b / m, delta, slack=kappa, lost=r / m, dissimilarity=dissimilarity)
        floor = filtered_floor(b / m, delta, slack=kappa, lost=r / m)
        assert np.linalg.norm(aggregate - gradient) <= (c * length + floor * rest) * (1 + 1e-9) + 1e-9


def test_the_limits_of_the_contraction() -> None:
    assert filtered_contraction(0.2, 1.0) == 0  # alike nodes, no compression: colluders within the scatter of nothing
    assert filtered_contraction(0.0, 0.64) == pytest.approx(0.6)  # compressed gradient descent
    assert filtered_contraction(0.1, 1.0, dissimilarity=1.0) == pytest.approx(math.sqrt(0.3))
    assert filtered_floor(0.1, 1.0) == pytest.approx(math.sqrt(0.3))


@pytest.mark.parametrize("share", [0.05, 0.2, 0.3333])
def test_without_compression_it_is_a_robust_averaging_rule_up_to_a_third(share: float) -> None:
    # Allouah et al. 2023: no rule has a coefficient below f / (m - 2 f) on the honest variance. Ours, where it stops without
    # loss, is kappa f / m, so that beyond a third it cannot always stop by its rule.
    assert filtered_floor(share, 1.0) ** 2 >= share / (1 - 2 * share)
    assert filtered_floor(0.34, 1.0) ** 2 < 0.34 / (1 - 0.68)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: stopped_bias(3.0, 5, 5, 1.0), "byzantine must be in \\[0, kept = 5\\), got 5"),
        (lambda: honest_loss(5, 5, 1.0), "lost must be in"),
        (lambda: payload_scatter(1.0, 1.0, 0.0), "delta must be in \\(0, 1\\]"),
        (lambda: filtered_contraction(0.5, 0.5), "alpha must be in \\[0, 0.5\\)"),
        (lambda: filtered_floor(0.1, 0.5, slack=1.0), "slack must be above 1"),
        (lambda: filtered_floor(0.1, 0.5, lost=0.9), "lost must be in"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        call()
