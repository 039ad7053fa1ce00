"""Which form a node gets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.downlink import Form, cheapest

SIZES = st.none() | st.integers(0, 2**40)


@given(SIZES, SIZES, SIZES)
def test_nothing_that_can_be_read_is_smaller(replica: int | None, quantised: int | None, dense: int | None) -> None:
    sizes = {Form.REPLICA: replica, Form.QUANTISED: quantised, Form.DENSE: dense}
    form = cheapest(sizes)
    possible = [size for size in sizes.values() if size is not None]
    if sizes[form] is None:
        assert form is Form.DENSE, "a form was taken that nobody can make"
        assert not possible
    else:
        assert sizes[form] == min(possible)


def test_of_equals_the_one_that_is_built_upon_comes_first() -> None:
    assert cheapest({Form.REPLICA: 4, Form.QUANTISED: 4}) is Form.REPLICA
    assert cheapest({Form.REPLICA: 4, Form.QUANTISED: 4, Form.DENSE: 4}) is Form.REPLICA, "what comes later builds on it"
    assert cheapest({Form.QUANTISED: 4, Form.DENSE: 4}) is Form.DENSE, "no form is packed for nothing"
