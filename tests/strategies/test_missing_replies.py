"""Nodes that fail or send garbage in every round cost their replies: the default recipe goes on without them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from hypothesis import given, settings
from hypothesis import strategies as st

from flwr_robustcomp import CompressionMod, to_arrays
from flwr_robustcomp.compressors import Compressor, Drive, Identity, L1Sign
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import NormClipping, Spectral, fitted
from flwr_robustcomp.filters.base import trim_of
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.settings import RECIPE
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies import NormThreshold, Reason, Rejection, RobustCompressed
from tests.apps import app, minus
from tests.strategies.rounds import MODEL, SAMPLING, answer, answers, updates

ROUNDS = 14
"""Longer than the policy's patience, and than the time until a node is in quarantine."""

D = Layout.of(MODEL).dim
STEP = {name: 0.1 * tensor for name, tensor in MODEL.items()}


def _app(compressor: Compressor, spoilt: int, fault: str) -> ClientApp:
    def spoil(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if int(str(context.node_config["partition-id"])) >= spoilt:
            return call_next(message, context)
        if fault == "error":
            raise ValueError("out of memory")
        return Message(RecordDict({"arrays": ArrayRecord()}), reply_to=message)

    return app(lambda w: minus(w, STEP), [spoil, CompressionMod(compressor)])


def _skipped(nodes: int, spoilt: int, trim: int | float, fault: str) -> list[str]:
    strategy = RobustCompressed(compressor=Drive(), **{**RECIPE, "trim": trim}, **SAMPLING)
    strategy.start(InProcessGrid(_app(Drive(), spoilt, fault), nodes), to_arrays(MODEL), num_rounds=ROUNDS)
    assert len(strategy.reports) == ROUNDS
    return [report.skipped for report in strategy.reports if report.skipped is not None]


@pytest.mark.parametrize("fault", ["garbage", "error"])
@pytest.mark.parametrize(("nodes", "spoilt"), [(5, 1), (6, 1), (7, 1), (7, 2), (8, 2), (10, 2)])
def test_a_share_goes_on_with_the_replies_that_came(nodes: int, spoilt: int, fault: str) -> None:
    assert not _skipped(nodes, spoilt, 0.2, fault)


@pytest.mark.parametrize(("nodes", "spoilt"), [(5, 1), (7, 2)])
def test_a_count_is_spent_by_senders_of_garbage_in_quarantine_too(nodes: int, spoilt: int) -> None:
    assert not _skipped(nodes, spoilt, spoilt, "garbage")


def test_a_count_is_not_spent_by_nodes_that_fail() -> None:
    strategy = RobustCompressed(compressor=Drive(), **{**RECIPE, "trim": 1}, **SAMPLING)
    strategy.start(InProcessGrid(_app(Drive(), 1, "error"), 5), to_arrays(MODEL), num_rounds=3)
    assert {report.skipped for report in strategy.reports} == {"'directions' with trim 1 needs at least 5 updates, got 4"}


@pytest.mark.parametrize(("nodes", "refused"), [(2, True), (4, True), (5, False), (6, False), (7, False), (11, False)])
def test_a_share_needs_nodes_enough_for_one_liar_at_the_start(nodes: int, refused: bool) -> None:
    strategy = RobustCompressed(compressor=Drive(), **RECIPE, **SAMPLING)
    if not refused:
        return strategy.check_nodes(nodes)
    with pytest.raises(ConfigurationError, match=r"needs at least [35] updates"):
        strategy.check_nodes(nodes)
    return None


@pytest.mark.parametrize("m", range(1, 30))
@pytest.mark.parametrize("share", [0.1, 0.2, 0.34, 0.49])
def test_fitted_filters_have_what_they_need_and_no_larger_trim_would(m: int, share: float) -> None:
    filters = [NormClipping(share), Spectral(share)]
    fit = fitted(filters, m)
    for one, own in zip(fit, filters, strict=True):
        assert isinstance(one.trim, int) and m >= (one.least(one.trim) if one.trim else 1)
        assert one.trim == trim_of(share, m) or m < own.least(one.trim + 1)
    assert fitted([NormClipping(3), Spectral(3)], m) == [NormClipping(3), Spectral(3)]


def test_a_filter_without_a_trim_gets_the_strategys() -> None:
    strategy = RobustCompressed(compressor=L1Sign(), trim=2, filters=[NormClipping(1), Spectral(slack=5.0)])
    assert strategy.filters == (NormClipping(1), Spectral(2, slack=5.0))
    assert RobustCompressed(compressor=L1Sign(), trim=2, filters=Spectral(slack=5.0)).filters == (Spectral(2, slack=5.0),)


def test_senders_of_garbage_spend_no_trim_of_a_sample_that_they_are_not_in() -> None:
    strategy = NormThreshold(compressor=Identity(), trim=4, fraction_evaluate=0.0, fraction_train=0.1)
    for _ in range(3):
        rejected = [Rejection(node, Reason.WIRE, "garbage") for node in (1000, 1001, 1002, 1003)]
        strategy.ledger.enter(0, {1000, 1001, 1002, 1003}, [], rejected)
    grid = InProcessGrid(ClientApp(), 100)
    strategy.min_train_nodes = 10
    messages = list(strategy.configure_train(1, to_arrays(MODEL), ConfigRecord(), grid))
    assert len(messages) == 10
    liars = [torch.full((D,), 1e6)] * 2
    replies = [answer(r, x, Identity()) for r, x in zip(messages[:8], [*updates(6), *liars], strict=True)]
    strategy.aggregate_train(1, replies)
    assert strategy.reports[-1].skipped == "trimming 4 needs more than 8 accepted replies, got 8"


def test_a_filter_that_would_work_against_nobody_skips_the_round() -> None:
    strategy = RobustCompressed(compressor=Identity(), trim=0.2, **SAMPLING)  # spectral alone
    replies = answers(strategy, updates(5), Identity())
    strategy.aggregate_train(1, replies[:4])
    assert strategy.reports[-1].skipped == "'spectral' with trim 1 needs at least 5 updates, got 4"


def test_the_report_says_that_filters_were_weakened() -> None:
    strategy = RobustCompressed(compressor=Identity(), **RECIPE, **SAMPLING)
    replies = answers(strategy, updates(5), Identity())
    _, metrics = strategy.aggregate_train(1, replies[:4])
    assert strategy.reports[-1].weakened == "directions for 0 of 1, spectral for 0 of 1"
    assert metrics is not None and metrics["robustcomp.weakened"] == 1
    _, metrics = strategy.aggregate_train(1, replies)
    assert strategy.reports[-1].weakened is None and metrics is not None and "robustcomp.weakened" not in metrics


@pytest.mark.parametrize("trim", [4, 0.2], ids=["count", "share"])
@settings(max_examples=30, deadline=None)
@given(
    names=st.sampled_from(
        ["sign-guard+spectral", "sign-guard+multi-krum", "length+directions", "flame+norm", "sign-guard+flame"]
    ),
    sizes=st.lists(st.sampled_from([0.0, 1.0, 1.1, 8.0, 1e4]), min_size=20, max_size=20),
    positive=st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=20, max_size=20),
)
def test_no_data_can_hold_up_a_run_whose_replies_are_enough(
    trim: float, names: str, sizes: list[float], positive: list[float]
) -> None:
    strategy = RobustCompressed(compressor=Identity(), filters=names, trim=trim, length_screen=None, **SAMPLING)
    strategy.check_nodes(20)
    draws = np.random.default_rng(0).random((20, D))
    rows = np.where(draws < np.array(positive)[:, None], 1.0, -1.0) * np.array(sizes)[:, None]
    strategy.aggregate_train(1, answers(strategy, list(torch.from_numpy(rows).float()), Identity()))
    assert strategy.reports[-1].skipped is None


def test_a_count_fits_what_an_earlier_filter_has_left() -> None:
    strategy = RobustCompressed(compressor=Identity(), filters="sign-guard+spectral", trim=4, length_screen=None, **SAMPLING)
    rows = torch.ones(20, D)
    rows[9:15] *= 100.0
    rows[15:] *= 0.01  # nine have a plausible length
    replies = answers(strategy, list(rows), Identity())
    strategy.aggregate_train(1, replies)
    assert strategy.reports[-1].skipped is None
    assert strategy.reports[-1].weakened == "spectral for 3 of 4" and strategy.reach(20) == 1.0
    strategy.aggregate_train(1, replies[:10])
    assert strategy.reports[-1].skipped == "'spectral' with trim 4 needs at least 11 updates, got 9"  # too few came
