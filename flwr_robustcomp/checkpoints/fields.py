"""Reading what a checkpoint's files hold: values of the type that is expected, or a line that says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from flwr_robustcomp.errors import ConfigurationError, printable

__all__ = ["damaged", "field", "key_number", "typed", "whole"]

_T = TypeVar("_T", dict[str, Any], list[Any], str)
_NAMES: dict[type[Any], str] = {dict: "an object", list: "a list", str: "a string"}


def damaged(path: Path, error: Exception) -> ConfigurationError:
    """Return the one line about a file that cannot be used, from what was raised while it was read."""
    why = "nested too deeply" if isinstance(error, RecursionError) else str(error) or type(error).__name__
    return ConfigurationError(f"checkpoint must be whole, got {str(path)!r}: {printable(' '.join(why.split()), 300)}")


def typed(value: object, type_: type[_T], what: str) -> _T:
    """Return a value that is of a JSON type, ``dict``, ``list`` or ``str``; else raise ValueError."""
    if not isinstance(value, type_):
        raise ValueError(f"{what} must be {_NAMES[type_]}, got {_short(value)}")
    return value


def whole(value: object, what: str) -> int:
    """Return a value that is an integer from 0; else raise ValueError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{what} must be an integer from 0, got {_short(value)}")
    return value


def key_number(key: str, what: str) -> int:
    """Return the number that a key of an object stands for; ValueError unless it is an integer from 0, written as one."""
    number = int(key) if key.isascii() and key.isdigit() else -1
    if str(number) != key:
        raise ValueError(f"{what} must be an integer from 0, got {_short(key)}")
    return number


def field(table: dict[str, Any], name: str, what: str) -> Any:
    """Return the field of an object; ValueError where it is missing."""
    if name not in table:
        raise ValueError(f"{what} must have {name!r}")
    return table[name]


def _short(value: object, most: int = 60) -> str:
    text = repr(value[:most] if isinstance(value, str | list) else value)
    return text if len(text) <= most else text[:most] + "..."
