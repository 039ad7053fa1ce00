"""Choices: each array of a model gets the compressor that the rule names."""

from __future__ import annotations

from typing import Any

import pytest

from flwr_robustcomp.compressors import CHOICES, ByName, ByShape, BySize, Choice, Compressor, Drive, Identity, LowRank, TopK
from flwr_robustcomp.errors import ConfigurationError

RANK, SIGNS, RARE = LowRank(2), Drive(), TopK(ratio=0.1)


def test_the_registry_knows_each_choice_by_its_name() -> None:
    assert {name: cls.name for name, cls in CHOICES.items()} == {name: name for name in CHOICES}


@pytest.mark.parametrize(
    ("choice", "array", "shape", "wanted"),
    [
        (ByShape(RANK, SIGNS), "w", (4, 3), RANK),
        (ByShape(RANK, SIGNS), "w", (4, 3, 2, 2), RANK),
        (ByShape(RANK, SIGNS), "w", (4,), SIGNS),
        (ByShape(RANK, SIGNS), "w", (1, 4), SIGNS),
        (ByShape(RANK, SIGNS), "w", (4, 1, 1), SIGNS),
        (ByShape(RANK), "w", (), Identity()),
        (BySize(RARE, SIGNS, least=12), "w", (4, 3), RARE),
        (BySize(RARE, SIGNS, least=13), "w", (4, 3), SIGNS),
        (ByName("head.*, *.bias", SIGNS, RARE), "head.weight", (4, 3), SIGNS),
        (ByName("head.*, *.bias", SIGNS, RARE), "body.bias", (4,), SIGNS),
        (ByName("head.*, *.bias", SIGNS, RARE), "body.weight", (4, 3), RARE),
        (ByName("head.*", SIGNS, ByShape(RANK, RARE)), "body.weight", (4, 3), RANK),
        (ByName("head.*", SIGNS, ByShape(RANK, RARE)), "body.bias", (4,), RARE),
    ],
    ids=str,
)
def test_what_an_array_goes_through(choice: Choice, array: str, shape: tuple[int, ...], wanted: Compressor) -> None:
    assert choice.compressor_of(array, shape) == wanted


def test_all_compressors_are_known() -> None:
    assert ByName("head.*", SIGNS, ByShape(RANK, RARE)).compressors == (SIGNS, RANK, RARE)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ByShape("low-rank"), "a branch of 'by-shape' must be a Compressor or a Choice, got 'low-rank'"),  # type: ignore[arg-type]
        (lambda: BySize(RARE, least=0), "least must be an integer from 1, got 0"),
        (lambda: ByName(" , ", SIGNS, RARE), "patterns must be shell patterns of array names, joined by commas, got ' , '"),
    ],
)
def test_bad_configurations(make: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()


class Astray(Choice):
    """Chooses what it does not list."""

    branches = (SIGNS, RARE)

    def branch_of(self, array: str, shape: Any) -> Any:
        return RANK if array == "w" else "drive"


@pytest.mark.parametrize("array", ["w", "x"])
def test_a_choice_of_ones_own_is_held_to_its_branches(array: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"Astray.branch_of\('{array}', ...\) must be one of its branches, got"):
        Astray().compressor_of(array, (3,))
