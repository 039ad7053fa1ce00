"""The form of the condition for a delta in expectation: its bound on every draw, against adversaries, and why it is needed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.compressors import QSGD, Compressor, CrossPolytope, RandomK
from flwr_robustcomp.filters.norm import shortest
from flwr_robustcomp.strategies.sort_norm import sort_norm
from flwr_robustcomp.theory import Theorem, contraction

THEOREMS: list[Theorem] = [1, 2]


@given(
    seed=st.integers(0, 2**32 - 1),
    trim=st.integers(0, 9),
    theorem=st.sampled_from(THEOREMS),
    ranks=st.lists(st.integers(0, 19)),
)
def test_the_sum_behind_the_drawn_form_holds_on_every_draw(seed: int, trim: int, theorem: Theorem, ranks: list[int]) -> None:
    # m = 20, with compression errors of any size, and Byzantine vectors as long as any honest one is sorted by.
    rng = np.random.default_rng(seed)
    byzantine, gradient = min(trim, len(ranks)), rng.standard_normal(5)
    honest = 20 - byzantine
    x = gradient + rng.exponential(0.3) * rng.standard_normal((honest, 5))
    e = rng.standard_normal((honest, 5)) * rng.pareto(1.0, (honest, 1))
    lengths = np.linalg.norm(x + e, axis=1)
    orders = np.maximum(np.linalg.norm(x, axis=1), lengths) if theorem == 1 else lengths
    chosen = np.array([0.999999 * np.sort(orders)[rank % honest] for rank in ranks[:byzantine]])
    sent = np.concatenate([x + e, -np.outer(chosen, gradient / np.linalg.norm(gradient)).reshape(byzantine, 5)])

    kept = shortest([*orders, *chosen], honest + byzantine - trim)
    deviation = float(np.linalg.norm(sent[kept].mean(axis=0) - gradient))
    size, epsilon1 = float(np.linalg.norm(gradient)), float(np.linalg.norm(x - gradient, axis=1).max())
    epsilon2 = float(np.linalg.norm(x.mean(axis=0) - gradient))
    errors = np.linalg.norm(e, axis=1)
    among = sum(i >= honest for i in kept)
    bound = errors.sum() + among * (2 * size + epsilon1) + honest * epsilon2 + trim * epsilon1
    assert deviation * (20 - trim) <= bound * (1 + 1e-9)
    if byzantine == 0:  # nobody needs a trimmed node to be held against: kept errors alone
        assert deviation * (20 - trim) <= errors[kept].sum() + honest * epsilon2 + trim * epsilon1 + 1e-9


@pytest.mark.parametrize("theorem", THEOREMS)
@pytest.mark.parametrize("compressor", [CrossPolytope(repetitions=40), QSGD(levels=8), RandomK(ratio=0.8)], ids=repr)
def test_the_drawn_bound_holds_against_senders_of_their_own_bytes(compressor: Compressor, theorem: Theorem) -> None:
    rng = np.random.default_rng(0)
    m, byzantine, trim, d = 40, 4, 6, 24
    honest = m - byzantine
    gradient = torch.from_numpy(rng.standard_normal(d))
    size, squares = float(gradient.norm()), []
    for _ in range(20):  # each alone is at most 0.66 of the bound
        payloads = [compressor.compress(gradient, rng) for _ in range(honest)]
        norms = [sort_norm([(compressor, p)], 2, size if theorem == 1 else None) for p in payloads]
        longest = sorted(norms)[-trim] * (1 - 1e-9)  # so that none of them is trimmed: they saw the honest draws
        sent = [*map(compressor.decompress, payloads), *[-gradient / size * longest] * byzantine]
        kept = shortest([*norms, *[longest] * byzantine], m - trim)
        assert set(range(honest, m)) <= set(kept)
        squares.append(float((torch.stack([sent[i] for i in kept]).mean(dim=0) - gradient).square().sum()))
    delta = compressor.delta(d)
    assert delta is not None
    kappa = contraction(delta, byzantine / m, trim / m, theorem=theorem, form="drawn")
    assert math.sqrt(np.mean(squares)) <= kappa * size


def test_the_sharp_form_is_not_for_deltas_in_expectation() -> None:
    # Algorithm 2, nobody Byzantine: random-k of one spike sends all of it or nothing, and what is trimmed is what arrived.
    compressor, x = RandomK(k=1), torch.tensor([1.0, 0.0], dtype=torch.float64)
    m, trim = 1000, 450
    rng = np.random.default_rng(0)
    payloads = [compressor.compress(x, rng) for _ in range(m)]
    kept = shortest([sort_norm([(compressor, p)], 2) for p in payloads], m - trim)
    step = torch.stack([compressor.decompress(payloads[i]) for i in kept]).mean(dim=0)
    deviation, delta = float((step - x).norm()), compressor.delta(2)
    assert delta == 0.5
    assert contraction(delta, 0, trim / m, form="sharp") < deviation < contraction(delta, 0, trim / m, form="drawn")
