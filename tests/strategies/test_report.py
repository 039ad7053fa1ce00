"""What the log says of a round with very many nodes."""

from __future__ import annotations

import pytest

from flwr_robustcomp import RoundReport


def test_of_a_thousand_trimmed_nodes_the_log_names_the_longest_and_counts_the_others(caplog: pytest.LogCaptureFixture) -> None:
    report = RoundReport(1, trimmed={2**63 + i: float(i) for i in range(1000)})
    with caplog.at_level("INFO", logger="flwr"):
        report.log()
    line = next(record.getMessage() for record in caplog.records if "with their norms" in record.getMessage())
    assert line.startswith(f"\t> trimmed, with their norms: {2**63 + 999} (999), {2**63 + 998} (998), ")
    assert line.endswith(", and 992 more") and len(line) < 300
    assert len(report.metrics()["robustcomp.trimmed-nodes"]) == 1000  # type: ignore[arg-type]  # nothing is lost
    few = RoundReport(1, trimmed={7: 1.0})
    few.log()
    assert caplog.messages[-1] == "\t> trimmed, with their norms: 7 (1)"
