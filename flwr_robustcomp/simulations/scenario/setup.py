"""From a scenario to the objects it names: problem, compressor, mods and strategy."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from flwr.clientapp.typing import Mod

from flwr_robustcomp.clients import BackdoorTrigger, ClientMomentum, CompressionMod, LabelAttack, Schedule, UpdateAttack
from flwr_robustcomp.clients.update import Reply
from flwr_robustcomp.component import Component, build, resolve
from flwr_robustcomp.downlink import DOWNLINKS
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters.base import trim_of
from flwr_robustcomp.one_slot import OneSlot
from flwr_robustcomp.packing import Packing, build_compressor
from flwr_robustcomp.randomness import generator
from flwr_robustcomp.simulations.attacks import ATTACKS, Collusion
from flwr_robustcomp.simulations.attacks.accomplice import Accomplice
from flwr_robustcomp.simulations.problems import PROBLEMS, Problem, StampedProblem
from flwr_robustcomp.simulations.scenario import RunConfig, Scenario
from flwr_robustcomp.simulations.scenario.root import scenario_root
from flwr_robustcomp.strategies import CompressedStrategy, Decompressed, RobustCompressed, TrustedRoot
from flwr_robustcomp.strategies.flower.builtin import NEED_CLIENTS
from flwr_robustcomp.strategies.registry import STRATEGIES, build_strategy, find_strategy, reported_norm

__all__ = [
    "SCENARIO_STRATEGIES",
    "Setup",
    "byzantine_partitions",
    "check_all",
    "check_components",
    "client_mods",
    "make_collusion",
    "make_packing",
    "make_problem",
    "make_strategy",
    "setup_of",
]


SCENARIO_STRATEGIES = tuple(name for name in STRATEGIES if name not in NEED_CLIENTS)
"""Every strategy by the name that scenarios use. FedProx and q-FedAvg need a part in training that scenarios do not have."""

_SCHEDULE = ("start", "stop", "fraction")


def make_packing(scenario: Scenario) -> Packing:
    """Build what the scenario's clients and server share: how the model's arrays travel."""
    return Packing(build_compressor("compressor", scenario.compressor), scenario.granularity)


def make_problem(scenario: Scenario) -> Problem:
    """Build the scenario's problem; equal ones of the same process are made once."""
    return _problem(*_problem_key(scenario))


def _problem_key(scenario: Scenario) -> tuple[str, int, int]:
    return json.dumps(scenario.problem.model_dump(), sort_keys=True), scenario.nodes, scenario.seed


@functools.lru_cache(maxsize=2)
def _problem(problem: str, nodes: int, seed: int) -> Problem:
    # Two: the cells of a comparison alternate between few problems, and a least-squares problem holds 32 MB.
    component = Component(**json.loads(problem))
    made = build("problem", PROBLEMS, component, reserved=("nodes", "seed"), base=object, nodes=nodes, seed=seed)
    if not isinstance(made, Problem):  # one from an import path
        raise ConfigurationError(f"problem must have the attributes of problems.Problem, got {type(made).__name__!r}")
    return made


def make_strategy(scenario: Scenario) -> CompressedStrategy | Decompressed:
    """Build the scenario's strategy for its nodes."""
    if scenario.strategy.name in NEED_CLIENTS:
        allowed = f"one of {', '.join(SCENARIO_STRATEGIES)}: the clients of a scenario have no part of it"
        raise ConfigurationError(f"strategy must be {allowed}, got {scenario.strategy.name!r}")
    rooted: dict[str, Any] = {"root": _root(scenario)} if scenario.root_samples else {}
    strategy = build_strategy(
        "strategy",
        _with_trim(scenario),
        **rooted,
        packing=make_packing(scenario),
        downlink=build("downlink", DOWNLINKS, scenario.downlink),
        fraction_train=scenario.asked / scenario.nodes,  # Flower rounds down, and then takes the larger of this and the next
        fraction_evaluate=0.0,
        min_train_nodes=scenario.asked,
        min_available_nodes=scenario.nodes,
    )
    if scenario.sampled:
        strategy.history.sampling_seed = scenario.seed
    if "seed" not in scenario.strategy.params:
        strategy.draw_from(scenario.seed)  # what a deployment draws in secret follows from the scenario's seed
    return strategy


def _root(scenario: Scenario) -> TrustedRoot:
    """Return the server's root, for a strategy that has the use of one."""
    found = find_strategy("strategy", scenario.strategy.name)
    if not (isinstance(found, type) and issubclass(found, RobustCompressed)):
        allowed = f"0 with the strategy {scenario.strategy.name!r}, which has no use for a root"
        raise ConfigurationError(f"root_samples must be {allowed}, got {scenario.root_samples}")
    return scenario_root(make_problem(scenario), scenario.problem.name, scenario.root_samples, scenario.root_epochs)


def _with_trim(scenario: Scenario) -> Component:
    """Return the strategy with ``trim`` as a number: ``"byzantine+2"`` becomes the count of a round, as expected, plus two."""
    params = scenario.strategy.params
    trim = params.get("trim")
    if isinstance(trim, str):
        match = re.fullmatch(r"byzantine\s*(?:\+\s*(\d+))?", trim.strip())
        if match is None:
            raise ConfigurationError(f'strategy.trim must be a count, a fraction in [0, 0.5) or "byzantine+K", got {trim!r}')
        expected = -(-scenario.byzantine * scenario.asked // scenario.nodes)  # rounded up; a sample may hold more
        trim = params["trim"] = expected + int(match[1] or 0)
    nodes = scenario.asked
    below = isinstance(trim, int | float) and 0 <= trim < math.inf and trim_of(trim, nodes) < nodes
    if scenario.root_samples and below:
        return Component(name=scenario.strategy.name, **params)  # a root outweighs any majority; filters ask for what they need
    if isinstance(trim, int | float) and 0 <= trim and (trim == math.inf or 2 * trim_of(trim, nodes) >= nodes):
        drawn = "sampled " if scenario.sampled else ""
        raise ConfigurationError(f"strategy.trim must be below half of the {nodes} {drawn}nodes, got {trim!r}")
    return Component(name=scenario.strategy.name, **params)


def byzantine_partitions(scenario: Scenario) -> frozenset[int]:
    """Return the partition ids of the Byzantine nodes, chosen by the seed."""
    order = generator(scenario.seed, "byzantine").permutation(scenario.nodes)
    return frozenset(order[: scenario.byzantine].tolist())


def client_mods(scenario: Scenario) -> list[Mod]:
    """Return the mods of every node, outermost first; the order is the threat model."""
    reply = make_problem(scenario).reply
    compression = CompressionMod(
        make_packing(scenario),
        error_feedback=scenario.error_feedback,
        reply=reply,
        report_norm=reported_norm(scenario.strategy),
        report_delta=True,
    )
    attack = _attack_mod(scenario, reply)
    momentum: list[Mod] = [ClientMomentum(scenario.client_momentum, reply=reply)] if scenario.client_momentum else []
    if scenario.byzantine == 0:
        return [compression, *momentum]
    if isinstance(attack, Accomplice):
        return [attack, compression, *momentum]  # a mark on the reply, whatever the adversary
    return [attack, compression, *momentum] if scenario.adversary == "arbitrary" else [compression, attack, *momentum]


def _attack_mod(scenario: Scenario, reply: Reply) -> Mod:
    """Return what the Byzantine nodes run; where they collude, that is a mark on their replies."""
    schedule, component = _scheduled(scenario.attack)
    given: dict[str, Any] = {"partitions": byzantine_partitions(scenario), "schedule": schedule}
    attack_type = _attack_type(component)
    if issubclass(attack_type, Collusion):
        return Accomplice(**given)
    if issubclass(attack_type, UpdateAttack):
        given["reply"] = reply
    attacks: dict[str, Callable[..., Mod]] = {component.name: attack_type}
    return build("attack", attacks, component, reserved=("seed", "reply", "uncompressed"), elsewhere=_SCHEDULE, **given)


def _attack_type(component: Component) -> type[UpdateAttack] | type[LabelAttack] | type[Collusion]:
    found = resolve("attack", ATTACKS, component.name, base=(UpdateAttack, LabelAttack, Collusion))
    return cast("type[UpdateAttack] | type[LabelAttack] | type[Collusion]", found)


def make_collusion(scenario: Scenario) -> Collusion | None:
    """Build the scenario's colluding attack; None where its Byzantine nodes act each on its own."""
    _, component = _scheduled(scenario.attack)
    attack_type = _attack_type(component)
    if not issubclass(attack_type, Collusion):
        return None
    return build("attack", {component.name: attack_type}, component, elsewhere=_SCHEDULE)


def _scheduled(attack: Component) -> tuple[Schedule, Component]:
    """Take an attack's schedule out of its parameters."""
    when = {key: value for key, value in attack.params.items() if key in _SCHEDULE}
    rest = {key: value for key, value in attack.params.items() if key not in _SCHEDULE}
    schedule = build("attack", {attack.name: Schedule}, Component(name=attack.name, **when))
    return schedule, Component(name=attack.name, **rest)


def check_components(scenario: Scenario) -> None:
    """Raise `ConfigurationError` unless everything that the scenario names can be built and fits together."""
    packing, model = make_packing(scenario), make_problem(scenario).initial()
    try:
        packing.check(packing.layout(model))
    except ConfigurationError as error:
        raise ConfigurationError(f"compressor {packing.compressor.name!r}: {error}") from error
    make_strategy(scenario).check_nodes(scenario.asked)
    client_mods(scenario)
    make_collusion(scenario)
    _check_data(scenario)


def check_all(scenarios: Iterable[Scenario]) -> None:
    """Check the components of many scenarios, those with equal problems one after the other: such a problem is made once."""
    for scenario in sorted(scenarios, key=_problem_key):
        check_components(scenario)


def _check_data(scenario: Scenario) -> None:
    """Raise unless the problem has the labels, and for a backdoor the images, that the attack would change."""
    attack = _attack_type(scenario.attack)
    if not scenario.byzantine or not issubclass(attack, LabelAttack):
        return
    problem = make_problem(scenario)
    if not problem.labelled:
        raise ConfigurationError(
            f"attack must be one on updates for the problem {scenario.problem.name!r}, which has no labels, "
            f"got {scenario.attack.name!r}"
        )
    if issubclass(attack, BackdoorTrigger) and not isinstance(problem, StampedProblem):
        raise ConfigurationError(
            f"attack must be one on labels or updates for the problem {scenario.problem.name!r}, which has no images to mark, "
            f"got {scenario.attack.name!r}"
        )


@dataclass(frozen=True)
class Setup:
    """What the apps need in every message, built once for each run and process."""

    scenario: Scenario
    problem: Problem
    mods: tuple[Mod, ...]
    collusion: Collusion | None
    backdoor: BackdoorTrigger | None


@functools.lru_cache(maxsize=4)
def _setup(config: str) -> Setup:
    scenario = Scenario.from_run_config(json.loads(config))
    mods = client_mods(scenario)
    collusion = make_collusion(scenario) if scenario.byzantine else None
    backdoor = next((mod for mod in mods if isinstance(mod, BackdoorTrigger)), None)
    return Setup(scenario, make_problem(scenario), tuple(mods), collusion, backdoor)


_SETUP: OneSlot[Setup] = OneSlot()


def setup_of(config: RunConfig) -> Setup:
    """Return the setup of a run config; the same dict object, which our grids pass every time, is not even hashed."""
    return _SETUP.get([config], None, lambda: _setup(json.dumps(config, sort_keys=True)))
