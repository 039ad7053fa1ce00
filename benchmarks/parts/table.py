"""A table over a registry: what is written down for some parts, and a default for all others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

__all__ = ["filled", "gaps"]

K = TypeVar("K")
V = TypeVar("V")


def filled(
    registry: Mapping[str, K], entries: Mapping[str, Sequence[V]], default: Callable[[K], Sequence[V]]
) -> dict[str, list[V]]:
    """Return samples by name, in the order of the registry.

    Parameters
    ----------
    registry : mapping of str to type
        The parts by name.
    entries : mapping of str to sequence
        The samples that are written down.
    default : callable
        Makes samples of a part without an entry; raises TypeError, ValueError or LookupError where it cannot.

    Returns
    -------
    dict of str to list
        Without the parts that have no samples: `gaps` names them.
    """
    table: dict[str, list[V]] = {}
    for name, part in registry.items():
        try:
            table[name] = [*(entries[name] if name in entries else default(part))]
        except (LookupError, TypeError, ValueError):
            continue
    return table


def gaps(registry: Mapping[str, Callable[..., object]], table: Mapping[str, object], place: str) -> list[str]:
    """Return a line for each part that a table lacks: which entry to add, and where."""
    return [
        f'{place}: add "{name}" with parameters ({getattr(part, "__name__", part)}() alone cannot be made)'
        for name, part in registry.items()
        if name not in table
    ]
