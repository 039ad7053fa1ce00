"""Who answers for what a strategy carries from round to round: the strategy itself, or an adapter for those of Flower."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.strategies.flower.builtin import STATEFUL, carried_by, check_carried
from flwr_robustcomp.strategies.flower.private import PRIVATE, private_state, restore_private

__all__ = ["ChecksState", "Stateful", "check_state", "stateful"]


@runtime_checkable
class Stateful(Protocol):
    """A strategy that says what it carries."""

    def state(self) -> RecordDict:
        """Return what the next round needs of the earlier ones."""
        ...

    def restore(self, state: RecordDict) -> None:
        """Go on from what `state` returned."""
        ...


@runtime_checkable
class ChecksState(Protocol):
    """A strategy that can tell whether a state is of a run of a model; `Stateful` need not."""

    def check_state(self, state: RecordDict, model: ArrayRecord) -> None:
        """Raise `ConfigurationError` for a state that no run of this model has."""
        ...


def stateful(strategy: Strategy) -> Stateful:
    """Return the strategy if it is `Stateful`, else an adapter that knows what Flower's own carry."""
    if isinstance(strategy, Stateful):
        return strategy
    return _Private(strategy) if isinstance(strategy, PRIVATE) else _Listed(strategy)


def check_state(strategy: Strategy, state: RecordDict, model: ArrayRecord) -> None:
    """Hold a state against the model that the next round starts from; nothing is changed.

    Raises
    ------
    ConfigurationError
        If no run of this model has that state. A strategy of your own may raise anything.
    """
    asked = strategy if isinstance(strategy, ChecksState) else stateful(strategy)
    if isinstance(asked, ChecksState):
        asked.check_state(state, model)


class _Private:
    """One of Flower's wrappers for differential privacy: its own records, and the state of the strategy inside."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper

    def state(self) -> RecordDict:
        return RecordDict({**stateful(self._wrapper.strategy).state(), **private_state(self._wrapper)})

    def restore(self, state: RecordDict) -> None:
        stateful(self._wrapper.strategy).restore(state)
        restore_private(self._wrapper, state)

    def check_state(self, state: RecordDict, model: ArrayRecord) -> None:
        check_state(self._wrapper.strategy, state, model)


class _Listed:
    """One of Flower's strategies, or a descendant: the attributes that `builtin` lists, as ArrayRecords."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy

    @property
    def _names(self) -> tuple[str, ...]:
        names = carried_by(self._strategy)
        if names is None:
            allowed = f"with state() and restore(), or a descendant of {', '.join(STATEFUL)}"
            raise ConfigurationError(f"strategy must be one {allowed}, got {type(self._strategy).__name__}")
        return names

    def state(self) -> RecordDict:
        values = {name: getattr(self._strategy, name) for name in self._names}
        return RecordDict({name: _record(value) for name, value in values.items() if value is not None})

    def restore(self, state: RecordDict) -> None:
        carried = {name: _value(name, record) for name in self._names if (record := state.get(name)) is not None}
        for name in self._names:
            setattr(self._strategy, name, carried.get(name))

    def check_state(self, state: RecordDict, model: ArrayRecord) -> None:
        for name in self._names:
            if (record := state.get(name)) is not None:
                check_carried(name, _arrays(name, record), model)


def _record(value: Any) -> ArrayRecord:
    """Return an ArrayRecord, a list of numpy arrays or a mapping to them as an ArrayRecord."""
    if isinstance(value, ArrayRecord):
        return value
    named = value.items() if isinstance(value, dict) else enumerate(value)
    return ArrayRecord({str(key): Array(np.asarray(array)) for key, array in named})


def _value(name: str, record: object) -> Any:
    arrays = _arrays(name, record)
    match name:
        case "current_arrays":
            return arrays
        case "momentum_vector":
            return arrays.to_numpy_ndarrays()
        case _:
            return {key: array.numpy() for key, array in arrays.items()}


def _arrays(name: str, record: object) -> ArrayRecord:
    if not isinstance(record, ArrayRecord):
        raise ConfigurationError(f"strategy must find its {name!r}, an ArrayRecord, got {type(record).__name__}")
    return record
