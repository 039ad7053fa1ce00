"""What a strategy carries from round to round, as records: ours report their state, Flower's attributes are listed."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.strategies import Decompressed
from flwr_robustcomp.strategies.flower_builtin import STATEFUL, carried_by, check_carried
from flwr_robustcomp.strategies.history import LEDGER_RECORD
from flwr_robustcomp.strategies.private import CLIP_RECORD, PRIVATE, SPENT_RECORD, private_state, restore_private

__all__ = ["ChecksState", "Stateful", "check_state", "name_of", "restore_strategy", "state_of"]

_ALWAYS = (LEDGER_RECORD, "robustcomp.step", "robustcomp.byzfl", CLIP_RECORD, SPENT_RECORD)
"""Records that every checkpoint has of a strategy that carries them. Younger ones may be missing, and Flower's attributes are
None until the first aggregation."""


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


def name_of(strategy: Strategy) -> str:
    """Return the types of a strategy and of the one inside it."""
    name = type(strategy).__name__
    return f"{name}({name_of(strategy.strategy)})" if isinstance(strategy, (Decompressed, *PRIVATE)) else name


def state_of(strategy: Strategy) -> RecordDict:
    """Return what a strategy carries.

    Raises
    ------
    ConfigurationError
        If that is not known: the strategy has no `state` and descends from none of Flower's that are known.
    """
    if isinstance(strategy, Decompressed):  # first: it has the methods of the strategy inside for its own
        return RecordDict({**state_of(strategy.strategy), LEDGER_RECORD: strategy.history.state()})
    if isinstance(strategy, Stateful):
        return strategy.state()
    if isinstance(strategy, PRIVATE):
        return RecordDict({**state_of(strategy.strategy), **private_state(strategy)})
    return RecordDict({name: _record(value) for name in _carried(strategy) if (value := getattr(strategy, name)) is not None})


def check_state(strategy: Strategy, state: RecordDict, model: ArrayRecord) -> None:
    """Hold a state against the model that the next round starts from; nothing is changed.

    Raises
    ------
    ConfigurationError
        If no run of this model has that state. A strategy of your own may raise anything.
    """
    if isinstance(strategy, (Decompressed, *PRIVATE)):
        check_state(strategy.strategy, state, model)
    elif isinstance(strategy, ChecksState):
        strategy.check_state(state, model)
    elif not isinstance(strategy, Stateful):
        for name in _carried(strategy):
            if (record := state.get(name)) is not None:
                check_carried(name, _arrays(name, record), model)


def restore_strategy(strategy: Strategy, state: RecordDict) -> None:
    """Let a strategy go on from what `state_of` returned for one like it.

    Raises
    ------
    ConfigurationError
        If a record that the strategy carries is missing, or is another. Whatever is raised, the strategy is then as it was; one
        of your own, if its `restore` can go back to what its `state` returned.
    """
    before = state_of(strategy)
    for name, ours in before.items():
        found = state.get(name)
        if type(found) is not type(ours) and (found is not None or name in _ALWAYS):
            got = "none" if found is None else type(found).__name__
            raise ConfigurationError(f"strategy must find its {name!r}, a {type(ours).__name__}, got {got}")
    try:
        _restore(strategy, state)
    except BaseException:
        _restore(strategy, before)
        raise


def _restore(strategy: Strategy, state: RecordDict) -> None:
    if isinstance(strategy, Decompressed):
        _restore(strategy.strategy, state)
        strategy.history.restore(state.get(LEDGER_RECORD))
    elif isinstance(strategy, Stateful):
        strategy.restore(state)
    elif isinstance(strategy, PRIVATE):
        _restore(strategy.strategy, state)
        restore_private(strategy, state)
    else:
        carried = {name: _value(name, record) for name in _carried(strategy) if (record := state.get(name)) is not None}
        for name in _carried(strategy):
            setattr(strategy, name, carried.get(name))


def _carried(strategy: Strategy) -> tuple[str, ...]:
    names = carried_by(strategy)
    if names is None:
        allowed = f"with state() and restore(), or a descendant of {', '.join(STATEFUL)}"
        raise ConfigurationError(f"strategy must be one {allowed}, got {type(strategy).__name__}")
    return names


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
