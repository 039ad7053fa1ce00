"""Which entries are not zero: one code for each set, little for patterns, and noise refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.compressors import support
from flwr_robustcomp.compressors.support import Shape, largest_support, read_support, write_support
from flwr_robustcomp.errors import WireError

shapes = st.lists(st.lists(st.integers(1, 6), min_size=0, max_size=3).map(tuple), min_size=1, max_size=4).map(tuple)


@st.composite
def masks(draw: st.DrawFn) -> tuple[np.ndarray, tuple[Shape, ...]]:
    """Arrays of every kind: frozen, whole, with rows and columns of zeros, with single zeros."""
    of: tuple[Shape, ...] = draw(shapes)
    parts = []
    for shape in of:
        d = math.prod(shape)
        n = shape[0] if len(shape) > 1 else 1
        kind = draw(st.sampled_from(["all", "none", "sides", "noise"]))
        part = np.full((n, d // n), kind != "none")
        if kind == "sides":
            part &= np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))[:, None]
            part &= np.array(draw(st.lists(st.booleans(), min_size=d // n, max_size=d // n)))
        if kind == "noise":
            part &= np.array(draw(st.lists(st.booleans(), min_size=d, max_size=d))).reshape(part.shape)
        parts.append(part.reshape(-1))
    return np.concatenate(parts), of


@given(masks())
def test_every_set_comes_back(found: tuple[np.ndarray, tuple[Shape, ...]]) -> None:
    mask, of = found
    data = write_support(mask, of)
    assert len(data) <= largest_support(of)
    assert np.array_equal(read_support(data, of), mask)


@given(of=shapes, data=st.binary(max_size=24))
def test_noise_is_refused_or_canonical(of: tuple[Shape, ...], data: bytes) -> None:
    try:
        mask = read_support(data, of)
    except WireError:
        return
    assert write_support(mask, of) == data


@given(found=masks(), place=st.integers(0, 2**16), bit=st.integers(0, 7))
def test_a_changed_bit_is_another_set_or_refused(found: tuple[np.ndarray, tuple[Shape, ...]], place: int, bit: int) -> None:
    mask, of = found
    data = bytearray(write_support(mask, of))
    data[place % len(data)] ^= 1 << bit
    try:
        other = read_support(bytes(data), of)
    except WireError:
        return
    assert not np.array_equal(other, mask)
    assert write_support(other, of) == bytes(data)


BACKBONE = ((64, 3, 7, 7), (64,), (512, 512, 3, 3), (512,), (10, 512), (10,))


@pytest.mark.parametrize(
    ("name", "of", "most"),
    [("frozen", BACKBONE, 2), ("rows", ((30000, 64),), 3800), ("columns", ((256, 784), (256,), (10, 256), (10,)), 140)],
)
def test_patterns_are_cheap(name: str, of: tuple[Shape, ...], most: int) -> None:
    mask = np.zeros(sum(map(math.prod, of)), np.bool_)
    if name == "frozen":
        mask[-5130:] = True
    elif name == "rows":
        mask.reshape(30000, 64)[::100] = True
    else:
        mask[:] = True
        mask[: 256 * 784].reshape(256, 784)[:, 100:300] = False
    assert len(write_support(mask, of)) <= most


def test_a_unit_that_few_images_reach_costs_little() -> None:
    rng = np.random.default_rng(0)
    mask = np.ones((64, 512), np.bool_)
    for row in range(5):
        mask[row] = rng.random(512) < 0.5
    # Five rows at a bit an entry are 320 bytes. Without a set of their own, each of these 1,300 zeros would cost six bits.
    assert len(write_support(mask.reshape(-1), ((64, 512),))) <= 360


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9])
def test_scattered_zeros_cost_their_entropy(share: float) -> None:
    d = 100_000
    mask = np.random.default_rng(0).random(d) >= share
    entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    assert 8 * len(write_support(mask, ((100, d // 100),))) <= 1.02 * entropy * d + 8 * 200


def test_more_zeros_than_entries_are_refused_before_they_are_read() -> None:
    data = bytearray(write_support(np.array([True, False, True]), ((3,),)))
    assert data[1] == 1  # behind the forms: of one row, one is holed
    data[1] = 255
    with pytest.raises(WireError, match="zeros must be at most 1, got 255"):
        read_support(bytes(data), ((3,),))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = support._Memory()
    monkeypatch.setattr(support, "_MEMORY", memory)
    monkeypatch.setattr(support._Memory, "_BYTES", 100)
    masks = [np.arange(30) % k == 0 for k in range(2, 12)]
    for mask in [*masks, *masks]:
        assert np.array_equal(read_support(write_support(mask, ((30,),)), ((30,),)), mask)
        assert sum(one.nbytes for one in memory._masks.values()) == memory._size <= 100


def test_rows_without_a_column_are_refused() -> None:
    with pytest.raises(WireError, match="must have entries that are not zero"):
        read_support(bytes.fromhex("020202000c00"), ((2, 2),))
