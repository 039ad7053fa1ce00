"""Names and stypes of arrays that the old API does not keep."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from flwr.app import Array
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.old_api import array_names, named, numbers_of, stypes_from_text, stypes_to_text

STYPES = st.sampled_from(["robustcomp/drive/1", "robustcomp/non-zeros+drive/1", "numpy.ndarray", "robustcomp/drive/2"])


@given(st.lists(STYPES, min_size=1, max_size=40))
def test_stypes_travel(stypes: list[str]) -> None:
    text = stypes_to_text(stypes)
    assert stypes_from_text(text, stypes[0], len(stypes)) == stypes
    assert (text == "") == (len(set(stypes)) == 1)


@given(
    st.one_of(st.text(alphabet="ab,;.0123456789-", max_size=30), st.integers(), st.none(), st.binary(max_size=9)),
    st.integers(1, 5),
)
def test_any_text_gives_one_stype_for_each_array(text: Any, count: int) -> None:
    assert len(stypes_from_text(text, "first", count)) == count


@pytest.mark.parametrize(
    "text", ["a,b", "a,b;0", "a,b;0.1.0", "a,b;0.-1", "a,b;0.2", "a,b;0. 1", "a;0.b", ";.", 7, None, b"a;0.0"]
)
def test_a_text_that_does_not_fit_tells_nothing(text: object) -> None:
    assert stypes_from_text(text, "first", 2) == ["first", "first"]


def test_batch_statistics_of_a_network() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Linear(2, 2))
    names = array_names(network.state_dict().values())
    assert names == ["0", "1", "2", "3", "4.running_mean", "5.running_var", "6", "7", "8"]


@pytest.mark.parametrize(
    "count",
    [torch.tensor(1.0), torch.tensor([1]), torch.tensor(True), torch.tensor(1j)],
    ids=["floating", "not a scalar", "truth value", "complex"],
)
def test_two_vectors_before_something_else_are_none(count: torch.Tensor) -> None:
    assert array_names([torch.zeros(2), torch.zeros(2), count]) == ["0", "1", "2"]


def test_vectors_of_two_lengths_and_matrices_are_none() -> None:
    count = torch.tensor(1)
    assert array_names([torch.zeros(2), torch.zeros(3), count]) == ["0", "1", "2"]
    assert array_names([torch.zeros(2, 2), torch.zeros(2, 2), count]) == ["0", "1", "2"]
    assert array_names([torch.zeros(2), torch.zeros(2, dtype=torch.int64), count]) == ["0", "1", "2"]


def test_trees_are_no_arrays() -> None:
    with pytest.raises(ConfigurationError, match="the model cannot be read"):
        named([Array("", (), "", b"{}")])


def test_numbers() -> None:
    assert dict(numbers_of({"a": 1, "b": 0.5, "c": True, "d": "x", "e": b"x"})) == {"a": 1, "b": 0.5}
