"""The entropy coder against a reader written from docs/wire-format.md, and against the entropy itself."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.compressors import QSGD, Compressor, SparseTernary, TernGrad
from flwr_robustcomp.compressors.entropy import decode_ranks, decode_symbols, encode_ranks, encode_symbols, histogram
from flwr_robustcomp.errors import WireError
from tests.compressors.samples import gaussian, rng


def read_words(words: bytes, counts: list[int]) -> list[int]:
    """Decode the coder's words in plain integers, as a reader in another language would."""
    n, k, total = sum(counts), len(counts), 0
    if k == 1:
        assert not words
        return [0] * n
    left = []
    for i, count in enumerate(counts):
        left.append(i + int(total * (((1 << 24) - k) / n)))  # IEEE double precision: the quotient first
        total += count
    left.append(1 << 24)
    stack = list(struct.unpack(f"<{len(words) // 4}I", words))
    state = stack.pop() if stack else 0
    state = state << 32 | stack.pop() if stack else state
    symbols = []
    for _ in range(n):
        quantile = state & 0xFFFFFF
        symbol = max(i for i in range(k) if left[i] <= quantile)
        symbols.append(symbol)
        state = (state >> 24) * (left[symbol + 1] - left[symbol]) + quantile - left[symbol]
        if state < 1 << 32 and stack:
            state = state << 32 | stack.pop()
    assert state == 0 and not stack
    return symbols


@given(symbols=st.lists(st.integers(0, 6), min_size=1, max_size=300))
def test_a_reader_from_the_specification_agrees(symbols: list[int]) -> None:
    present = sorted(set(symbols))
    ranks = np.array([present.index(symbol) for symbol in symbols], np.int32)
    counts = np.bincount(ranks).astype(np.int64)
    words = encode_ranks(ranks, counts)
    assert read_words(words, counts.tolist()) == ranks.tolist()
    assert np.concatenate([part for _, part in decode_ranks(words, counts)]).tolist() == ranks.tolist()


def test_it_agrees_on_a_long_skewed_vector() -> None:
    symbols = np.minimum(rng(0).geometric(0.7, 5000) - 1, 4).astype(np.int32)
    counts = np.bincount(symbols).astype(np.int64)
    assert read_words(encode_ranks(symbols, counts), counts.tolist()) == symbols.tolist()


@given(symbols=st.lists(st.integers(0, 40), min_size=1, max_size=200), alphabet=st.integers(41, 100))
def test_symbols_come_back_and_their_counts_without_decoding(symbols: list[int], alphabet: int) -> None:
    body = encode_symbols(np.array(symbols, np.int32))
    assert decode_symbols(body, len(symbols), alphabet).tolist() == symbols
    low, counts, _ = histogram(body, len(symbols), alphabet)
    assert low == min(symbols)
    assert counts.tolist() == np.bincount(np.array(symbols) - low).tolist()


@given(symbols=st.lists(st.integers(0, 4), min_size=1, max_size=60), place=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_what_is_accepted_is_the_one_encoding(symbols: list[int], place: int, flip: int) -> None:
    body = bytearray(encode_symbols(np.array(symbols, np.int32)))
    body[place % len(body)] ^= flip
    try:
        read = decode_symbols(bytes(body), len(symbols), 5)
    except WireError:
        return
    assert encode_symbols(read) == bytes(body)


@given(noise=st.binary(max_size=60), n=st.integers(1, 200), alphabet=st.integers(1, 400))
def test_noise_is_refused_or_canonical(noise: bytes, n: int, alphabet: int) -> None:
    try:
        read = decode_symbols(noise, n, alphabet)
    except WireError:
        return
    assert read.size == n and encode_symbols(read) == noise


@pytest.mark.parametrize("d", [20_000, 200_000])
@pytest.mark.parametrize("heavy", [False, True], ids=["gaussian", "heavy-tailed"])
@pytest.mark.parametrize(
    "compressor",
    [TernGrad(), TernGrad(clip=2.5), QSGD(levels=16), QSGD(levels=300), SparseTernary(ratio=0.1), SparseTernary(ratio=0.5)],
    ids=repr,
)
def test_coded_forms_are_within_three_percent_of_the_entropy(compressor: Compressor, heavy: bool, d: int) -> None:
    x = gaussian(d)
    x = x**3 if heavy else x
    payload = compressor.compress(x, rng())
    _, counts = np.unique(compressor.decompress(payload).numpy(), return_counts=True)
    bits = float(-(counts * np.log2(counts / d)).sum())
    assert 8 * len(payload.body) <= 1.03 * bits + 8 * 16, "16 bytes are room for the smallest of them"


def test_without_anything_to_tell_nothing_is_sent() -> None:
    assert len(encode_symbols(np.full(1000, 3, np.int32))) == 4
    assert len(TernGrad().compress(gaussian(1000) * 0, rng()).body) < 10
