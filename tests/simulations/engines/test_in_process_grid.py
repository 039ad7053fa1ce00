from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.flower import server_context
from flwr_robustcomp.simulations import InProcessGrid, run_server_app
from tests.simulations import user_app
from tests.simulations.kit import snapshot

FROM_MODULE = "tests.simulations.user_app:client_app"


def _query(grid: InProcessGrid, order: str, nodes: list[int] | None = None) -> list[Message]:
    content = RecordDict({"config": ConfigRecord({"order": order})})
    return [grid.create_message(content, "query", n, "") for n in (nodes or grid.get_node_ids())]


def test_it_is_a_flower_grid() -> None:
    with InProcessGrid(user_app.client_app, 3) as grid:
        assert isinstance(grid, Grid)
        nodes = list(grid.get_node_ids())
        if hasattr(Grid, "get_nodes"):  # from Flower 1.38 on
            assert [node.node_id for node in grid.get_nodes()] == nodes
        assert [grid.partition_of[node] for node in nodes] == [0, 1, 2]
        assert len(set(nodes)) == 3
        run = grid.run
        grid.set_run(run)
        assert grid.run is run
        message = grid.create_message(RecordDict(), "query.x", nodes[1], "group", ttl=30.0)
        assert (message.metadata.dst_node_id, message.metadata.message_type) == (nodes[1], "query.x")
        assert (message.metadata.group_id, message.metadata.ttl) == ("group", 30.0)
        assert message.metadata.run_id == run.run_id


def test_node_ids_are_the_same_in_every_grid() -> None:
    with InProcessGrid(user_app.client_app, 5) as one, InProcessGrid(user_app.client_app, 3) as other:
        assert list(one.get_node_ids())[:3] == list(other.get_node_ids())
        assert one.run.run_id != other.run.run_id


@pytest.mark.parametrize("nodes", [0, -1])
def test_no_nodes_are_refused(nodes: int) -> None:
    with pytest.raises(ConfigurationError, match=f"num_nodes must be at least 1, got {nodes}"):
        InProcessGrid(user_app.client_app, nodes)


def test_push_then_pull_each_reply_once() -> None:
    with InProcessGrid(FROM_MODULE, 3) as grid:
        ids = list(grid.push_messages(_query(grid, "partition")))
        assert len(set(ids)) == 3
        first = list(grid.pull_messages([ids[1], "unknown"]))
        assert [reply.metadata.reply_to_message_id for reply in first] == [ids[1]]
        assert first[0].content["metrics"]["partition"] == 1
        rest = list(grid.pull_messages(ids))
        assert [reply.content["metrics"]["partition"] for reply in rest] == [0, 2]
        assert list(grid.pull_messages(ids)) == []
        assert list(grid.push_messages([])) == []
        more = list(grid.push_messages(_query(grid, "partition")))
        assert not set(more) & set(ids)
        grid.close()
        assert list(grid.pull_messages(more)) == []


def test_ids_may_be_given_as_every_flower_gives_them() -> None:
    with InProcessGrid(FROM_MODULE, 3) as grid:
        ids = list(grid.push_messages(_query(grid, "partition")))
        assert [reply.metadata.reply_to_message_id for reply in grid.pull_messages(message_ids=ids[2:])] == ids[2:]
        assert [reply.metadata.reply_to_message_id for reply in grid.pull_messages(reply_to_message_ids=ids[:1])] == ids[:1]
        assert list(grid.pull_messages([])) == []
        with pytest.raises(TypeError, match="got both"):
            grid.pull_messages(ids, message_ids=ids)
        assert [reply.metadata.reply_to_message_id for reply in grid.pull_messages()] == ids[1:2]  # of all messages
        assert list(grid.pull_messages()) == []


def test_replies_name_their_sender_and_the_server() -> None:
    with InProcessGrid(user_app.client_app, 3) as grid:
        for message, reply in zip(
            _query(grid, "partition"), grid.send_and_receive(_query(grid, "partition"), timeout=1e-9), strict=True
        ):
            assert reply.metadata.src_node_id == message.metadata.dst_node_id
            assert reply.metadata.dst_node_id == message.metadata.src_node_id
            assert grid.partition_of[reply.metadata.src_node_id] == reply.content["metrics"]["partition"]


def test_one_node_may_get_several_messages() -> None:
    with InProcessGrid(user_app.client_app, 2) as grid:
        node = next(iter(grid.get_node_ids()))
        replies = list(grid.send_and_receive(_query(grid, "partition", [node, node])))
        assert [reply.content["metrics"]["partition"] for reply in replies] == [0, 0]


def test_a_message_to_nobody_is_an_error_reply() -> None:
    with InProcessGrid(user_app.client_app, 2) as grid:
        known, nobody = next(iter(grid.get_node_ids())), 99
        first, second = sorted(
            grid.send_and_receive(_query(grid, "partition", [known, nobody])), key=lambda reply: reply.has_error()
        )
        assert first.content["metrics"]["partition"] == 0
        assert second.metadata.src_node_id == nobody
        assert second.has_error()


def test_an_app_that_raises_is_an_error_reply_of_one_line() -> None:
    with InProcessGrid(user_app.client_app, 3) as grid:
        replies = list(grid.send_and_receive(_query(grid, "raise")))
        assert [reply.has_error() for reply in replies] == [True] * 3
        assert {reply.error.code for reply in replies} == {0}
        assert {reply.error.reason for reply in replies} == {"the ClientApp raised RuntimeError: no such luck second line"}
        assert {reply.metadata.src_node_id for reply in replies} == set(grid.get_node_ids())
        assert not any(reply.has_error() for reply in grid.send_and_receive(_query(grid, "partition")))


def test_an_app_that_exits_ends_nothing_but_its_own_reply() -> None:
    with InProcessGrid(user_app.client_app, 2) as grid:
        reasons = [reply.error.reason for reply in grid.send_and_receive(_query(grid, "exit"))]
        assert reasons == ["the ClientApp raised SystemExit: 3"] * 2


def test_a_function_that_the_app_lacks_is_an_error_reply() -> None:
    with InProcessGrid(user_app.client_app, 1) as grid:
        message = grid.create_message(RecordDict(), "evaluate", next(iter(grid.get_node_ids())), "")
        (reply,) = grid.send_and_receive([message])
        assert reply.has_error()


def _expected(rounds: int) -> np.ndarray:
    """FedAvg of w -> (w + i) / 2 over i = 0, 1, 2 with weights 1, 2, 3."""
    w = 0.0
    for _ in range(rounds):
        w = sum((i + 1) * (w + i) / 2 for i in range(3)) / 6
    return np.full(3, w)


@pytest.mark.parametrize("app", [user_app.client_app, FROM_MODULE], ids=["object", "name"])
def test_an_unchanged_user_app_runs(app: ClientApp | str) -> None:
    with InProcessGrid(app, 3, run_config={"rounds": 4}) as grid:
        context = server_context(grid.run.run_id, grid.run_config)
        user_app.server_app(grid, context)
        (final,) = context.state.array_records["final"].to_numpy_ndarrays()
        # The client overwrites the model in its message; had another node seen that, this would be NaN.
        np.testing.assert_allclose(final, _expected(4))
        assert context.state["metrics"]["rounds"] == pytest.approx(4)  # every node counted all four: state persists


def test_run_server_app() -> None:
    with InProcessGrid(FROM_MODULE, 3) as grid:
        run_server_app(user_app.server_app, grid)


def test_the_servers_content_is_not_the_clients() -> None:
    with InProcessGrid(user_app.client_app, 3) as grid:
        content = RecordDict({"arrays": ArrayRecord([np.ones(3)]), "config": ConfigRecord({"server-round": 5})})
        messages = [grid.create_message(content, "train", node, "") for node in grid.get_node_ids()]
        replies = snapshot(grid.send_and_receive(messages))
        assert [dict(reply[-1][1][2])["sum"] for reply in replies] == [3.0, 3.0, 3.0]
        assert content["config"]["server-round"] == 5
        assert content.array_records["arrays"].to_numpy_ndarrays()[0].tolist() == [1.0, 1.0, 1.0]


def test_a_client_that_changes_lists_and_arrays_of_its_message_is_alone_with_it() -> None:
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Any) -> Message:
        received: Any = message.content
        received["config"]["sizes"].append(1)
        received["metrics"]["values"].append(1.0)
        assert received["arrays"]["0"].data
        received["arrays"]["0"].data = b""
        sizes = [len(received["config"]["sizes"]), len(received["metrics"]["values"])]
        return Message(RecordDict({"metrics": MetricRecord({"sizes": sizes})}), reply_to=message)

    with InProcessGrid(app, 3) as grid:
        content = RecordDict(
            {
                "config": ConfigRecord({"sizes": [7]}),
                "metrics": MetricRecord({"values": [1.0]}),
                "arrays": ArrayRecord([np.ones(3)]),
            }
        )
        replies = grid.send_and_receive([grid.create_message(content, "query", node, "") for node in grid.get_node_ids()])
        assert [reply.content["metrics"]["sizes"] for reply in replies] == [[2, 2]] * 3
        assert content["config"]["sizes"] == [7]


def test_contexts_say_who_a_node_is() -> None:
    app, seen = ClientApp(), []

    @app.query()
    def query(message: Message, context: Any) -> Message:
        seen.append((context.node_id, dict(context.node_config), dict(context.run_config), context.run_id))
        return Message(RecordDict(), reply_to=message)

    with InProcessGrid(app, 2, run_config={"lr": 0.5}) as grid:
        nodes = list(grid.get_node_ids())
        list(grid.send_and_receive(_query(grid, "")))
        assert seen == [(nodes[i], {"partition-id": i, "num-partitions": 2}, {"lr": 0.5}, grid.run.run_id) for i in range(2)]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no_such_module_here:app", "importable"),
        ("tests.simulations.user_app:nothing", "importable"),
        ("tests.simulations.user_app", "importable"),
        (":app", "importable"),
        ("tests.simulations.user_app:not_an_app", "a ClientApp, got .* a object"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_a_configuration_error(name: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"client_app must be .*{why}"):
        InProcessGrid(name, 1)
