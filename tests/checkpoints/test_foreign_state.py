"""A strategy's state that fits no run of the model is refused before anything is changed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvgM, Strategy

from flwr_robustcomp import QSGD, Checkpointed, Decompressed, RobustCompressed, to_arrays
from flwr_robustcomp.checkpoints import CHECKPOINT_FILE
from flwr_robustcomp.checkpoints.resumption import find_resumption
from flwr_robustcomp.checkpoints.snapshot import read_snapshot, write_snapshot
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.strategies import Adam, Momentum
from flwr_robustcomp.strategies.byzfl import ByzFL
from tests.checkpoints.kit import SAMPLING, START, play

Q = QSGD(levels=2)


def _record(**arrays: Any) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(value, np.float32)) for name, value in arrays.items()})


def _moments(**changed: Any) -> ArrayRecord:
    return _record(**{"w": np.ones(6), "b": np.ones(3), **changed})


def _adam(**changed: Any) -> ArrayRecord:
    return _record(**{"first": np.ones(9), "second": np.ones(9), **changed})


def _make(kind: str) -> Strategy:
    match kind:
        case "momentum":
            return RobustCompressed(compressor=Q, filters="norm", step=Momentum(), **SAMPLING)
        case "memory":
            return RobustCompressed(compressor=Q, filters="norm-clipping+fools-gold", memory=0.9, **SAMPLING)
        case "adam":
            return RobustCompressed(compressor=Q, filters="norm", step=Adam(), **SAMPLING)
        case "byzfl":
            if importlib.util.find_spec("byzfl") is None:
                pytest.skip("ByzFL is not installed")
            return ByzFL(compressor=Q, aggregator="CenteredClipping", **SAMPLING)
        case "fed-adam":
            return Decompressed(FedAdam(**SAMPLING), compressor=Q)
        case _:
            return Decompressed(FedAvgM(server_momentum=0.5, **SAMPLING), compressor=Q)


CASES = [
    ("momentum", "robustcomp.step", _record(momentum=np.ones(3))),
    ("momentum", "robustcomp.step", _record(momentum=np.ones((2, 9)))),
    ("momentum", "robustcomp.step", _record(momentum=np.full(9, np.nan))),
    ("momentum", "robustcomp.sketch", ConfigRecord({"seed": -1})),
    ("momentum", "robustcomp.sketch", ConfigRecord({"seed": "7"})),
    ("momentum", "robustcomp.sketch", ConfigRecord({})),
    ("memory", "robustcomp.memory", ConfigRecord({})),
    ("memory", "robustcomp.memory", _record(**{"7": np.ones(10)})),  # float32
    ("memory", "robustcomp.memory", ArrayRecord({"7": Array(np.ones(9))})),
    ("memory", "robustcomp.memory", ArrayRecord({"7": Array(np.full(10, np.nan))})),
    ("memory", "robustcomp.memory", ArrayRecord({"seven": Array(np.ones(10))})),
    ("memory", "robustcomp.sketch", MetricRecord()),
    ("adam", "robustcomp.step", _record(first=np.ones(9))),
    ("adam", "robustcomp.step", _record(first=np.ones(1), second=np.ones(1))),
    ("adam", "robustcomp.step", _adam(first=np.ones((9, 1)), second=np.ones((9, 1)))),
    ("adam", "robustcomp.step", _adam(second=-np.ones(9))),
    ("byzfl", "robustcomp.byzfl", _record(centre=np.ones(3))),
    ("byzfl", "robustcomp.byzfl", _record(centre=np.full(9, np.nan))),
    ("byzfl", "robustcomp.draws", ConfigRecord({"seed": 0.5})),
    ("fed-adam", "m_t", _record(w=np.ones(6))),
    ("fed-adam", "m_t", _moments(b=np.ones(1))),
    ("fed-adam", "v_t", _moments(b=np.full(3, np.nan))),
    ("fed-adam", "v_t", _moments(b=-np.ones(3))),
    ("fed-avg-m", "current_arrays", _moments(w=np.ones(1))),
    ("fed-avg-m", "current_arrays", ArrayRecord()),
    ("fed-avg-m", "momentum_vector", ArrayRecord()),
    ("fed-avg-m", "momentum_vector", _record(**{"0": np.ones(6), "1": np.ones(2)})),
]


@pytest.mark.parametrize(("kind", "name", "record"), CASES, ids=[f"{i}-{kind}" for i, (kind, *_) in enumerate(CASES)])
def test_a_state_that_fits_no_run_of_the_model_is_refused(kind: str, name: str, record: Any, tmp_path: Path) -> None:
    play(Checkpointed(_make(kind), tmp_path), rounds=1)
    path = tmp_path / CHECKPOINT_FILE
    found = read_snapshot(path)
    assert found is not None

    def find() -> None:
        find_resumption(path, run="", strategy=_make(kind), initial=to_arrays(START), num_rounds=3)

    find()  # as it was written
    found.records["strategy"] = RecordDict({**found.records["strategy"], name: record})
    write_snapshot(path, found)
    with pytest.raises(ConfigurationError, match="checkpoint must be whole") as caught:
        find()
    assert str(caught.value).isprintable()
