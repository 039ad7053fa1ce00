"""What Flower's constructors accept and its rounds cannot use is refused before there is a round."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.serverapp.strategy import Bulyan, Krum, MultiKrum

from flwr_robustcomp.compressors import L1Sign
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.strategies import Decompressed


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Krum(num_malicious_nodes=-1), "num_malicious_nodes must be at least 0, got -1"),
        (MultiKrum(num_malicious_nodes=-2), "num_malicious_nodes must be at least 0, got -2"),
        (Bulyan(num_malicious_nodes=-1), "num_malicious_nodes must be at least 0, got -1"),
        (MultiKrum(num_nodes_to_select=0), "num_nodes_to_select must be at least 1, got 0"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else None,
)
def test_parameters_out_of_range_are_refused(strategy: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Decompressed(strategy, compressor=L1Sign())


@pytest.mark.parametrize("strategy", [Krum(), MultiKrum(num_nodes_to_select=1), Bulyan()])
def test_the_least_that_works_is_accepted(strategy: Any) -> None:
    assert Decompressed(strategy, compressor=L1Sign()).strategy is strategy
