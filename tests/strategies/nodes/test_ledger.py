"""The ledger stays small, and no strategy waits for a node that is there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flwr.app import ConfigRecord
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.strategies import Ledger, Policy, Reason, Rejection
from flwr_robustcomp.strategies.report import STRANGERS

ASKED = range(1, 9)

rejections = st.builds(Rejection, st.integers(1, 1000), st.sampled_from(Reason), st.just(""))
rounds = st.lists(st.tuples(st.lists(rejections, max_size=20), st.sets(st.sampled_from(ASKED))), max_size=30)
policies = st.builds(Policy, quarantine_after=st.one_of(st.none(), st.integers(1, 3)), quarantine_rounds=st.integers(1, 50))


Rounds = list[tuple[list[Rejection], set[int]]]


def _played(policy: Policy, rounds: Rounds) -> Ledger:
    ledger = Ledger(policy)
    for number, (rejected, accepted) in enumerate(rounds, start=1):
        ledger.enter(number, ASKED, accepted - {one.node_id for one in rejected}, rejected)
    return ledger


@given(policies, rounds)
def test_one_entry_for_each_node_that_was_asked_and_one_for_all_others(policy: Policy, rounds: Rounds) -> None:
    ledger = _played(policy, rounds)
    assert ledger.standings.keys() <= {STRANGERS, *ASKED}
    total = sum(standing.rejections.total() for standing in ledger.standings.values())
    assert total == sum(len(rejected) for rejected, _ in rounds)
    metrics: dict[str, Any] = dict(ledger.metrics())
    counts = [values for name, values in metrics.items() if name != "robustcomp.rejections.nodes"]
    assert sum(map(sum, counts)) == total


@given(policies, rounds, st.integers(0, 12), st.sets(st.sampled_from(ASKED)))
def test_a_strategy_never_waits_for_a_node_that_is_there(
    policy: Policy,
    rounds: Rounds,
    needed: int,
    connected: set[int],
) -> None:
    ledger = _played(policy, rounds)
    available = ledger.available(len(rounds) + 1, sorted(connected), needed)
    assert set(available) <= connected and len(available) >= min(needed, len(connected))
    assert available == sorted(available)


@given(policies, rounds)
def test_it_comes_back_from_a_checkpoint_as_it_was(policy: Policy, rounds: Rounds) -> None:
    ledger, other = _played(policy, rounds), Ledger(policy)
    other.restore(ledger.state())
    assert other.standings == ledger.standings


_GOOD: dict[str, Any] = {"rejections": {"norm": 2}, "in_a_row": 1, "quarantines": 0, "out_until": 7}
_BAD: list[Any] = [-1, 1.5, True, "2", None, [], 2**64]


@pytest.mark.parametrize(
    "standings",
    [
        *(3, "", "{", "[" * 10**5, "[]", "null", '{"1": null}'),
        *(json.dumps({node: _GOOD}) for node in ("-1", "x", "01", "1.0", "9" * 30)),
        *(json.dumps({"1": {**_GOOD, name: value}}) for name in _GOOD for value in _BAD),
        *(json.dumps({"1": {**_GOOD, "rejections": {reason: n}}}) for reason, n in (("norm", -1), ("none such", 1))),
        json.dumps({"1": {**_GOOD, "more": 1}}),
    ],
)
def test_garbage_is_refused_in_one_line_and_changes_nothing(standings: Any) -> None:
    ledger = _played(Policy(), [([Rejection(1, Reason.NORM, "")], set())])
    before = dict(ledger.standings)
    with pytest.raises(ConfigurationError, match=r"^the ledger must be as a checkpoint keeps it, got") as caught:
        ledger.restore(ConfigRecord({"standings": standings}))
    assert str(caught.value).isprintable() and ledger.standings == before
    with pytest.raises(ConfigurationError, match="standings"):
        ledger.restore(ConfigRecord())
    ledger.restore(ConfigRecord({"standings": json.dumps({"1": _GOOD})}))
    assert ledger.standings[1].out_until == 7


@given(rounds)
def test_nobody_is_left_out_for_ever(rounds: Rounds) -> None:
    ledger = _played(Policy(quarantine_after=1, quarantine_rounds=5), rounds)
    assert ledger.available(len(rounds) + 1 + 5 * 16, ASKED, 0) == list(ASKED)
