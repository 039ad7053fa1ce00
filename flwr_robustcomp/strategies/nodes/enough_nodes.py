"""Whether a round can have enough replies at all, asked before the first one: a run that can never train must not start."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.flower import LOG

__all__ = ["Need", "ask_enough"]


@dataclass(frozen=True)
class Need:
    """Something that needs a number of nodes.

    Attributes
    ----------
    subject : str
        What it is, as the user wrote it: ``"trim = 1"``.
    check : callable
        Raises `ConfigurationError` if a round of so many nodes cannot move the model, even if every one of them replies.
    trim : callable
        The largest trim that works with so many nodes; None where no trim helps.
    """

    subject: str
    check: Callable[[int], None]
    trim: Callable[[int], int | None] = lambda nodes: None


_PAUSE = 0.5  # seconds
_LOOKS = 20
"""How often to look for nodes that join before those that are there count as all: stock simulation registers them gradually."""

_SEARCHED = 64
"""How many numbers of nodes are tried to find the least that is enough."""


def ask_enough(sample: Callable[[], Iterable[Message]], needs: Sequence[Need], grid: Grid, sampling: FedAvg) -> list[Message]:
    """Return the messages of the first round, or refuse a configuration under which no round can succeed.

    Parameters
    ----------
    sample : callable
        Samples nodes anew at each call, and returns one message for each.
    needs : sequence of Need
        All of them must be met.
    grid : Grid
        Where nodes may still join. While too few are sampled, this waits until nobody has joined for ten seconds. Grids that
        have all of their nodes from the start, which tell ``partition_of``, are not waited for.
    sampling : FedAvg
        Who has ``fraction_train`` and ``min_train_nodes``. Where ``fraction_train`` is 0, nobody is to train, and nothing is
        checked.

    Raises
    ------
    ConfigurationError
        With the number of nodes needed, sampled and connected, and what to set.
    """
    while True:
        connected = len(list(grid.get_node_ids()))
        messages = list(sample())
        if not messages and sampling.fraction_train == 0:
            return messages
        found = _unmet(needs, len(messages))
        if found is None:
            return messages
        need, why = found
        if not _somebody_joins(grid, connected, why):
            raise ConfigurationError(_refusal(need, why, needs, len(messages), max(connected, len(messages)), sampling))


def _unmet(needs: Sequence[Need], nodes: int) -> tuple[Need, str] | None:
    for need in needs:
        try:
            require(nodes > 0, "nodes", nodes, "at least 1")
            need.check(nodes)
        except ConfigurationError as error:
            return need, str(error)
    return None


def _somebody_joins(grid: Grid, connected: int, why: str) -> bool:
    if getattr(grid, "partition_of", None) is not None:
        return False
    LOG.info("Waiting for more nodes, %d are connected: %s", connected, why)
    for _ in range(_LOOKS):
        time.sleep(_PAUSE)
        if len(list(grid.get_node_ids())) > connected:
            return True
    return False


def _refusal(need: Need, why: str, needs: Sequence[Need], asked: int, connected: int, sampling: FedAvg) -> str:
    needed = next((n for n in range(asked + 1, asked + 1 + _SEARCHED) if _unmet(needs, n) is None), None)
    advice = []
    if asked and (smaller := need.trim(asked)) is not None:
        advice.append(f"set trim = {smaller}" if smaller == 0 else f"set trim to at most {smaller}")
    if needed is None:
        advice.append(f"sample another number of nodes ({why})")
    elif connected >= needed:
        advice.append(f"set min_train_nodes = {needed} to sample more of the {connected}")
    else:
        advice.append(f"start {needed} nodes or more and set min_train_nodes = {needed}, so that the run waits for them")
    least = "another number of nodes" if needed is None else f"at least {needed} nodes" if needed > 1 else "a node"
    options = f"fraction_train = {sampling.fraction_train:g}, min_train_nodes = {sampling.min_train_nodes}"
    return f"{need.subject} needs {least} per round, {asked} of {connected} were sampled ({options}): {', or '.join(advice)}"
