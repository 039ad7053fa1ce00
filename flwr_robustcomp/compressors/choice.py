"""Which compressor each array of a model goes through, where not all go through the same."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar

from flwr_robustcomp.compressors.base import Compressor
from flwr_robustcomp.compressors.identity import Identity
from flwr_robustcomp.errors import require

__all__ = ["ByName", "ByShape", "BySize", "Choice", "is_matrix"]


def is_matrix(shape: Sequence[int]) -> bool:
    """Whether an array, read as a matrix of its first dimension by all others, has two sides longer than 1."""
    return len(shape) >= 2 and min(shape[0], math.prod(shape[1:])) > 1


class Choice(ABC):
    """A rule that gives each array of a model a compressor; immutable, and the same on clients and server.

    Of use where arrays are compressed one by one (``granularity="array"``). What travels is what the chosen compressor writes,
    under its own name: a choice has no form of its own on the wire.

    Examples
    --------
    >>> from flwr_robustcomp.compressors import Choice, Drive, Identity
    >>> class FirstLayerExact(Choice):
    ...     name = "first-layer-exact"
    ...     branches = (Identity(), Drive())
    ...     def branch_of(self, array, shape):
    ...         return self.branches[not array.startswith("0.")]
    >>> FirstLayerExact().compressor_of("0.weight", (64, 784))
    Identity()
    """

    name: ClassVar[str] = "choice"

    @property
    @abstractmethod
    def branches(self) -> tuple[Compressor | Choice, ...]:
        """What it chooses from."""

    @abstractmethod
    def branch_of(self, array: str, shape: Sequence[int]) -> Compressor | Choice:
        """Return what an array of this name and shape goes through."""

    def __post_init__(self) -> None:
        for branch in self.branches:
            require(isinstance(branch, Compressor | Choice), f"a branch of {self.name!r}", branch, "a Compressor or a Choice")

    @property
    def compressors(self) -> tuple[Compressor, ...]:
        """All compressors that it may choose, those of choices inside it included."""
        found: list[Compressor] = []
        for branch in self.branches:
            found += branch.compressors if isinstance(branch, Choice) else [branch]
        return tuple(found)

    def compressor_of(self, array: str, shape: Sequence[int]) -> Compressor:
        """Return the compressor of an array of this name and shape."""
        branch = self.branch_of(array, shape)
        one_of_them = any(branch is known for known in self.branches)
        require(one_of_them, f"{type(self).__name__}.branch_of({array!r}, ...)", branch, "one of its branches")
        return branch.compressor_of(array, shape) if isinstance(branch, Choice) else branch


@dataclass(frozen=True)
class ByShape(Choice):
    """Matrices through one compressor, all other arrays through another.

    Parameters
    ----------
    matrices : Compressor or Choice
        For arrays of two dimensions and more whose first dimension and product of the others both exceed 1.
    vectors : Compressor or Choice
        For biases, scales and the like; by default they travel as they are.

    Examples
    --------
    >>> from flwr_robustcomp import ByShape, Drive, LowRank
    >>> choice = ByShape(matrices=LowRank(4), vectors=Drive())
    >>> choice.compressor_of("fc.weight", (10, 64))
    LowRank(rank=4, method='svd', iterations=1)
    """

    matrices: Compressor | Choice
    vectors: Compressor | Choice = field(default_factory=Identity)

    name: ClassVar[str] = "by-shape"

    @property
    def branches(self) -> tuple[Compressor | Choice, ...]:
        """``matrices`` and ``vectors``."""
        return self.matrices, self.vectors

    def branch_of(self, array: str, shape: Sequence[int]) -> Compressor | Choice:
        """Return ``matrices`` for a matrix, else ``vectors``."""
        return self.matrices if is_matrix(shape) else self.vectors


@dataclass(frozen=True)
class BySize(Choice):
    """Large arrays through one compressor, small ones through another.

    Parameters
    ----------
    large : Compressor or Choice
        For arrays of at least ``least`` entries.
    small : Compressor or Choice
        For the others; by default they travel as they are.
    least : int
        Entries, at least 1.

    Examples
    --------
    >>> from flwr_robustcomp import BySize, TopK
    >>> BySize(TopK(ratio=0.01), least=1000).compressor_of("fc.bias", (10,))
    Identity()
    """

    large: Compressor | Choice
    small: Compressor | Choice = field(default_factory=Identity)
    least: int = 1024

    name: ClassVar[str] = "by-size"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(type(self.least) is int and self.least >= 1, "least", self.least, "an integer from 1")

    @property
    def branches(self) -> tuple[Compressor | Choice, ...]:
        """``large`` and ``small``."""
        return self.large, self.small

    def branch_of(self, array: str, shape: Sequence[int]) -> Compressor | Choice:
        """Return ``large`` for an array of so many entries, else ``small``."""
        return self.large if math.prod(shape) >= self.least else self.small


@dataclass(frozen=True)
class ByName(Choice):
    """Arrays of some names through one compressor, the others through another.

    Parameters
    ----------
    patterns : str
        Shell patterns (`fnmatch`), joined by commas.
    matching : Compressor or Choice
        For arrays whose name fits a pattern.
    others : Compressor or Choice
        For the others.

    Examples
    --------
    >>> from flwr_robustcomp import ByName, Drive, Identity
    >>> ByName("head.*", matching=Identity(), others=Drive()).compressor_of("head.weight", (10, 64))
    Identity()
    """

    patterns: str
    matching: Compressor | Choice
    others: Compressor | Choice

    name: ClassVar[str] = "by-name"

    def __post_init__(self) -> None:
        super().__post_init__()
        named = isinstance(self.patterns, str) and any(self._patterns)
        require(named, "patterns", self.patterns, "shell patterns of array names, joined by commas")

    @property
    def _patterns(self) -> list[str]:
        return [pattern.strip() for pattern in self.patterns.split(",") if pattern.strip()]

    @property
    def branches(self) -> tuple[Compressor | Choice, ...]:
        """``matching`` and ``others``."""
        return self.matching, self.others

    def branch_of(self, array: str, shape: Sequence[int]) -> Compressor | Choice:
        """Return ``matching`` for a name that fits a pattern, else ``others``."""
        return self.matching if any(fnmatchcase(array, pattern) for pattern in self._patterns) else self.others
