"""Replies that break off: those that came are read, and what the Grid raised comes after them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from flwr.app import Message

__all__ = ["as_far_as_they_come", "breaking_off"]


def as_far_as_they_come(ask: Callable[[], Iterable[Message]]) -> tuple[list[Message], Exception | None]:
    """Return the replies that came, and what a Grid raised in the middle of them."""
    came: list[Message] = []
    try:
        came.extend(ask())
    except Exception as error:  # noqa: BLE001 (screening counts it, after the replies that came)
        return came, error
    return came, None


def breaking_off(replies: Sequence[Message], error: Exception) -> Iterator[Message]:
    """Yield the replies, and raise."""
    yield from replies
    raise error
