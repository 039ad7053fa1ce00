"""What a strategy carries from round to round, as records: our strategies say it themselves, of Flower's we know it."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedXgbBagging, FedXgbCyclic, FedYogi, Strategy

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.strategies import Decompressed
from flwr_robustcomp.strategies.account import LEDGER_RECORD

__all__ = ["Stateful", "name_of", "restore_strategy", "state_of"]

_CARRIED: dict[type[Strategy], tuple[str, ...]] = {
    FedAdagrad: ("m_t", "v_t"),
    FedAdam: ("m_t", "v_t"),
    FedAvg: (),
    FedAvgM: ("current_arrays", "momentum_vector"),
    FedYogi: ("m_t", "v_t"),
}
"""Attributes of Flower's strategies that outlive a round; descendants carry what the nearest ancestor here does."""

_TREES = (FedXgbBagging, FedXgbCyclic)
"""These keep a model of their own beside the one that `start` holds."""


@runtime_checkable
class Stateful(Protocol):
    """A strategy that says what it carries."""

    def state(self) -> RecordDict:
        """Return what the next round needs of the earlier ones."""
        ...

    def restore(self, state: RecordDict) -> None:
        """Go on from what `state` returned."""
        ...


def name_of(strategy: Strategy) -> str:
    """Return the types of a strategy and of the one inside it."""
    name = type(strategy).__name__
    return f"{name}({name_of(strategy.strategy)})" if isinstance(strategy, Decompressed) else name


def state_of(strategy: Strategy) -> RecordDict:
    """Return what a strategy carries.

    Raises
    ------
    ConfigurationError
        If that is not known: the strategy has no `state` and descends from none of Flower's that are known.
    """
    if isinstance(strategy, Stateful):
        return strategy.state()
    if isinstance(strategy, Decompressed):
        return RecordDict({**state_of(strategy.strategy), LEDGER_RECORD: strategy.account.state()})
    return RecordDict({name: _record(value) for name in _carried(strategy) if (value := getattr(strategy, name)) is not None})


def restore_strategy(strategy: Strategy, state: RecordDict) -> None:
    """Let a strategy go on from what `state_of` returned for one like it."""
    if isinstance(strategy, Stateful):
        strategy.restore(state)
    elif isinstance(strategy, Decompressed):
        ledger = state.get(LEDGER_RECORD)
        if isinstance(ledger, ConfigRecord):
            strategy.account.restore(ledger)
        restore_strategy(strategy.strategy, state)
    else:
        for name in _carried(strategy):
            record = state.get(name)
            setattr(strategy, name, _value(name, record) if isinstance(record, ArrayRecord) else None)


def _carried(strategy: Strategy) -> tuple[str, ...]:
    known = [] if isinstance(strategy, _TREES) else [base for base in type(strategy).__mro__ if base in _CARRIED]
    if not known:
        allowed = f"with state() and restore(), or a descendant of {', '.join(base.__name__ for base in _CARRIED)}"
        raise ConfigurationError(f"strategy must be one {allowed}, got {type(strategy).__name__}")
    return _CARRIED[known[0]]


def _record(value: Any) -> ArrayRecord:
    """Return an ArrayRecord, a list of numpy arrays or a mapping to them as an ArrayRecord."""
    if isinstance(value, ArrayRecord):
        return value
    named = value.items() if isinstance(value, dict) else enumerate(value)
    return ArrayRecord({str(key): Array(np.asarray(array)) for key, array in named})


def _value(name: str, record: ArrayRecord) -> Any:
    match name:
        case "current_arrays":
            return record
        case "momentum_vector":
            return record.to_numpy_ndarrays()
        case _:
            return {key: array.numpy() for key, array in record.items()}
