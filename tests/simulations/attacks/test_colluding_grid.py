"""Collusion on the wire: in every scenario, on every grid, against every strategy, and what it does to norm thresholding."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from typing import Any

import pytest
import torch
from flwr.app import Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.serverapp import Grid

from benchmarks.parts.compressors import COMPONENTS
from flwr_robustcomp import wire
from flwr_robustcomp.clients import Schedule
from flwr_robustcomp.clients.incoming import with_model
from flwr_robustcomp.compressors import COMPRESSORS
from flwr_robustcomp.downlink import DOWNLINKS
from flwr_robustcomp.downlink.records import HEADER, HELD
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.flower import server_context
from flwr_robustcomp.simulations import InProcessGrid, Scenario, run_scenario
from flwr_robustcomp.simulations.app import CLIENT_APP, serve
from flwr_robustcomp.simulations.attacks import ATTACKS, InnerProduct, WarmUp
from flwr_robustcomp.simulations.attacks.accomplice import MARK, Accomplice
from flwr_robustcomp.simulations.attacks.colluding_grid import ColludingGrid
from flwr_robustcomp.simulations.runs.run import quiet_flower
from flwr_robustcomp.simulations.scenario.setup import byzantine_partitions, check_components, make_strategy
from flwr_robustcomp.strategies.downlink.outgoing import Outgoing
from flwr_robustcomp.strategies.nodes.history import RunHistory
from tests.apps import app, replied
from tests.simulations.kit import digits, small, snapshot, training_messages

LABELLED = [name for name, cls in ATTACKS.items() if cls.kind == "label"]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quiet_flower(logging.ERROR):
        yield


def _replies(scenario: Scenario, attack: Any, **options: Any) -> tuple[list[Message], list[Message], set[int]]:
    """Return a round's replies with and without collusion, sorted by partition, and who is Byzantine."""
    found = []
    for wrapped in (True, False):
        config = (scenario if wrapped else scenario.varied(byzantine=0)).to_run_config()
        with InProcessGrid(CLIENT_APP, scenario.nodes, run_config=config) as inner:
            grid: Grid = ColludingGrid(inner, attack, reply="update", **options) if wrapped else inner
            messages = training_messages(scenario, inner)
            found.append(sorted(grid.send_and_receive(messages), key=lambda r: r.metadata.src_node_id))
            partitions = [inner.partition_of[r.metadata.src_node_id] for r in found[-1]]
    liars = {i for i, p in enumerate(partitions) if p in byzantine_partitions(scenario)}
    return found[0], found[1], liars


@pytest.mark.parametrize("adversary", ["restricted", "arbitrary"])
@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_runs_in_both_forms_and_only_byzantine_replies_differ(name: str, adversary: str) -> None:
    make = digits if name in LABELLED else small
    scenario = make(attack=name, adversary=adversary, error_feedback=True, rounds=2)
    records = run_scenario(scenario)
    assert [record["rejected"] for record in records[1:]] == [{}, {}]
    assert all(record["kept"] == 7 for record in records[1:])
    assert records == run_scenario(scenario)
    assert ("backdoor" in records[0]) == (name == "backdoor")


@pytest.mark.parametrize("compressor", sorted(name for name in COMPONENTS if not COMPRESSORS[name].wants_matrices))
@pytest.mark.parametrize("granularity", ["model", "array"])
def test_what_is_crafted_goes_through_the_compressor(compressor: str, granularity: str) -> None:
    scenario = small(compressor=COMPONENTS[compressor], granularity=granularity, attack="inner-product", strategy="fed-avg")
    forged, honest, liars = _replies(scenario, InnerProduct(epsilon=2.0))
    assert len(liars) == 2
    plain, crafted = snapshot(honest), snapshot(forged)
    assert [i for i in range(10) if plain[i] != crafted[i]] == sorted(liars)
    assert not any(MARK in reply.content for reply in forged)

    def decoded(reply: Message) -> torch.Tensor:
        arrays = reply.content.array_records["arrays"].values()
        return torch.cat([c.decompress(p).reshape(-1) for c, p in map(wire.unpack_trusted, arrays)])

    mean = torch.stack([decoded(r) for i, r in enumerate(honest) if i not in liars]).mean(dim=0)
    for i in liars:
        assert forged[i].content["metrics"] == honest[i].content["metrics"]
        if compressor == "identity":
            assert torch.allclose(decoded(forged[i]), -2 * mean)
        if compressor in ("identity", "l1-sign", "sign"):
            assert float(decoded(forged[i]) @ mean) < 0


def test_pushed_messages_are_answered_as_sent_ones() -> None:
    scenario = small(attack="inner-product")
    config = scenario.to_run_config()
    with InProcessGrid(CLIENT_APP, 10, run_config=config) as inner:
        grid = ColludingGrid(inner, InnerProduct(), reply="update")
        expected = snapshot(grid.send_and_receive(training_messages(scenario, inner)))
    with InProcessGrid(CLIENT_APP, 10, run_config=config) as inner:
        grid = ColludingGrid(inner, InnerProduct(), reply="update")
        ids = list(grid.push_messages(training_messages(scenario, inner)))
        found = [*grid.pull_messages(ids[:4]), *grid.pull_messages(ids), *grid.pull_messages(ids)]
    assert snapshot(found) == expected


def test_without_ids_all_replies_are_pulled() -> None:
    scenario = small(attack="inner-product")
    with InProcessGrid(CLIENT_APP, 10, run_config=scenario.to_run_config()) as inner:
        grid = ColludingGrid(inner, InnerProduct(), reply="update")
        expected = snapshot(grid.send_and_receive(training_messages(scenario, inner)))
        ids = list(grid.push_messages(training_messages(scenario, inner)))
        early = list(grid.pull_messages(message_ids=ids[:4]))
        found = [*early, *grid.pull_messages()]
        assert len(early) == 4 and snapshot(found) == expected
        assert list(grid.pull_messages()) == []


def test_a_marked_reply_is_held_until_all_have_come() -> None:
    scenario = small(attack="inner-product")

    class Slow(InProcessGrid):
        late: str | None = None

        def pull_messages(self, *args: Any, **options: Any) -> Any:
            (ids,) = args
            return super().pull_messages([i for i in ids if i != self.late], **options)

    with Slow(CLIENT_APP, 10, run_config=scenario.to_run_config()) as inner:
        grid = ColludingGrid(inner, InnerProduct(), reply="update")
        ids = list(grid.push_messages(training_messages(scenario, inner)))
        honest = next(i for i, p in zip(ids, range(10), strict=True) if p not in byzantine_partitions(scenario))
        inner.late = honest
        assert len(list(grid.pull_messages(ids))) == 7
        inner.late = None
        assert len(list(grid.pull_messages(ids))) == 3


@pytest.mark.parametrize("reply", ["weights", "update"])
def test_replies_of_an_app_without_compression_are_read_as_they_are(reply: Any) -> None:
    model = {"w": torch.tensor([1.0, 2.0, 3.0]), "count": torch.tensor([7])}

    def train(w: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        step = torch.tensor([0.5, -1.0, 2.0])
        return {"w": w["w"] - step if reply == "weights" else step, "count": w["count"] + 1}

    with InProcessGrid(app(train, [Accomplice(partitions={1})]), 4) as inner:
        grid = ColludingGrid(inner, InnerProduct(epsilon=2.0), reply=reply)
        content = RecordDict({"arrays": wire.to_arrays(model)})
        messages = [grid.create_message(content, "train", node, "1") for node in inner.get_node_ids()]
        found = {inner.partition_of[r.metadata.src_node_id]: r for r in grid.send_and_receive(messages)}
    crafted, honest = (wire.from_arrays(replied(found[partition])) for partition in (1, 2))
    base = model["w"] if reply == "weights" else torch.zeros(3)
    assert torch.allclose(crafted["w"] - base, -2 * (honest["w"] - base))
    assert crafted["count"].tolist() == [8]


def test_without_an_honest_reply_there_is_nothing_to_see() -> None:
    scenario = small(byzantine=10, attack="inner-product")
    forged, honest, _ = _replies(scenario, InnerProduct())
    assert snapshot(forged) == snapshot(honest)


def test_error_replies_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr_robustcomp.simulations.problems import LeastSquares

    original, scenario = LeastSquares.gradient, small(attack="min-max")
    broken = {min(byzantine_partitions(scenario)), min(set(range(10)) - byzantine_partitions(scenario))}

    def gradient(self: LeastSquares, partition: int, *rest: Any) -> Any:
        if partition in broken:
            raise RuntimeError("no data")
        return original(self, partition, *rest)

    monkeypatch.setattr(LeastSquares, "gradient", gradient)
    for record in run_scenario(scenario)[1:]:
        assert set(record["rejected"]) == {str(p) for p in broken}
        assert record["kept"] == 5


@pytest.mark.parametrize("strategy", ["fed-avg", "fed-median", "multi-krum", {"name": "norm-threshold", "trim": 3}])
def test_it_works_against_every_strategy(strategy: Any) -> None:
    clean = run_scenario(small(byzantine=0, strategy=strategy))
    assert run_scenario(small(attack="little-is-enough", strategy=strategy))[-1]["error"] != clean[-1]["error"]


@pytest.mark.parametrize("name", ["sign-flip", "inner-product", "shifted-labels"])
def test_the_schedule_is_kept(name: str) -> None:
    make = digits if name in LABELLED else small
    base = {"rounds": 5, "strategy": {"name": "norm-threshold", "trim": 0, "step_size": 0.4}}
    metric = "loss" if name in LABELLED else "error"
    clean = [r[metric] for r in run_scenario(make(byzantine=0, **base))]
    late = [r[metric] for r in run_scenario(make(attack={"name": name, "start": 3, "stop": 4}, **base))]
    assert late[:3] == clean[:3]
    assert late[3] != clean[3]
    one = [r[metric] for r in run_scenario(make(attack={"name": name, "start": 2, "stop": 2}, **base))]
    assert one[2] == run_scenario(make(attack={"name": name, "start": 2}, **base))[2][metric]


def test_a_fraction_of_the_rounds_is_one_draw_for_all() -> None:
    schedule = Schedule(start=11, stop=1010, fraction=0.3)
    on = [schedule.is_on(t, 5) for t in range(1, 1200)]
    assert not any(on[:10]) and not any(on[1010:])
    assert sum(on) / 1000 == pytest.approx(0.3, abs=4 * (0.21 / 1000) ** 0.5)
    assert on == [schedule.is_on(t, 5) for t in range(1, 1200)]
    assert on != [schedule.is_on(t, 6) for t in range(1, 1200)]


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        ({"name": "zero", "start": 0}, ["attack 'zero'", "start must be at least 1, got 0"]),
        ({"name": "mimic", "start": 4, "stop": 3}, ["stop must be at least start = 4, got 3"]),
        ({"name": "mimic", "fraction": 0.0}, ["fraction must be in (0, 1], got 0.0"]),
        ({"name": "mimic", "warm": 3}, ["attack.warm", "warmup", "start", "stop", "fraction"]),
        ({"name": "backdoor"}, ["no labels"]),
        ({"name": "rumour"}, ["backdoor", "gaussian-noise", "under-threshold"]),
    ],
)
def test_a_bad_attack_is_one_line(attack: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_components(small(attack=attack))
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


# -- what it does to norm thresholding ------------------------------------------------------------------------------------

SQUARES: dict[str, Any] = {
    "problem": {"name": "least-squares", "samples": 800, "dimension": 50},
    "nodes": 40,
    "byzantine": 10,
    "rounds": 40,
    "strategy": {"name": "norm-threshold", "trim": 12, "step_size": 0.5},
}


def _errors(attack: Any, **changes: Any) -> tuple[Scenario, list[dict[str, Any]]]:
    scenario = Scenario.parse({**SQUARES, "attack": attack, **changes})
    return scenario, run_scenario(scenario)


@pytest.mark.parametrize("adversary", ["restricted", "arbitrary"])
@pytest.mark.parametrize("compressor", ["identity", "l1-sign", {"name": "top-k", "k": 10}, {"name": "qsgd"}])
def test_under_the_threshold_nobody_is_ever_trimmed(compressor: Any, adversary: str) -> None:
    scenario, records = _errors("under-threshold", compressor=compressor, adversary=adversary, rounds=5)
    for record in records[1:]:
        assert byzantine_partitions(scenario).isdisjoint(record["trimmed"])
        assert record["rejected"] == {}


@pytest.mark.parametrize("adversary", ["restricted", "arbitrary"])
@pytest.mark.parametrize(
    "compressor",
    [
        "l1-sign",
        "sign",
        {"name": "drive", "unbiased_scale": True},
        {"name": "random-k", "ratio": 0.8, "unbiased": True},
        {"name": "qsgd", "levels": 4, "contraction": False},  # longer than what it may report
    ],
    ids=str,
)
def test_reported_norms_are_believed_and_survive(compressor: Any, adversary: str) -> None:
    strategy = {**SQUARES["strategy"], "norm": "reported"}
    scenario, records = _errors("under-threshold", strategy=strategy, adversary=adversary, compressor=compressor, rounds=5)
    for record in records[1:]:
        assert byzantine_partitions(scenario).isdisjoint(record["trimmed"])
        assert record["rejected"] == {}


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_is_withstood_and_what_stays_under_the_threshold_is_not(seed: int) -> None:
    final = {name: _errors(name, seed=seed)[1][-1]["error"] for name in ("gaussian-noise", "inner-product", "under-threshold")}
    start = _errors("gaussian-noise", seed=seed, rounds=1)[1][0]["error"]
    assert final["gaussian-noise"] < 0.1 * start
    assert final["under-threshold"] > 10 * final["gaussian-noise"]
    assert final["under-threshold"] > final["inner-product"]


def test_the_backdoor_opens() -> None:
    fields: dict[str, Any] = {
        "problem": {"name": "digits", "hidden": 16},
        "rounds": 60,
        "byzantine": 4,
        "compressor": "identity",
        "strategy": {"name": "norm-threshold", "trim": 0, "step_size": 0.5},
    }
    attacked = run_scenario(digits(attack={"name": "backdoor", "target": 3}, **fields))[-1]
    before = run_scenario(digits(attack={"name": "backdoor", "target": 3, "start": 1000}, **fields))[-1]
    assert attacked["backdoor"] > 0.5 > before["backdoor"]
    assert attacked["accuracy"] > before["accuracy"] - 0.15


@pytest.mark.processes
@pytest.mark.usefixtures("ray")
def test_the_curve_is_that_of_any_engine() -> None:
    scenario = small(attack="under-threshold", compressor="qsgd", error_feedback=True)
    assert run_scenario(scenario, engine="ray", num_workers=2) == run_scenario(scenario)


def test_the_wrapper_is_a_grid_and_passes_the_rest_on() -> None:
    scenario = small(attack="inner-product")
    with InProcessGrid(CLIENT_APP, 10, run_config=scenario.to_run_config()) as inner:
        grid = ColludingGrid(inner, InnerProduct())
        assert isinstance(grid, Grid)
        assert list(grid.get_node_ids()) == list(inner.get_node_ids())
        assert grid.run is inner.run
        message = training_messages(scenario, inner)[0]
        made = grid.create_message(message.content, "train", 7, "1")
        assert (made.metadata.dst_node_id, made.metadata.message_type) == (7, "train")
        records: list[Any] = []
        serve(inner, server_context(inner.run.run_id, inner.run_config), records.append)
    assert records == run_scenario(scenario)
    with pytest.raises(ConfigurationError, match="adversary must be one of restricted, arbitrary"):
        ColludingGrid(inner, InnerProduct(), adversary="polite")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="norm_order must be one of 1, 2, inf, got 3"):
        ColludingGrid(inner, InnerProduct(), norm_order=3)


@pytest.mark.parametrize("reply", ["weights", "update"])
@pytest.mark.parametrize("downlink", ["replica", "quantised"])
def test_a_packed_model_is_known_by_what_its_nodes_train_from(downlink: str, reply: Any) -> None:
    step = torch.linspace(-1, 2, 300)
    received: list[torch.Tensor] = []

    def train(w: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        received.append(w["w"])
        return {"w": w["w"] - step if reply == "weights" else step}

    outgoing = Outgoing(DOWNLINKS[downlink](), "arrays", RunHistory(None, None))

    def unpacking(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        return with_model(message, context, lambda dense: call_next(dense, context))

    mods: list[Mod] = [Accomplice(partitions={1}), unpacking]
    with InProcessGrid(app(train, mods), 4) as inner:
        for model_of in (outgoing.contents.model_of, None):
            grid = ColludingGrid(inner, InnerProduct(epsilon=2.0), reply=reply, model_of=model_of)
            model = wire.to_arrays({"w": torch.randn(300, generator=torch.Generator().manual_seed(1))})
            content = RecordDict({"arrays": model})
            messages = [grid.create_message(content, "train", node, "1") for node in inner.get_node_ids()]
            packed = outgoing.pack(model, messages, grid)
            known = outgoing.contents.model_of(packed[0])
            assert known is not None and HEADER in packed[0].content
            replies = outgoing.collect(grid.send_and_receive(packed))
            found = {inner.partition_of[reply.metadata.src_node_id]: reply for reply in replies}
            assert torch.equal(wire.from_arrays(known)["w"], received[-1])
            assert not torch.equal(received[-1], wire.from_arrays(model)["w"])
            crafted, honest = (wire.from_arrays(replied(found[partition]))["w"] for partition in (1, 2))
            base = received[-1] if reply == "weights" else torch.zeros(300)
            times = -2 if model_of else 1  # without it the reply stays as it is
            torch.testing.assert_close(crafted - base, times * (honest - base), rtol=1e-5, atol=1e-5)
            assert MARK not in found[1].content


def test_liars_that_get_the_model_again_are_overwritten_too() -> None:
    squares = {"name": "least-squares", "samples": 80, "dimension": 64}
    scenario = small(problem=squares, attack="warm-up", downlink="replica", rounds=3)

    def play(robbed: Collection[int]) -> list[Any]:
        """Return the replies of three rounds, with nodes that lose what they keep before the second."""
        outgoing, sent = make_strategy(scenario).outgoing, []
        with InProcessGrid(CLIENT_APP, 10, run_config=scenario.to_run_config()) as inner:
            grid = ColludingGrid(inner, WarmUp(rounds=3), reply="update", model_of=outgoing.contents.model_of)
            for round_ in (1, 2, 3):
                for partition in robbed if round_ == 2 else ():
                    del inner.node_states()[1000 + partition][HELD]
                asked = training_messages(scenario, inner, round_)
                packed = outgoing.pack(asked[0].content.array_records["arrays"], asked, grid)
                sent.append(snapshot(outgoing.collect(grid.send_and_receive(packed))))
                assert len(outgoing.traffic.again) == (len(robbed) if round_ == 2 else 0)
        return sent

    whole, liars = play(()), byzantine_partitions(scenario)
    assert play(liars) == whole
    assert play(range(10)) == whole  # the attack's state moves once in a round
