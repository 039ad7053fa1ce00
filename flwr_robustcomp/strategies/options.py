"""The options that every strategy over packed updates has, typed, and what a wrong one is told."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Required, TypedDict

from flwr.app import MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from flwr_robustcomp.compressors import Choice, Compressor
from flwr_robustcomp.downlink import Downlink
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.packing import Granularity, Packing
from flwr_robustcomp.strategies.policy import Policy
from flwr_robustcomp.strategies.report import RoundReport

__all__ = ["FedAvgOptions", "RoundOptions", "SharedOptions", "check_options"]

MetricsFunction = Callable[[list[RecordDict], str], MetricRecord]
"""Sums up the metrics of replies; the name is that of the metric which counts examples."""


class FedAvgOptions(TypedDict, total=False):
    """The options of Flower's `FedAvg`."""

    fraction_train: float
    fraction_evaluate: float
    min_train_nodes: int
    min_evaluate_nodes: int
    min_available_nodes: int
    weighted_by_key: str
    arrayrecord_key: str
    configrecord_key: str
    train_metrics_aggr_fn: MetricsFunction | None
    evaluate_metrics_aggr_fn: MetricsFunction | None


class RoundOptions(FedAvgOptions, total=False):
    """The options of `CompressedStrategy` but the compressor."""

    granularity: Granularity | None
    uncompressed: Sequence[str] | None
    on_round: Callable[[RoundReport], None] | None
    policy: Policy | None
    downlink: Downlink | None


class SharedOptions(RoundOptions, total=False):
    """The options of `CompressedStrategy`, which its descendants pass on."""

    compressor: Required[Compressor | Choice | Packing]


def check_options(strategy: type, options: Iterable[str]) -> None:
    """Raise `ConfigurationError` unless Flower's `FedAvg` has all of these options; it names the nearest one that there is.

    Parameters
    ----------
    strategy : type
        What they were given to.
    options : iterable of str
        The names that no constructor of ours has taken.
    """
    for name in options:
        if name not in _of(FedAvg):
            known = sorted({parameter for cls in strategy.__mro__ for parameter in _of(cls)} - {name})
            near = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]!r}?" if near else f": it has {', '.join(known)}"
            raise ConfigurationError(f"{strategy.__name__} has no option {name!r}{hint}")


@functools.cache
def _of(cls: type) -> frozenset[str]:
    if "__init__" not in vars(cls) or cls is object:
        return frozenset()
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
    return frozenset(one.name for one in parameters if one.kind in named and one.name != "self")
