"""The one place that makes random generators.

Every generator comes from (run seed, round, partition, purpose). Flower's node ids differ from run to run and worker
processes differ in number, so neither may enter: the same scenario and seed then draws the same numbers on every engine.
"""

from __future__ import annotations

import functools
import random
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from flwr_robustcomp.errors import ConfigurationError

__all__ = [
    "check_global_random_state",
    "distinct_positions",
    "generator",
    "global_random_state",
    "hashed_places",
    "integer_gaussians",
    "random_signs",
    "secret_seed",
    "seeded_python",
    "seeded_torch",
    "set_global_random_state",
]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_MASK = 2**64 - 1
_BLOCK = 1 << 20


def generator(seed: int, purpose: str, *, round_: int = 0, partition: int = 0) -> np.random.Generator:
    """Make the generator for one purpose, round and partition of a run.

    Parameters
    ----------
    seed : int
        The run's seed, non-negative.
    purpose : str
        What the numbers are for (``"data"``, ``"compress"``, ...). Different purposes are independent streams.
    round_ : int
        The server round, 0 for what happens before the first.
    partition : int
        The node's partition id, stable between engines.

    Returns
    -------
    numpy.random.Generator
        A fresh PCG64 stream, a function of the four arguments alone.
    """
    # crc32, not hash(): Python salts hash() for every process.
    return np.random.Generator(np.random.PCG64([seed, zlib.crc32(purpose.encode()), round_, partition]))


def secret_seed() -> int:
    """Draw a seed that nobody can foresee, in [0, 2**63), from the operating system's source of randomness."""
    return secrets.randbits(63)


@contextmanager
def seeded_torch(seed: int, purpose: str, *, round_: int = 0, partition: int = 0) -> Iterator[None]:
    """Let torch's global generator, which initial weights and dropout draw from, follow from the four arguments.

    Parameters
    ----------
    seed, purpose, round_, partition
        As for `generator`.

    Notes
    -----
    Only the CPU's generator is set, and it is put back as it was. Networks are made on the CPU, so their weights do not depend
    on whether there is a GPU; dropout on one does.
    """
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(_torch_seed(seed, purpose, round_, partition))
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


@contextmanager
def seeded_python(seed: int, purpose: str, *, round_: int = 0) -> Iterator[None]:
    """Let Python's global generator, with which Flower samples nodes, follow from the arguments; put it back as it was.

    Parameters
    ----------
    seed, purpose, round_
        As for `generator`.

    Examples
    --------
    >>> import random
    >>> from flwr_robustcomp.randomness import seeded_python
    >>> def sampled(round_):
    ...     with seeded_python(0, "sample", round_=round_):
    ...         return random.sample(range(100), 3)
    >>> sampled(1) == sampled(1), sampled(1) == sampled(2)
    (True, False)
    """
    before = random.getstate()
    random.seed(int(generator(seed, purpose, round_=round_).integers(2**63)))
    try:
        yield
    finally:
        random.setstate(before)


@functools.lru_cache(maxsize=4096)
def _torch_seed(seed: int, purpose: str, round_: int, partition: int) -> int:
    return int(generator(seed, purpose, round_=round_, partition=partition).integers(2**63))


def global_random_state() -> dict[str, Any]:
    """Return the states of the global generators of Python and NumPy as a JSON value.

    Nothing of this package draws from them. Flower samples nodes with Python's, and its strategies with differential privacy
    draw noise from NumPy's.
    """
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002 (Flower's, not ours)
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, np.asarray(keys).tolist(), position, has_gauss, cached],
    }


def check_global_random_state(state: object) -> None:
    """Raise `ConfigurationError` unless `set_global_random_state` can set this; nothing is set."""
    _generator_states(state)


def set_global_random_state(state: dict[str, Any]) -> None:
    """Put the global generators back into a state that `global_random_state` returned.

    Raises
    ------
    ConfigurationError
        If it is another value; nothing is set then.
    """
    python, numpy = _generator_states(state)
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002


def _generator_states(state: object) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the arguments of both `setstate`, which themselves take values that crash the generator later."""
    match state:
        case {
            "python": [3, [*internal], gauss],
            "numpy": ["MT19937", [*keys], position, 0 | 1 as spare, float(cached)],
        } if (
            len(internal) == 625
            and len(keys) == 624
            and all(type(word) is int and 0 <= word < 2**32 for word in (*internal, *keys))
            and type(spare) is int
            and (gauss is None or isinstance(gauss, float))
            and all(type(place) is int and 0 <= place <= 624 for place in (internal[-1], position))
        ):
            return (
                (3, tuple(internal), gauss),
                ("MT19937", np.array(keys, dtype=np.uint32), position, spare, cached),
            )
    raise ConfigurationError("random must hold the states of Python's and NumPy's Mersenne Twisters")


def distinct_positions(seed: int, k: int, d: int) -> npt.NDArray[np.int64]:
    """Choose k of d positions as a function of a 64-bit seed alone, so that the seed can travel in their place.

    Parameters
    ----------
    seed : int
        In [0, 2**64).
    k, d : int
        How many of how many, 1 <= k <= d.

    Returns
    -------
    numpy.ndarray, shape (k,), int64
        Ascending, distinct, each in [0, d).

    Notes
    -----
    Each position i gets the key splitmix64(seed + (i+1) * golden) (Steele, Lea and Flood 2014) and the k smallest keys
    win, ties to the smaller position. NumPy's own generators promise no stable stream between versions, and a reader in another
    language must be able to repeat this; twelve lines of integer arithmetic are repeatable anywhere.
    """
    z = _splitmix64(seed, d)
    threshold = np.partition(z, k - 1)[k - 1]
    smaller = np.flatnonzero(z < threshold)
    tied = np.flatnonzero(z == threshold)[: k - smaller.size]
    return np.sort(np.concatenate([smaller, tied]))


def random_signs(seed: int, round_: int, d: int) -> npt.NDArray[np.int8]:
    """Draw d fair signs as a function of (seed, round) alone, so that all nodes of a round draw the same.

    Parameters
    ----------
    seed : int
        In [0, 2**64).
    round_ : int
        The server round, in [0, 2**32).
    d : int
        How many.

    Returns
    -------
    numpy.ndarray, shape (d,), int8
        -1 and +1.

    Notes
    -----
    The round's own seed s is output round + 1 of splitmix64 started at ``seed``; sign j is +1 where bit j % 64 of output
    j // 64 + 1 of splitmix64 started at s is set. The signs of fewer coordinates begin those of more.
    """
    own = int(_splitmix64(seed + round_ * int(_GOLDEN) & _MASK, 1)[0])
    words = _splitmix64(own, (d + 63) // 64)
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), count=d, bitorder="little")
    return bits.view(np.int8) * np.int8(2) - np.int8(1)


def integer_gaussians(seed: int, count: int) -> npt.NDArray[np.int64]:
    """Draw integers that are close to normal as a function of a 64-bit seed alone.

    Returns
    -------
    numpy.ndarray, shape (count,), int64
        Odd, hence never zero, below 2**18 in magnitude.

    Notes
    -----
    Number i is 2 (a + b + c + e) - 262139 with a, b, c, e the four 16-bit fields of output i + 1 of splitmix64: a sum of four
    uniform numbers, whose distribution is near enough to normal for directions, and exact in every language, which no
    logarithm or cosine of a mathematics library is.
    """
    fields = _splitmix64(seed, count).astype("<u8").view("<u2").reshape(count, 4)
    sums: npt.NDArray[np.int64] = fields.sum(axis=1, dtype=np.int64)
    return 2 * sums - 262139


def hashed_places(seed: int, places: int, count: int) -> npt.NDArray[np.unsignedinteger]:
    """Draw a place for each coordinate as a function of a seed alone, the same on every machine and in every version.

    Parameters
    ----------
    seed : int
        From 0.
    places : int
        How many there are, in [1, 2**32].
    count : int
        How many coordinates.

    Returns
    -------
    numpy.ndarray, shape (count,), uint16 up to 2**16 places, else uint32
        Each in [0, places), uniform but for a bias below 2**-32.

    Notes
    -----
    Place i is floor(u places / 2**32), u being the upper half of output i + 1 of splitmix64. A checkpoint holds sums over such
    places, and goes on under another version of NumPy, whose generators promise no stable stream.
    """
    out: npt.NDArray[np.unsignedinteger] = np.empty(count, np.uint16 if places <= 2**16 else np.uint32)
    for start in range(0, count, _BLOCK):
        some = out[start : start + _BLOCK]
        words = _splitmix64(seed + start * int(_GOLDEN) & _MASK, some.size) >> np.uint64(32)
        some[:] = words * np.uint64(places) >> np.uint64(32)
    return out


def _splitmix64(seed: int, count: int) -> npt.NDArray[np.uint64]:
    """Return the first outputs of splitmix64, shape (count,)."""
    z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN  # wraps modulo 2**64, as splitmix64 asks
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))
