"""What sampling sees of a Grid."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.app import RecordDict
from flwr.serverapp import Grid

from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies.nodes.sampling import SamplingView
from tests.simulations import user_app


def test_it_is_the_grid_with_fewer_nodes() -> None:
    with InProcessGrid(user_app.client_app, 3) as grid:
        first, *rest = grid.get_node_ids()
        view = SamplingView(grid, lambda nodes: [node for node in nodes if node != first])
        assert isinstance(view, Grid)
        assert list(view.get_node_ids()) == rest
        assert view.run is grid.run and view.partition_of is grid.partition_of
        replies = view.send_and_receive([view.create_message(RecordDict(), "query", rest[0], "")])
        assert [reply.metadata.src_node_id for reply in replies] == rest[:1]


@pytest.mark.parametrize("form", ["positional", "message_ids", "reply_to_message_ids", "all"])
def test_replies_are_pulled_as_the_grid_pulls_them(form: str) -> None:
    with InProcessGrid(user_app.client_app, 2) as grid:
        view = SamplingView(grid, list)
        ids = list(view.push_messages([view.create_message(RecordDict(), "query", node, "") for node in view.get_node_ids()]))
        options: dict[str, Any] = {} if form in ("positional", "all") else {form: ids}
        replies = view.pull_messages(*[ids] if form == "positional" else [], **options)
        assert [reply.metadata.reply_to_message_id for reply in replies] == ids
