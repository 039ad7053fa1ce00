"""The user's fault and a peer's fault are told apart, and the house form of the first."""

from __future__ import annotations

import pytest

from flwr_robustcomp.errors import ConfigurationError, WireError, require


def test_both_are_value_errors_and_neither_is_the_other() -> None:
    assert issubclass(ConfigurationError, ValueError) and issubclass(WireError, ValueError)
    assert not issubclass(ConfigurationError, WireError) and not issubclass(WireError, ConfigurationError)


@pytest.mark.parametrize(("value", "shown"), [(0.7, "0.7"), ("x", "'x'"), (None, "None")])
def test_require_names_the_parameter_the_interval_and_the_value(value: object, shown: str) -> None:
    require(True, "trim", value, "in [0, 0.5)")
    with pytest.raises(ConfigurationError) as raised:
        require(False, "trim", value, "in [0, 0.5)")
    assert str(raised.value) == f"trim must be in [0, 0.5), got {shown}"
