"""The attacks on coordinates: the spike, and signs turned where the honest agree."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from flwr_robustcomp.compressors import Drive, Identity, L1Sign, TopK
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.attacks import MostAgreedSignFlip, Spike
from flwr_robustcomp.simulations.attacks.lengths import honest_length
from tests.simulations.attacks.kit import gaussian, lengths, seen_of

H, B, D = 20, 4, 64


@pytest.mark.parametrize("compressor", [Identity(), TopK(k=1), Drive()], ids=str)
@pytest.mark.parametrize("coordinates", [1, 2])
def test_a_spike_arrives_whole_in_the_largest_coordinates_against_their_sign(compressor: Any, coordinates: int) -> None:
    seen = seen_of(gaussian(H, D), B, compressor=compressor)
    k = 1 if isinstance(compressor, TopK | Drive) else coordinates
    decoded = seen.sent(Spike(length=0.7, coordinates=k).craft(seen, None)[0])
    chosen = seen.mean.abs().topk(k).indices
    assert torch.allclose(decoded[:, chosen], -0.7 * honest_length(seen) / math.sqrt(k) * torch.sign(seen.mean[chosen]))
    assert lengths(decoded).tolist() == pytest.approx([0.7 * honest_length(seen)] * B)


def test_a_scaled_sign_makes_of_a_spike_a_vector_of_honest_length_in_every_coordinate() -> None:
    seen = seen_of(gaussian(H, D), B, compressor=L1Sign())
    decoded = seen.sent(Spike().craft(seen, None)[0])
    assert lengths(decoded).tolist() == pytest.approx([0.5 * honest_length(seen)] * B)
    assert decoded.abs().flatten().tolist() == pytest.approx([0.5 * honest_length(seen) / math.sqrt(D)] * (B * D))


def test_no_more_coordinates_than_there_are() -> None:
    seen = seen_of(gaussian(H, 3), B)
    rows, _ = Spike(coordinates=9).craft(seen, None)
    assert torch.equal(torch.sign(rows[0]), -torch.sign(seen.mean))


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_signs_turn_where_the_honest_agree_most_and_lengths_stay(share: float) -> None:
    seen = seen_of(gaussian(H, D), B)
    rows, _ = MostAgreedSignFlip(share=share).craft(seen, None)
    assert torch.equal(rows.abs(), seen.own.abs())
    votes = torch.sign(seen.honest).sum(dim=0)
    count = math.ceil(share * D)
    turned = torch.tensor([bool((torch.sign(rows[:, i]) == -torch.sign(votes[i])).all()) for i in range(D)])
    least = votes.abs().sort(descending=True).values[count - 1]
    assert bool(turned[votes.abs() > least].all())
    changed = (rows != seen.own).any(dim=0)
    assert int(changed.sum()) <= count
    assert bool((votes[changed].abs() >= least).all())


def test_ties_go_to_the_larger_mean() -> None:
    honest = torch.tensor([[1.0, 3.0, -2.0], [1.0, 3.0, -2.0]])
    seen = seen_of(honest, 1)
    rows, _ = MostAgreedSignFlip(share=0.3).craft(seen, None)
    assert float(rows[0, 1]) == -abs(float(seen.own[0, 1]))
    assert torch.equal(rows[0, [0, 2]], seen.own[0, [0, 2]])


def test_under_a_scaled_sign_only_the_chosen_signs_differ() -> None:
    seen = seen_of(gaussian(H, D), B, compressor=L1Sign())
    decoded = seen.sent(MostAgreedSignFlip(share=0.25).craft(seen, None)[0])
    assert torch.allclose(lengths(decoded), lengths(seen.own))
    agreed = torch.sign(decoded) @ torch.sign(decoded).T / D
    honest = torch.sign(seen.own) @ torch.sign(seen.own).T / D
    assert float(agreed[0, 1:].mean()) > float(honest[0, 1:].mean())


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Spike(length=0.0), "length must be positive and finite, got 0.0"),
        (lambda: Spike(coordinates=0), "coordinates must be at least 1, got 0"),
        (lambda: MostAgreedSignFlip(share=0.0), r"share must be in \(0, 1\], got 0.0"),
        (lambda: MostAgreedSignFlip(share=1.5), r"share must be in \(0, 1\], got 1.5"),
    ],
)
def test_bad_options_raise_at_construction(make: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()
