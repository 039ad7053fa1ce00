"""The round that all strategies share: what no rule can forget, and what a checkpoint has of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from flwr_robustcomp.compressors import Compressor, Drive, Identity, L1Sign, Sign, TopK
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.packing import Granularity
from flwr_robustcomp.strategies import (
    ByzFL,
    CompressedStrategy,
    Momentum,
    NormThreshold,
    Outcome,
    Policy,
    RobustCompressed,
    Round,
    SignMajorityVote,
    SkippedRound,
)
from flwr_robustcomp.strategies.nodes.history import LEDGER_RECORD
from tests.optional import needs_byzfl
from tests.strategies.rounds import MODEL, SAMPLING, answer, answers, ask, moved, updates

D = Layout.of(MODEL).dim
OF_FLOATS = f"must be a Tensor of floats of shape ({D},), got "


class Heavy(CompressedStrategy):
    """A rule of one's own: a mean with a memory."""

    def aggregate(self, round_: Round, state: Mapping[str, Tensor]) -> Outcome:
        mean = round_.sum([1 / len(round_)] * len(round_))
        memory = mean + 0.5 * state["memory"] if state else mean
        return Outcome(memory.clone(), [1 / len(round_)] * len(round_), state={"memory": memory})


class Undecided(CompressedStrategy):
    """A rule that sets the longest update aside, and then gives up."""

    def aggregate(self, round_: Round, state: Mapping[str, Tensor]) -> Outcome:
        norms = dict(zip(round_.nodes, round_.norms(), strict=True))
        longest = max(norms, key=lambda node: norms[node])
        raise SkippedRound("nothing is left to say", norms=norms, trimmed={longest: norms[longest]})


OWN: dict[str, Callable[..., CompressedStrategy]] = {
    "own": lambda **options: Heavy(compressor=Identity(), **SAMPLING, **options),
    "norm-threshold": lambda **options: NormThreshold(compressor=Identity(), **SAMPLING, **options),
    "robust-compressed": lambda **options: RobustCompressed(compressor=Identity(), **SAMPLING, **options),
    "sign-majority-vote": lambda **options: SignMajorityVote(**SAMPLING, **options),
    "byzfl": lambda **options: ByzFL(compressor=Identity(), **SAMPLING, **options),
}
EVERY = pytest.mark.parametrize(
    "make", [pytest.param(make, id=name, marks=needs_byzfl if name == "byzfl" else ()) for name, make in OWN.items()]
)


def _compressor(strategy: CompressedStrategy) -> Any:
    return Sign() if isinstance(strategy, SignMajorityVote) else Identity()


@EVERY
def test_no_rule_moves_the_model_without_its_quorum(make: Callable[..., CompressedStrategy]) -> None:
    strategy = make(policy=Policy(quorum=0.9))
    replies = answers(strategy, updates(9), _compressor(strategy))
    arrays, _ = strategy.aggregate_train(1, replies[:2])
    assert arrays is None
    report = strategy.reports[-1]
    assert not report.quorum and report.skipped == "the quorum is 9 of 9 nodes, and 2 replies were accepted"


@EVERY
def test_every_rule_restores_its_ledger_or_refuses(make: Callable[..., CompressedStrategy]) -> None:
    strategy, other = make(), make()
    replies = answers(strategy, updates(5), _compressor(strategy))
    replies[0].content["more"] = replies[0].content["metrics"]  # two MetricRecords: rejected
    strategy.aggregate_train(1, replies)
    assert strategy.ledger.standings
    state = strategy.state()
    other.restore(state)
    assert other.ledger.standings == strategy.ledger.standings
    del state[LEDGER_RECORD]
    with pytest.raises(ConfigurationError, match="ledger must be a ConfigRecord, got NoneType"):
        other.restore(state)


@pytest.mark.parametrize("trim", [1, 0.2])
@pytest.mark.parametrize("name", ["robust-compressed", pytest.param("byzfl", marks=needs_byzfl)])
def test_oversized_updates_stand_in_the_report_and_count_as_trimmed(name: str, trim: int | float) -> None:
    model = {key: tensor.double() for key, tensor in MODEL.items()}
    strategy = OWN[name](trim=trim)
    xs = [x.double() for x in updates(5)]
    xs[3] *= 2e150 / float(xs[3].norm())
    step = moved(strategy, answers(strategy, xs, Identity(), model=model), model)
    report = strategy.reports[-1]
    assert list(report.trimmed.values()) == [pytest.approx(2e150)]
    assert len(report.kept) == 4  # the one that a trim of 1 is for: none of the others is trimmed
    assert float(step.norm()) <= max(float(x.norm()) for i, x in enumerate(xs) if i != 3)


def test_a_round_without_decision_says_what_was_set_aside() -> None:
    strategy = Undecided(compressor=Identity(), **SAMPLING)
    arrays, _ = strategy.aggregate_train(1, answers(strategy, updates(5), Identity()))
    report = strategy.reports[-1]
    assert arrays is None and report.skipped == "nothing is left to say"
    assert list(report.trimmed.values()) == [max(report.norms.values())] and len(report.norms) == 5
    assert not report.kept


def test_what_a_rule_carries_goes_through_a_checkpoint() -> None:
    whole, first, second = (Heavy(compressor=Identity(), **SAMPLING) for _ in range(3))
    for strategy in (whole, first):
        moved(strategy, answers(strategy, updates(5), Identity()))
    second.restore(first.state())
    assert torch.equal(second.carried["memory"], whole.carried["memory"])
    wanted, got = (moved(one, answers(one, updates(5, seed=1), Identity())) for one in (whole, second))
    assert torch.equal(wanted, got)
    first.carried["memory"][0] = torch.nan
    with pytest.raises(ConfigurationError, match="'memory' must be finite"):
        second.restore(first.state())


def test_a_step_that_overflows_leaves_nothing_behind() -> None:
    strategy = Heavy(compressor=Identity(), **SAMPLING)
    huge = torch.full((D,), 3e38)
    moved(strategy, answers(strategy, [-huge] * 3, Identity()))
    before = strategy.carried["memory"]
    arrays, _ = strategy.aggregate_train(2, answers(strategy, [-huge] * 3, Identity()))
    assert arrays is None and strategy.reports[-1].quorum
    assert strategy.carried["memory"] is before


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("frction_train", "NormThreshold has no option 'frction_train', did you mean 'fraction_train'?"),
        ("step_sise", "NormThreshold has no option 'step_sise', did you mean 'step_size'?"),
        ("polcy", "NormThreshold has no option 'polcy', did you mean 'policy'?"),
        ("zzz", "NormThreshold has no option 'zzz': it has arrayrecord_key, compressor, configrecord_key,"),
    ],
)
def test_an_option_that_there_is_not_names_the_nearest(option: str, told: str) -> None:
    options: dict[str, Any] = {option: 1}
    with pytest.raises(ConfigurationError) as caught:
        NormThreshold(compressor=L1Sign(), **options)
    assert str(caught.value).startswith(told)


def test_a_smaller_trim_is_asked_of_a_copy() -> None:
    strategy = RobustCompressed(compressor=L1Sign(), trim=3, filters="norm-clipping+spectral", step=Momentum())
    other = strategy.with_trim(1)
    assert (other.trim, [one.trim for one in other.filters]) == (1, [1, 1])
    assert (strategy.trim, [one.trim for one in strategy.filters]) == (3, [3, 3])


@needs_byzfl
def test_the_centre_of_clipping_is_what_the_rule_made_and_not_the_step() -> None:
    whole, half = (ByzFL(compressor=Identity(), aggregator="CenteredClipping", step_size=s, **SAMPLING) for s in (1.0, 0.5))
    for strategy in (whole, half):
        moved(strategy, answers(strategy, updates(5), Identity()))
    assert torch.equal(whole.carried["centre"], half.carried["centre"])


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (None, "Wrong.aggregate must return an Outcome, got NoneType"),
        (Outcome([0.0] * D, [1.0] * 3), f"the step of Wrong {OF_FLOATS}'list'"),  # type: ignore[arg-type]
        (Outcome(torch.zeros(D + 1), [1.0] * 3), f"the step of Wrong {OF_FLOATS}'torch.float32 ({D + 1},)'"),
        (Outcome(torch.zeros(D), [1.0]), "weights of Wrong must be one for each of 3 updates, got 1"),
        (Outcome(torch.zeros(D), [1.0, -1.0, 1.0]), "weights of Wrong must be not negative, got [1.0, -1.0, 1.0]"),
        (Outcome(torch.zeros(D), [1.0] * 3, state={"t": 3}), f"state 't' of Wrong {OF_FLOATS}'int'"),  # type: ignore[dict-item]
    ],
    ids=["none", "list", "length", "weights", "negative", "state"],
)
def test_a_rule_that_returns_something_else_is_told_in_one_line(outcome: Any, told: str) -> None:
    class Wrong(CompressedStrategy):
        def aggregate(self, round_: Round, state: Mapping[str, Tensor]) -> Any:
            return outcome

    strategy = Wrong(compressor=Identity(), **SAMPLING)
    with pytest.raises(ConfigurationError) as caught:
        strategy.aggregate_train(1, answers(strategy, updates(3), Identity()))
    assert str(caught.value) == told


class Signs(CompressedStrategy):
    """A rule that looks at signs, and keeps what it has seen."""

    def aggregate(self, round_: Round, state: Mapping[str, Tensor]) -> Outcome:
        self.seen = round_.signs(), round_.rows()
        return Outcome(round_.sum([1 / len(round_)] * len(round_)), [1 / len(round_)] * len(round_))


@pytest.mark.parametrize("granularity", ["model", "array"])
@pytest.mark.parametrize("compressor", [Identity(), L1Sign(), Drive(), TopK(ratio=0.2)], ids=repr)
def test_shares_of_signs_are_those_of_the_updates(compressor: Compressor, granularity: Granularity) -> None:
    xs = updates(4)
    xs[1][::2] = 0.0  # zeros stay zeros
    strategy = Signs(compressor=compressor, granularity=granularity, **SAMPLING)
    strategy.aggregate_train(1, answers(strategy, xs, compressor, granularity=granularity))
    shares, rows = strategy.seen
    wanted = torch.stack([(rows < 0).double().mean(1), (rows == 0).double().mean(1), (rows > 0).double().mean(1)], dim=1)
    assert shares.shape == (4, 3)
    assert torch.allclose(torch.from_numpy(shares), wanted)
    assert shares[1, 1] >= 0.5


class InPlace(CompressedStrategy):
    """A rule that writes to what it is given."""

    def aggregate(self, round_: Round, state: Mapping[str, Tensor]) -> Outcome:
        mean = round_.sum([1 / len(round_)] * len(round_))
        memory = state["m"].mul_(0.5).add_(mean) if state else mean.clone()
        return Outcome(memory.clone(), [1 / len(round_)] * len(round_), state={"m": memory})


class Unit(CompressedStrategy):
    """The mean of directions: weights follow from what clients sent."""

    def aggregate(self, round_: Round, state: Mapping[str, Tensor]) -> Outcome:
        weights = [1 / norm / len(round_) if norm else 0.0 for norm in round_.norms()]
        return Outcome(round_.sum(weights), weights)


def test_a_rule_that_writes_to_its_state_is_safe_from_an_overflow() -> None:
    strategy = InPlace(compressor=Identity(), **SAMPLING)
    huge = [torch.full((D,), 3e38)] * 3
    moved(strategy, answers(strategy, huge, Identity()))
    before = strategy.carried["m"].clone()
    arrays, _ = strategy.aggregate_train(2, answers(strategy, huge, Identity()))
    assert arrays is None and not strategy.reports[-1].kept
    assert torch.equal(strategy.carried["m"], before)


def test_a_tiny_update_of_one_client_does_not_raise() -> None:
    strategy = Unit(compressor=Identity(), **SAMPLING)
    replies = answers(strategy, [*updates(4), torch.full((D,), 1e-43)], Identity())
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is None and strategy.reports[-1].skipped == "a weight overflows"


def test_an_update_whose_count_underflows_is_still_kept() -> None:
    strategy = NormThreshold(compressor=Identity(), weighting="examples", **SAMPLING)
    requests = ask(strategy, 3)
    counts = [5e-324, 3.0, 3.0]
    replies = [
        answer(r, x, Identity(), metrics={"num-examples": n}) for r, x, n in zip(requests, updates(3), counts, strict=True)
    ]
    strategy.aggregate_train(1, replies)
    assert len(strategy.reports[-1].kept) == 3 and not strategy.reports[-1].trimmed
