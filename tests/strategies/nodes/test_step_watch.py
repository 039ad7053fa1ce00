"""A step out of line with the last ones raises an alarm."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.strategies.nodes.step_watch import StepWatch


@given(st.lists(st.floats(1.0, 900.0), max_size=30))
def test_steps_within_a_factor_of_a_thousand_raise_none(norms: list[float]) -> None:
    watch = StepWatch()
    assert [watch.judge(norm) for norm in norms] == [None] * len(norms)
    assert list(watch.norms) == norms[-10:]


def test_one_long_step_raises_one_alarm_and_does_not_move_the_standard() -> None:
    watch = StepWatch([1.0, 2.0, 3.0])
    assert watch.judge(1999.0) is None
    assert watch.judge(2.6e30) == "the step is 2.6e+30 long, the last ones 2.5 (median)"
    assert watch.judge(2.0) is None


def test_a_step_of_zero_raises_an_alarm_each_time_and_sets_no_standard() -> None:
    watch = StepWatch()
    assert watch.judge(0.0) == watch.judge(0.0) == "the step is zero: the model stays as it is"
    assert watch.judge(5.0) is None


def test_an_infinite_step_is_out_of_line() -> None:
    assert StepWatch([1.0]).judge(float("inf")) is not None
