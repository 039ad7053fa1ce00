"""Symbols at their empirical entropy: an asymmetric numeral system with the symbols' own counts as its model.

The coder is that of the ``constriction`` library (Bamler 2022), its ``AnsCoder`` with 32-bit words, a 64-bit state and
24-bit probabilities; docs/wire-format.md says what a reader in another language has to do. ANS is a bijection: a reader
that ends with an empty state after n symbols has read the one and only encoding of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import constriction
import numpy as np
import numpy.typing as npt

from flwr_robustcomp.compressors.bits import pack_uints, packed_size, padding_is_zero, unpack_uints
from flwr_robustcomp.errors import WireError

__all__ = ["decode_chunks", "decode_ranks", "decode_symbols", "encode_ranks", "encode_symbols", "histogram"]

Symbols = npt.NDArray[np.int32]

_RANGE = struct.Struct("<HH")
_CHUNK = 1 << 16


def encode_ranks(ranks: Symbols, counts: npt.NDArray[np.int64]) -> bytes:
    """Encode symbols in [0, k) whose counts, shape (k,), all positive, the reader knows: the coder's words and nothing else.

    Within 0.1 % of the entropy of the symbols and 8 bytes; nothing at all for k = 1.
    """
    if counts.size == 1:
        return b""
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(ranks, _model(counts))
    words: npt.NDArray[np.uint32] = coder.get_compressed()
    return words.astype("<u4").tobytes()


def decode_ranks(words: bytes, counts: npt.NDArray[np.int64]) -> Iterator[tuple[int, Symbols]]:
    """Decode what `encode_ranks` made, a few at a time: pairs of the first position and the symbols from there.

    Raises
    ------
    WireError
        After the last chunk also if the words are not the encoding of symbols with these counts.
    """
    n = int(counts.sum())
    if len(words) % 4 or (counts.size == 1 and words):
        raise WireError("the coder's words have the wrong length")
    if counts.size == 1:
        for start in range(0, n, _CHUNK):
            yield start, np.zeros(min(_CHUNK, n - start), np.int32)
        return
    try:
        coder = constriction.stream.stack.AnsCoder(np.frombuffer(words, "<u4").astype(np.uint32))
    except ValueError as error:
        raise WireError("the coder's last word is zero") from error
    model, seen = _model(counts), np.zeros(counts.size, np.int64)
    for start in range(0, n, _CHUNK):
        ranks: Symbols = coder.decode(model, min(_CHUNK, n - start))
        seen += np.bincount(ranks, minlength=counts.size)
        yield start, ranks
    if not coder.is_empty() or not np.array_equal(seen, counts):
        raise WireError("the coder's words are not the encoding of symbols with these counts")


def encode_symbols(symbols: Symbols) -> bytes:
    """Encode n >= 1 symbols in [0, 2**16).

    Returns
    -------
    bytes
        Smallest and largest symbol (two bytes each), the counts of those from the smallest to the last but one in bit_length(n)
        bits each, and the coder's words.
    """
    low, high = int(symbols.min()), int(symbols.max())
    counts = np.bincount(symbols - low, minlength=high - low + 1)
    head = _RANGE.pack(low, high) + pack_uints(counts[:-1].astype(np.uint32), _width(symbols.size))
    present = np.flatnonzero(counts)
    ranks = np.zeros(counts.size, np.int32)
    ranks[present] = np.arange(present.size)
    return head + encode_ranks(ranks[symbols - low], counts[present])


def histogram(body: bytes, n: int, alphabet: int) -> tuple[int, npt.NDArray[np.int64], bytes]:
    """Read the counts without decoding the symbols.

    Parameters
    ----------
    body : bytes
        What `encode_symbols` returned.
    n : int
        How many symbols there must be.
    alphabet : int
        Symbols lie in [0, alphabet).

    Returns
    -------
    low : int
        The smallest symbol.
    counts : numpy.ndarray, shape (high - low + 1,), int64
        Of low and the symbols that follow; they sum to n.
    words : bytes
        The coder's.

    Raises
    ------
    WireError
        If the counts are truncated or not canonical.
    """
    if len(body) < _RANGE.size:
        raise WireError("truncated counts")
    low, high = _RANGE.unpack_from(body)
    if not low <= high < alphabet:
        raise WireError(f"symbols must lie in [0, {alphabet}), got [{low}, {high}]")
    width = _width(n)
    stop = _RANGE.size + packed_size(high - low, width)
    table = body[_RANGE.size : stop]
    if len(table) != stop - _RANGE.size or (table and not padding_is_zero(table, (high - low) * width)):
        raise WireError("truncated or non-canonical counts")
    counts = np.append(unpack_uints(table, high - low, width).astype(np.int64), 0)
    counts[-1] = n - counts.sum()
    if counts[-1] <= 0 or counts[0] <= 0:
        raise WireError(f"counts must sum to {n} and begin and end above zero")
    return int(low), counts, body[stop:]


def decode_chunks(body: bytes, n: int, alphabet: int) -> Iterator[tuple[int, Symbols]]:
    """Decode n symbols a few at a time: pairs of the first position and the symbols from there.

    Raises
    ------
    WireError
        As `histogram`; after the last chunk also if the words are not the encoding of symbols with these counts.
    """
    low, counts, words = histogram(body, n, alphabet)
    present = np.flatnonzero(counts)
    values = (present + low).astype(np.int32)
    for start, ranks in decode_ranks(words, counts[present]):
        yield start, values[ranks]


def decode_symbols(body: bytes, n: int, alphabet: int) -> Symbols:
    """Decode n symbols, shape (n,); errors as `decode_chunks`."""
    return np.concatenate([chunk for _, chunk in decode_chunks(body, n, alphabet)])


def _model(counts: npt.NDArray[np.int64]) -> constriction.stream.model.Model:
    """Return the coder's model of k >= 2 symbols with these counts, all positive.

    The library turns the counts c_i of n symbols into 24-bit cumulative frequencies, left_i = i + floor(C_i (2^24 - k) / n)
    with C_i = sum_{j<i} c_j, in double precision: the quotient first, then the product.
    """
    return constriction.stream.model.Categorical(counts.astype(np.float64), perfect=False)


def _width(n: int) -> int:
    return int(n).bit_length()
