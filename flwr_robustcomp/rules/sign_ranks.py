"""The trimmed mean of scaled signs without sorting a single coordinate: from running counts, 64 coordinates a word.

At a coordinate let k vectors have the values s_i e_i with e_i in {-1, 0, 1} and scales s_i >= 0. In ascending order come the
negatives, that of the largest scale first; then the zeros; then the positives, that of the smallest scale first. Number the
vectors by falling scale. Let vector i be positive there, and let it be the r-th positive. Then r - 1 values lie above it and
k - r below. It is among the b values that are cut above if r <= b, and among the b that are cut below if r > k - b. So it
survives if b < r <= k - b. A negative vector survives by the same rule among the negatives. Zeros add nothing, cut or not.

Ties are values that are equal, so that the order among them does not change the sum.

*The counts.* r > b asks a count that may stop at b + 1. For the other side write r = i - q, with q the number of vectors up to
i that are not positive. Then r > k - b is q < i - (k - b). That cannot be unless i is one of the last b vectors, and it asks
of q no more than numbers up to b. So all counters may stop at b + 1. They are bit-sliced: a word holds one binary digit of 64
counters, and one is added to any subset of them by an exclusive or for each digit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.compressors.bits import bitmap_rows, packed_size
from flwr_robustcomp.compressors.columns import Signs
from flwr_robustcomp.filters import Matrix
from flwr_robustcomp.rules.base import Mass

__all__ = ["add_uncut_signs"]

_WORDS = 1 << 11
"""Words of a bitmap that are worked on together: counters and bitmaps of a few hundred vectors stay in a core's cache."""

_BYTES = 128
"""Bytes of a bitmap whose bits are expanded together, for the same reason."""

Words = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]
_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


def add_uncut_signs(out: Floats, signs: Signs, chosen: npt.NDArray[np.intp], factors: Matrix, cut: int) -> Mass:
    """Add the sum of what a trimmed mean does not cut to ``out``, shape (d,).

    Parameters
    ----------
    out : numpy.ndarray, shape (d,), float32 or float64
        The accumulator.
    signs : Signs
        m vectors.
    chosen : numpy.ndarray of int, shape (k,)
        Which of them.
    factors : numpy.ndarray, shape (k,), float64
        What each is multiplied by, not negative.
    cut : int
        b < k / 2, how many values go on each side of a coordinate.

    Notes
    -----
    Nothing is drawn or compared but scales, whose order is the same on every processor. The sum runs in BLAS, as in
    `bits.accumulate_signs`.
    """
    scales = signs.scales[chosen] * factors[:, None]  # (k, n)
    plus = bitmap_rows([signs.plus[i] for i in chosen])
    minus = None if signs.minus is None else bitmap_rows([signs.minus[i] for i in chosen])
    mass = Mass(np.zeros(len(chosen)), np.zeros(len(chosen)))
    for block, count, start, size in _pieces(signs.sizes):
        own = scales[:, block : block + count]
        order = np.argsort(-own, axis=0, kind="stable")  # (k, count): by falling scale, in each block
        positive = _ranked(_words(plus, start, size, count), order)  # (k, count, words)
        negative = _inside(~positive, size) if minus is None else _ranked(_words(minus, start, size, count), order)
        uncut = _uncut(positive, negative, cut, zeros=minus is not None)
        ranked = np.take_along_axis(own, order, axis=0)
        _add(out[start : start + size * count].reshape(count, size), ranked, *uncut)
        mass += Mass(_in_order(ranked, positive, negative, order), _in_order(ranked, *uncut, order))
    return mass


def _pieces(sizes: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield the number of a block, how many of its size to take with it, their first coordinate, and their size.

    Together they have at most `_WORDS` words; of a larger block the size is that of a part.
    """
    block = start = 0
    while block < len(sizes):
        size, count = sizes[block], 1
        if size % 64 == 0:
            while block + count < len(sizes) and sizes[block + count] == size and (count + 1) * size <= 64 * _WORDS:
                count += 1
        if count > 1:
            yield block, count, start, size
        else:
            for offset in range(0, size, 64 * _WORDS):
                yield block, 1, start + offset, min(64 * _WORDS, size - offset)
        block, start = block + count, start + count * size


def _words(bitmaps: Bytes, start: int, size: int, count: int) -> Words:
    """Return blocks of bitmaps as words, shape (k, count, words); a block below eight coordinates can start within a byte."""
    rows = bitmaps[:, start // 8 : packed_size(start + size * count)]
    if start % 8:
        rows = np.packbits(np.unpackbits(rows, axis=1, bitorder="little")[:, start % 8 :], axis=1, bitorder="little")
    words = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8))).view(np.uint64)
    return _inside(words.reshape(len(rows), count, -1), size)


def _inside(words: Words, size: int) -> Words:
    """Clear the bits beyond the last coordinate of a block."""
    if size % 64:
        words[..., -1] &= np.uint64((1 << size % 64) - 1)
    return words


def _ranked(words: Words, order: npt.NDArray[np.intp]) -> Words:
    """Return words, shape (k, count, words), in each block's order of the vectors."""
    return np.asarray(np.take_along_axis(words, order[:, :, None], axis=0))


class _Counters:
    """64 counters a word, which stop at b + 1."""

    def __init__(self, b: int, shape: tuple[int, ...]) -> None:
        self._first = (1 << (b + 1).bit_length()) - (b + 1)  # from here b + 1 steps overflow
        self._digits = [np.full(shape, _ALL * np.uint64(self._first >> k & 1)) for k in range((b + 1).bit_length())]
        self._carry, self._both = np.empty(shape, np.uint64), np.empty(shape, np.uint64)
        self.full = np.zeros(shape, np.uint64)

    def add(self, bits: Words) -> None:
        """Add one where a bit is set."""
        self._carry[:] = bits
        for digit in self._digits:
            np.bitwise_and(digit, self._carry, out=self._both)
            digit ^= self._carry
            self._carry, self._both = self._both, self._carry
        self.full |= self._carry

    def below(self, count: int) -> Words:
        """Return where fewer than ``count`` <= b were counted."""
        wanted, less, equal = self._first + count, np.zeros_like(self.full), ~self.full
        for k in reversed(range(len(self._digits))):
            if wanted >> k & 1:
                less |= equal & ~self._digits[k]
                equal &= self._digits[k]
            else:
                equal &= ~self._digits[k]
        return less


def _uncut(positive: Words, negative: Words, cut: int, *, zeros: bool) -> tuple[Words, Words]:
    """Return which positives and which negatives of ranked vectors survive; see the top of this file."""
    if not cut:
        return positive, negative
    k, shape = len(positive), positive.shape[1:]
    positives, negatives = _Counters(cut, shape), _Counters(cut, shape)
    # Without zeros, what is not positive is negative.
    not_positives, not_negatives = (_Counters(cut, shape), _Counters(cut, shape)) if zeros else (negatives, positives)
    kept = np.empty_like(positive), np.empty_like(negative)
    for i in range(k):
        positives.add(positive[i])
        negatives.add(negative[i])
        if zeros:
            not_positives.add(~positive[i])
            not_negatives.add(~negative[i])
        np.bitwise_and(positive[i], positives.full, out=kept[0][i])
        np.bitwise_and(negative[i], negatives.full, out=kept[1][i])
        if (late := i + 1 - (k - cut)) > 0:
            kept[0][i] &= ~not_positives.below(late)
            kept[1][i] &= ~not_negatives.below(late)
    return kept


def _add(out: Floats, scales: Matrix, positive: Words, negative: Words) -> None:
    """Add scaled bits, scales of shape (k, count), to blocks, shape (count, size)."""
    plus, minus = positive.view(np.uint8), negative.view(np.uint8)  # (k, count, bytes)
    for block, target in enumerate(out):
        weights = scales[:, block].astype(out.dtype)
        for start in range(0, plus.shape[2], _BYTES):
            bits = np.unpackbits(plus[:, block, start : start + _BYTES], axis=1, bitorder="little").view(np.int8)
            bits -= np.unpackbits(minus[:, block, start : start + _BYTES], axis=1, bitorder="little").view(np.int8)
            part = target[8 * start : 8 * (start + _BYTES)]
            part += (weights @ bits.astype(out.dtype))[: part.size]


def _in_order(scales: Matrix, positive: Words, negative: Words, order: npt.NDArray[np.intp]) -> Matrix:
    """Return the l1 norms of ranked, scaled bits, shape (k,), in the vectors' own order."""
    counts = np.bitwise_count(positive | negative).sum(axis=2, dtype=np.float64)  # (k, count)
    norms = np.empty_like(scales)
    np.put_along_axis(norms, order, scales * counts, axis=0)
    return np.asarray(norms.sum(axis=1))
