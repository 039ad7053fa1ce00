"""A strategy in a checkpoint: the types that its state belongs to, and how it goes on from that or stays as it was."""

from __future__ import annotations

from flwr.app import RecordDict
from flwr.serverapp.strategy import Strategy

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.strategies import Decompressed
from flwr_robustcomp.strategies.flower.private import CLIP_RECORD, PRIVATE, SPENT_RECORD
from flwr_robustcomp.strategies.flower.stateful import stateful
from flwr_robustcomp.strategies.nodes.history import LEDGER_RECORD

__all__ = ["name_of", "restore_strategy"]

_ALWAYS = (LEDGER_RECORD, "robustcomp.step", "robustcomp.byzfl", CLIP_RECORD, SPENT_RECORD)
"""Records that every checkpoint has of a strategy that carries them. Younger ones may be missing, and Flower's attributes are
None until the first aggregation."""


def name_of(strategy: Strategy) -> str:
    """Return the types of a strategy and of the one inside it."""
    name = type(strategy).__name__
    return f"{name}({name_of(strategy.strategy)})" if isinstance(strategy, (Decompressed, *PRIVATE)) else name


def restore_strategy(strategy: Strategy, state: RecordDict) -> None:
    """Let a strategy go on from the state of one like it.

    Raises
    ------
    ConfigurationError
        If a record that the strategy carries is missing, or is another. Whatever is raised, the strategy is then as it was; one
        of your own, if its `restore` can go back to what its `state` returned.
    """
    asked = stateful(strategy)
    before = asked.state()
    for name, ours in before.items():
        found = state.get(name)
        if type(found) is not type(ours) and (found is not None or name in _ALWAYS):
            got = "none" if found is None else type(found).__name__
            raise ConfigurationError(f"strategy must find its {name!r}, a {type(ours).__name__}, got {got}")
    try:
        asked.restore(state)
    except BaseException:
        asked.restore(before)
        raise
