"""How unlike the nodes are stands in report, metrics, log and record; filters that trim honest minorities are told of once."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord
from torch import Tensor

from flwr_robustcomp import Identity, NormThreshold, RobustCompressed, RoundReport
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import Spectral, Vectors, spread_of
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.simulations import run_scenario
from tests.simulations.kit import small
from tests.strategies.rounds import MODEL, SAMPLING, answers, updates

NODES, TRIM = 14, 3
XS = updates(NODES)
NAMES = ["ratio", "direction-ratio", "cosine-5", "cosine-50", "cosine-95"]


def _strategy(**options: object) -> RobustCompressed:
    return RobustCompressed(compressor=Identity(), trim=TRIM, **{**SAMPLING, **options})  # type: ignore[arg-type]


def test_report_metrics_and_log_have_the_spread(caplog: pytest.LogCaptureFixture) -> None:
    strategy = _strategy()
    with caplog.at_level(logging.INFO, logger="flwr"):
        _, metrics = strategy.aggregate_train(1, answers(strategy, XS, Identity()))
    spread = strategy.reports[-1].spread
    x = torch.stack(XS).double().numpy()
    wanted = spread_of(Vectors.of_gram(x @ x.T), TRIM)
    assert spread is not None and spread.ratio == pytest.approx(wanted.ratio, rel=1e-5)
    assert metrics is not None
    told = [metrics[f"robustcomp.spread-{name}"] for name in NAMES]
    assert told == [spread.ratio, spread.direction_ratio, *(spread.cosines or ())]
    assert str(spread) in caplog.text


@pytest.mark.parametrize("filters", ["norm", "norm-clipping", []])
def test_rules_that_look_at_lengths_alone_have_none(filters: str | list[str]) -> None:
    strategy = _strategy(filters=filters)
    _, metrics = strategy.aggregate_train(1, answers(strategy, XS, Identity()))
    assert strategy.reports[-1].spread is None
    assert metrics is not None and not any("spread" in name for name in metrics)
    other = NormThreshold(compressor=Identity(), trim=TRIM, **SAMPLING)
    other.aggregate_train(1, answers(other, XS, Identity()))
    assert other.reports[-1].spread is None


def test_what_is_unknown_is_no_metric() -> None:
    assert not any(
        "spread" in name for name in RoundReport(1, spread=spread_of(Vectors.of_gram(np.zeros((9, 9))), 1)).metrics()
    )


def _round(t: int, *, persistent: bool) -> list[Tensor]:
    """Return updates of which three are alike: the same in each round, or the next three."""
    rng = np.random.default_rng(t)
    d = Layout.of(MODEL).dim
    x = rng.standard_normal((NODES, d))
    who = [j if persistent else (3 * t + j) % NODES for j in range(TRIM)]
    x[who] = 3 * rng.standard_normal(d)
    return [torch.from_numpy(row).float() for row in x]


@pytest.mark.parametrize("persistent", [True, False])
def test_a_rotating_minority_is_told_of_once_and_colluders_never(persistent: bool, caplog: pytest.LogCaptureFixture) -> None:
    strategy = _strategy(filters=[Spectral()])
    told = []
    with caplog.at_level(logging.WARNING, logger="flwr"):
        for t in range(25):
            if t == 6:  # a run that goes on from a checkpoint
                kept, strategy = strategy.state(), _strategy(filters=[Spectral()])
                strategy.restore(kept)
            _, metrics = strategy.aggregate_train(t, answers(strategy, _round(t, persistent=persistent), Identity()))
            report = strategy.reports[-1]
            assert len(report.trimmed) == TRIM
            assert metrics is not None
            assert ("robustcomp.minority-warning" in metrics) == (report.minority_warning is not None)
            if report.minority_warning:
                told.append(t)
    assert told == ([] if persistent else [9])
    assert caplog.text.count("trim honest minorities") == len(told)


def test_garbled_drops_in_a_checkpoint_are_refused() -> None:
    strategy = _strategy()
    state = strategy.state()
    state["robustcomp.ledger"] = ConfigRecord({"standings": "{}", "steps": [], "drops": "many"})
    with pytest.raises(ConfigurationError, match="the last drops must be as a checkpoint keeps them"):
        strategy.restore(state)
    del state["robustcomp.ledger"]["drops"]
    strategy.restore(state)  # older checkpoints


def test_records_of_scenarios_have_it() -> None:
    records = run_scenario(small(strategy={"name": "robust-compressed", "trim": 2, "step_size": 0.4}))
    assert "spread" not in records[0]
    for record in records[1:]:
        assert record["spread"].keys() == {"ratio", "direction_ratio", "cosines"}
        assert record["spread"]["ratio"] >= 1 and len(record["spread"]["cosines"]) == 3
    assert "spread" not in run_scenario(small())[-1]
