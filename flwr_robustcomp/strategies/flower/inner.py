"""What may stand inside `Decompressed`: a FedAvg or a descendant, bare or in wrappers such as those for privacy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from flwr.serverapp.strategy import FedAvg, FedXgbBagging, FedXgbCyclic, Strategy

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.strategies.flower.builtin import TREES_REFUSED, check_parameters

__all__ = ["attributes", "check_inner", "core_of", "layers_of", "starts_itself"]

_DEEPEST = 16


def layers_of(strategy: Strategy) -> list[Strategy]:
    """Return a strategy and those that it wraps, the outermost first; a wrapper is what has another under ``strategy``."""
    layers = [strategy]
    while isinstance(inner := vars(layers[-1]).get("strategy"), Strategy) and len(layers) < _DEEPEST:
        layers.append(inner)
    return layers


def core_of(strategy: Strategy) -> FedAvg:
    """Return the innermost of the layers, which samples and averages.

    Raises
    ------
    ConfigurationError
        If it is no FedAvg.
    """
    core = layers_of(strategy)[-1] if isinstance(strategy, Strategy) else None
    if not isinstance(core, FedAvg):
        raise ConfigurationError(f"strategy must be a FedAvg or a descendant of it, or a wrapper of one, got {strategy!r}")
    return core


def check_inner(strategy: Strategy, *, packed: tuple[type, ...]) -> None:
    """Refuse what cannot work on decompressed replies.

    Parameters
    ----------
    strategy : Strategy
        To stand inside.
    packed : tuple of type
        Strategies that read packed replies themselves.

    Raises
    ------
    ConfigurationError
        In one line, with the right order where that is what is wrong.
    """
    core = core_of(strategy)
    for layer in layers_of(strategy):
        name = type(layer).__name__
        if isinstance(layer, packed):
            raise ConfigurationError(f"strategy must take dense replies, and {name} reads packed ones: use it as it is")
        if type(layer).__module__.startswith("flwr_robustcomp.checkpoints"):
            raise ConfigurationError(
                f"strategy must stand inside of {name}: {name}(Decompressed(...)), got it the other way round"
            )
    if isinstance(core, FedXgbBagging | FedXgbCyclic):
        raise ConfigurationError(f"strategy must average arrays, got {type(core).__name__}: {TREES_REFUSED}")
    check_parameters(core)


def starts_itself(strategy: Strategy) -> bool:
    """Whether a strategy runs its rounds by a ``start`` of its own."""
    return type(strategy).start is not Strategy.start or "start" in vars(strategy)


@contextlib.contextmanager
def attributes(owner: object, values: dict[str, Any]) -> Iterator[None]:
    """Set attributes of an object for the time of a ``with`` block.

    Examples
    --------
    >>> class Thing:
    ...     size = 1
    >>> thing = Thing()
    >>> with attributes(thing, {"size": 2}):
    ...     thing.size
    2
    >>> thing.size, vars(thing)
    (1, {})
    """
    before = {name: vars(owner)[name] for name in values if name in vars(owner)}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name in values:
            if name in before:
                setattr(owner, name, before[name])
            else:
                vars(owner).pop(name, None)
