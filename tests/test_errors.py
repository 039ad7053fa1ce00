"""The user's fault and a peer's fault are told apart, and the house form of the first."""

from __future__ import annotations

import pytest

from flwr_robustcomp.errors import ConfigurationError, WireError, printable, require


def test_both_are_value_errors_and_neither_is_the_other() -> None:
    assert issubclass(ConfigurationError, ValueError) and issubclass(WireError, ValueError)
    assert not issubclass(ConfigurationError, WireError) and not issubclass(WireError, ConfigurationError)


@pytest.mark.parametrize(("value", "shown"), [(0.7, "0.7"), ("x", "'x'"), (None, "None")])
def test_require_names_the_parameter_the_interval_and_the_value(value: object, shown: str) -> None:
    require(True, "trim", value, "in [0, 0.5)")
    with pytest.raises(ConfigurationError) as raised:
        require(False, "trim", value, "in [0, 0.5)")
    assert str(raised.value) == f"trim must be in [0, 0.5), got {shown}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("60.0\u202f% ± 1", "60.0\u202f% ± 1"),
        ("a\nb\x1b[31m\x9b\u202e\ud800\x00", r"a\nb\x1b[31m\x9b\u202e\ud800\x00"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 200 + "..."),
    ],
)
def test_foreign_text_is_one_line_that_a_terminal_only_shows(text: str, shown: str) -> None:
    assert printable(text) == shown
