"""Buckets: runs of coordinates that have a norm or a scale of their own.

One norm for d coordinates makes the variance of random rounding grow with sqrt(d). One norm for each B of them makes it grow
with sqrt(B) instead, and costs 32/B bits per coordinate (Alistarh et al. 2017, section 4).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.compressors.norms import array_norm
from flwr_robustcomp.compressors.sums import wide_squares
from flwr_robustcomp.errors import require

__all__ = [
    "bucket_norms",
    "bucket_of_exponent",
    "bucket_sizes",
    "bucket_starts",
    "check_bucket",
    "count_non_zeros",
    "exponent_of_bucket",
    "fold",
    "in_bucket",
    "spread",
]

_LEAST, _MOST = 8, 1 << 20

_SQUARABLE = (2.0**-480, 2.0**480)
"""Norms whose square a double holds with all its digits, and that of the entries that matter to it."""

Numbers = npt.NDArray[np.floating]
Counts = npt.NDArray[np.int64]


def check_bucket(bucket: int | None) -> int | None:
    """Return the size of a bucket, with None for 0, which is how TOML says that the whole vector is one.

    Raises
    ------
    ConfigurationError
        Unless the size is a power of two in [8, 2**20], 0 or None. Then buckets begin at whole bytes of a bitmap, and five bits
        of a header name their size.
    """
    fits = bucket is None or (isinstance(bucket, int) and (bucket == 0 or _LEAST <= bucket <= _MOST))
    wanted = "a power of two in [8, 2**20], or None or 0 for the whole vector"
    require(fits and (bucket is None or bucket & (bucket - 1) == 0), "bucket", bucket, wanted)
    return bucket or None


def exponent_of_bucket(bucket: int | None) -> int:
    """Return log2 of the size as it stands in a header, 0 where there are no buckets."""
    return bucket.bit_length() - 1 if bucket else 0


def bucket_of_exponent(exponent: int) -> int | None:
    """Return the size that a header names."""
    return 1 << exponent if exponent else None


def in_bucket(d: int, bucket: int | None) -> int:
    """Return how many coordinates share a norm at most, out of d."""
    return d if bucket is None else min(d, bucket)


def bucket_starts(d: int, bucket: int | None) -> Counts:
    """Return the first coordinate of each bucket, shape (n,), n = ceil(d / bucket)."""
    return np.arange(0, d, bucket or d, dtype=np.int64)


def bucket_sizes(d: int, bucket: int | None) -> Counts:
    """Return the number of coordinates of each bucket, shape (n,); the last one may be shorter."""
    return np.diff(bucket_starts(d, bucket), append=d)


def bucket_norms(x: npt.NDArray[np.float64], bucket: int | None) -> npt.NDArray[np.float64]:
    """Return ||.||_2 of each bucket of a finite vector, shape (n,), as `norms.array_norm` does."""
    if bucket is None:
        return np.array([array_norm(x)])
    whole = x.size - x.size % bucket
    rows = [part for part in (x[:whole].reshape(-1, bucket), x[None, whole:]) if part.size]
    norms: npt.NDArray[np.float64] = np.sqrt(np.concatenate([wide_squares(part) for part in rows]))
    doubtful = ~((norms > _SQUARABLE[0]) & (norms < _SQUARABLE[1]))
    if doubtful.any():
        starts = bucket_starts(x.size, bucket)
        doubtful &= np.maximum.reduceat(np.abs(x), starts) > 0
        for b in np.flatnonzero(doubtful):
            norms[b] = array_norm(x[starts[b] : starts[b] + bucket])
    return norms


def spread(values: Numbers, bucket: int | None, start: int, stop: int) -> Numbers:
    """Return the bucket's value for each of the coordinates start to stop - 1.

    Parameters
    ----------
    values : numpy.ndarray, shape (n,)
        One for each bucket.

    Returns
    -------
    numpy.ndarray, shape (stop - start,), or () if there is one bucket
        To be broadcast.
    """
    if values.size == 1 or bucket is None:
        return values.reshape(())
    first = start // bucket
    inside = np.repeat(values[first : -(-stop // bucket)], bucket)
    return inside[start - first * bucket : stop - first * bucket]


def fold(total: Counts, of: np.ufunc, entries: Counts, start: int, bucket: int | None) -> None:
    """Fold entries into one number for each bucket, in place: sums with `numpy.add`, peaks with `numpy.maximum`.

    Parameters
    ----------
    total : numpy.ndarray, shape (n,)
        What stands there of earlier entries.
    of : numpy.ufunc
        Of two arguments.
    entries : numpy.ndarray, shape (k,)
        Those of the coordinates start to start + k - 1.
    """
    size = bucket or start + entries.size
    first, last = start // size, -(-(start + entries.size) // size)
    begins = np.maximum(np.arange(first, last) * size - start, 0)
    total[first:last] = of(total[first:last], of.reduceat(entries, begins))


def count_non_zeros(parts: Iterable[tuple[int, npt.NDArray[np.integer]]], d: int, bucket: int | None) -> Counts:
    """Return how many entries of each bucket are not zero, shape (n,), from pairs of a place and the entries from there."""
    counts = np.zeros(-(-d // (bucket or d)), np.int64)
    for start, entries in parts:
        fold(counts, np.add, (entries != 0).astype(np.int64), start, bucket)
    return counts
