"""A deployment outlives its Byzantine, dead and late nodes, and its bytes are those that the strategy counts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flwr_robustcomp import Policy
from tests.deployment.relay import RECORD_OVERHEAD
from tests.deployment.scenario import COORDINATES, PACKED, ROLES, ROUNDS, Outcome, play
from tests.quickstart import ROBUST, run_in_process
from tests.simulations.kit import nothing_left_running

pytestmark = pytest.mark.deployment

PATIENCE = Policy().quarantine_after or 0
"""Rounds in which the node that sends garbage is asked."""

FRAME = 512
"""Bound on what Flower adds to an object that it sends: fields that hold ids of 64 hexadecimal digits and small numbers."""

HANDSHAKE = 2048
"""Bound on what a client sends in a TLS 1.3 handshake without a certificate of its own, and to say goodbye."""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder: Path = tmp_path_factory.mktemp("deployment")
    with nothing_left_running(folder):
        return play(folder)


def test_the_run_ends(outcome: Outcome) -> None:
    assert outcome.status == "finished:completed", outcome.log
    assert sorted(outcome.accounts) == list(range(1, ROUNDS + 1))


def test_a_supernode_that_nobody_registered_is_turned_away(outcome: Outcome) -> None:
    assert outcome.stranger != 0


def test_the_log_names_who_was_trimmed_and_who_was_rejected(outcome: Outcome) -> None:
    poison, garbage = outcome.ids["poison"], outcome.ids["garbage"]
    for round_, account in outcome.accounts.items():
        assert account["robustcomp.trimmed-nodes"] == [poison]
        assert (garbage in account.get("robustcomp.rejected-nodes", [])) == (round_ <= PATIENCE)
    assert len(re.findall(rf"trimmed, with their norms: {poison} \(\d", outcome.log)) == ROUNDS
    assert len(re.findall(rf"rejected node {garbage} \(wire\): \w+", outcome.log)) == PATIENCE


def test_who_is_rejected_again_and_again_is_left_out(outcome: Outcome) -> None:
    garbage = outcome.ids["garbage"]
    assert f"node {garbage} is left out of the next 10 rounds: {PATIENCE} rejections in a row" in outcome.log
    last = outcome.accounts[ROUNDS]
    place = last["robustcomp.rejections.nodes"].index(garbage)
    assert last["robustcomp.rejections.wire"][place] == PATIENCE


def test_a_dead_node_costs_its_reply_and_a_late_one_joins(outcome: Outcome) -> None:
    # The SuperLink answers for a node whose heartbeats have stopped.
    lost = re.findall(r"rejected node (\d+) \(error-reply\): Error: Node Unavailable", outcome.log)
    assert lost == [str(outcome.ids["doomed"])]
    kept = [outcome.accounts[round_]["robustcomp.kept"] for round_ in range(1, ROUNDS + 1)]
    assert kept[0] == 3  # first, second, doomed
    assert min(kept) >= 2  # doomed is dead, late perhaps not yet there
    assert kept[-1] == 3  # first, second, late
    assert "Sent successfully" in outcome.late_log


def test_the_accuracy_is_that_of_honest_nodes(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    run_in_process(ROBUST, len(ROLES), num_server_rounds=ROUNDS, **{"robustcomp.strategy.trim": 1})
    honest = _accuracy(capsys.readouterr().out)
    assert honest > 0.85
    assert _accuracy(outcome.log) > honest - 0.06


def test_what_the_strategy_counted_crossed_the_socket(outcome: Outcome) -> None:
    """The first node's socket; docs/deployment.md explains the parts."""
    for round_, account in outcome.accounts.items():
        replies = account["robustcomp.kept"] + account["robustcomp.trimmed"] + (round_ <= PATIENCE)  # garbage has bytes
        assert account["robustcomp.bytes-received"] == replies * PACKED
    traffic = outcome.traffic
    assert traffic.requests["push-messages"].messages == ROUNDS
    pushed = traffic.requests["push-object"]
    assert 0 <= pushed.body - ROUNDS * PACKED <= FRAME * pushed.messages
    assert pushed.messages <= 8 * ROUNDS  # a reply is an object, and so is every record, array and chunk in it
    assert traffic.versions == {"TLSv1.3"}
    handshakes = traffic.up - traffic.plain - RECORD_OVERHEAD * traffic.records
    assert 0 < handshakes <= HANDSHAKE * traffic.connections
    # All that it sent, polling for a minute included, is less than the bodies of dense replies would have been.
    assert traffic.up < ROUNDS * 4 * COORDINATES


def _accuracy(text: str) -> float:
    (found,) = re.findall(r"accuracy after the last round: ([\d.]+)", text)
    return float(found)
