"""What `make test-flower` asks pip for."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from benchmarks.flower_version import ROOT, TOUCHES, allowed_pins, oldest_version, requirement_of

PINS = """# A comment.
cryptography==50.0.2
flwr==1.42.0
Flwr_Datasets==0.6.1
ray==2.55.1
rich==14.3.4
"""


def test_pins_that_this_flower_shuts_out_are_dropped_and_others_kept() -> None:
    requirements = [Requirement(text) for text in ("cryptography>=46,<47", "rich>=14", "numpy>=2", "flwr-datasets>=0.6")]
    assert allowed_pins(PINS, requirements, "1.38.0").splitlines() == [
        "flwr==1.38.0",
        "Flwr_Datasets==0.6.1",
        "ray==2.55.1",
        "rich==14.3.4",
    ]


def test_what_the_simulation_needs_counts_and_other_extras_do_not() -> None:
    simulation = Requirement('ray==2.51.1; python_version >= "3.11" and extra == "simulation"')
    other = Requirement('rich<14; extra == "agent"')
    kept = allowed_pins(PINS, [simulation, other], None).splitlines()
    assert "flwr==1.42.0" in kept and "rich==14.3.4" in kept and "ray==2.55.1" not in kept


@pytest.mark.parametrize(
    ("version", "requirement"),
    [("1.38", "flwr==1.38.*"), ("1.38.0", "flwr==1.38.0"), ("nightly", "flwr-nightly")],
)
def test_a_version_is_asked_for(version: str, requirement: str) -> None:
    assert requirement_of(version) == requirement


@pytest.mark.parametrize("version", ["", "1", "1.38.*", "1.38 --index-url x", "newest"])
def test_anything_else_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match=r"VERSION must be like 1\.38"):
        requirement_of(version)


def test_the_oldest_is_that_of_pyproject() -> None:
    text = '[project]\ndependencies = ["numpy>=2", "flwr[simulation]<1.44,>=1.9"]\n'
    assert oldest_version(text) == "1.9"
    with pytest.raises(ValueError, match="must depend on flwr"):
        oldest_version("[project]\ndependencies = []\n")


def test_the_tests_that_touch_flower_are_there() -> None:
    assert [path for path in TOUCHES if not (ROOT / path).exists()] == []
