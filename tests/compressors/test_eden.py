"""EDEN: its levels by Lloyd's conditions, its delta over all signs, exactly the payloads of some vector."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import Drive, Eden, Payload
from flwr_robustcomp.compressors.bits import look_up, pack_codes, pack_uints
from flwr_robustcomp.compressors.eden_cells import Cells, cells_of
from flwr_robustcomp.compressors.eden_levels import POSITIVE_LEVELS, UNIT
from flwr_robustcomp.compressors.rotation import MAX_BLOCK, hadamard, unrotate
from flwr_robustcomp.compressors.values import values_to_bytes
from flwr_robustcomp.errors import ConfigurationError, WireError
from tests.compressors.samples import DTYPE_LIST, gaussian, rng

BITS = range(1, 9)

_density = np.vectorize(lambda z: math.exp(-z * z / 2) / math.sqrt(2 * math.pi))
_tail = np.vectorize(lambda z: math.erfc(z / math.sqrt(2)) / 2)


def _lloyd_max(count: int) -> np.ndarray:
    """Return the levels > 0 that are the means of their cells, by Newton's method; there is one such table (Fleischer 1964)."""
    levels = np.sqrt(3) * np.array([_quantile((k + 0.5) / (2 * count) + 0.5) for k in range(count)])
    for _ in range(60):
        edges = np.append(0.0, (levels[1:] + levels[:-1]) / 2)
        density, tail = np.append(_density(edges), 0.0), np.append(_tail(edges), 0.0)
        share = tail[:-1] - tail[1:]
        means = (density[:-1] - density[1:]) / share
        lower = density[:-1] * (means - edges) / share  # d mean / d inner edge
        upper = density[1:-1] * (edges[1:] - means[:-1]) / share[:-1]  # d mean / d outer edge
        own = np.append(0, lower[1:] / 2) + np.append(upper / 2, 0)
        slope = np.diag(own) + np.diag(upper / 2, 1) + np.diag(lower[1:] / 2, -1)
        step = np.linalg.solve(np.eye(count) - slope, means - levels)
        levels = np.sort(np.abs(levels + step))
        if np.abs(step).max() < 1e-12:
            break
    return np.asarray(levels)


def _quantile(p: float) -> float:
    """Return the standard normal quantile of p > 1/2, by bisection."""
    low, high = 0.0, 10.0
    for _ in range(60):
        low, high = ((low + high) / 2, high) if _tail((low + high) / 2) > 1 - p else (low, (low + high) / 2)
    return low


@pytest.mark.parametrize("bits", BITS[1:])
def test_the_levels_are_those_of_lloyd_and_max(bits: int) -> None:
    assert np.rint(_lloyd_max(2 ** (bits - 1)) * UNIT).astype(int).tolist() == list(POSITIVE_LEVELS[bits])


def test_a_sum_of_levels_is_exact_in_float32() -> None:
    assert all(MAX_BLOCK * levels[-1] < 2**24 and levels == tuple(sorted(set(levels))) for levels in POSITIVE_LEVELS.values())


@pytest.mark.parametrize(
    ("bits", "error"),
    [(1, 0.3634), (2, 0.1175), (3, 0.03454), (4, 0.009497), (5, 0.002505), (6, 0.000644), (7, 0.000164), (8, 4.13e-5)],
)
def test_the_error_of_a_normal_vector(bits: int, error: float) -> None:
    assert 1 - Eden(bits=bits).measured_delta(gaussian(16 * MAX_BLOCK, torch.float64)) == pytest.approx(error, rel=0.03)


def test_one_bit_is_drive() -> None:
    x, eden, drive = gaussian(5003), Eden(bits=1, seed=3).for_round(2), Drive(seed=3).for_round(2)
    one, other = eden.compress(x), drive.compress(x)
    assert one.body == other.body and torch.equal(eden.decompress(one), drive.decompress(other))
    assert eden.norm_bounds(one, 2) == pytest.approx(drive.norm_bounds(other, 2)) and eden.delta(9) == drive.delta(9)


# -- delta ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", BITS[1:])
def test_the_bound_is_the_largest_error_against_a_growing_weight(bits: int) -> None:
    cells, z = cells_of(bits), np.linspace(0, 12, 200_001)
    levels = cells.levels[cells.zero :]
    squares = np.square(z - levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, z, side="right")])
    found = [(squares * np.exp(-t * z**2)).max() / math.sqrt(1 - 2 * t) for t in np.arange(1, 50) / 100]
    assert min(found) <= cells.error <= 1.01 * min(found)  # the grid misses the edges, where errors are largest


def _errors(cells: Cells, y: np.ndarray) -> np.ndarray:
    """Return ||Q(x) - x||^2 / ||x||^2 of blocks in the rotated basis, shape (n, B)."""
    codes, scales = cells.nearest(y)
    return np.asarray(np.square(cells.levels[codes] * scales[:, None] - y).sum(axis=1) / np.square(y).sum(axis=1))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", [2, 4, 8])
def test_no_vector_is_worse_than_delta_over_all_signs(bits: int, size: int) -> None:
    cells, generator = cells_of(bits), rng(size)
    signs = np.array(list(itertools.product([1.0, -1.0], repeat=size)))  # every rotation there is

    def expected(x: np.ndarray) -> float:
        return float(_errors(cells, hadamard(signs * x)).mean())

    starts = [np.eye(size)[0], np.ones(size), np.eye(size)[0] + 0.3, np.eye(size)[0] + np.eye(size)[1], 0.5 ** np.arange(size)]
    starts += [generator.standard_normal(size) ** power for power in (1, 3, 5)]
    for x in starts:  # climb from each
        worst = expected(x)
        for step in np.geomspace(0.5, 0.01, 40):
            other = x + step * generator.standard_normal(size) * np.abs(x).max()
            if (found := expected(other)) > worst:
                x, worst = other, found
        assert worst <= cells.error + 1e-12


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("power", [1, 7])
def test_the_error_is_at_most_the_distances_to_the_levels(bits: int, power: int) -> None:
    cells, y = cells_of(bits), rng(3).standard_normal((20, 64)) ** power
    z = y / np.sqrt(np.square(y).mean(axis=1, keepdims=True))
    codes, _ = cells.nearest(y)
    assert (_errors(cells, y) <= np.square(z - cells.levels[codes]).mean(axis=1) + 1e-12).all()


# -- what the decoder accepts ---------------------------------------------------------------------------------------------


def _codes(payload: Payload, bits: int) -> np.ndarray:
    return look_up(payload.body[payload.dtype.itemsize :], np.arange(1 << bits, dtype=np.uint8), payload.size)


def _some_vector(cells: Cells, codes: np.ndarray) -> np.ndarray | None:
    """Return z of mean square 1 inside the cells of codes, shape (B,), that is most like their levels; None without one."""
    q = np.abs(cells.levels)
    edges = np.append(0.0, (q[cells.zero + 1 :] + q[cells.zero : -1]) / 2)
    place = np.where(codes >= cells.zero, codes - cells.zero, cells.zero - 1 - codes)
    low, high = edges[place], np.append(edges[1:], math.inf)[place]
    if np.square(low).sum() > codes.size or np.square(high).sum() < codes.size:
        return None
    small, large = 0.0, 1e9
    for _ in range(200):
        middle = (small + large) / 2
        z = np.clip(middle * q[codes], low, high)
        small, large = (middle, large) if np.square(z).sum() < codes.size else (small, middle)
    return np.asarray(z * np.where(codes >= cells.zero, 1.0, -1.0))


@given(bits=st.integers(1, 5), log=st.integers(0, 4), seed=st.integers(0, 2**32))
def test_exactly_the_codes_of_some_vector_are_accepted(bits: int, log: int, seed: int) -> None:
    q, cells, size = Eden(bits=bits), cells_of(bits), 1 << log
    codes = np.clip(rng(seed).normal(cells.zero, cells.zero / 2, size), 0, 2**bits - 1).astype(np.uint8)
    body = values_to_bytes(torch.tensor([1.5]).double()) + pack_codes(codes, bits)
    payload = Payload((size,), torch.float64, (0, 0, bits), body)
    z = _some_vector(cells, codes)
    if z is None:
        with pytest.raises(WireError, match="no vector of mean square 1"):
            q.check(payload)
        return
    q.check(payload)
    again = _codes(q.compress(torch.from_numpy(unrotate(z, 0, 0))), bits)
    strictly = np.abs(np.abs(z) * 2 * UNIT - np.rint(np.abs(z) * 2 * UNIT)) > 1e-6  # not on an edge
    assert np.array_equal(again[strictly], codes[strictly])


def test_vectors_on_the_edges_of_their_cells_are_accepted() -> None:
    positive = np.array(POSITIVE_LEVELS[8])
    edges = positive[1:] + positive[:-1]  # in 1/1024
    fours = rng(0).choice(edges, (100_000, 4))
    sums = np.square(fours).sum(axis=1)
    _, left, right = np.intersect1d(sums, 8 * (2 * UNIT) ** 2 - sums, return_indices=True)
    assert left.size > 20  # eight edges with a mean square of exactly 1
    for a, b, scale in zip(left[:20], right[:20], rng(1).random(20), strict=True):
        y = scale * np.tile(np.concatenate([fours[a], -fours[b]]), MAX_BLOCK // 8)
        x = torch.from_numpy(unrotate(y, 0, 0))
        for dtype in DTYPE_LIST:
            Eden(bits=8).check(Eden(bits=8).compress(x.to(dtype)))


@given(bits=st.integers(1, 8), d=st.integers(1, 70), seed=st.integers(0, 2**32), power=st.integers(1, 9))
def test_every_honest_payload_is_accepted(bits: int, d: int, seed: int, power: int) -> None:
    x = gaussian(d, torch.float64, seed) ** power
    q = Eden(bits=bits, seed=seed).for_round(3)
    for dtype in DTYPE_LIST:
        q.check(q.compress((x / x.abs().max()).to(dtype)))


def test_what_is_no_payload_of_ours_is_refused() -> None:
    q, payload = Eden(), Eden().compress(gaussian(8))
    for scale in (math.nan, math.inf, -1.0, -0.0):
        with pytest.raises(WireError, match="scales must be"):
            q.check(replace(payload, body=values_to_bytes(torch.tensor([scale])) + payload.body[4:]))
    with pytest.raises(WireError, match="codes of zeros only"):
        q.check(replace(payload, body=bytes(4) + payload.body[4:]))
    four = Eden(bits=4).compress(gaussian(8))
    for code in (b"\x88", b"\xff"):  # all small, all large
        with pytest.raises(WireError, match="no vector of mean square 1"):
            Eden(bits=4).check(replace(four, body=four.body[:4] + 4 * code))
    with pytest.raises(WireError, match="padding bits"):
        q.check(replace(Eden().compress(gaussian(3)), body=bytes(8) + b"\xff"))
    for ours in (q.for_round(8), Eden(seed=5), Eden(bits=3)):
        with pytest.raises(WireError, match=r"\(seed, round, bits\) must be|data must be"):
            wire.read_packed(wire.pack(payload, q), ours, (8,), torch.float32)


def test_an_entry_that_overflows_is_refused() -> None:
    q = Eden()
    spike = q.compress(torch.eye(8, dtype=torch.float16)[2])
    q.check(spike)
    with pytest.raises(WireError, match="overflows"):
        q.check(replace(spike, body=values_to_bytes(torch.tensor([6e4], dtype=torch.float16)) + spike.body[2:]))


def test_the_norm_is_known_up_to_the_rounding() -> None:
    for bits, width in ((2, 0.9), (4, 0.16), (8, 0.001)):
        x, q = gaussian(MAX_BLOCK, torch.float64), Eden(bits=bits)
        low, high = q.norm_bounds(q.compress(x), 2)
        assert low <= float(x.norm()) <= high <= low * (1 + width)


@given(width=st.integers(1, 8), count=st.integers(0, 40), seed=st.integers(0, 2**32))
def test_codes_are_packed_as_integers_are(width: int, count: int, seed: int) -> None:
    codes = rng(seed).integers(0, 2**width, count, dtype=np.uint8)
    packed, values = pack_codes(codes, width), rng(seed).random(2**width)
    assert packed == pack_uints(codes, width)
    assert np.array_equal(look_up(packed, values, count), values[codes])


@pytest.mark.parametrize("bits", [0, 9, 2.0])
def test_bad_parameters(bits: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"bits must be an integer in \[1, 8\], got {bits}"):
        Eden(bits=bits)
