"""A comparison as data: strategies x compressors x attacks x Byzantine counts x seeds over one base scenario."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flwr_robustcomp.component import Component, one_line
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.scenario import Scenario, load_toml

__all__ = ["Group", "Suite", "SuiteCell", "SuiteStrategy"]

NO_ATTACK = "none"


@dataclass(frozen=True, order=True)
class Group:
    """What a row of the table stands for: all seeds of one combination."""

    byzantine: int
    attack: str
    compressor: str
    strategy: str


@dataclass(frozen=True)
class SuiteCell:
    """One run of a comparison."""

    group: Group
    scenario: Scenario

    @property
    def name(self) -> str:
        """A name for files and lists, in which slashes group the runs of a setting."""
        group = self.group
        return f"{group.byzantine} {group.attack}/{group.compressor}/{group.strategy}/seed {self.scenario.seed}"


class SuiteStrategy(Component):
    """A strategy in a comparison.

    Attributes
    ----------
    label : str, optional
        Its name in tables and pictures; by default the strategy's own.
    compressor : Component, optional
        The one compressor that it runs with; by default each of the suite's.
    error_feedback : bool, optional
        By default the base scenario's.
    client_momentum : float, optional
        By default the base scenario's.
    root_samples : int, optional
        By default the base scenario's.
    downlink : Component, optional
        By default the base scenario's.
    """

    label: str | None = None
    compressor: Component | None = None
    error_feedback: bool | None = None
    client_momentum: float | None = None
    root_samples: int | None = None
    downlink: Component | None = None


class Suite(BaseModel):
    """A comparison.

    Attributes
    ----------
    title : str
        Heads the table and the picture.
    base : dict
        Fields of `Scenario` that all cells share.
    strategies : list of SuiteStrategy
        At least one.
    compressors : list of Component
        For the strategies that name none of their own.
    attacks : list of Component
        Each is run with every positive Byzantine count.
    byzantine : list of int
        Counts; 0 is run once, without attack.
    seeds : list of int
        Each gives one run of every combination.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    base: dict[str, Any] = Field(default_factory=dict)
    strategies: list[SuiteStrategy] = Field(min_length=1)
    compressors: list[Component] = Field(default=[Component(name="l1-sign")], min_length=1)
    attacks: list[Component] = Field(default=[Component(name="gaussian-noise")], min_length=1)
    byzantine: list[int] = Field(default=[0], min_length=1)
    seeds: list[int] = Field(default=[0], min_length=1)

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read a suite file; like a scenario, it is read without building anything.

        Raises
        ------
        ConfigurationError
            Naming the file, every bad field, its value and what is allowed.
        """
        data = load_toml(path)
        try:
            suite = cls.model_validate(data)
            suite.cells()
        except ValidationError as error:
            raise ConfigurationError(f"{path}: {one_line(error)}") from error
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from error
        return suite

    @property
    def size(self) -> int:
        """The number of its runs, known before they are made."""
        settings = sum(len(self.attacks) if count else 1 for count in self.byzantine)
        pairs = sum(1 if strategy.compressor else len(self.compressors) for strategy in self.strategies)
        return pairs * settings * len(self.seeds)

    def cells(self) -> list[SuiteCell]:
        """Return every run, in the order of the file."""
        names = [Counter(one.name for one in among) for among in (self.strategies, self.compressors, self.attacks)]
        combinations = [
            (strategy, compressor, byzantine, attack)
            for strategy in self.strategies
            for compressor in ([strategy.compressor] if strategy.compressor else self.compressors)
            for byzantine in self.byzantine
            for attack in (self.attacks if byzantine else self.attacks[:1])
        ]
        cells = [self._cell(*combination, seed, names) for combination in combinations for seed in self.seeds]
        for (group, seed), count in Counter((cell.group, cell.scenario.seed) for cell in cells).items():
            if count > 1:  # it would be averaged over as if it were another seed
                raise ConfigurationError(f"suite must hold every combination once, got {group} with seed {seed} {count} times")
        return cells

    def _cell(
        self,
        strategy: SuiteStrategy,
        compressor: Component,
        byzantine: int,
        attack: Component,
        seed: int,
        names: Sequence[Counter[str]],
    ) -> SuiteCell:
        fields: dict[str, Any] = {
            **self.base,
            "strategy": {"name": strategy.name, **strategy.params},
            "compressor": compressor.model_dump(),
            "byzantine": byzantine,
            "attack": attack.model_dump(),
            "seed": seed,
        }
        for field in ("error_feedback", "client_momentum", "root_samples", "downlink"):
            if (own := getattr(strategy, field)) is not None:
                fields[field] = own
        strategies, compressors, attacks = names
        group = Group(
            byzantine,
            _label(attack, attacks) if byzantine else NO_ATTACK,
            _label(compressor, compressors),
            strategy.label or _label(strategy, strategies),
        )
        return SuiteCell(group, Scenario.parse(fields))


def _label(component: Component, names: Counter[str]) -> str:
    """Return a component's name, with its parameters where others of the comparison share the name."""
    if component.params and names[component.name] > 1:
        return f"{component.name} ({', '.join(f'{key} {value}' for key, value in component.params.items())})"
    return component.name
