"""Every strategy by its name, and how one is built from its name and parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from flwr.serverapp.strategy import FedAvg

from flwr_robustcomp.component import Component, build, resolve
from flwr_robustcomp.downlink import Downlink
from flwr_robustcomp.errors import require
from flwr_robustcomp.packing import Packing
from flwr_robustcomp.strategies.byzfl import ByzFL
from flwr_robustcomp.strategies.compressed import CompressedStrategy
from flwr_robustcomp.strategies.decompressed import Decompressed
from flwr_robustcomp.strategies.flower.builtin import FLOWER_STRATEGIES, check_named
from flwr_robustcomp.strategies.majority_vote import SignMajorityVote
from flwr_robustcomp.strategies.norm_threshold import NormThreshold
from flwr_robustcomp.strategies.policy import Policy
from flwr_robustcomp.strategies.robust_compressed import RobustCompressed
from flwr_robustcomp.strategies.server_step import Adam, Momentum, Plain, ServerStep

__all__ = ["OURS", "STEPS", "STRATEGIES", "build_strategy", "find_strategy", "reported_norm"]

OURS: dict[str, type[CompressedStrategy]] = {
    "byzfl": ByzFL,
    "majority-vote": SignMajorityVote,
    "norm-threshold": NormThreshold,
    "robust-compressed": RobustCompressed,
}

STRATEGIES: tuple[str, ...] = tuple(sorted([*OURS, *FLOWER_STRATEGIES]))
"""Every strategy by the name that run configs and scenarios use; Flower's own run behind `Decompressed`.

Ours give every client the same weight. Flower's that average weight by the number of examples that clients claim, as without
compression; of ours, ``norm-threshold`` does so with ``weighting = "examples"``.
"""

# What is the app's to settle: sampling, keys and callbacks of the strategy.
_OURS_ALONE = {"compressor", "downlink", "granularity", "on_round", "policy", "root", "step", "uncompressed", "weight_required"}
_RESERVED = {*_OURS_ALONE, *inspect.signature(FedAvg.__init__).parameters}


STEPS: dict[str, type[ServerStep]] = {"adam": Adam, "momentum": Momentum, "plain": Plain}
"""What the server can do with the aggregate, by the name that run configs use."""


def find_strategy(field: str, name: str) -> Callable[..., FedAvg]:
    """Return the class that a name or an import path stands for; `ConfigurationError` if it stands for none."""
    return resolve(field, {**OURS, **FLOWER_STRATEGIES}, name, base=FedAvg)


def build_strategy(
    field: str,
    component: Component,
    *,
    packing: Packing,
    on_round: Callable[..., None] | None = None,
    policy: Policy | None = None,
    downlink: Downlink | None = None,
    **fedavg_options: Any,
) -> CompressedStrategy | Decompressed:
    """Build a strategy by name: one of ours, or one of Flower's behind `Decompressed`.

    Parameters
    ----------
    field : str
        The key or field that holds the component, for error messages.
    component : Component
        One of `STRATEGIES`, or the import path of a `CompressedStrategy` or of a subclass of Flower's `FedAvg`, with its own
        parameters; for Flower's also ``step_size``, which is `Decompressed`'s. ``fed-prox`` needs ``proximal_mu``, and
        ``q-fed-avg`` needs ``client_learning_rate`` and a training loss from the clients.
    packing : Packing
        Equal to the clients'.
    on_round : callable, optional
        Called with the `RoundReport` of every round.
    policy : Policy, optional
        What follows from rejected replies.
    downlink : Downlink, optional
        How the model travels to the nodes; None for the dense model.
    **fedavg_options
        Passed to Flower's strategy.

    Raises
    ------
    ConfigurationError
        For an unknown name or parameter, or a value out of range.
    """
    common: dict[str, Any] = {"compressor": packing, "on_round": on_round, "policy": policy, "downlink": downlink}
    check_named(field, component.name, component.params)
    factory = find_strategy(field, component.name)
    _check_root(component.name, factory, fedavg_options)
    if not (isinstance(factory, type) and issubclass(factory, CompressedStrategy)):
        own = {key: value for key, value in component.params.items() if key == "step_size"}
        rest = Component(name=component.name, **{k: v for k, v in component.params.items() if k not in own})
        inner = build(field, {rest.name: factory}, rest, reserved=_RESERVED, elsewhere=("step_size",), **fedavg_options)
        return build(field, {rest.name: Decompressed}, Component(name=rest.name, **own), strategy=inner, **common)
    return build(field, {component.name: factory}, component, reserved=_RESERVED, **common, **fedavg_options)


def _check_root(name: str, factory: Callable[..., FedAvg], options: Mapping[str, Any]) -> None:
    """Refuse a root where the strategy has no such parameter."""
    if "root" in options:
        allowed = f"left out with the strategy {name!r} (robust-compressed has filters that look at one)"
        require("root" in inspect.signature(factory).parameters, "root", options["root"], allowed)


def reported_norm(strategy: Component) -> float | None:
    """Return the order of the norm that clients must report: Algorithm 1's, None for the others."""
    params = strategy.params
    return params.get("norm_order", 2) if params.get("norm") == "reported" else None
