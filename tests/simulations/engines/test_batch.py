from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, Context, Message
from flwr.clientapp import ClientApp

from benchmarks.parts.compressors import COMPONENTS
from flwr_robustcomp import wire
from flwr_robustcomp.clients.error_feedback import RESIDUAL
from flwr_robustcomp.clients.incoming import ARRAYS
from flwr_robustcomp.compressors import COMPRESSORS
from flwr_robustcomp.downlink.records import HELD, RESEND
from flwr_robustcomp.flower import quick_reply
from flwr_robustcomp.simulations import InProcessGrid, Scenario
from flwr_robustcomp.simulations.app import client_app
from flwr_robustcomp.simulations.attacks import ATTACKS
from flwr_robustcomp.simulations.engines import batch
from flwr_robustcomp.simulations.engines.batch import BatchClientApp, train_batch
from flwr_robustcomp.simulations.problems import LeastSquares
from flwr_robustcomp.simulations.scenario.setup import make_strategy
from tests.simulations.kit import DIGITS, SMALL, normless, record_values, snapshot, training_messages

ROUNDS = 3

WIDE: dict[str, Any] = {**SMALL, "problem": {"name": "least-squares", "samples": 80, "dimension": 64}}
"""Two changes of one bit are smaller than this model in eight."""


class Counted(BatchClientApp):
    """The scenario's app, with its batches counted, or turned off: Flower's own path through the mods."""

    def __init__(self, batched: bool) -> None:
        super().__init__(self.count)
        self.__dict__.update({name: value for name, value in client_app.__dict__.items() if name != "batch"})
        self.batched = batched
        self.calls: list[bool] = []

    def count(self, messages: Sequence[Message], contexts: Sequence[Context]) -> list[Message] | None:
        replies = train_batch(messages, contexts) if self.batched else None
        self.calls.append(replies is not None)
        return replies


def _play(scenario: Scenario, batched: bool, rounds: int = ROUNDS) -> tuple[list[Any], list[Any], list[bool]]:
    """Return what the nodes reply in each round, what they keep, and which rounds were answered in one batch."""
    app = Counted(batched)
    with InProcessGrid(app, scenario.nodes, run_config=scenario.to_run_config()) as grid:
        replies = [
            snapshot(grid.send_and_receive(training_messages(scenario, grid, round_))) for round_ in range(1, rounds + 1)
        ]
        kept = [
            [(key, [bytes(a.data) for a in record.values()]) for key, record in context.state.array_records.items()]
            for context in grid._shard._contexts.values()
            if all(isinstance(record, ArrayRecord) for record in context.state.values())
        ]
    return replies, kept, app.calls


def _assert_same(scenario: Scenario) -> list[Any]:
    one_by_one, kept, calls = _play(scenario, batched=False)
    assert not any(calls)
    batched, kept_in_batch, calls = _play(scenario, batched=True)
    assert calls == [True] * ROUNDS
    assert batched == one_by_one
    assert kept_in_batch == kept
    assert len(kept) == scenario.nodes
    assert all(state == [] for state in kept) != scenario.error_feedback
    assert not any("error" in reply for replies in batched for reply in replies)
    return batched


@pytest.mark.parametrize(("base", "attack"), [(SMALL, "gaussian-noise"), (DIGITS, "shifted-labels")], ids=["squares", "digits"])
@pytest.mark.parametrize("feedback", [False, True], ids=["plain", "feedback"])
@pytest.mark.parametrize("granularity", ["model", "array"])
@pytest.mark.parametrize("compressor", COMPONENTS)
def test_every_compressor(compressor: str, granularity: str, feedback: bool, base: dict[str, Any], attack: str) -> None:
    if COMPRESSORS[compressor].wants_matrices and (base is SMALL or granularity == "model"):
        return  # which has nothing to factor, and says so
    scenario = Scenario.parse(
        {
            **base,
            "compressor": COMPONENTS[compressor],
            "strategy": normless(base),
            "granularity": granularity,
            "error_feedback": feedback,
            "attack": attack,
        }
    )
    _assert_same(scenario)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("feedback", [False, True], ids=["plain", "feedback"])
def test_every_attack(attack: str, feedback: bool) -> None:
    base = {**DIGITS, "compressor": COMPONENTS["qsgd"], "error_feedback": feedback}
    attacked = _assert_same(Scenario.parse({**base, "attack": attack}))
    clean = _assert_same(Scenario.parse({**base, "byzantine": 0}))
    # In the first round, before residuals mix, exactly the Byzantine nodes differ.
    assert sum(a != c for a, c in zip(attacked[0], clean[0], strict=True)) == 2


@pytest.mark.parametrize("order", [1, 2, float("inf")])
def test_reported_norms(order: float) -> None:
    scenario = Scenario.parse(
        {**DIGITS, "compressor": "sign", "error_feedback": True, "strategy": normless(DIGITS, order), "granularity": "array"}
    )
    for replies in _assert_same(scenario):
        for reply in replies:
            assert dict((key, record) for key, _, record in reply[-1])[wire.NORM_RECORD][0][0] == wire.norm_key(order)


def test_messages_of_one_shard_may_come_in_any_order() -> None:
    scenario = Scenario.parse({**SMALL, "error_feedback": True})
    with InProcessGrid(client_app, 10, run_config=scenario.to_run_config()) as grid:
        messages = training_messages(scenario, grid)
        backwards = snapshot(grid.send_and_receive(messages[::-1]))
    with InProcessGrid(client_app, 10, run_config=scenario.to_run_config()) as grid:
        some = [*grid.send_and_receive(messages[:3]), *grid.send_and_receive(messages[3:])]
    assert snapshot(some) == backwards


@pytest.mark.parametrize("attack", ["gaussian-noise", "sign-flip", "scaling"])
def test_an_adversary_behind_the_compressor_is_asked_one_by_one(attack: str) -> None:
    scenario = Scenario.parse({**SMALL, "adversary": "arbitrary", "attack": attack})
    replies, _, calls = _play(scenario, batched=True)
    assert calls == [False] * ROUNDS
    assert replies == _play(scenario, batched=False)[0]


def test_evaluation_is_not_batched() -> None:
    scenario = Scenario.parse(SMALL)
    app = Counted(batched=True)
    with InProcessGrid(app, 10, run_config=scenario.to_run_config()) as grid:
        content = training_messages(scenario, grid)[0].content
        replies = list(grid.send_and_receive([grid.create_message(content, "evaluate", n, "1") for n in grid.get_node_ids()]))
    assert app.calls == [False]
    assert all(reply.has_error() for reply in replies)  # the app has no evaluation


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("feedback", [False, True], ids=["plain", "feedback"])
def test_an_update_that_is_not_finite_costs_that_node_only(
    monkeypatch: pytest.MonkeyPatch, poison: float, feedback: bool
) -> None:
    original = LeastSquares.gradient

    def gradient(self: LeastSquares, partition: int, *rest: Any) -> dict[str, torch.Tensor]:
        found = original(self, partition, *rest)
        if partition == 4:
            found["w"][0] = poison
        return found

    scenario = Scenario.parse({**SMALL, "error_feedback": feedback})
    clean = _play(scenario, batched=True)
    monkeypatch.setattr(LeastSquares, "gradient", gradient)
    replies, _, calls = _play(scenario, batched=True)
    assert calls == [False] * ROUNDS
    for found, expected in zip(replies, clean[0], strict=True):
        assert found[4][4] == "error"
        assert "finite" in found[4][6]
        assert found[:4] + found[5:] == expected[:4] + expected[5:]  # the others, residuals included, as if nothing had been


def test_a_batch_that_fails_late_counts_no_update_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = Scenario.parse({**SMALL, "error_feedback": True, "compressor": COMPONENTS["top-k"]})
    clean = _play(scenario, batched=True)
    original, calls = quick_reply, itertools.count(1)

    def fails_now_and_then(*args: Any, **options: Any) -> Message:
        if next(calls) % 7 == 0:
            raise MemoryError
        return original(*args, **options)

    monkeypatch.setattr(batch, "quick_reply", fails_now_and_then)
    replies, kept, batched = _play(scenario, batched=True)
    assert batched == []  # none came to its end
    assert (replies, kept) == clean[:2]


def test_a_batch_that_raises_is_asked_one_by_one() -> None:
    def broken(messages: Sequence[Message], contexts: Sequence[Context]) -> list[Message] | None:
        raise RuntimeError("not today")

    scenario = Scenario.parse(SMALL)
    app = Counted(batched=True)
    app.batch = broken
    with InProcessGrid(app, 10, run_config=scenario.to_run_config()) as grid:
        replies = snapshot(grid.send_and_receive(training_messages(scenario, grid)))
    assert replies == _play(scenario, batched=True)[0][0]


def test_messages_that_share_a_content_are_a_batch() -> None:
    scenario = Scenario.parse(SMALL)
    app = Counted(batched=True)
    with InProcessGrid(app, 10, run_config=scenario.to_run_config()) as grid:
        messages = list(itertools.chain(training_messages(scenario, grid, 1)[:5], training_messages(scenario, grid, 1)[5:]))
        replies = snapshot(grid.send_and_receive(messages))
    assert app.calls == [True, True]
    assert replies == _play(scenario, batched=True)[0][0]


@pytest.mark.parametrize("base", [WIDE, DIGITS], ids=["squares", "digits"])
@pytest.mark.parametrize("downlink", ["replica", "quantised"])
def test_a_packed_model(downlink: str, base: dict[str, Any]) -> None:
    sent = {"name": "replica", "bits": 1, "model_bits": 8} if downlink == "replica" else downlink
    scenario = Scenario.parse({**base, "downlink": sent, "error_feedback": True, "strategy": normless(base)})
    one_by_one, batched = (play_packed(scenario, batched) for batched in (False, True))
    assert batched.replies == one_by_one.replies and batched.states == one_by_one.states
    assert not any(one_by_one.calls)
    assert batched.calls == [True] * (5 if downlink == "replica" else 4)  # in round 3 nodes are at two versions
    assert all(HELD in [key for key, *_ in reply[-1]] for replies in batched.replies for reply in replies)
    # Memory of one: who holds the same version holds the very same Arrays.
    kept = [state.array_records.get(ARRAYS) for state in batched.contexts]
    if downlink == "replica":
        assert kept[0] is not None and all(record is kept[0] for record in kept)
    else:
        assert kept == [None] * 10


def test_a_node_that_cannot_read_the_model_is_asked_by_itself() -> None:
    scenario = Scenario.parse({**WIDE, "downlink": "replica"})
    played = play_packed(scenario, batched=True, robbed={3})
    assert played.calls[:2] == [True, False] and all(played.calls[2:])  # what is sent again is a batch of its own
    assert [key for key, *_ in played.replies[1][3][-1]] == [RESEND]
    assert all(HELD in [key for key, *_ in reply[-1]] for i, reply in enumerate(played.replies[1]) if i != 3)
    assert played.replies == play_packed(scenario, batched=False, robbed={3}).replies


@dataclass
class Played:
    replies: list[Any]
    calls: list[bool]
    contexts: list[Any]
    states: list[Any]


def play_packed(scenario: Scenario, batched: bool, robbed: Collection[int] = ()) -> Played:
    """Play four rounds with a packed model; half of the nodes sleep in round 2, and some lose what they keep before it."""
    strategy = make_strategy(scenario)
    app, replies = Counted(batched), []
    with InProcessGrid(app, scenario.nodes, run_config=scenario.to_run_config()) as grid:
        contexts = [context for _, context in sorted(grid._shard._contexts.items())]
        for round_ in range(1, 5):
            asked = training_messages(scenario, grid, round_)[: 5 if round_ == 2 else None]
            model = asked[0].content.array_records["arrays"]
            answered = list(grid.send_and_receive(strategy.outgoing.pack(model, asked, grid)))
            replies.append(snapshot(answered))
            strategy.outgoing.collect(answered)
            for partition in robbed if round_ == 1 else ():
                del contexts[partition].state[HELD]
    states = [[(key, record_values(record)) for key, record in context.state.items()] for context in contexts]
    return Played(replies, app.calls, [context.state for context in contexts], states)


def test_a_batch_app_is_a_client_app() -> None:
    assert isinstance(client_app, ClientApp)
    assert client_app.batch is train_batch
    assert RESIDUAL.record == "robustcomp.residual"
