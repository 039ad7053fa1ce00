"""Rounds without quorum, nodes that are left out, and what rejected replies do to the trim."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from flwr_robustcomp import ConfigurationError, Policy, QuorumError, to_arrays
from flwr_robustcomp.checkpoints.strategy_state import restore_strategy
from flwr_robustcomp.compressors import L1Sign
from flwr_robustcomp.flower import SERVER_NODE_ID, envelope
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies import Decompressed, NormThreshold, Reason, Rejection, RobustCompressed
from flwr_robustcomp.strategies.flower.stateful import stateful
from tests.strategies.rounds import MODEL, SAMPLING, answer, ask, updates

NODES = 8
XS = updates(NODES)


def _strategy(kind: str, policy: Policy, needed: int = 2, **options: Any) -> Any:
    sampling: dict[str, Any] = {"fraction_evaluate": 0.0, "min_train_nodes": needed, "min_available_nodes": needed}
    if kind == "decompressed":
        return Decompressed(FedAvg(**sampling), compressor=L1Sign(), policy=policy, **options)
    ours = {"norm-threshold": NormThreshold, "robust-compressed": RobustCompressed}[kind]
    return ours(compressor=L1Sign(), policy=policy, **sampling, **options)


KINDS = ("norm-threshold", "robust-compressed", "decompressed")


def _ask(strategy: Any, round_: int, nodes: int = NODES) -> list[Message]:
    arrays: ArrayRecord = to_arrays(MODEL)
    grid = InProcessGrid(ClientApp(), nodes)
    asked = list(strategy.configure_train(round_, arrays, ConfigRecord(), grid))
    for number, message in enumerate(asked):
        envelope(message, f"{round_}-{number}")
    return sorted(asked, key=lambda message: message.metadata.dst_node_id)


def _garbage(request: Message) -> Message:
    return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1})}), reply_to=request)


def _play(strategy: Any, rounds: int, liars: int, start: int = 1) -> list[set[int]]:
    """Play rounds in which the nodes of the smallest ids send garbage; return who was asked."""
    everybody = sorted(InProcessGrid(ClientApp(), NODES).get_node_ids())
    asked = []
    for round_ in range(start, start + rounds):
        requests = _ask(strategy, round_)
        asked.append({request.metadata.dst_node_id for request in requests})
        replies = [
            _garbage(request) if request.metadata.dst_node_id in everybody[:liars] else answer(request, x, L1Sign())
            for request, x in zip(requests, XS, strict=False)
        ]
        strategy.aggregate_train(round_, replies)
    return asked


@pytest.mark.parametrize("kind", KINDS)
def test_a_round_below_the_quorum_leaves_the_model_and_says_so(kind: str) -> None:
    strategy = _strategy(kind, Policy(quorum=0.75, quarantine_after=None))
    requests = _ask(strategy, 1)
    replies = [answer(r, x, L1Sign()) for r, x in zip(requests[:5], XS, strict=False)] + [_garbage(r) for r in requests[5:]]
    arrays, metrics = strategy.aggregate_train(1, replies)
    assert arrays is None and metrics["robustcomp.rejected"] == 3
    assert strategy.reports[-1].skipped == "the quorum is 6 of 8 nodes, and 5 replies were accepted"
    arrays, _ = strategy.aggregate_train(1, [answer(r, x, L1Sign()) for r, x in zip(requests[:6], XS, strict=False)])
    assert arrays is not None


@pytest.mark.parametrize("kind", KINDS)
def test_patience_ends_the_run_with_one_line_and_what_was_measured(kind: str) -> None:
    strategy = _strategy(kind, Policy(patience=3, quarantine_after=None))
    _play(strategy, 1, liars=0)
    _play(strategy, 3, liars=NODES, start=2)
    with pytest.raises(QuorumError) as raised:
        _ask(strategy, 5)
    line = str(raised.value)
    assert "3 rounds in a row" in line and "round 4: no reply was accepted" in line and "3 records" in line
    assert "\n" not in line
    assert len(strategy.reports) == 4 and strategy.reports[0].skipped is None


def test_one_round_with_quorum_gives_the_patience_back() -> None:
    strategy = _strategy("norm-threshold", Policy(patience=2, quarantine_after=None))
    _play(strategy, 1, liars=0)
    for start in (2, 4):
        _play(strategy, 1, liars=NODES, start=start)
        _play(strategy, 1, liars=0, start=start + 1)
    _play(strategy, 1, liars=NODES, start=6)
    assert _ask(strategy, 7)


def test_a_step_that_overflows_is_no_lack_of_replies() -> None:
    strategy = _strategy("norm-threshold", Policy(patience=1), step_size=1e38)
    requests = _ask(strategy, 1)
    strategy.aggregate_train(1, [answer(r, 100 * XS[0].abs(), L1Sign()) for r in requests])
    assert "overflows" in str(strategy.reports[-1].skipped) and strategy.reports[-1].quorum
    assert len(_ask(strategy, 2)) == NODES


@pytest.mark.parametrize("kind", KINDS)
def test_repeated_rejections_leave_a_node_out_and_bring_it_back(kind: str) -> None:
    strategy = _strategy(kind, Policy(quarantine_after=2, quarantine_rounds=3))
    asked = _play(strategy, 7, liars=1)
    (liar,) = asked[0] - asked[2]
    assert [liar in nodes for nodes in asked] == [True, True, False, False, False, True, True]
    assert all(len(nodes) >= NODES - 1 for nodes in asked)
    asked = _play(strategy, 7, liars=1, start=8)  # for twice as long, since it had not changed
    assert [liar in nodes for nodes in asked] == [False] * 6 + [True]


def test_an_accepted_reply_clears_the_record_but_not_the_totals() -> None:
    strategy = _strategy("norm-threshold", Policy(quarantine_after=2))
    _play(strategy, 1, liars=1)
    _play(strategy, 1, liars=0, start=2)
    asked = _play(strategy, 2, liars=1, start=3)
    assert all(len(nodes) == NODES for nodes in asked)
    (entry,) = strategy.ledger.standings.values()
    assert entry.rejections == {Reason.RECORDS: 3}


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_is_left_out_whom_the_strategy_would_wait_for(kind: str) -> None:
    strategy = _strategy(kind, Policy(quarantine_after=1), needed=NODES)
    assert all(len(nodes) == NODES for nodes in _play(strategy, 4, liars=2))


@pytest.mark.parametrize("kind", KINDS)
def test_totals_by_node_and_reason_are_metrics_of_the_round(kind: str) -> None:
    strategy = _strategy(kind, Policy(quarantine_after=None))
    _play(strategy, 2, liars=2)
    requests = _ask(strategy, 3)
    replies = [answer(r, x, L1Sign()) for r, x in zip(requests, XS, strict=True)]
    replies[0].metadata.__dict__["_src_node_id"] = 424242
    _, metrics = strategy.aggregate_train(3, replies)
    liars = sorted(request.metadata.dst_node_id for request in requests)[:2]
    assert metrics["robustcomp.rejections.nodes"] == [0, *liars]  # 0 stands for all strangers
    assert metrics["robustcomp.rejections.records"] == [0, 2, 2]
    assert metrics["robustcomp.rejections.not-asked"] == [1, 0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_keeps_who_is_left_out(kind: str) -> None:
    policy = Policy(quarantine_after=1, quarantine_rounds=5)
    strategy, other = _strategy(kind, policy), _strategy(kind, policy)
    asked = _play(strategy, 2, liars=1)
    restore_strategy(other, stateful(strategy).state())
    assert other.ledger.standings == strategy.ledger.standings
    assert _play(other, 1, liars=1, start=3) == asked[1:]


def test_the_superlinks_error_counts_for_the_node_that_was_asked() -> None:
    strategy = _strategy("norm-threshold", Policy())
    requests = _ask(strategy, 1)
    replies = [answer(r, x, L1Sign()) for r, x in zip(requests[1:], XS, strict=False)]
    lost = _garbage(requests[0])
    lost.__dict__.update(_content=None, _error=_error())
    lost.metadata.__dict__["_src_node_id"] = SERVER_NODE_ID
    _, metrics = strategy.aggregate_train(1, [*replies, lost])
    assert metrics["robustcomp.rejected-nodes"] == [requests[0].metadata.dst_node_id]


def _error() -> Any:
    from flwr.app import Error

    return Error(code=3, reason="Node Unavailable")


def test_a_rejected_fault_may_spend_the_trim() -> None:
    rejected = [Rejection(1, Reason.WIRE, ""), Rejection(1, Reason.NORM, ""), Rejection(2, Reason.ERROR_REPLY, "")]
    assert Policy().left_to_trim(2, rejected) == 2
    spending = Policy(rejected_spend_trim=True)
    assert spending.left_to_trim(2, rejected) == 1
    assert spending.left_to_trim(0, rejected) == 0
    assert spending.left_to_trim(0.25, rejected) == 0.25


@pytest.mark.parametrize(("spend", "trimmed"), [(False, 2), (True, 1)])
@pytest.mark.parametrize("kind", ["norm-threshold", "robust-compressed"])
def test_the_trim_that_is_left_is_what_is_trimmed(kind: str, spend: bool, trimmed: int) -> None:
    options: dict[str, Any] = {"filters": "norm"} if kind == "robust-compressed" else {}
    strategy = _strategy(kind, Policy(rejected_spend_trim=spend), trim=2, **options)
    _play(strategy, 1, liars=1)
    assert len(strategy.reports[0].trimmed) == trimmed


@pytest.mark.parametrize("trim", [1, 2, 3])
@pytest.mark.parametrize("liars", [1, 2, 3])
def test_senders_of_garbage_do_not_hold_up_the_paper_s_threshold(trim: int, liars: int) -> None:
    nodes = 2 * trim + 1
    strategy = NormThreshold(compressor=L1Sign(), trim=trim, policy=Policy(quarantine_after=None), **SAMPLING)
    requests = ask(strategy, nodes)
    bad = min(liars, trim)
    replies = [_garbage(request) for request in requests[:bad]]
    replies += [answer(request, x, L1Sign()) for request, x in zip(requests[bad:], XS, strict=False)]
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is not None
    assert len(strategy.reports[-1].trimmed) == (trim - bad)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quorum": 0}, ["policy.quorum", "share in (0, 1]", "0"]),
        ({"quorum": 1.5}, ["policy.quorum", "1.5"]),
        ({"quorum": True}, ["policy.quorum", "True"]),
        ({"patience": 0}, ["policy.patience", "from 1", "None"]),
        ({"quarantine_after": -1}, ["policy.quarantine_after", "-1"]),
        ({"quarantine_rounds": 0}, ["policy.quarantine_rounds", "0"]),
    ],
)
def test_a_policy_that_cannot_work_is_refused(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Policy(**options)
    assert all(word in str(raised.value) for word in words)
