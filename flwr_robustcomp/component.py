"""A named member of a registry with its parameters, as it stands in a scenario or a run config."""

from __future__ import annotations

import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from flwr_robustcomp.errors import ConfigurationError

__all__ = ["Base", "Component", "build", "find_subclass", "flatten", "one_line", "resolve", "unflatten"]

T = TypeVar("T")

Base = type | tuple[type, ...] | None
"""What a class that is named by its import path must derive from; None where only the names of a registry will do."""


class Component(BaseModel):
    """``{name = "top-k", ratio = 0.01}`` or just ``"top-k"``.

    Attributes
    ----------
    name : str
        A key of the registry that the field belongs to, or the import path of a class of one's own, ``"package.module:Name"``.
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


def build(
    field: str,
    registry: Mapping[str, Callable[..., T]],
    component: Component,
    *args: Any,
    reserved: Collection[str] = (),
    elsewhere: Collection[str] = (),
    base: Base = None,
    **given: Any,
) -> T:
    """Build a component.

    Parameters
    ----------
    field : str
        The scenario's field or the run config's key, for the error message.
    registry : mapping of str to callable
        What the name may be.
    component : Component
        Name and parameters.
    *args, **given
        What the caller itself passes.
    reserved : collection of str
        Parameters that a configuration may not set.
    elsewhere : collection of str
        Parameters that the caller has taken out, for the error message.
    base : type or tuple of type, optional
        As for `resolve`; also for members inside.

    Raises
    ------
    ConfigurationError
        For an unknown name or parameter, with the known ones listed, or a value that the constructor refuses.
    """
    factory = resolve(field, registry, component.name, base=base)
    params = dict(component.params)
    known = {name: hint for name, hint in _parameters(factory).items() if name not in given and name not in reserved}
    for name, value in component.params.items():
        if name not in known:
            allowed = ", ".join(sorted({*known, *elsewhere})) or "none"
            raise ConfigurationError(f"{field}.{name} is no parameter of {component.name!r}, allowed: {allowed}")
        if members := _members(known[name], registry):
            # A member inside a member: top-k whose values go through QSGD.
            params[name] = build(f"{field}.{name}", members, _component(f"{field}.{name}", value), base=_bases(known[name]))
            continue
        try:
            TypeAdapter(known[name]).validate_python(value, strict=True)
        except ValidationError as error:
            wanted = error.errors()[0]["msg"]
            raise ConfigurationError(f"{field}.{name}: {wanted[0].lower()}{wanted[1:]}, got {value!r}") from error
    try:
        return factory(*args, **given, **params)
    except ConfigurationError as error:
        raise ConfigurationError(f"{field} {component.name!r}: {error}") from error
    except (ValueError, MemoryError) as error:  # a foreign constructor's, which need not say what it was given
        raise ConfigurationError(f"{field} {component.name!r}: {str(error).rstrip('.')}, got {component.params}") from error
    except TypeError as error:
        missing = re.findall(r"'(\w+)'", str(error)) if "missing" in str(error) else []
        why = f"a parameter is missing: {', '.join(missing)}" if missing else f"{error}, got {component.params}"
        raise ConfigurationError(f"{field} {component.name!r}: {why}") from error


def resolve(field: str, registry: Mapping[str, Callable[..., T]], name: str, *, base: Base = None) -> Callable[..., T]:
    """Return the class or function that a name stands for.

    Parameters
    ----------
    field : str
        For the error message.
    registry : mapping of str to callable
        What the name may be.
    name : str
        A key of the registry, or an import path ``"package.module:Name"``.
    base : type or tuple of type, optional
        What the class at an import path must derive from; ``object`` stands for anything that can be called. Without it, import
        paths are refused.

    Raises
    ------
    ConfigurationError
        In one line: the known names, or why the path cannot be used.

    Notes
    -----
    Importing a module runs it. The path comes from whoever configures the run, never from a reply.
    """
    if name in registry:
        return registry[name]
    if base is None or ":" not in name:
        paths = "" if base is None else ", or an import path package.module:Name"
        raise ConfigurationError(f"{field} must be one of {', '.join(sorted(registry))}{paths}, got {name!r}")
    module, _, path = name.partition(":")
    try:
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # importing runs somebody's module, which may raise anything
        why = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigurationError(f"{field} must be importable (on PYTHONPATH, or installed), got {name!r}: {why}") from error
    if not callable(found) or (base is not object and not (isinstance(found, type) and issubclass(found, base))):
        bases = " or ".join(one.__name__ for one in (base if isinstance(base, tuple) else (base,)))
        wanted = "a class or function" if base is object else f"a subclass of {bases}"
        raise ConfigurationError(f"{field} must name {wanted}, got {name!r}")
    if any("name" in inspect.get_annotations(one) for one in getattr(found, "__mro__", ())):
        own = getattr(found, "name", None)
        # It stands on the wire, in messages and in seeds: another's would be taken for it there.
        if not isinstance(own, str) or not re.fullmatch("[a-z0-9-]+", own) or own in registry:
            allowed = "small letters, digits and dashes, and none that is taken"
            raise ConfigurationError(f"{field} {name!r}: its class attribute name must be {allowed}, got {own!r}")
    return typing.cast("Callable[..., T]", found)


def find_subclass(base: type[T], name: str) -> type[T] | None:
    """Return the subclass that has a ``name`` of its own, among those that this process has imported; it imports nothing."""
    for cls in base.__subclasses__():
        if cls.__dict__.get("name") == name:
            return cls
        if (found := find_subclass(cls, name)) is not None:
            return found
    return None


def _members(hint: Any, registry: Mapping[str, Callable[..., T]]) -> dict[str, Callable[..., T]]:
    """Return the members of a registry that a parameter of this type can hold, where it is for such members."""
    bases = _bases(hint)
    if not bases or object in bases:
        return {}
    classes = {name: member for name, member in registry.items() if isinstance(member, type)}
    return {name: registry[name] for name, member in classes.items() if issubclass(member, bases)}


def _bases(hint: Any) -> tuple[type, ...]:
    """Return the classes that a type stands for, of a union all; none for other types."""
    alternatives = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return alternatives if all(isinstance(one, type) for one in alternatives) else ()


def _component(field: str, value: Any) -> Component:
    try:
        return Component.model_validate(value)
    except ValidationError as error:
        raise ConfigurationError(f"{field} must be a name, or a table with a name, got {value!r}") from error


def _parameters(factory: Callable[..., Any]) -> dict[str, Any]:
    """Return the keyword parameters of a class or function with their types; those of bases too, where it passes them on."""
    found: dict[str, Any] = {}
    bases = factory.__mro__ if isinstance(factory, type) else (factory,)
    for base in bases:
        function = base.__dict__.get("__init__") if isinstance(base, type) else base
        if function is None or base is object:
            continue
        hints = typing.get_type_hints(function)
        parameters = list(inspect.signature(function).parameters.values())
        for parameter in parameters:
            if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD) and parameter.name != "self":
                found.setdefault(parameter.name, hints.get(parameter.name, Any))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return found


def one_line(error: ValidationError, prefix: str = "") -> str:
    """Return pydantic's findings in one line: field, what is allowed, value; ``prefix`` stands before every field."""
    parts = []
    for item in error.errors():
        field = prefix + ".".join(map(str, item["loc"])) if item["loc"] else ""
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "value_error":
            parts.append(f"{field}: {message}" if field else message)
        else:
            parts.append(f"{field}: {message[0].lower()}{message[1:]}, got {item['input']!r}")
    return "; ".join(parts)


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a flat config, with underscores for dashes."""
    tables: dict[str, Any] = {}
    for key, value in flat.items():
        *heads, last = key.replace("-", "_").split(".")
        table = tables
        for head in heads:
            table = table.setdefault(head, {})
            if not isinstance(table, dict):
                raise ConfigurationError(f"{key} must stand in a table, got another value at {head!r}")
        if last in table:
            parts = isinstance(table[last], dict)
            how = f"as a value and as a table: give its parts alone, as {key}.name" if parts else "twice"
            raise ConfigurationError(f"{key} must be given once, got it {how}")
        table[last] = value
    return tables


def flatten(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested tables as a flat config, the inverse of `unflatten`."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{name}": inner for name, inner in flatten(value).items()})
        else:
            flat[key] = value
    return flat
