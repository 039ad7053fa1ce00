"""What clients and server must agree on, read by both from one table of the app's run config.

```toml
[tool.flwr.app.config.robustcomp]
compressor = "drive"                 # or { name = "top-k", ratio = 0.01 }
strategy.trim = 0.2                  # or strategy = { name = "norm-threshold", trim = 2 }
```

The server builds its strategy from it, ``Settings.from_run_config(context.run_config).make_strategy(fraction_train=0.5)``, and
the client lists a mod that reads the same table, ``ClientApp(mods=[configured_mod])``: they cannot disagree.
"""

from __future__ import annotations

import copy
import difflib
import functools
import json
import re
from collections.abc import Mapping
from typing import Any, Self

from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from flwr_robustcomp.clients import CompressionMod
from flwr_robustcomp.clients.update import Reply
from flwr_robustcomp.component import Component, build, one_line, unflatten
from flwr_robustcomp.compressors import Choice, Compressor, Identity
from flwr_robustcomp.downlink import DOWNLINKS, Downlink
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.filters import FILTERS
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED
from flwr_robustcomp.packing import Granularity, Packing, build_compressor
from flwr_robustcomp.strategies import CompressedStrategy, Decompressed, Policy, RobustCompressed, TrustedRoot
from flwr_robustcomp.strategies.registry import STEPS, STRATEGIES, build_strategy, find_strategy, reported_norm

__all__ = ["RECIPE", "STEPS", "STRATEGIES", "TABLE", "Settings", "build_strategy", "configured_mod", "reported_norm"]

TABLE = "robustcomp"
"""The table of the run config."""

RECIPE: dict[str, Any] = {"filters": "norm-clipping+directions+spectral", "trim": 0.2, "length_screen": 5.0}
"""Of the default strategy, `RobustCompressed`: clip the longest fifth, look for colluders, drop what is far too long."""

_OPTIONAL = ("patience", "quarantine_after")
"""Parameters of `Policy` that may be None."""


class Settings(BaseModel):
    """One table for both sides.

    Attributes
    ----------
    compressor : Component
        One of `COMPRESSORS` or `CHOICES`, or the import path of one's own, with its parameters; `Drive` by default.
    strategy : Component
        One of `STRATEGIES`, or the import path of one's own, with its own parameters. Parameters of the default that are not
        given are those of `RECIPE`: ``strategy.trim = 0.3`` alone expects more Byzantine nodes. ``trim = 0`` fits every
        strategy: `flwr run --run-config` can override a key but not remove it, and may put one that does not trim in the place
        of one that does.
    error_feedback : bool, optional
        Whether clients keep and add what compression dropped. By default they do where the compressor is a contraction and not
        unbiased, which is where error feedback is known to help (Karimireddy et al. 2019). Of a choice, every lossy compressor
        has to be one.
    granularity : {"model", "array"}
        Whole-model or per-array compression.
    reply : {"weights", "update"}
        What the training function replies with.
    key : str, optional
        Where the model's ArrayRecord is in messages, if it cannot be told from the others; see `CompressionMod`.
    partial : bool
        Whether replies may hold some of the model's arrays only; see `CompressionMod`.
    uncompressed : str
        Shell patterns of the arrays that travel as they are, joined by commas: run configs have no lists. By default those of
        batch statistics.
    downlink : Component
        How the model travels to the nodes, one of `DOWNLINKS` with its parameters.
    step : Component, optional
        What the server does with the aggregate, one of `STEPS` with its parameters; a plain step by default. It belongs to
        ``robust-compressed``; of Flower's strategies, ``fed-adam`` and its like have their own.
    policy : dict
        Parameters of `Policy`, as a table; 0 stands for None, which run configs do not have.

    Notes
    -----
    Keys may be written with dashes, as Flower's are, or with underscores. An app without the table gets the defaults on both
    sides. They were chosen by measuring (docs/accuracy.md, docs/adr/0030): one bit a coordinate, an accuracy
    near that of dense `FedAvg`, and up to a fifth of the nodes Byzantine.

    Examples
    --------
    >>> from flwr_robustcomp import Settings
    >>> settings = Settings.from_run_config({"robustcomp.strategy.trim": 0.1})
    >>> settings.make_mod().error_feedback, settings.make_strategy().trim
    (True, 0.1)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    compressor: Component = Component(name="drive")
    strategy: Component = Component(name="robust-compressed", **RECIPE)
    error_feedback: bool | None = None
    granularity: Granularity = "model"
    reply: Reply = "weights"
    key: str | None = None
    partial: bool = False
    uncompressed: str = ",".join(DEFAULT_UNCOMPRESSED)
    downlink: Component = Component(name="dense")
    step: Component | None = None
    policy: dict[str, Any] = Field(default_factory=dict)

    @field_validator("strategy", mode="before")
    @classmethod
    def _changed_recipe(cls, value: Any) -> Any:
        value = {"name": value} if isinstance(value, str) else value
        ours = isinstance(value, Mapping) and value.get("name", "robust-compressed") == "robust-compressed"
        return {"name": "robust-compressed", **RECIPE, **value} if ours else value

    @model_validator(mode="after")
    def _buildable(self) -> Self:
        self.make_strategy(**({"root": _ANY_ROOT} if self._asks_for_root() else {}))
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
        heads = {key.split(".")[0] for key in config}
        if joined := sorted(head for head in heads if re.match(rf"{TABLE}($|[-_])", head, re.IGNORECASE) and head != TABLE):
            raise ConfigurationError(f"settings must be in the table {TABLE}, as {TABLE}.compressor is, got {joined[0]!r}")
        if TABLE not in heads and (near := difflib.get_close_matches(TABLE, heads, n=1, cutoff=0.76)):
            raise ConfigurationError(f"{TABLE} must be the name of the table, got {near[0]!r}")
        own = {key: copy.deepcopy(value) for key, value in config.items() if key.split(".")[0] == TABLE}
        data = unflatten(own).get(TABLE, {})
        if not isinstance(data, dict):
            raise ConfigurationError(f"{TABLE} must be a table of the run config, got {data!r}")
        if unknown := data.keys() - cls.model_fields:
            known = ", ".join(f"{TABLE}.{name}" for name in sorted(cls.model_fields))
            raise ConfigurationError(f"{TABLE}.{min(unknown)} is no setting, allowed: {known}")
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigurationError(one_line(error, prefix=f"{TABLE}.")) from error

    def _asks_for_root(self) -> bool:
        """Return whether the filters are for a strategy with a root, which a table cannot have: `make_strategy` is given it."""
        names = str(self.strategy.params.get("filters", "")).split("+")
        return any(FILTERS[name].trusts_root for name in names if name in FILTERS)

    def make_packing(self) -> Packing:
        """Build what both sides share: how the model's arrays travel."""
        patterns = tuple(pattern.strip() for pattern in self.uncompressed.split(",") if pattern.strip())
        return Packing(build_compressor(f"{TABLE}.compressor", self.compressor), self.granularity, patterns)

    def make_compressor(self) -> Compressor | Choice:
        """Build Q."""
        return self.make_packing().compressor

    def make_mod(self) -> CompressionMod:
        """Build the client's mod."""
        packing = self.make_packing()
        lossy = [compressor for compressor in packing.compressors if not isinstance(compressor, Identity)]
        helps = bool(lossy) and all(map(_is_contraction, lossy))
        feedback = helps if self.error_feedback is None else self.error_feedback
        return CompressionMod(
            packing,
            error_feedback=feedback,
            reply=self.reply,
            report_norm=reported_norm(self.strategy),
            key=self.key,
            partial=self.partial,
        )

    def make_strategy(self, **options: Any) -> CompressedStrategy | Decompressed:
        """Build the server's strategy.

        Parameters
        ----------
        **options
            Passed on: those of Flower's strategy (``fraction_train``, ``min_available_nodes``, ...), ``on_round``,
            and ``root``. With a root the filters of `RECIPE` give way to those that trust it.
        """
        ours = {"trim", "filters", "step_size", "radius", "length_screen", "sketch", "memory", "seed", "rule"}
        if twice := sorted(options.keys() & ours):
            own = f"{TABLE}.strategy.{twice[0]}"
            raise ConfigurationError(f"{twice[0]} is set by the table, as {own}, and not by make_strategy")
        params = {name: value for name, value in self.strategy.params.items() if (name, repr(value)) != ("trim", "0")}
        if options.get("root") is not None:  # the recipe's filters and its screen need a majority, and a root does not
            params = {name: value for name, value in params.items() if name == "trim" or RECIPE.get(name) != value}
        component = Component(name=self.strategy.name, **params)
        if self.step is not None:
            found = find_strategy(f"{TABLE}.strategy", component.name)
            fits = isinstance(found, type) and issubclass(found, RobustCompressed)
            require(fits, f"{TABLE}.step", self.step.name, f"left out with the strategy {component.name!r}")
            options["step"] = build(f"{TABLE}.step", STEPS, self.step)
        return build_strategy(
            f"{TABLE}.strategy",
            component,
            packing=self.make_packing(),
            policy=self.make_policy(),
            downlink=self.make_downlink(),
            **options,
        )

    def make_downlink(self) -> Downlink | None:
        """Build how the model travels to the nodes; None for the dense model."""
        return build(f"{TABLE}.downlink", DOWNLINKS, self.downlink)

    def make_policy(self) -> Policy:
        """Build what the server does about rejected replies."""
        given = {name: None if value == 0 and name in _OPTIONAL else value for name, value in self.policy.items()}
        return build(f"{TABLE}.policy", {"policy": Policy}, Component(name="policy", **given))


_ANY_ROOT = TrustedRoot(lambda server_round, arrays: arrays, lambda server_round, arrays: 0.0)
"""In the place of the root that only the server has, where both sides check the table."""

_LARGE = (2**12, 2**12)
"""Shape of a large array, for which the guarantee of a compressor is asked without a model."""


def _is_contraction(compressor: Compressor) -> bool:
    return not compressor.unbiased and compressor.delta_of(_LARGE) is not None


def configured_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Compress as the run config's table says: a `CompressionMod` for `ClientApp(mods=[...])`, which is made before any config.

    A table that cannot work raises `ConfigurationError`, which Flower reports to the server as an error of this node.
    """
    return _mod(json.dumps(dict(context.run_config), sort_keys=True, default=str))(message, context, call_next)


@functools.lru_cache(maxsize=4)
def _mod(config: str) -> CompressionMod:
    return Settings.from_run_config(json.loads(config)).make_mod()
