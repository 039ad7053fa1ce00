"""A simulated run as data: who learns what, with which compressor and strategy, and who lies."""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from flwr_robustcomp.component import Component, flatten, one_line, unflatten
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.packing import Granularity

__all__ = ["RunConfig", "Scenario", "load_toml"]

RunConfig = dict[str, str | int | float | bool]
"""Flower's run config: flat, with dots for nesting."""


_YOUNGER = ("client_momentum", "root_samples", "root_epochs", "downlink", "sampled")
"""Fields that are younger than the first records, which are to be found."""


class Scenario(BaseModel):
    """One run, complete: two equal scenarios give the same curve on every engine.

    A name of a registry may also be the import path of a class of one's own, ``"package.module:Name"``; see docs/how-to/.

    A scenario is a value. Making or reading one checks what the fields themselves say, and imports, builds and downloads
    nothing: a record from somebody else is read like a file of one's own. `setup.check_components` says whether its parts can
    be built and fit together; whatever runs a scenario asks that first.

    Attributes
    ----------
    problem : Component
        One of `PROBLEMS`.
    nodes : int
        m.
    byzantine : int
        How many of them lie; which ones follows from the seed.
    attack : Component
        One of `ATTACKS`, with ``start``, ``stop`` and ``fraction`` of its `Schedule`.
    adversary : {"restricted", "arbitrary"}
        Whether attacks on the update come before the compressor (section 4) or after it (section 5); see docs/attacks.md.
    compressor : Component
        One of `COMPRESSORS`.
    error_feedback : bool
        Whether clients keep and add what compression dropped.
    client_momentum : float
        beta of the clients' momentum, in [0, 1).
    root_samples : int
        How many clean training examples the server holds a copy of, for filters that trust a root; 0 for no root.
    root_epochs : int
        How many times as many local epochs as a node the server trains on them.
    granularity : {"model", "array"}
        Whole-model or per-array compression.
    downlink : Component
        How the model travels to the nodes, one of `DOWNLINKS`.
    sampled : int
        How many nodes a round asks, drawn anew in each; 0 for all. On our engines the seed says which. Under `flwr run` node
        ids differ from run to run, and so do the nodes that are drawn.
    strategy : Component
        One of `SCENARIO_STRATEGIES`; ``trim`` may also read ``"byzantine+2"``. It is about the replies of a round: of a sample,
        ``"byzantine"`` is the count that is expected in it, rounded up.
    rounds : int
        T.
    seed : int
        Of everything random.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    problem: Component = Component(name="least-squares")
    nodes: int = Field(default=200, ge=1)
    byzantine: int = Field(default=0, ge=0)
    attack: Component = Component(name="gaussian-noise")
    adversary: Literal["restricted", "arbitrary"] = "restricted"
    compressor: Component = Component(name="l1-sign")
    error_feedback: bool = False
    client_momentum: float = Field(default=0.0, ge=0, lt=1)
    root_samples: int = Field(default=0, ge=0)
    root_epochs: int = Field(default=1, ge=1)
    granularity: Granularity = "model"
    downlink: Component = Component(name="dense")
    sampled: int = Field(default=0, ge=0)
    strategy: Component = Component(name="norm-threshold")
    rounds: int = Field(default=200, ge=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.byzantine > self.nodes:
            raise ConfigurationError(f"byzantine must be in [0, nodes = {self.nodes}], got {self.byzantine}")
        if self.sampled > self.nodes:
            raise ConfigurationError(f"sampled must be in [0, nodes = {self.nodes}], got {self.sampled}")
        return self

    @property
    def asked(self) -> int:
        """How many nodes a round asks."""
        return self.sampled or self.nodes

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Validate a mapping of the fields; like the constructor, with errors in one line.

        Raises
        ------
        ConfigurationError
            Naming every bad field, its value and what is allowed.
        """
        for name in data if isinstance(data, Mapping) else ():
            if name not in cls.model_fields:
                near = difflib.get_close_matches(str(name), cls.model_fields, n=1)
                hint = f", did you mean {near[0]!r}?" if near else f", allowed: {', '.join(cls.model_fields)}"
                raise ConfigurationError(f"{name} is no field of a scenario, got {data[name]!r}{hint}")
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigurationError(one_line(error)) from error

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read a scenario file."""
        return cls.parse(load_toml(path))

    @classmethod
    def from_run_config(cls, config: RunConfig) -> Self:
        """Read a scenario from Flower's run config, whose nested keys are joined by dots; other keys are ignored."""
        own = {key: value for key, value in config.items() if key.split(".")[0] in cls.model_fields}
        return cls.parse(unflatten(own))

    def to_run_config(self) -> RunConfig:
        """Return the scenario as Flower's run config."""
        return flatten(self.model_dump())

    @property
    def key(self) -> str:
        """Hash of the whole configuration, 16 hexadecimal digits; equal for equal scenarios in every process."""
        fields = self.model_dump()
        for name in _YOUNGER:
            if getattr(self, name) == type(self).model_fields[name].default:
                del fields[name]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]

    def varied(self, **changes: Any) -> Self:
        """Return a scenario with some fields replaced, validated anew."""
        return self.parse({**self.model_dump(), **changes})


def load_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file; a missing or broken one is a `ConfigurationError` of one line."""
    path = Path(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"file must be readable, got {str(path)!r}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"file must be TOML, got {str(path)!r}: {error}") from error
