"""One result is remembered, and never the wrong one."""

from __future__ import annotations

import pytest

from flwr_robustcomp.one_slot import OneSlot


def test_the_same_subjects_and_options_are_made_once() -> None:
    slot: OneSlot[list[int]] = OneSlot()
    subject = {"w": 1}
    first = slot.get([subject], "a", lambda: [1])
    assert slot.get([subject], "a", lambda: [2]) is first


def test_an_equal_subject_is_another() -> None:
    slot: OneSlot[int] = OneSlot()
    assert slot.get([{"w": 1}], None, lambda: 1) == 1
    assert slot.get([{"w": 1}], None, lambda: 2) == 2


@pytest.mark.parametrize(("count", "options"), [(1, "b"), (2, "a"), (0, "a")], ids=["options", "more", "fewer"])
def test_anything_else_is_made_anew(count: int, options: str) -> None:
    slot: OneSlot[int] = OneSlot()
    subject = object()
    slot.get([subject], "a", lambda: 1)
    assert slot.get([subject] * count, options, lambda: 2) == 2


def test_a_failure_is_not_remembered() -> None:
    slot: OneSlot[int] = OneSlot()
    subject = object()
    with pytest.raises(ZeroDivisionError):
        slot.get([subject], None, lambda: 1 // 0)
    assert slot.get([subject], None, lambda: 3) == 3
