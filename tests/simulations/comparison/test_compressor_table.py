"""The table of compressors: a row for each, with the numbers that it says it has. Nothing here looks at the clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from flwr_robustcomp.compressors import Identity
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.comparison import compressor_table
from flwr_robustcomp.simulations.comparison.compressor_table import COLUMNS, Measured, as_markdown, cells, measure
from flwr_robustcomp.theory import CATALOGUE, label
from flwr_robustcomp.theory.catalogue import Entry, entropy_of_values

DOCS = Path(__file__).parents[3] / "docs" / "compressors.md"


@pytest.fixture(scope="module")
def rows() -> list[Measured]:
    return measure(1000)


def test_every_configuration_has_a_row(rows: list[Measured]) -> None:
    wanted = [c for entry in CATALOGUE.values() for c in entry.configurations]
    assert [row.compressor for row in rows] == wanted


def test_rows_say_what_is_so(rows: list[Measured]) -> None:
    found = {label(row.compressor): row for row in rows}
    dense = found["Identity()"]
    assert (dense.bits, dense.entropy, dense.guaranteed, dense.gradient) == (32, 32, 1.0, 1.0)
    sign = found["L1Sign()"]
    assert sign.bits == 8 * (8 + 125) / 1000
    assert sign.guaranteed == 1e-3
    assert sign.gaussian == pytest.approx(2 / math.pi, abs=0.03)
    assert sign.gaussian > sign.heavy > sign.guaranteed
    assert found["Sign()"].guaranteed is None
    for row in rows:
        assert 0 < row.entropy <= row.bits + 0.3  # a header's worth
        assert max(row.gaussian, row.heavy, row.gradient) <= 1 + 1e-12
        assert min(row.encode, row.decode, row.copy) > 0 and row.dense == 4000
        if row.guaranteed is not None and row.compressor.pointwise:
            assert min(row.gaussian, row.heavy) >= row.guaranteed - 1e-6


def test_the_page_has_a_line_for_each_row(rows: list[Measured]) -> None:
    lines = as_markdown(rows, 1000).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "| " + " | ".join(COLUMNS) + " |"
    assert len(table) == len(rows) + 2
    assert all(
        line.count("|") == len(COLUMNS) + 1 and len(cells(row)) == len(COLUMNS)
        for line, row in zip(table[2:], rows, strict=True)
    )
    assert max(map(len, lines)) < 200


def test_the_page_in_the_documentation_is_current() -> None:
    shown = [line.split("`")[1] for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert shown == [label(c) for entry in CATALOGUE.values() for c in entry.configurations], "run make compressors"


def test_matrices_are_as_square_as_they_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []

    class Seen(Identity):
        def check_shape(self, shape: Sequence[int]) -> None:
            shapes.append(tuple(shape))

    monkeypatch.setattr(compressor_table, "CATALOGUE", {"identity": Entry((Seen(),), entropy_of_values, matrix=True)})
    measure(1200)
    assert set(shapes) == {(30, 40), (16, 64)}  # the gradient is that of a hidden layer of 16


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    measure(100)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("dimension", [99, 10**7 + 1])
def test_dimensions_have_bounds(dimension: int) -> None:
    with pytest.raises(ConfigurationError, match=r"dimension must be in \[100, 10\*\*7\]"):
        measure(dimension)
