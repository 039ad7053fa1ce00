"""The trimmed mean of scaled signs from counts: the dense one, whatever the scales, zeros, blocks and cuts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedTrimmedAvg
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import from_arrays, to_arrays
from flwr_robustcomp.compressors import L1Sign
from flwr_robustcomp.compressors.bits import pack_bits
from flwr_robustcomp.compressors.columns import Signs
from flwr_robustcomp.flower import addressed, envelope
from flwr_robustcomp.rules import Mass, TrimmedMean
from flwr_robustcomp.rules.sign_ranks import _pieces, add_uncut_signs
from flwr_robustcomp.simulations import InProcessGrid
from tests.compressors.samples import gaussian

Rows = npt.NDArray[np.float64]


def _signs(values: Rows, scales: Rows, sizes: list[int], *, zeros: bool) -> tuple[Signs, Rows]:
    """Return signs and the rows that they stand for, from rows of -1, 0 and 1."""
    signs = values if zeros else np.where(values < 0, -1.0, 1.0)
    minus = [pack_bits(row < 0) for row in signs] if zeros else None
    return Signs(scales, sizes, [pack_bits(row > 0) for row in signs], minus), signs * np.repeat(scales, sizes, axis=1)


def _check(signs: Signs, rows: Rows, cut: int) -> Mass:
    k, d = rows.shape
    out = np.zeros(d)
    mass = add_uncut_signs(out, signs, np.arange(k), np.ones(k), cut)
    np.testing.assert_allclose(out, np.sort(rows, axis=0)[cut : k - cut].sum(axis=0), atol=1e-9)
    np.testing.assert_allclose(mass.total, np.abs(rows).sum(axis=1))
    return mass


@st.composite
def _cases(draw: st.DrawFn) -> tuple[Signs, Rows, int]:
    k = draw(st.integers(1, 12))
    sizes = draw(st.sampled_from([[1], [7], [64], [130], [64, 64, 64], [128, 128, 5], [64, 32, 8, 4, 2, 1], [3]]))
    d = sum(sizes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    agreement = draw(st.floats(0, 1))  # coordinates on which few differ are the ones with fewer than b negatives
    values = np.where(rng.random((k, d)) < agreement, 1.0, rng.integers(-1, 2, (k, d)))
    most = draw(st.sampled_from([1, 3, 1000]))  # few different scales are ties
    scales = rng.integers(0, most + 1, (k, len(sizes))).astype(np.float64)
    zeros = draw(st.booleans())
    signs, rows = _signs(values.astype(np.float64), scales, sizes, zeros=zeros)
    return signs, rows, draw(st.integers(0, (k - 1) // 2))


@given(_cases())
def test_counts_are_the_dense_trimmed_sum(case: tuple[Signs, Rows, int]) -> None:
    _check(*case)


@given(st.integers(1, 9), st.integers(0, 2**32))
def test_what_survives_is_what_the_dense_trimming_leaves_of_each_vector(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cut = (k - 1) // 2
    signs, rows = _signs(
        rng.integers(-1, 2, (k, 100)).astype(float), (rng.permutation(k)[:, None] + 1).astype(np.float64), [100], zeros=True
    )
    order = np.argsort(rows, axis=0, kind="stable")
    kept = np.zeros_like(rows)
    np.put_along_axis(kept, order[cut : k - cut], 1.0, axis=0)
    # Scales differ, so that the only equal values are zeros, which have no mass.
    np.testing.assert_allclose(_check(signs, rows, cut).survived, (kept * np.abs(rows)).sum(axis=1))


def test_more_words_than_are_worked_on_together() -> None:
    rng = np.random.default_rng(0)
    d = 64 * 2048 + 77
    signs, rows = _signs(rng.integers(-1, 2, (5, d)).astype(float), rng.uniform(0.5, 2, (5, 1)), [d], zeros=False)
    _check(signs, rows, 2)
    sizes = [4096] * 40 + [2048, 512, 8, 2]
    signs, rows = _signs(
        rng.integers(-1, 2, (5, sum(sizes))).astype(float), rng.uniform(0.5, 2, (5, len(sizes))), sizes, zeros=False
    )
    _check(signs, rows, 1)


@pytest.mark.parametrize("sizes", [[795_010], [4096] * 194 + [256, 128, 2], [64] * 5000, [1], [5, 3]])
def test_pieces_cover_every_coordinate_once(sizes: list[int]) -> None:
    pieces = list(_pieces(sizes))
    assert [start for _, _, start, _ in pieces] == np.cumsum([0, *(size * count for _, count, _, size in pieces[:-1])]).tolist()
    assert sum(size * count for _, count, _, size in pieces) == sum(sizes)


def test_signs_with_scales_agree_with_flowers_own_trimmed_mean() -> None:
    k, d, beta = 10, 300, 0.2
    compressor = L1Sign()
    packed = [compressor.compress(gaussian(d, seed=i) * (1 + i)) for i in range(k)]
    out = torch.zeros(d, dtype=torch.float64)
    TrimmedMean().combine(out, compressor, packed, np.eye(k), trim=2)

    strategy = FedTrimmedAvg(beta=beta, min_train_nodes=k, min_available_nodes=k)
    asked = strategy.configure_train(1, to_arrays({"w": torch.zeros(d)}), ConfigRecord(), InProcessGrid(ClientApp(), k))
    replies = []
    for message, payload in zip(asked, packed, strict=True):
        content = RecordDict(
            {"arrays": ArrayRecord({"w": compressor.decompress(payload)}), "metrics": MetricRecord({"num-examples": 1})}
        )
        replies.append(Message(content, reply_to=addressed(message.content, envelope(message, "id"))))
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is not None
    np.testing.assert_allclose(out.numpy(), from_arrays(arrays)["w"].numpy(), atol=1e-6)
