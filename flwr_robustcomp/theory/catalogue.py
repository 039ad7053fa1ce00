"""Every registered compressor in the configurations that tables and advice show, and what its symbols are worth in bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from flwr_robustcomp.compressors import (
    COMPRESSORS,
    QSGD,
    Compressor,
    CrossPolytope,
    Drive,
    Eden,
    Identity,
    L1Sign,
    LowRank,
    NonZeros,
    Payload,
    RandomK,
    RotatedQuantizer,
    Sign,
    SparseTernary,
    SphericalNet,
    TernGrad,
    TopK,
)

__all__ = [
    "CATALOGUE",
    "Entry",
    "entropy_in_buckets",
    "entropy_of_entries",
    "entropy_of_values",
    "label",
    "subset_and_values",
    "subset_bits",
    "whole_body",
]

Entropy = Callable[[Compressor, Payload], float]
"""(compressor, payload) -> the bits that the payload's symbols need, without the header."""


@dataclass(frozen=True)
class Entry:
    """One registered compressor.

    Attributes
    ----------
    configurations : tuple of Compressor
        What tables show, cheapest first.
    entropy : callable
        What an ideal coder would send of a payload, one of the definitions below.
    matrix : bool
        Whether it is shown on matrices, because flat vectors are none of its business.
    """

    configurations: tuple[Compressor, ...]
    entropy: Entropy
    matrix: bool = False


def label(compressor: Compressor) -> str:
    """Return a compressor as one would write it: its class and the parameters that are not the default ones."""
    if not is_dataclass(compressor):
        return repr(compressor)
    given = [(f.name, getattr(compressor, f.name)) for f in fields(compressor) if getattr(compressor, f.name) != _default(f)]
    text = ", ".join(f"{name}={label(value) if isinstance(value, Compressor) else repr(value)}" for name, value in given)
    return f"{type(compressor).__name__}({text})"


def _default(field: Field[Any]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


def subset_bits(d: int, k: int) -> float:
    """Return log2 C(d, k): what it takes to tell which k of d positions."""
    return (math.lgamma(d + 1) - math.lgamma(k + 1) - math.lgamma(d - k + 1)) / math.log(2)


def entropy_of_entries(compressor: Compressor, payload: Payload) -> float:
    """Return d times the empirical entropy of the entries of Q(x): for quantisers, few symbols times a scale."""
    _, counts = np.unique(compressor.decompress(payload).double().numpy(), return_counts=True)
    shares = counts / payload.size
    return float(-payload.size * np.sum(shares * np.log2(shares)))


def entropy_in_buckets(compressor: Compressor, payload: Payload) -> float:
    """Return d times the empirical entropy of the symbols of a quantiser, and a scale for each of its buckets.

    A symbol is an entry in units of the smallest one of its bucket that is not zero.
    """
    bucket = getattr(compressor, "bucket", None)
    if bucket is None:
        return entropy_of_entries(compressor, payload)
    entries = compressor.decompress(payload).double().numpy()
    symbols = np.zeros(payload.size)
    for start in range(0, payload.size, bucket):
        own = entries[start : start + bucket]
        if (there := np.abs(own[own != 0])).size:
            symbols[start : start + bucket] = np.rint(own / there.min())
    shares = np.unique(symbols, return_counts=True)[1] / payload.size
    scales = 8.0 * payload.dtype.itemsize * math.ceil(payload.size / bucket)
    return float(scales - payload.size * np.sum(shares * np.log2(shares)))


def entropy_of_values(compressor: Compressor, payload: Payload) -> float:
    """Return d times the size of an entry: floating entries, as they are, count as incompressible."""
    return 8.0 * payload.size * payload.dtype.itemsize


def subset_and_values(compressor: Compressor, payload: Payload) -> float:
    """Return log2 C(d, k) and k floating entries; k is counted, an entry that happens to be zero apart."""
    k = int((compressor.decompress(payload) != 0).sum())
    return subset_bits(payload.size, k) + 8.0 * k * payload.dtype.itemsize


def whole_body(compressor: Compressor, payload: Payload) -> float:
    """Return the bits of the body: for forms in which other bits are another Q(x), as values whose positions a seed gives."""
    return 8.0 * len(payload.body)


_ENTRIES: dict[str, Entry] = {
    "cross-polytope": Entry((CrossPolytope(repetitions=100), CrossPolytope(repetitions=1000)), whole_body),
    "drive": Entry((Drive(), Drive(unbiased_scale=True)), whole_body),
    "eden": Entry((Eden(), Eden(bits=4), Eden(bits=8)), whole_body),
    "identity": Entry((Identity(),), entropy_of_values),
    "l1-sign": Entry((L1Sign(),), entropy_of_entries),
    "low-rank": Entry(
        (LowRank(rank=2), LowRank(rank=2, method="power"), LowRank(rank=2, method="atomo")), whole_body, matrix=True
    ),
    "non-zeros": Entry((NonZeros(),), entropy_of_entries),
    "qsgd": Entry((QSGD(levels=1), QSGD(levels=16), QSGD(), QSGD(coding="fixed"), QSGD(levels=300)), entropy_in_buckets),
    "random-k": Entry((RandomK(ratio=0.01), RandomK(ratio=0.1), RandomK(ratio=0.5)), whole_body),
    "rotated-quantizer": Entry((RotatedQuantizer(levels=2), RotatedQuantizer(levels=16)), whole_body),
    "sign": Entry((Sign(),), entropy_of_entries),
    "sparse-ternary": Entry((SparseTernary(ratio=0.01), SparseTernary(ratio=0.1)), entropy_of_entries),
    "spherical-net": Entry((SphericalNet(), SphericalNet(block=64, bits=8)), whole_body),
    "tern-grad": Entry((TernGrad(), TernGrad(coding="fixed"), TernGrad(clip=2.5)), entropy_in_buckets),
    "top-k": Entry((TopK(ratio=0.01), TopK(ratio=0.1), TopK(ratio=0.5), TopK(ratio=0.01, coding="fixed")), subset_and_values),
}


def _catalogue() -> Iterator[tuple[str, Entry]]:
    for name, cls in COMPRESSORS.items():
        if name in _ENTRIES:
            yield name, _ENTRIES[name]
            continue
        try:
            yield name, Entry((cls(),), whole_body, matrix=cls.wants_matrices)
        except (TypeError, ValueError):  # it has a parameter without a default: a test asks for an entry
            continue


CATALOGUE: dict[str, Entry] = dict(_catalogue())
"""By the name in `COMPRESSORS`; a compressor without an entry of its own is shown as it is without parameters."""
