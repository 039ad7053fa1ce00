"""Sums in an order of our own: bit for bit those of a loop in plain Python, which no processor computes in another way."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.compressors import sums, vector_norm
from flwr_robustcomp.compressors.norms import array_norm
from flwr_robustcomp.compressors.products import RUN, energies_of_runs
from flwr_robustcomp.compressors.sums import magnitudes, squares, total, wide_magnitudes, wide_squares
from tests.compressors.samples import rng


def halves(values: Sequence[Any]) -> Any:
    """Add the upper half to the lower half until one is left; the first half is a power of two."""
    values = list(values)
    while len(values) > 1:
        half = 1 << (len(values) - 1).bit_length() >> 1
        values = [a + b for a, b in zip(values, values[half:], strict=False)] + values[len(values) - half : half]
    return values[0] if values else 0.0


def loop(row: npt.NDArray[np.floating], of: Callable[[Any], Any], dtype: type[np.floating], block: int) -> float:
    """Return what `sums` promises for one row, one addition after the other."""
    whole, parts = row.size - row.size % 64, []
    for start in range(0, whole, block):
        made = [of(dtype(v)) for v in row[start : min(start + block, whole)]]
        count = len(made) // 64
        parts += [float(halves(made[place::count])) for place in range(count)]
    return float(halves(parts + [of(np.float64(v)) for v in row[whole:]]))


@pytest.mark.parametrize("d", [1, 2, 3, 63, 64, 65, 513, 640, 1003, 5000])
@pytest.mark.parametrize(
    ("fast", "of", "single"),
    [
        (magnitudes, abs, True),
        (squares, np.square, True),
        (wide_magnitudes, abs, False),
        (wide_squares, np.square, False),
    ],
)
def test_every_sum_is_the_loops(
    fast: Callable[..., Any], of: Callable[..., Any], single: bool, d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "_BLOCK", 1024)  # so that some rows have several
    rows = rng(d).standard_normal((3, d)).astype(np.float32)
    dtype = np.float32 if single and d > 512 else np.float64
    assert fast(rows).tolist() == [loop(row, of, dtype, 1024) for row in rows]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("of", [magnitudes, squares, wide_magnitudes, wide_squares])
@pytest.mark.parametrize("d", [7, 700, 70_000])
def test_a_rows_sum_does_not_depend_on_how_many_rows_there_are(of: Callable[..., Any], d: int, dtype: type) -> None:
    rows: npt.NDArray[Any] = rng(0).standard_normal((9, d)).astype(dtype)
    assert of(rows).tolist() == [of(row[None])[0] for row in rows]
    assert of(rows[:, ::-1][:, ::-1]).tolist() == of(rows).tolist()  # strides do not matter


@given(values=st.lists(st.floats(-1e300, 1e300), max_size=70))
def test_the_total_is_that_of_the_halves(values: list[float]) -> None:
    array = np.array(values, np.float64)
    before = array.copy()
    assert total(array[:, None]).tolist() == [halves(values)]
    assert np.array_equal(array, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("d", [1, 9, 256, 257, 4096, 4097, 9000])
def test_norms_are_those_of_the_loop(d: int, dtype: torch.dtype) -> None:
    x = torch.from_numpy(rng(d).standard_normal(d)).to(dtype)
    wide = x.double().numpy()
    of_sum = math.fsum if d <= 256 else halves if d <= 4096 else lambda made: loop(np.array(made), float, np.float64, 1 << 16)
    assert vector_norm(x, 2) == math.sqrt(of_sum([float(v) * float(v) for v in wide]))
    assert vector_norm(x, 1) == of_sum([abs(float(v)) for v in wide])
    assert vector_norm(x, math.inf) == max(abs(float(v)) for v in wide)
    assert array_norm(wide) == vector_norm(x, 2)


def test_norms_of_nothing_and_of_what_overflows() -> None:
    assert [vector_norm(torch.zeros(0), q) for q in (1, 2, math.inf)] == [0.0, 0.0, 0.0]
    for d in (9, 300, 5000):
        huge = np.full(d, 1e308)
        assert array_norm(huge, 1) == math.inf
        assert array_norm(huge) == pytest.approx(1e308 * math.sqrt(d)) if d < 300 else array_norm(huge) > 1e308


def test_the_energies_of_runs_are_those_of_the_halves() -> None:
    x = torch.from_numpy(rng(3).standard_normal(1003).astype(np.float32))
    chosen = np.array([0, 7, 15])
    padded = np.pad(x.double().numpy(), (0, -1003 % RUN)).reshape(-1, RUN)
    assert energies_of_runs(x, chosen).tolist() == [halves([float(v) * float(v) for v in padded[run]]) for run in chosen]
