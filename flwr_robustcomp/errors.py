"""The faults that the package tells apart: the user's configuration, a peer's bytes, and too few peers to go on."""

from __future__ import annotations

import unicodedata

__all__ = ["ConfigurationError", "QuorumError", "WireError", "printable", "require"]


class ConfigurationError(ValueError):
    """A setting that cannot work; raised at construction, names the field, the value and what is allowed.

    Examples
    --------
    >>> from flwr_robustcomp import ConfigurationError, TopK
    >>> try:
    ...     TopK(ratio=2.0)
    ... except ConfigurationError as error:
    ...     print(error)
    ratio must be in (0, 1], got 2.0
    """


class WireError(ValueError):
    """Bytes from a peer that no honest sender would have produced; costs that peer its reply, nothing else.

    Examples
    --------
    >>> from flwr_robustcomp import L1Sign, WireError
    >>> from flwr_robustcomp.compressors import Payload
    >>> import torch
    >>> try:
    ...     L1Sign().check(Payload((8,), torch.float32, (float("nan"),), bytes([255])))
    ... except WireError as error:
    ...     print(error)
    the scale must be finite, non-negative and exact in torch.float32, got nan
    """


class QuorumError(RuntimeError):
    """Too many rounds in a row had no quorum, as a `Policy` defines it; what was measured until then stands.

    Examples
    --------
    >>> from flwr_robustcomp import QuorumError
    >>> def train(strategy, grid, model):
    ...     try:
    ...         strategy.start(grid, model)
    ...     except QuorumError:
    ...         print(strategy.ledger.total())
    """


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


def printable(text: str, most: int = 200) -> str:
    r"""Return foreign text as one line that a terminal only shows.

    Parameters
    ----------
    text : str
        From a peer, or from a file that somebody else wrote.
    most : int
        Characters to keep; what is cut off is marked by three dots.

    Returns
    -------
    str
        Line ends, escape sequences, marks of direction and lone surrogates are written out (``\n``, ``\x1b``); spaces of
        every width stay.
    """
    shown = "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else ascii(c)[1:-1] for c in text[:most])
    return shown if len(text) <= most else f"{shown}..."
