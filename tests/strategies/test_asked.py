"""What simulations ask of a strategy, whichever it is."""

from __future__ import annotations

import pytest
from flwr.serverapp.strategy import Bulyan, FedAvg

from flwr_robustcomp import Decompressed, L1Sign, NormThreshold, RobustCompressed, Sign, SignMajorityVote
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.strategies.asked import Asked
from tests.strategies.rounds import MODEL, SAMPLING

LAYOUT = Layout.of(MODEL)


@pytest.mark.parametrize(
    ("strategy", "answer"),
    [
        (NormThreshold(compressor=L1Sign(), trim=0.1, norm_order=1, **SAMPLING), (2, 1)),
        (RobustCompressed(compressor=L1Sign(), trim=3, **SAMPLING), (3, 2)),
        (SignMajorityVote(**SAMPLING), None),
        (Decompressed(FedAvg(**SAMPLING), compressor=L1Sign()), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_adversary_may_ask_how_many_are_trimmed_by_which_norm(strategy: Asked, answer: tuple[int, float] | None) -> None:
    assert strategy.trimmed_by_norm(20) == answer


def test_only_an_algorithm_of_the_paper_has_a_theorem_that_may_not_cover_it() -> None:
    ours = NormThreshold(compressor=Sign(), trim=2, norm="reported", **SAMPLING)
    lines = [ours.outside_theory(LAYOUT, 20, adversary) for adversary in ("restricted", "arbitrary")]
    assert all(line is not None and line[1].startswith("Theorem 1 does not cover 2 Byzantine of 20") for line in lines)
    assert lines[0] != lines[1]
    others: list[Asked] = [SignMajorityVote(**SAMPLING), Decompressed(FedAvg(**SAMPLING), compressor=L1Sign())]
    assert [strategy.outside_theory(LAYOUT, 20) for strategy in others] == [None, None]


def test_an_inner_strategy_says_how_many_nodes_it_needs() -> None:
    strategy = Decompressed(Bulyan(num_malicious_nodes=2, **SAMPLING), compressor=L1Sign())
    strategy.check_nodes(11)
    with pytest.raises(ConfigurationError, match="nodes must be at least 11, got 10"):
        strategy.check_nodes(10)
