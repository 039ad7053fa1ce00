"""What is sent again in a run with checkpoints has the round's timeout."""

from __future__ import annotations

from pathlib import Path

import torch

from flwr_robustcomp import Checkpointed, Downlink, Drive, NormThreshold, to_arrays
from flwr_robustcomp.strategies.downlink.outgoing import Outgoing


def test_the_timeout_of_the_run_is_that_of_what_is_sent_again(tmp_path: Path) -> None:
    strategy = NormThreshold(compressor=Drive(), trim=1, downlink=Downlink())
    assert isinstance(strategy.outgoing, Outgoing)
    Checkpointed(strategy, tmp_path).start(None, to_arrays({"w": torch.ones(3)}), num_rounds=0, timeout=50.0)  # type: ignore[arg-type]
    assert strategy.outgoing.timeout == 50.0
