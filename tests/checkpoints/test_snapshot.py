"""The file: exact for every value that records can hold, no pickle in it, whole or refused, old or new but never half."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import to_arrays
from flwr_robustcomp.checkpoints import CHECKPOINT_FILE, Snapshot, read_snapshot, write_snapshot
from flwr_robustcomp.checkpoints.records import describe, rebuild
from flwr_robustcomp.errors import ConfigurationError

_INTS = st.integers(-(2**63), 2**63 - 1)
_NAMES = st.text(max_size=8)
_CONFIG = st.one_of(
    _INTS,
    st.floats(),
    st.booleans(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.lists(_INTS, max_size=3),
    st.lists(st.binary(max_size=4), max_size=3),
    st.lists(st.text(max_size=4), max_size=3),
)
_ARRAYS = st.builds(
    Array,
    st.sampled_from(["float32", "bfloat16", ""]),
    st.tuples(st.integers(0, 9)),
    st.text(max_size=8),
    st.binary(max_size=40),
)
_METRICS: st.SearchStrategy[int | float | list[int] | list[float]] = st.one_of(
    _INTS, st.floats(), st.lists(st.floats(), max_size=3)
)
_RECORDS = st.one_of(
    st.dictionaries(_NAMES, _ARRAYS, max_size=3).map(ArrayRecord),
    st.dictionaries(_NAMES, _METRICS, max_size=3).map(MetricRecord),
    st.dictionaries(_NAMES, _CONFIG, max_size=3).map(ConfigRecord),
)


def _snapshot(**changes: Any) -> Snapshot:
    model = {"w": torch.tensor([1.5, -0.0, 1e-45]), "half": torch.ones(2, dtype=torch.bfloat16)}
    random: dict[str, Any] = {"python": [3, [1, 2], None]}
    fields: dict[str, Any] = {"round_": 4, "run": "r", "strategy": "S", "random": random}
    fields |= {
        "records": {"model": RecordDict({"arrays": to_arrays(model)})},
        "nodes": {1000: RecordDict(), 2**63: RecordDict()},
    }
    return Snapshot(**fields | changes)


def _plain(records: RecordDict) -> str:
    """Return records as text that tells types, order, -0.0 and NaN apart."""
    return repr([(name, type(r), [(k, type(v), _value(v)) for k, v in r.items()]) for name, r in records.items()])


def _value(value: Any) -> Any:
    return (value.dtype, value.shape, value.stype, value.data) if isinstance(value, Array) else value


@given(st.dictionaries(_NAMES, _RECORDS, max_size=4))
def test_records_come_back_exactly(records: dict[str, Any]) -> None:
    blobs: list[bytes] = []

    def add(data: bytes) -> int:
        blobs.append(data)
        return len(blobs) - 1

    original = RecordDict(records)
    text = json.dumps(describe(original, add))
    assert _plain(rebuild(json.loads(text), blobs.__getitem__)) == _plain(original)


def test_a_snapshot_comes_back_and_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / CHECKPOINT_FILE
    assert read_snapshot(path) is None
    for round_ in (1, 2):
        snapshot = _snapshot(round_=round_)
        write_snapshot(path, snapshot)
        assert read_snapshot(path) == snapshot
    assert [found.name for found in path.parent.iterdir()] == [CHECKPOINT_FILE]


def test_numpy_reads_the_model_without_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT_FILE
    write_snapshot(path, _snapshot())
    with np.load(path, allow_pickle=False) as archive:
        assert archive["0"].tolist() == [1.5, -0.0, float(np.float32(1e-45))]
        assert math.copysign(1, archive["0"][1]) == -1


@pytest.mark.parametrize("keep", [0, 10, 200, 500, -40, -1])
def test_a_file_cut_short_is_refused_in_one_line(keep: int, tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT_FILE
    write_snapshot(path, _snapshot())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ConfigurationError, match=r"checkpoint must be whole, got .*checkpoint\.npz") as caught:
        read_snapshot(path)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT_FILE
    write_snapshot(path, _snapshot())
    data = bytearray(path.read_bytes())
    place = data.index(np.float32(1.5).tobytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=r"checkpoint must be whole.*CRC"):
        read_snapshot(path)


@pytest.mark.parametrize(
    ("manifest", "why"),
    [("{}", "format"), ('{"format": 3}', "format 3"), ("[]", "an object"), ('{"format": 1}', "round"), ("{", "Expecting")],
)
def test_a_file_that_is_no_checkpoint_is_refused(manifest: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT_FILE
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", manifest)
    with pytest.raises(ConfigurationError, match=f"checkpoint must be whole, got .*: .*{why}"):
        read_snapshot(path)


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"checkpoint must be a writable folder, got .*file"):
        write_snapshot(tmp_path / "file" / CHECKPOINT_FILE, _snapshot())
    with pytest.raises(ConfigurationError, match=r"checkpoint must be whole, got .*file"):
        read_snapshot(tmp_path / "file" / CHECKPOINT_FILE)
