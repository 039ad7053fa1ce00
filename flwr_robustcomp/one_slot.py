"""A cache of one result, for callers in a row that pass the same objects, as the nodes of a round do."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["OneSlot"]

T = TypeVar("T")


class OneSlot(Generic[T]):
    """Remember the last result.

    Notes
    -----
    One slot is enough: all nodes of a process work on one model. Threads may make a result twice, and never see half of one.

    Examples
    --------
    >>> sizes, model = OneSlot(), {"weight": 1}
    >>> sizes.get([model], "bytes", lambda: print("counts") or 8)
    counts
    8
    >>> sizes.get([model], "bytes", lambda: print("counts") or 8)
    8
    """

    def __init__(self) -> None:
        self._last: tuple[Sequence[object], object, T] | None = None

    def get(self, subjects: Sequence[object], options: object, make: Callable[[], T]) -> T:
        """Return the last result if it was of these very subjects and of equal options; else ``make()``.

        Parameters
        ----------
        subjects : sequence of object
            Compared by identity: large, or without an equality. They are kept alive with the result.
        options : object
            Compared by ``==``.
        make : callable
            Makes the result anew. What it raises is raised, and nothing is remembered.
        """
        if (last := self._last) is not None:
            known, same, made = last
            if len(known) == len(subjects) and same == options and all(map(operator.is_, known, subjects)):
                return made
        made = make()
        self._last = (subjects, options, made)
        return made
