"""Where all nodes of a round fail for one reason before anything worked, the run stops and says what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import CompressionMod, ConfigurationError, Policy, to_arrays
from flwr_robustcomp.checkpoints.strategy_state import restore_strategy
from flwr_robustcomp.compressors import L1Sign, TopK
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies import NormThreshold, Reason, Rejection
from flwr_robustcomp.strategies.flower.stateful import stateful
from flwr_robustcomp.strategies.nodes.failing_alike import common_fault
from tests.apps import app, minus
from tests.strategies.rounds import MODEL, SAMPLING, answer, ask, updates

STEP = {name: tensor / 100 for name, tensor in MODEL.items()}


def _strategy(**options: Any) -> NormThreshold:
    return NormThreshold(compressor=L1Sign(), **SAMPLING, **options)


def _raising(error: Exception) -> ClientApp:
    client = ClientApp(mods=[CompressionMod(L1Sign())])

    @client.train()
    def _train(message: Message, context: Context) -> Message:
        raise error

    return client


def _without_a_model(message: Message, context: Context, call_next: Callable[..., Message]) -> Message:
    """Hand the app a message without arrays, as secure aggregation does in its first stages."""
    message.content = RecordDict({"stage": ConfigRecord({"stage": "setup"})})
    return call_next(message, context)


APPS: dict[str, tuple[ClientApp, list[str]]] = {
    "no mod": (app(lambda w: minus(w, STEP), []), ["(arrays)", "CompressionMod or configured_mod in ClientApp(mods=[...])"]),
    "another compressor": (
        app(lambda w: minus(w, STEP), [CompressionMod(TopK(k=2))]),
        ["(wire)", "robustcomp/top-k", "the same compressor"],
    ),
    "another granularity": (app(lambda w: minus(w, STEP), [CompressionMod(L1Sign(), granularity="array")]), ["(arrays)"]),
    "an exception": (_raising(KeyError("label of 3 items")), ["(error-reply)", "label of"]),
    "a message without a model": (
        app(lambda w: w, [_without_a_model, CompressionMod(L1Sign())]),
        ["(error-reply)", "the server's message must hold the model as an ArrayRecord"],
    ),
}


@pytest.mark.parametrize("name", APPS)
@pytest.mark.parametrize("rounds", [1, 5])
def test_a_run_stops_in_its_first_round(name: str, rounds: int) -> None:
    client, words = APPS[name]
    strategy = _strategy()
    with pytest.raises(ConfigurationError) as raised:
        strategy.start(InProcessGrid(client, 3), to_arrays(MODEL), num_rounds=rounds)
    line = str(raised.value)
    assert line.startswith("all 3 nodes of the round failed alike") and "\n" not in line
    assert all(word in line for word in words)
    assert len(strategy.reports) == 1


def _garbage(request: Message) -> Message:
    return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1})}), reply_to=request)


def _evaluates(strategy: NormThreshold) -> None:
    strategy.configure_evaluate(1, ArrayRecord(), ConfigRecord(), InProcessGrid(ClientApp(), 4))


def test_one_node_that_works_is_enough_to_go_on() -> None:
    strategy = _strategy()
    requests = ask(strategy, 4)
    strategy.aggregate_train(1, [*map(_garbage, requests[:3]), answer(requests[3], updates(1)[0], L1Sign())])
    _evaluates(strategy)
    strategy.aggregate_train(2, [*map(_garbage, ask(strategy, 4, round_=2))])  # the configuration has worked for somebody
    _evaluates(strategy)


def test_one_silent_node_is_enough_to_go_on() -> None:
    strategy = _strategy()
    strategy.aggregate_train(1, [*map(_garbage, ask(strategy, 4)[:3])])
    _evaluates(strategy)


def test_it_is_raised_after_aggregation_and_again_before_the_next_round() -> None:
    strategy = _strategy()
    arrays, _ = strategy.aggregate_train(1, [*map(_garbage, ask(strategy, 4))])
    assert arrays is None
    with pytest.raises(ConfigurationError, match=r"all 4 nodes of the round failed alike \(records\)"):
        _evaluates(strategy)
    with pytest.raises(ConfigurationError, match="failed alike"):
        ask(strategy, 4, round_=2)


def test_without_patience_a_run_goes_on_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    strategy = _strategy(policy=Policy(patience=None))
    with caplog.at_level("ERROR", logger="flwr"):
        strategy.aggregate_train(1, [*map(_garbage, ask(strategy, 4))])
    assert "failed alike" in caplog.text
    _evaluates(strategy)


def test_a_run_that_goes_on_from_a_checkpoint_was_judged_before() -> None:
    strategy, other = _strategy(), _strategy()
    strategy.aggregate_train(1, [answer(request, updates(1)[0], L1Sign()) for request in ask(strategy, 4)])
    restore_strategy(other, stateful(strategy).state())
    other.aggregate_train(7, [*map(_garbage, ask(other, 4, round_=7))])
    _evaluates(other)


def test_a_checkpoint_that_is_refused_leaves_a_new_run_to_be_judged() -> None:
    strategy = _strategy()
    state = stateful(_strategy()).state()
    state["robustcomp.ledger"] = ConfigRecord({"standings": "[]"})
    with pytest.raises(ConfigurationError, match="ledger"):
        restore_strategy(strategy, state)
    strategy.aggregate_train(1, [*map(_garbage, ask(strategy, 4))])
    with pytest.raises(ConfigurationError, match="failed alike"):
        _evaluates(strategy)


def test_identifiers_of_every_kind_and_zeros_do_not_tell_failures_apart() -> None:
    words = [
        "no /tmp/tmpk3x9_a1/data.csv for 0b5c1f5e-93f2-4d2a-8a4e-1f2a3b4c5d6e, loss -1.5, stype robustcomp/non-zeros+drive/1",
        "no /tmp/tmpq8q2_zz/data.csv for 7e57d004-2b97-0e7a-b45f-5387367791cd, loss 1,234, stype robustcomp/drive/1",
    ]
    rejected = [Rejection(node, Reason.WIRE, text) for node, text in enumerate(words, 1)]
    assert common_fault(rejected, {1, 2}, 2) is not None
    rejected[1] = Rejection(2, Reason.WIRE, "another fault")
    assert common_fault(rejected, {1, 2}, 2) is None


@pytest.mark.parametrize(("code", "stops"), [(0, True), (1, True), (2, True), (3, False), (5, False), (6, True)])
def test_nodes_that_are_not_available_are_no_fault_of_the_configuration(code: int, stops: bool) -> None:
    strategy = _strategy()
    strategy.aggregate_train(1, [Message(Error(code, "gone"), reply_to=request) for request in ask(strategy, 4)])
    assert (strategy.history._fault is not None) == stops


def _all(details: Sequence[str], reason: Reason = Reason.RECORDS) -> list[Rejection]:
    return [Rejection(node, reason, detail) for node, detail in enumerate(details)]


def test_numbers_and_addresses_do_not_tell_failures_apart() -> None:
    assert common_fault(_all(["node 17 at 0x7f3a, 1.5e-3", "node 2 at 0x55b0, 2.25"]), range(2), 2)
    assert common_fault(_all(["no file a", "no file b"]), range(2), 2) is None
    mixed = [Rejection(0, Reason.WIRE, "x"), Rejection(1, Reason.ARRAYS, "x")]
    assert common_fault(mixed, range(2), 2) is None
    assert common_fault(_all(["x"]), range(1), 1) is None  # one failure may be one client's


@given(asked=st.integers(1, 30), others=st.integers(0, 200), failing=st.integers(0, 30))
def test_no_minority_stops_a_run(asked: int, others: int, failing: int) -> None:
    """Less than the whole round never does, and the whole of a small sample does not either."""
    stopped = common_fault(_all(["x"] * min(failing, asked)), range(asked), asked + others) is not None
    assert stopped == (failing >= asked >= 2 and (asked > others or asked >= 10))


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_its_advice_or_stops_nothing(reason: Reason) -> None:
    line = common_fault(_all(["x", "x"], reason), range(2), 2)
    silent = {Reason.NOT_ASKED, Reason.DUPLICATE, Reason.ERROR_REPLY}  # an error reply without a code is foreign
    assert (line is None) == (reason in silent)


def test_a_long_traceback_keeps_its_end() -> None:
    detail = Rejection(1, Reason.ERROR_REPLY, "Traceback\n" + "  File somewhere\n" * 200 + "KeyError: 'label'").detail
    assert detail.startswith("Traceback") and detail.endswith("KeyError: 'label'") and len(detail) <= 500


class Growing(InProcessGrid):
    """A Grid that shows two of its nodes when it is first asked, and all of them from then on."""

    asked = 0

    def get_node_ids(self) -> list[int]:
        self.asked += 1
        nodes = list(super().get_node_ids())
        return nodes[:2] if self.asked <= 1 else nodes


def test_two_of_a_hundred_that_registered_late_stop_no_run() -> None:
    strategy = NormThreshold(
        compressor=L1Sign(), fraction_evaluate=0.0, fraction_train=0.02, min_train_nodes=2, min_available_nodes=100
    )
    messages = list(strategy.configure_train(1, to_arrays(MODEL), ConfigRecord(), Growing(ClientApp(), 100)))
    assert len(messages) == 2
    strategy.aggregate_train(1, [*map(_garbage, messages)])
    _evaluates(strategy)
