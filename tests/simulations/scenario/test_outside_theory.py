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


def test_of_filters_and_rules_it_says_what_is_proved_and_what_is_not() -> None:
    strategy: dict[str, object] = {"name": "robust-compressed", "trim": 2, "filters": "norm-clipping+spectral"}
    said = outside_theory(small(strategy=strategy))
    assert said is not None and said.startswith("no theorem covers the filters norm-clipping, spectral with the rule mean:")
    assert "at most 1 times as long as the longest honest update, with at most 2 Byzantine of 10 nodes" in said
    said = outside_theory(small(strategy={**strategy, "filters": "nearest-neighbor-mixing", "length_screen": 0}))
    assert said is not None and "nothing is proved with at most 2 Byzantine of 10 nodes" in said
    assert outside_theory(small(strategy={**strategy, "filters": "norm"})) is None  # Algorithm 2
