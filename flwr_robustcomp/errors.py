"""The two faults that the package tells apart: the user's configuration and a peer's bytes."""

from __future__ import annotations

__all__ = ["ConfigurationError", "WireError", "require"]


class ConfigurationError(ValueError):
    """A setting that cannot work; raised at construction, names the field, the value and what is allowed."""


class WireError(ValueError):
    """Bytes from a peer that no honest sender would have produced; costs that peer its reply, nothing else."""


def require(ok: bool, name: str, value: object, allowed: str) -> None:
    """Raise a `ConfigurationError` in the house form unless ``ok``.

    Parameters
    ----------
    ok : bool
        Whether the value is allowed.
    name : str
        The parameter, as the user wrote it.
    value : object
        What was given.
    allowed : str
        The interval or the alternatives, in words or symbols.

    Raises
    ------
    ConfigurationError
        ``"{name} must be {allowed}, got {value!r}"``.
    """
    if not ok:
        raise ConfigurationError(f"{name} must be {allowed}, got {value!r}")
