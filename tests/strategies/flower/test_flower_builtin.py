"""What Flower's constructors accept and its rounds cannot use is refused before there is a round."""

from __future__ import annotations

import math
from typing import Any

import pytest
from flwr.serverapp.strategy import (
    Bulyan,
    FedAdagrad,
    FedAdam,
    FedAvgM,
    FedProx,
    FedXgbBagging,
    FedYogi,
    Krum,
    MultiKrum,
    QFedAvg,
)

from flwr_robustcomp.compressors import L1Sign
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.strategies import Decompressed
from tests.strategies.rounds import SAMPLING, ask


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Krum(num_malicious_nodes=-1), "num_malicious_nodes must be at least 0, got -1"),
        (MultiKrum(num_malicious_nodes=-2), "num_malicious_nodes must be at least 0, got -2"),
        (Bulyan(num_malicious_nodes=-1), "num_malicious_nodes must be at least 0, got -1"),
        (MultiKrum(num_nodes_to_select=0), "num_nodes_to_select must be at least 1, got 0"),
        (FedProx(proximal_mu=-0.1), "proximal_mu must be at least 0 and finite, got -0.1"),
        (FedProx(proximal_mu=math.nan), "proximal_mu must be at least 0 and finite, got nan"),
        (QFedAvg(client_learning_rate=0.0), "client_learning_rate must be above 0 and finite, got 0.0"),
        (QFedAvg(client_learning_rate=0.1, q=-1), "q must be at least 0 and finite, got -1"),
        (FedAvgM(server_learning_rate=math.inf), "server_learning_rate must be above 0 and finite, got inf"),
        (FedAvgM(server_momentum=1.0), "server_momentum must be at least 0 and below 1, got 1.0"),
        (FedAdam(eta=-1.0), "eta must be above 0 and finite, got -1.0"),
        (FedYogi(beta_2=1.0), "beta_2 must be at least 0 and below 1, got 1.0"),
        (FedAdagrad(tau=0.0), "tau must be above 0 and finite, got 0.0"),
        (FedXgbBagging(), "strategy must average arrays, got FedXgbBagging: it passes on trees as bytes"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else None,
)
def test_parameters_out_of_range_are_refused(strategy: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Decompressed(strategy, compressor=L1Sign())


@pytest.mark.parametrize(
    "strategy",
    [
        Krum(),
        MultiKrum(num_nodes_to_select=1),
        Bulyan(),
        FedProx(),
        QFedAvg(0.1, q=0),
        FedAvgM(),
        FedAdam(),
        FedYogi(),
        FedAdagrad(),
    ],
)
def test_the_least_that_works_is_accepted(strategy: Any) -> None:
    assert Decompressed(strategy, compressor=L1Sign()).strategy is strategy


def test_a_bulyan_that_can_never_aggregate_is_refused_in_round_one() -> None:
    strategy = Decompressed(Bulyan(num_malicious_nodes=1, **SAMPLING), compressor=L1Sign())
    with pytest.raises(ConfigurationError, match=r"Bulyan needs at least 7 nodes per round, 6 of 6 were sampled"):
        ask(strategy, 6)
    ask(strategy, 7)
