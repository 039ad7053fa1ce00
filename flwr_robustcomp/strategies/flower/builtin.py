"""Flower's own strategies by name; each runs behind `Decompressed`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import (
    Bulyan,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedXgbBagging,
    FedXgbCyclic,
    FedYogi,
    Krum,
    MultiKrum,
    QFedAvg,
    Strategy,
)

from flwr_robustcomp import wire
from flwr_robustcomp.errors import ConfigurationError, WireError, require

__all__ = [
    "FLOWER_STRATEGIES",
    "NEED_CLIENTS",
    "STATEFUL",
    "TREES_REFUSED",
    "carried_by",
    "check_carried",
    "check_named",
    "check_nodes",
    "check_parameters",
    "is_finite_state",
]

FLOWER_STRATEGIES: dict[str, type[FedAvg]] = {
    "bulyan": Bulyan,
    "fed-adagrad": FedAdagrad,
    "fed-adam": FedAdam,
    "fed-avg": FedAvg,
    "fed-avg-m": FedAvgM,
    "fed-median": FedMedian,
    "fed-prox": FedProx,
    "fed-trimmed-avg": FedTrimmedAvg,
    "fed-yogi": FedYogi,
    "krum": Krum,
    "multi-krum": MultiKrum,
    "q-fed-avg": QFedAvg,
}
"""Flower's strategies that run configs can name. All that average, weight clients by the examples that they claim, as they do
without compression; Krum, MultiKrum's choice, the median and the trimmed mean do not weight."""

NEED_CLIENTS: dict[str, str] = {"fed-prox": "proximal_mu", "q-fed-avg": "client_learning_rate"}
"""Those that do nothing, or cannot work, without a part in the training function, and the parameter that must be given."""

_TREE_NAMES = ("fed-xgb-bagging", "fed-xgb-cyclic")
TREES_REFUSED = "it passes on trees as bytes, which have no update that could be compressed"

_CARRIED: dict[type[Strategy], tuple[str, ...]] = {
    FedAdagrad: ("m_t", "v_t"),
    FedAdam: ("m_t", "v_t"),
    FedAvg: (),
    FedAvgM: ("current_arrays", "momentum_vector"),
    FedYogi: ("m_t", "v_t"),
}
"""Attributes of Flower's strategies that outlive a round; descendants carry what the nearest ancestor here does."""

STATEFUL = tuple(base.__name__ for base in _CARRIED)
"""Names of the strategies whose descendants' state is known."""

_TREES = (FedXgbBagging, FedXgbCyclic)
"""These keep a model of their own beside the one that `start` holds."""


_RANGES: tuple[tuple[type[FedAvg], str, float, float, bool], ...] = (
    (FedProx, "proximal_mu", 0, math.inf, False),
    (QFedAvg, "client_learning_rate", 0, math.inf, True),
    (QFedAvg, "q", 0, math.inf, False),
    (FedAvgM, "server_learning_rate", 0, math.inf, True),
    (FedAvgM, "server_momentum", 0, 1, False),
    (FedTrimmedAvg, "beta", 0, 0.5, False),  # which Flower checks itself from 1.37 on
    *((kind, name, 0, math.inf, True) for kind in (FedAdagrad, FedAdam, FedYogi) for name in ("eta", "tau")),
    *((kind, name, 0, 1, False) for kind in (FedAdam, FedYogi) for name in ("beta_1", "beta_2")),
)
"""Of a strategy's parameter: the smallest value, what it stays below, and whether the smallest is itself left out."""


def carried_by(strategy: Strategy) -> tuple[str, ...] | None:
    """Return the attributes of one of Flower's strategies that outlive a round; None where they are not known."""
    known = [] if isinstance(strategy, _TREES) else [base for base in type(strategy).__mro__ if base in _CARRIED]
    return _CARRIED[known[0]] if known else None


def is_finite_state(strategy: Strategy) -> bool:
    """Whether nothing that one of Flower's strategies carries to the next round has NaN or infinity."""
    for name in carried_by(strategy) or ():
        value = getattr(strategy, name)
        arrays = value.to_numpy_ndarrays() if isinstance(value, ArrayRecord) else value or ()
        if not all(np.isfinite(array).all() for array in (arrays.values() if isinstance(arrays, dict) else arrays)):
            return False
    return True


def check_carried(name: str, record: ArrayRecord, model: ArrayRecord) -> None:
    """Refuse what one of Flower's strategies cannot have carried to the next round of this model.

    Parameters
    ----------
    name : str
        One of those that `carried_by` returns.
    record : ArrayRecord
        From a checkpoint.
    model : ArrayRecord
        What the next round starts from.

    Raises
    ------
    ConfigurationError
        If its arrays have other names or shapes than the model's, or NaN or infinity, or if a second moment is negative.
    """
    # The vectors of a list have numbers for names; both kinds of FedAvgM's are matched with the model's in their order.
    names = [str(i) for i in range(len(model))] if name == "momentum_vector" else list(model)
    ordered = list(record) if name in ("momentum_vector", "current_arrays") else sorted(record)
    wanted = names if name in ("momentum_vector", "current_arrays") else sorted(names)
    if ordered != wanted:
        raise ConfigurationError(f"arrays of {name!r} must be named {wanted[:8]}, got {ordered[:8]}")
    for key, array in zip(names, model.values(), strict=True):
        found, shape = record[key], tuple(array.shape)
        require(tuple(found.shape) == shape, f"shape of {name!r}, array {key!r}", tuple(found.shape), str(shape))
        if name == "current_arrays" and not _readable(array):
            continue
        try:
            values = wire.read_dense(found, shape)
        except WireError as error:
            raise ConfigurationError(f"array {key!r} of {name!r}: {error}") from error
        require(
            not values.is_complex() and bool(torch.isfinite(values).all()),
            f"array {key!r} of {name!r}",
            "NaN, inf or no real numbers",
            "finite",
        )
        require(name != "v_t" or bool((values >= 0).all()), f"array {key!r} of {name!r}", "a negative entry", "at least 0")


def _readable(array: Array) -> bool:
    try:
        wire.read_dense(array)
    except WireError:
        return False
    return True


def check_named(field: str, name: str, params: Mapping[str, Any]) -> None:
    """Refuse what a configuration names and cannot have, or names without what makes it that.

    Raises
    ------
    ConfigurationError
        For strategies over trees, and for FedProx and q-FedAvg without their own parameter.
    """
    if name in _TREE_NAMES:
        raise ConfigurationError(f"{field} must average arrays, got {name!r}: {TREES_REFUSED}")
    needed = NEED_CLIENTS.get(name)
    if needed is not None and needed not in params:
        raise ConfigurationError(f"{field}.{needed} must be given for {name!r}, got none")


def check_nodes(strategy: FedAvg, nodes: int) -> None:
    """Raise `ConfigurationError` if a round of so many nodes cannot move the model."""
    least = 4 * strategy.num_malicious_nodes + 3 if isinstance(strategy, Bulyan) else 1
    require(nodes >= least, "nodes", nodes, f"at least {least}")


def check_parameters(strategy: FedAvg) -> None:
    """Refuse what Flower's constructors accept and its rounds cannot use, or use to do something else.

    Raises
    ------
    ConfigurationError
        For a negative number of malicious nodes of Krum, MultiKrum or Bulyan, a MultiKrum that selects none, and for learning
        rates, momenta and other numbers of the optimisers that are not in their range.
    """
    for kind, name, low, high, open_low in _RANGES:
        if isinstance(strategy, kind):
            value = getattr(strategy, name)
            inside = isinstance(value, int | float) and (low < value if open_low else low <= value) and value < high
            allowed = f"{'above' if open_low else 'at least'} {low:g} and {'finite' if high == math.inf else f'below {high:g}'}"
            require(inside, name, value, allowed)
    if isinstance(strategy, Krum | MultiKrum | Bulyan):
        require(strategy.num_malicious_nodes >= 0, "num_malicious_nodes", strategy.num_malicious_nodes, "at least 0")
    if isinstance(strategy, MultiKrum):
        require(strategy.num_nodes_to_select >= 1, "num_nodes_to_select", strategy.num_nodes_to_select, "at least 1")
