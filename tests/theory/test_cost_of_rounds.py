"""Bytes of a round, both ways: what packing really makes, and what dense FedAvg would have sent."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flwr_robustcomp.compressors import Compressor, Drive, Identity, L1Sign, RotatedQuantizer, TopK
from flwr_robustcomp.theory import downlink, label, traffic, uplink


@pytest.mark.parametrize("compressor", [Drive(), L1Sign(), RotatedQuantizer(levels=16), TopK(k=7, coding="fixed")], ids=label)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_bytes_down_are_those_of_payloads(compressor: Compressor, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal(300)).to(dtype)
    payload = compressor.for_round(1).compress(x, rng)
    cost = downlink(compressor, 3, (300,), dtype)
    assert cost == uplink(compressor, 3, (300,), dtype)
    assert cost.packed == 3 * (len(payload.body) + compressor.encoded_size(300, dtype) - compressor.body_size(300, dtype))
    assert cost.dense == 3 * 300 * dtype.itemsize
    assert cost.worth_sending * cost.packed < cost.dense <= (cost.worth_sending + 1) * cost.packed


def test_both_ways_against_dense_both_ways() -> None:
    nodes, d = 10, 10_000
    dense = traffic(Drive(), None, nodes, (d,))
    assert (dense.down.packed, dense.down.ratio, dense.down.bits) == (40_000 * nodes, 1.0, 32)
    assert 1.9 < dense.ratio < 2.0  # one direction alone halves the traffic, whatever it compresses to
    both = traffic(Drive(), Drive(), nodes, (d,))
    assert both.packed == 2 * both.up.packed and both.ratio == both.up.ratio > 25
    assert traffic(Identity(), None, nodes, (d,)).ratio == pytest.approx(1.0, abs=0.01)
