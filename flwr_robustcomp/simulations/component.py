"""A named member of a registry with its parameters, as it stands in a scenario."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator

from flwr_robustcomp.errors import ConfigurationError

__all__ = ["Component", "construct"]

T = TypeVar("T")


class Component(BaseModel):
    """``{name = "top-k", ratio = 0.01}`` or just ``"top-k"``.

    Attributes
    ----------
    name : str
        A key of the registry that the field belongs to.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def params(self) -> dict[str, Any]:
        """The parameters besides the name."""
        return dict(self.model_extra or {})


def construct(
    field: str,
    registry: Mapping[str, Callable[..., T]],
    component: Component,
    *args: Any,
    reserved: Collection[str] = (),
    **given: Any,
) -> T:
    """Build a component.

    Parameters
    ----------
    field : str
        The scenario's field, for the error message.
    registry : mapping of str to callable
        What the name may be.
    component : Component
        Name and parameters.
    *args, **given
        What the scenario itself passes.
    reserved : collection of str
        Parameters that a scenario may not set.

    Raises
    ------
    ConfigurationError
        For an unknown name or parameter, with the known ones listed, or a value that the constructor refuses.
    """
    if component.name not in registry:
        raise ConfigurationError(f"{field} must be one of {', '.join(sorted(registry))}, got {component.name!r}")
    factory = registry[component.name]
    known = _parameters(factory) - set(given) - set(reserved)
    for name in component.params:
        if name not in known:
            allowed = ", ".join(sorted(known)) or "none"
            raise ConfigurationError(f"{field}.{name} is no parameter of {component.name!r}, allowed: {allowed}")
    try:
        return factory(*args, **given, **component.params)
    except ConfigurationError as error:
        raise ConfigurationError(f"{field} {component.name!r}: {error}") from error
    except TypeError as error:
        raise ConfigurationError(
            f"{field} {component.name!r}: a parameter has the wrong type or is missing: {error}"
        ) from error


def _parameters(factory: Callable[..., Any]) -> set[str]:
    """Return the keyword parameters of a class or function, those of its bases included where it passes them on."""
    names: set[str] = set()
    bases = factory.__mro__ if isinstance(factory, type) else (factory,)
    for base in bases:
        function = base.__dict__.get("__init__") if isinstance(base, type) else base
        if function is None or base is object:
            continue
        parameters = list(inspect.signature(function).parameters.values())
        names |= {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name != "self"}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names
