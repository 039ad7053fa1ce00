"""A node that holds no replica gets one where that pays, and only there."""

from __future__ import annotations

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import to_arrays
from flwr_robustcomp.compressors import Compressor, Drive, Eden
from flwr_robustcomp.downlink import Downlink, Form
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.strategies.downlink.debts import Debts
from flwr_robustcomp.strategies.downlink.outgoing import Outgoing
from flwr_robustcomp.strategies.nodes.history import RunHistory
from tests.strategies.downlink.test_outgoing import Party, _model


def _forms(outgoing: Outgoing, party: Party, rounds: range, nodes: list[int]) -> list[Form]:
    """Return the forms in which the last of the nodes gets the models of these rounds."""
    forms = []
    for round_ in rounds:
        arrays = to_arrays(_model(round_))
        content = RecordDict({"arrays": arrays})
        for node in nodes:
            messages = outgoing.pack(arrays, [Message(content, node, "train")], party)
            list(outgoing.collect(party.send_and_receive(messages)))
            (form,) = outgoing.traffic.forms
        forms.append(form)
    return forms


def _outgoing(model: Compressor | None = Eden(bits=8)) -> Outgoing:  # noqa: B008 (frozen)
    return Outgoing(Downlink(Drive(), model), "arrays", RunHistory(None, None))


def test_a_node_that_came_late_gets_a_replica_once_and_changes_from_then_on() -> None:
    outgoing, party = _outgoing(), Party(2)
    _forms(outgoing, party, range(1, 12), [1])
    forms = _forms(outgoing, party, range(12, 24), [1, 2])
    assert forms.count(Form.DENSE) == 1
    bought = forms.index(Form.DENSE)
    assert 2 <= bought <= 6, "it rents for about what it then buys for"
    assert set(forms[:bought]) == {Form.QUANTISED}
    assert set(forms[bought + 1 :]) == {Form.REPLICA}


def test_a_node_that_is_rarely_asked_goes_on_without() -> None:
    outgoing, party = _outgoing(), Party(2)
    forms = []
    for start in range(1, 200, 12):
        _forms(outgoing, party, range(start, start + 11), [1])
        forms += _forms(outgoing, party, range(start + 11, start + 12), [1, 2])
    assert set(forms[1:]) == {Form.QUANTISED}


def test_where_the_replica_costs_no_more_than_the_model_it_is_what_is_sent() -> None:
    outgoing, party = _outgoing(None), Party(2)
    _forms(outgoing, party, range(1, 40), [1])
    forms = _forms(outgoing, party, range(40, 44), [1, 2])
    assert forms[0] is Form.DENSE
    assert forms[-1] is Form.REPLICA


def test_debts_are_in_checkpoints() -> None:
    debts = Debts()
    assert debts.asked(7, 3) == 0
    assert not debts.owe(7, 10, 25)
    again = Debts.restored(RecordDict(dict(debts.state())))
    assert again.asked(7, 5) == 3
    assert again.owe(7, 15, 25)
    with pytest.raises(ConfigurationError, match="debts"):
        Debts.restored(RecordDict({"robustcomp.downlink.debts": ConfigRecord({"nodes": [1], "versions": [], "owed": [0]})}))
    assert Debts.restored(RecordDict()).asked(7, 1) == 0


def test_a_liar_waits_longer_for_the_next() -> None:
    debts = Debts()
    bought = [debts.owe(7, 10, 30) for _ in range(40)]
    assert [i for i, buys in enumerate(bought) if buys] == [2, 14, 26, 38]
    debts.holds(7)
    assert [debts.owe(7, 10, 30) for _ in range(3)] == [False, False, True], "who holds it owes nothing, and is owed nothing"


@given(st.integers(1, 1000), st.lists(st.integers(0, 400), min_size=1, max_size=40))
def test_it_costs_at_most_twice_the_best_in_hindsight_and_one_model(price: int, extras: list[int]) -> None:
    debts, cost = Debts(), 0
    for extra in extras:
        cost += extra
        if debts.owe(7, extra, price):
            cost += price
            break
    best = min([sum(extras), *(sum(extras[: k + 1]) + price for k in range(len(extras)))])
    assert cost <= 2 * best + max(extras)
