"""A compressed downlink outlives a restart, sleep, lies and a death in a download, and counts what crosses the sockets."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.deployment.downlink_page import directions, page
from tests.deployment.downlink_scenario import ASLEEP, COORDINATES, NAMES, ROUNDS, Stories, app_folder, play
from tests.quickstart import run_in_process
from tests.simulations.kit import nothing_left_running

pytestmark = pytest.mark.deployment

PAGE = Path(__file__).parents[2] / "docs" / "downlink-deployment.md"

FRAME = 512
"""Bound on what Flower adds to an object: names, ids of 64 hexadecimal digits, a shape, small numbers."""

HANDSHAKE = 4096
"""Bound on a TLS 1.3 handshake in either direction: the server's certificate, two session tickets, and to say goodbye."""


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Stories:
    folder: Path = tmp_path_factory.mktemp("downlink")
    with nothing_left_running(folder):
        told = play(folder)
    if os.environ.get("WRITE_PAGE"):
        PAGE.write_text(page(told), encoding="utf-8")
    return told


def test_the_run_ends(stories: Stories) -> None:
    assert stories.packed.status == "finished:completed", stories.packed.log
    assert sorted(stories.packed.accounts()) == list(range(1, ROUNDS + 1))


def test_nobody_is_rejected_for_what_it_sent(stories: Stories) -> None:
    rejected = re.findall(r"rejected node (\d+) \(([\w-]+)\)", stories.packed.log)
    assert {reason for _, reason in rejected} <= {"error-reply"}
    gone = {stories.ids[name] for name in ("restarted", "sleeper", "doomed")}
    assert {int(node) for node, _ in rejected} <= gone


def test_a_node_that_comes_back_empty_gets_the_model_in_the_same_round(stories: Stories) -> None:
    node = stories.ids["restarted"]
    assert stories.ids_after["restarted"] == node  # Flower knows it by its key
    (line,) = stories.packed.lines(node, "gets the model again")
    assert re.search(r"the message builds on version \d+ \(\w+\), this node holds no version", line)


def test_a_node_that_sleeps_gets_what_it_missed(stories: Stories) -> None:
    (line,) = stories.packed.lines(stories.ids["sleeper"], "catch up")
    missed, form = re.findall(rf"{stories.ids['sleeper']} missed (\d+) \((\w+)\)", line)[0]
    assert int(missed) >= ASLEEP
    assert form in ("replica", "quantised")
    assert not stories.packed.lines(stories.ids["sleeper"], "gets the model again")


def test_a_liar_costs_itself_a_second_message_and_nobody_else_anything(stories: Stories) -> None:
    liar = stories.ids["liar"]
    again = stories.packed.lines(liar, "gets the model again")
    assert again
    assert all(re.search(r"the message builds on version \d+ .*this node holds no version", line) for line in again)
    assert len(again) <= 2 * ROUNDS  # once in training, once in evaluation
    assert stories.packed.lines(liar, "version 999 (") != []


def test_a_node_that_dies_in_a_download_costs_its_reply(stories: Stories) -> None:
    assert stories.traffic["doomed"].cut > 0
    (line,) = stories.packed.lines(stories.ids["doomed"], "rejected node")
    assert "Node Unavailable" in line
    assert not stories.packed.lines(stories.ids["doomed"], "gets the model again")


def test_the_accuracy_is_that_of_the_dense_model(stories: Stories, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = app_folder(tmp_path / "app")
    run_in_process(app, len(NAMES), num_server_rounds=ROUNDS, local_epochs=2)
    (dense,) = re.findall(r"accuracy after the last round: ([\d.]+)", capsys.readouterr().out)
    assert stories.packed.accuracy > float(dense) - 0.02


def test_what_the_strategy_counted_crossed_the_sockets(stories: Stories) -> None:
    down, up = directions(stories)
    assert 0 <= up.frames <= FRAME * up.objects.messages
    assert 0 <= down.frames <= FRAME * down.objects.messages
    for traffic in stories.traffic.values():
        assert traffic.encodings == set()  # Flower compresses nothing
        assert traffic.versions == {"TLSv1.3"}
        for total, plain, records in (
            (traffic.up, traffic.plain, traffic.records),
            (traffic.down, traffic.plain_down, traffic.records_down),
        ):
            assert 0 < total - plain - 22 * records <= HANDSHAKE * traffic.connections
    total = sum(traffic.up + traffic.down for traffic in stories.traffic.values())
    assert total < 4 * COORDINATES * stories.packed.replies  # less than dense replies alone


def test_the_page_is_that_of_such_a_run(stories: Stories) -> None:
    def words(text: str) -> str:
        return re.sub(r"[\d,.]+", "0", text.partition("```")[0])

    assert words(PAGE.read_text(encoding="utf-8")) == words(page(stories))
