"""What clients and server must agree on, read by both from one table of the app's run config.

```toml
[tool.flwr.app.config.robustcomp]
compressor = "l1-sign"                            # or { name = "top-k", ratio = 0.01 }
error-feedback = true
strategy = { name = "norm-threshold", trim = 2 }
```

The server builds its strategy from it, ``Settings.from_run_config(context.run_config).make_strategy(fraction_train=0.5)``, and
the client lists a mod that reads the same table, ``ClientApp(mods=[configured_mod])``: they cannot disagree.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, Self

from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable
from flwr.serverapp.strategy import FedAvg
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from flwr_robustcomp.clients import CompressionMod
from flwr_robustcomp.clients.update import Reply
from flwr_robustcomp.component import Component, construct, member, nested, one_line
from flwr_robustcomp.compressors import COMPRESSORS, Compressor
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.layout import Granularity
from flwr_robustcomp.strategies import (
    ByzFL,
    CompressedStrategy,
    Decompressed,
    NormThreshold,
    Policy,
    RobustCompressed,
    SignMajorityVote,
)
from flwr_robustcomp.strategies.flower_builtin import FLOWER_STRATEGIES

__all__ = ["STRATEGIES", "TABLE", "Settings", "build_strategy", "configured_mod", "reported_norm"]

TABLE = "robustcomp"
"""The table of the run config."""

_OURS: dict[str, type[CompressedStrategy]] = {
    "byzfl": ByzFL,
    "majority-vote": SignMajorityVote,
    "norm-threshold": NormThreshold,
    "robust-compressed": RobustCompressed,
}

STRATEGIES: tuple[str, ...] = tuple(sorted([*_OURS, *FLOWER_STRATEGIES]))
"""Every strategy by the name that run configs and scenarios use; Flower's own run behind `Decompressed`."""

# What is the app's to settle: sampling, keys and callbacks of the strategy.
_RESERVED = {"on_round", "policy", "step", "uncompressed", "weight_required", *inspect.signature(FedAvg.__init__).parameters}


_OPTIONAL = ("patience", "quarantine_after")
"""Parameters of `Policy` that may be None."""


class Settings(BaseModel):
    """One table for both sides.

    Attributes
    ----------
    compressor : Component
        One of `COMPRESSORS`, or the import path of one's own, with its parameters.
    strategy : Component
        One of `STRATEGIES`, or the import path of one's own, with its own parameters. ``trim = 0`` fits every strategy:
        `flwr run --run-config` can override a key but not remove it, and may put one that does not trim in the place of
        one that does.
    error_feedback : bool
        Whether clients keep and add what compression dropped.
    granularity : {"model", "array"}
        Whole-model or per-array compression.
    reply : {"weights", "update"}
        What the training function replies with.
    policy : dict
        Parameters of `Policy`, as a table; 0 stands for None, which run configs do not have.

    Notes
    -----
    Keys may be written with dashes, as Flower's are, or with underscores. Neither the compressor nor the strategy has a
    default: an app whose table is missing fails, it does not train unprotected.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    compressor: Component
    strategy: Component
    error_feedback: bool = False
    granularity: Granularity = "model"
    reply: Reply = "weights"
    policy: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _buildable(self) -> Self:
        self.make_strategy()
        self.make_mod()
        return self

    @classmethod
    def from_run_config(cls, config: Mapping[str, str | int | float | bool]) -> Self:
        """Read the table from Flower's run config, whose nested keys are joined by dots; other tables are ignored.

        Raises
        ------
        ConfigurationError
            In one line: every bad key, its value and what is allowed.
        """
        own = {key: value for key, value in config.items() if key.split(".")[0] == TABLE}
        data = nested(own).get(TABLE, {})
        if not isinstance(data, dict):
            raise ConfigurationError(f"{TABLE} must be a table of the run config, got {data!r}")
        if unknown := data.keys() - cls.model_fields:
            known = ", ".join(f"{TABLE}.{name}" for name in sorted(cls.model_fields))
            raise ConfigurationError(f"{TABLE}.{min(unknown)} is no setting, allowed: {known}")
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigurationError(one_line(error, prefix=f"{TABLE}.")) from error

    def make_compressor(self) -> Compressor:
        """Build Q."""
        return construct(f"{TABLE}.compressor", COMPRESSORS, self.compressor, base=Compressor)

    def make_mod(self) -> CompressionMod:
        """Build the client's mod."""
        return CompressionMod(
            self.make_compressor(),
            error_feedback=self.error_feedback,
            granularity=self.granularity,
            reply=self.reply,
            report_norm=reported_norm(self.strategy),
        )

    def make_strategy(self, **options: Any) -> CompressedStrategy | Decompressed:
        """Build the server's strategy.

        Parameters
        ----------
        **options
            Passed on: those of Flower's strategy (``fraction_train``, ``min_available_nodes``, ...), and ``on_round``.
        """
        params = {name: value for name, value in self.strategy.params.items() if (name, repr(value)) != ("trim", "0")}
        component = Component(name=self.strategy.name, **params)
        compressor, granularity = self.make_compressor(), self.granularity
        return build_strategy(
            f"{TABLE}.strategy",
            component,
            compressor=compressor,
            granularity=granularity,
            policy=self.make_policy(),
            **options,
        )

    def make_policy(self) -> Policy:
        """Build what the server does about rejected replies."""
        given = {name: None if value == 0 and name in _OPTIONAL else value for name, value in self.policy.items()}
        return construct(TABLE, {"policy": Policy}, Component(name="policy", **given))


def configured_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Compress as the run config's table says: a `CompressionMod` for `ClientApp(mods=[...])`, which is made before any config.

    A table that cannot work raises `ConfigurationError`, which Flower reports to the server as an error of this node.
    """
    own = {key: value for key, value in context.run_config.items() if key.split(".")[0] == TABLE}
    return _mod(json.dumps(own, sort_keys=True))(message, context, call_next)


@functools.lru_cache(maxsize=4)
def _mod(config: str) -> CompressionMod:
    return Settings.from_run_config(json.loads(config)).make_mod()


def build_strategy(
    field: str,
    component: Component,
    *,
    compressor: Compressor,
    granularity: Granularity,
    on_round: Callable[..., None] | None = None,
    policy: Policy | None = None,
    **fedavg_options: Any,
) -> CompressedStrategy | Decompressed:
    """Build a strategy by name: one of ours, or one of Flower's behind `Decompressed`.

    Parameters
    ----------
    field : str
        The key or field that holds the component, for error messages.
    component : Component
        One of `STRATEGIES`, or the import path of a `CompressedStrategy` or of a subclass of Flower's `FedAvg`, with its own
        parameters; for Flower's also ``step_size``, which is `Decompressed`'s.
    compressor : Compressor
        Equal to the clients'.
    granularity : {"model", "array"}
        Equal to the clients'.
    on_round : callable, optional
        Called with the `RoundReport` of every round.
    policy : Policy, optional
        What follows from rejected replies.
    **fedavg_options
        Passed to Flower's strategy.

    Raises
    ------
    ConfigurationError
        For an unknown name or parameter, or a value out of range.
    """
    common: dict[str, Any] = {"compressor": compressor, "granularity": granularity, "on_round": on_round, "policy": policy}
    strategies: dict[str, type[FedAvg]] = {**_OURS, **FLOWER_STRATEGIES}
    factory = member(field, strategies, component.name, base=FedAvg)
    if not (isinstance(factory, type) and issubclass(factory, CompressedStrategy)):
        own = {key: value for key, value in component.params.items() if key == "step_size"}
        rest = Component(name=component.name, **{k: v for k, v in component.params.items() if k not in own})
        inner = construct(field, {rest.name: factory}, rest, reserved=_RESERVED, elsewhere=("step_size",), **fedavg_options)
        return construct(field, {rest.name: Decompressed}, Component(name=rest.name, **own), strategy=inner, **common)
    return construct(field, {component.name: factory}, component, reserved=_RESERVED, **common, **fedavg_options)


def reported_norm(strategy: Component) -> float | None:
    """Return the order of the norm that clients must report: Algorithm 1's, None for the others."""
    params = strategy.params
    return params.get("norm_order", 2) if params.get("norm") == "reported" else None
