"""What a scenario is told about the theory depends on its adversary."""

from __future__ import annotations

import pytest

from flwr_robustcomp.simulations.scenario.coverage import outside_theory
from tests.simulations.kit import small


@pytest.mark.parametrize(
    ("adversary", "why"), [("restricted", "Sign() guarantees none"), ("arbitrary", "a client that lies may report any")]
)
def test_a_report_is_a_lie_only_where_the_adversary_lies(adversary: str, why: str) -> None:
    strategy = {"name": "norm-threshold", "trim": 2, "norm": "reported"}
    said = outside_theory(small(compressor="sign", strategy=strategy, adversary=adversary))
    assert said is not None and said.startswith("Theorem 1 does not cover 2 Byzantine of 10 nodes") and why in said


@pytest.mark.parametrize("adversary", ["restricted", "arbitrary"])
def test_nothing_is_said_where_a_theorem_covers_the_run(adversary: str) -> None:
    strategy = {"name": "norm-threshold", "trim": 2, "norm": "reported"}
    assert outside_theory(small(compressor="identity", strategy=strategy, adversary=adversary)) is None
    assert outside_theory(small(compressor={"name": "qsgd", "levels": 300}, strategy=strategy, adversary=adversary)) is None
    assert outside_theory(small(strategy="fed-avg", adversary=adversary)) is None
