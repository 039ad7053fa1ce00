"""A run that can never train is refused before its first round, with the numbers and what to set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flwr.app import ConfigRecord
from flwr.clientapp import ClientApp
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import ConfigurationError, Policy, to_arrays
from flwr_robustcomp.compressors import L1Sign
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies import (
    ByzFL,
    CompressedStrategy,
    NormThreshold,
    RobustCompressed,
    SignMajorityVote,
)
from flwr_robustcomp.strategies.nodes import enough_nodes
from flwr_robustcomp.strategies.nodes.sampling import SamplingView
from tests.apps import app
from tests.optional import needs_byzfl
from tests.strategies.rounds import MODEL, SAMPLING, answer, updates


def _ask(strategy: CompressedStrategy, nodes: int, round_: int = 1) -> list[Any]:
    return list(strategy.configure_train(round_, to_arrays(MODEL), ConfigRecord(), InProcessGrid(ClientApp(), nodes)))


def _refused(strategy: CompressedStrategy, nodes: int) -> str:
    with pytest.raises(ConfigurationError) as raised:
        _ask(strategy, nodes)
    line = str(raised.value)
    assert "\n" not in line
    return line


STRATEGIES: dict[str, tuple[Callable[[], CompressedStrategy], int, int]] = {
    "norm-threshold, a count": (lambda: NormThreshold(compressor=L1Sign(), trim=1, **SAMPLING), 2, 3),
    "norm-threshold, a fraction": (lambda: NormThreshold(compressor=L1Sign(), trim=0.2, **SAMPLING), 2, 3),
    "robust-compressed, norm": (lambda: RobustCompressed(compressor=L1Sign(), trim=1, filters="norm", **SAMPLING), 2, 3),
    "robust-compressed, spectral": (lambda: RobustCompressed(compressor=L1Sign(), trim=1, **SAMPLING), 3, 5),
    "majority vote, quorum": (lambda: SignMajorityVote(policy=Policy(quorum=3), **SAMPLING), 2, 3),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_too_few_nodes_are_refused_with_the_three_numbers(name: str) -> None:
    make, sampled, needed = STRATEGIES[name]
    line = _refused(make(), sampled)
    assert f"needs at least {needed} nodes per round, {sampled} of {sampled} were sampled" in line
    assert "(fraction_train = 1, min_train_nodes = 2): " in line and f"min_train_nodes = {needed}" in line
    assert len(_ask(make(), needed)) == needed  # what the line says is enough


@needs_byzfl
def test_rules_of_byzfl_are_asked_too() -> None:
    assert "trim = 1 needs at least 3 nodes per round" in _refused(ByzFL(compressor=L1Sign(), trim=1, **SAMPLING), 2)


def test_the_whole_line() -> None:
    strategy = NormThreshold(compressor=L1Sign(), trim=1, **SAMPLING)
    assert _refused(strategy, 2) == (
        "trim = 1 needs at least 3 nodes per round, 2 of 2 were sampled (fraction_train = 1, min_train_nodes = 2): "
        "set trim = 0, or start 3 nodes or more and set min_train_nodes = 3, so that the run waits for them"
    )


def test_where_enough_nodes_are_connected_more_of_them_are_to_be_sampled() -> None:
    strategy = NormThreshold(compressor=L1Sign(), trim=3, fraction_train=0.5, **SAMPLING)
    line = _refused(strategy, 10)
    assert line.endswith("set trim to at most 2, or set min_train_nodes = 7 to sample more of the 10")
    strategy.min_train_nodes = 7
    assert len(_ask(strategy, 10)) == 7


def test_a_trim_that_would_not_help_is_not_proposed() -> None:
    """The spectral filter needs three updates whatever its trim is."""
    line = _refused(RobustCompressed(compressor=L1Sign(), trim=1, **SAMPLING), 2)
    assert "set trim" not in line and "start 5 nodes" in line


def test_a_sample_of_nobody_is_refused_and_no_training_on_purpose_is_not() -> None:
    strategy = SignMajorityVote(fraction_train=0.3, min_train_nodes=0, min_available_nodes=0, **SAMPLING)
    assert "needs a node per round, 0 of 2 were sampled (fraction_train = 0.3, min_train_nodes = 0)" in _refused(strategy, 2)
    assert _ask(SignMajorityVote(fraction_train=0.0, **SAMPLING), 2) == []


def test_later_rounds_may_have_too_few_nodes() -> None:
    strategy = NormThreshold(compressor=L1Sign(), trim=1, **SAMPLING)
    requests = _ask(strategy, 3)
    strategy.aggregate_train(1, [answer(r, x, L1Sign()) for r, x in zip(requests, updates(3), strict=True)])
    assert len(_ask(strategy, 2, round_=2)) == 2


class Joining(SamplingView):
    """A Grid of which more nodes are seen at every pause."""

    def __init__(self, nodes: Iterable[int]) -> None:
        whole = InProcessGrid(ClientApp(), 20)
        super().__init__(whole, lambda ids: list(ids)[: self.seen])
        self._more = iter(nodes)
        self.partition_of = None  # it does not know its nodes, as Flower's Grid does not
        self.pauses = 0
        self.pause(0)

    def pause(self, _: float) -> None:
        self.pauses += 1
        self.seen = next(self._more, getattr(self, "seen", 0))


@pytest.mark.parametrize(("seen", "asked", "pauses"), [([2, 2, 3], 3, 3), ([3], 3, 1), ([2, 4], 4, 2)])
def test_nodes_that_join_are_waited_for(seen: list[int], asked: int, pauses: int, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Joining(seen)
    monkeypatch.setattr(time, "sleep", grid.pause)
    strategy = NormThreshold(compressor=L1Sign(), trim=1, **SAMPLING)
    assert len(list(strategy.configure_train(1, to_arrays(MODEL), ConfigRecord(), grid))) == asked
    assert grid.pauses == pauses and strategy.receiver.expected.nodes


def test_where_nobody_joins_any_more_the_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Joining([2, 3, 4])
    monkeypatch.setattr(time, "sleep", grid.pause)
    strategy = NormThreshold(compressor=L1Sign(), trim=2, **SAMPLING)
    with pytest.raises(ConfigurationError, match="4 of 4 were sampled"):
        strategy.configure_train(1, to_arrays(MODEL), ConfigRecord(), grid)
    assert grid.pauses == 3 + enough_nodes._LOOKS


@given(trim=st.one_of(st.integers(0, 6), st.floats(0, 0.49)), nodes=st.integers(1, 16))
def test_a_round_is_refused_where_it_would_be_skipped_with_all_replies(trim: int | float, nodes: int) -> None:
    strategy = NormThreshold(compressor=L1Sign(), trim=trim, min_train_nodes=1, min_available_nodes=1, **SAMPLING)
    try:
        requests = _ask(strategy, nodes)
    except ConfigurationError:
        strategy.check_nodes = lambda nodes: None  # type: ignore[method-assign]
        requests = _ask(strategy, nodes)
        arrays, _ = strategy.aggregate_train(1, [answer(r, x, L1Sign()) for r, x in zip(requests, updates(nodes), strict=True)])
        assert arrays is None
        return
    arrays, _ = strategy.aggregate_train(1, [answer(r, x, L1Sign()) for r, x in zip(requests, updates(nodes), strict=True)])
    assert arrays is not None


def test_a_run_ends_with_that_line() -> None:
    strategy = NormThreshold(compressor=L1Sign(), trim=1, **SAMPLING)
    with pytest.raises(ConfigurationError, match="trim = 1 needs at least 3 nodes"):
        strategy.start(InProcessGrid(app(lambda w: w, []), 2), to_arrays(MODEL), num_rounds=2)
