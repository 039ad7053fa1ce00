from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.flower import server_context
from flwr_robustcomp.simulations import InProcessGrid, LocalGrid, RayGrid, Scenario
from flwr_robustcomp.simulations.app import CLIENT_APP, serve
from flwr_robustcomp.simulations.records.record import RoundRecord
from tests.simulations import user_app
from tests.simulations.kit import alive, digits, gone, small, snapshot, training_messages, until

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("ray")]

# Payloads inside the message, beside the pickle, and in the object store: the three ways by which Arrays reach a worker.
SCENARIOS: dict[str, Scenario] = {
    "small": small(error_feedback=True, compressor="qsgd"),
    "large": small(
        problem={"name": "least-squares", "samples": 10, "dimension": 20_000}, compressor="identity", error_feedback=True
    ),
    "digits": digits(
        problem={"name": "digits", "hidden": 64}, granularity="array", attack="random-labels", compressor="identity"
    ),
}

OWN = "tests.simulations.user_app:client_app"


def _query(grid: LocalGrid, order: str, nodes: list[int] | None = None) -> list[Message]:
    content = RecordDict({"config": ConfigRecord({"order": order})})
    return [grid.create_message(content, "query", node, "") for node in (nodes or grid.get_node_ids())]


@pytest.mark.parametrize(("name", "workers"), [("small", 1), ("small", 2), ("large", 2), ("digits", 2)])
def test_replies_are_those_of_the_in_process_grid(name: str, workers: int) -> None:
    scenario = SCENARIOS[name]
    config = scenario.to_run_config()
    with (
        InProcessGrid(CLIENT_APP, 10, run_config=config) as here,
        RayGrid(CLIENT_APP, 10, num_workers=workers, run_config=config) as there,
    ):
        assert isinstance(there, Grid)
        assert there.partition_of == here.partition_of
        for round_ in (1, 2):
            expected = snapshot(here.send_and_receive(training_messages(scenario, here, round_)))
            assert snapshot(there.send_and_receive(training_messages(scenario, there, round_))) == expected
        assert not any("error" in reply for reply in expected)


@pytest.fixture(scope="module")
def own(ray: Any) -> Iterator[RayGrid]:
    """Somebody's app on two workers, for tests that leave both alive."""
    with RayGrid(OWN, 5, num_workers=2) as grid:
        yield grid


def test_push_then_pull_each_reply_once(own: RayGrid) -> None:
    messages = _query(own, "partition")
    ids = list(own.push_messages(messages))
    assert len(set(ids)) == 5
    replies: list[Message] = []

    def all_came() -> bool:
        replies.extend(own.pull_messages([*ids, "unknown"]))
        return len(replies) >= 5

    assert until(all_came)
    assert sorted(int(str(reply.content["metrics"]["partition"])) for reply in replies) == [0, 1, 2, 3, 4]
    assert sorted(str(reply.metadata.reply_to_message_id) for reply in replies) == sorted(ids)
    assert list(own.pull_messages(ids)) == []
    assert list(own.send_and_receive([])) == []


def _count_with(replies: list[Message], more: Iterable[Message]) -> int:
    """Append the replies that came; return how many there are then."""
    replies.extend(more)
    return len(replies)


def test_without_ids_all_replies_are_pulled(own: RayGrid) -> None:
    ids = list(own.push_messages(_query(own, "partition")))
    replies: list[Message] = []
    assert until(lambda: _count_with(replies, own.pull_messages()) >= 5)
    assert sorted(str(reply.metadata.reply_to_message_id) for reply in replies) == sorted(ids)
    assert list(own.pull_messages()) == []


@pytest.mark.parametrize("order", ["raise", "exit", "partition"])
def test_errors_are_those_of_the_in_process_grid(own: RayGrid, order: str) -> None:
    with InProcessGrid(OWN, 5) as here:
        expected = snapshot(here.send_and_receive(_query(here, order)))
    assert snapshot(own.send_and_receive(_query(own, order))) == expected


def test_a_message_to_nobody_is_an_error_reply(own: RayGrid) -> None:
    known, nobody = next(iter(own.get_node_ids())), 99
    first, second = sorted(own.send_and_receive(_query(own, "partition", [known, nobody])), key=lambda r: r.has_error())
    assert first.content["metrics"]["partition"] == 0
    assert second.metadata.src_node_id == nobody
    assert second.has_error()


def test_an_unchanged_user_app_runs(own: RayGrid) -> None:
    finals = []
    with InProcessGrid(OWN, 5, run_config={"rounds": 3}) as here:
        for grid in (here, own):
            context = server_context(grid.run.run_id, {"rounds": 3})
            user_app.server_app(grid, context)
            finals.append(context.state.array_records["final"].to_numpy_ndarrays()[0])
            assert context.state["metrics"]["rounds"] == pytest.approx(3)  # what a node counted: state persists
    np.testing.assert_allclose(finals[1], finals[0])
    assert np.isfinite(finals[0]).all()


def test_a_worker_that_dies_costs_its_nodes_only() -> None:
    with RayGrid(user_app.client_app, 5, num_workers=2) as grid:
        assert not any(reply.has_error() for reply in grid.send_and_receive(_query(grid, "partition")))
        for order in ("die", "partition"):  # the round in which it dies, and the next
            replies = {grid.partition_of[r.metadata.src_node_id]: r for r in grid.send_and_receive(_query(grid, order))}
            assert sorted(replies) == [0, 1, 2, 3, 4]
            assert [partition for partition, reply in sorted(replies.items()) if reply.has_error()] == [0, 2, 4]
            for partition in (0, 2, 4):
                reason = replies[partition].error.reason
                assert reason is not None and reason.startswith("the node's Ray worker failed: ")
                assert len(reason) > len("the node's Ray worker failed: ")
                assert "\n" not in reason
            assert replies[1].content["metrics"]["partition"] == 1


def test_a_run_goes_on_without_a_worker_that_was_killed(ray: Any) -> None:
    scenario = small(nodes=10, rounds=4, byzantine=0, strategy={"name": "norm-threshold", "trim": 1, "step_size": 0.4})
    records: list[RoundRecord] = []
    with RayGrid(CLIENT_APP, 10, num_workers=2, run_config=scenario.to_run_config()) as grid:

        def observe(record: RoundRecord) -> None:
            records.append(record)
            if record["round"] == 2:
                ray.kill(grid._actors[1])
                with pytest.raises(ray.exceptions.RayActorError):  # killing returns before the worker is gone
                    while True:
                        ray.get(grid._actors[1].ready.remote())

        serve(grid, server_context(grid.run.run_id, grid.run_config), observe)
    assert [record["kept"] for record in records[1:]] == [9, 9, 4, 4]
    lost = dict.fromkeys(["1", "3", "5", "7", "9"], "error-reply")
    assert [record["rejected"] for record in records[1:]] == [{}, {}, lost, lost]
    assert records[4]["error"] < records[2]["error"]


def test_a_timeout_brings_what_has_come_and_the_rest_can_be_pulled(tmp_path: Path) -> None:
    app = ClientApp()
    gate = tmp_path / "go"

    @app.query()
    def query(message: Message, context: Context) -> Message:
        from tests.simulations.kit import until

        if context.node_config["partition-id"] == 0:
            until(gate.exists)
        return Message(RecordDict({"metrics": MetricRecord({"pid": os.getpid()})}), reply_to=message)

    with RayGrid(app, 2, num_workers=9) as grid:
        assert len(grid._actors) == 2  # no more workers than nodes
        slow, fast = grid.get_node_ids()
        ids = list(grid.push_messages(_query(grid, "")))
        found: list[Message] = []
        assert until(lambda: _count_with(found, grid.pull_messages(ids)) == 1)
        assert found[0].metadata.src_node_id == fast
        assert list(grid.send_and_receive(_query(grid, "", [slow]), timeout=0.2)) == []
        gate.touch()
        assert until(lambda: _count_with(found, grid.pull_messages(ids)) == 2)
        workers = {int(str(reply.content["metrics"]["pid"])) for reply in found}
        assert len(workers) == 2
        assert alive(workers) == workers
    assert not gone(workers), "close left workers running"


def test_an_app_that_cannot_be_loaded_is_a_configuration_error() -> None:
    name = "no_such_module_here:app"
    with pytest.raises(ConfigurationError, match=f"client_app must load on Ray's workers, got '{name}'.*No module") as caught:
        RayGrid(name, 2, num_workers=1)
    assert "\n" not in str(caught.value)


def test_at_least_one_worker() -> None:
    with pytest.raises(ConfigurationError, match="num_workers must be at least 1, got 0"):
        RayGrid(OWN, 2, num_workers=0)
