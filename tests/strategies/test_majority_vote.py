"""signSGD with majority vote against its definition."""

from __future__ import annotations

import pytest
import torch

from flwr_robustcomp.compressors import L1Sign, Sign
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.packing import Granularity
from flwr_robustcomp.strategies import SignMajorityVote
from tests.strategies.rounds import SAMPLING, answers, moved, updates


@pytest.mark.parametrize("granularity", ["model", "array"])
@pytest.mark.parametrize("count", [1, 4, 9])
def test_the_majoritys_sign_is_the_step(count: int, granularity: Granularity) -> None:
    xs = updates(count)
    strategy = SignMajorityVote(step_size=0.25, granularity=granularity, **SAMPLING)
    got = moved(strategy, answers(strategy, xs, Sign(), granularity=granularity))
    votes = torch.stack([torch.where(x >= 0, 1.0, -1.0) for x in xs]).sum(dim=0)
    assert torch.allclose(got, 0.25 * votes.sign(), atol=1e-6)
    if count == 4:
        assert bool((votes == 0).any())  # a tie does not move


def test_a_size_buys_no_votes() -> None:
    xs = updates(5)
    strategy = SignMajorityVote(**SAMPLING)
    assert torch.equal(
        moved(strategy, answers(strategy, xs, Sign())), moved(strategy, answers(strategy, [xs[0] * 1e6, *xs[1:]], Sign()))
    )


def test_no_votes_leave_the_model_as_it_is() -> None:
    strategy = SignMajorityVote(**SAMPLING)
    answers(strategy, updates(2), Sign())
    assert strategy.aggregate_train(1, [])[0] is None
    assert strategy.reports[-1].skipped == "no reply was accepted"


def test_bad_options_raise_at_construction() -> None:
    with pytest.raises(ConfigurationError, match=r"compressor must be Sign\(\) for a majority vote, got L1Sign"):
        SignMajorityVote(compressor=L1Sign())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"step_size must be positive and at most 3\.4e\+38, got -1"):
        SignMajorityVote(step_size=-1)
