"""Whatever was done to a checkpoint: it is read as it was, or refused in one line, and a refusal changes nothing."""

from __future__ import annotations

import functools
import io
import json
import random
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvg, Strategy
from hypothesis import given, settings
from hypothesis import strategies as st

from flwr_robustcomp import QSGD, Checkpointed, Decompressed, RobustCompressed, to_arrays
from flwr_robustcomp.checkpoints import CHECKPOINT_FILE, Snapshot, read_snapshot, write_snapshot
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies import Momentum
from flwr_robustcomp.strategies.flower.stateful import stateful
from tests.checkpoints.damage import JSON, MANIFEST, places, replaced, rewrite, rewritten
from tests.checkpoints.kit import APP, NODES, SAMPLING, START, Stopped, play

Q = QSGD(levels=2)


def _momentum() -> RobustCompressed:
    return RobustCompressed(compressor=Q, trim=1, filters="norm", step=Momentum(0.5, beta=0.8), seed=0, **SAMPLING)


@functools.cache
def _kept() -> dict[str, bytes]:
    """Return the files of a run that was stopped after round 3."""
    with tempfile.TemporaryDirectory() as folder, pytest.raises(Stopped):
        try:
            play(Checkpointed(_momentum(), folder), stop_at=4)
        finally:
            files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return files


def _lay_out(folder: Path, files: dict[str, bytes] | None = None) -> Path:
    for name, data in (files or _kept()).items():
        (folder / name).write_bytes(data)
    return folder / CHECKPOINT_FILE


@contextmanager
def _refused(path: Path, match: str | None = None) -> Iterator[None]:
    """Expect one line that names the file."""
    with pytest.raises(ConfigurationError, match=match) as caught:
        yield
    line = str(caught.value)
    assert line.isprintable() and len(line) < 600
    assert line.startswith("num_rounds must be") or (line.startswith("checkpoint must be") and str(path.parent) in line)


def _go_on(folder: Path, strategy: Strategy | None = None) -> None:
    """Go on from a folder; if it is refused, see to it that nothing was changed."""
    strategy = strategy or _momentum()
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 (the global generator is what is tested)
    app = RecordDict({"mine": ConfigRecord({"x": 1})})
    with InProcessGrid(APP, NODES) as grid:
        for state in grid.node_states().values():
            state["mine"] = ConfigRecord({"x": 2})

        def now() -> Any:
            generators = random.getstate(), [str(part) for part in np.random.get_state()]  # noqa: NPY002
            nodes = {node: dict(state) for node, state in grid.node_states().items()}
            return generators, nodes, dict(app), dict(stateful(strategy).state())

        before = now()
        try:
            Checkpointed(strategy, folder, app_state=app).start(grid, to_arrays(START), num_rounds=3)
        except BaseException:
            assert now() == before
            raise


def _small() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CHECKPOINT_FILE
        state = RecordDict({"a": ArrayRecord({"x": Array(np.arange(2.0))}), "c": ConfigRecord({"b": b"\x00", "l": [1, 2]})})
        write_snapshot(path, Snapshot(4, "r", "S", {"python": [3]}, {"model": state}, {7: RecordDict()}))
        return path.read_bytes()


@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_every_flipped_byte_is_harmless_or_refused(mask: int, tmp_path: Path) -> None:
    path, data = tmp_path / CHECKPOINT_FILE, _small()
    path.write_bytes(data)
    whole = read_snapshot(path)
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :])
        try:
            assert read_snapshot(path) == whole, place
        except ConfigurationError as error:
            assert str(error).isprintable() and str(path) in str(error), place


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path, data = tmp_path / CHECKPOINT_FILE, _small()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with _refused(path, "checkpoint must be whole"):
            read_snapshot(path)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_any_other_manifest_is_a_checkpoint_or_refused_with_nothing_changed(data: st.DataObject) -> None:
    manifest = json.loads(zipfile.ZipFile(io.BytesIO(_kept()[CHECKPOINT_FILE])).read(MANIFEST))
    path = data.draw(st.sampled_from(places(manifest)))
    changed = replaced(manifest, path, data.draw(JSON), drop=data.draw(st.booleans()))
    with tempfile.TemporaryDirectory() as folder:
        file = _lay_out(Path(folder))
        rewrite(file, lambda _: changed)
        try:
            _go_on(Path(folder))
        except ConfigurationError as error:
            assert str(error).isprintable()


_DEEP = "[" * 100_000 + "]" * 100_000

MANIFESTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "nested": (lambda _: _DEEP, "nested too deeply"),
    "nested inside": (
        lambda m: json.dumps({**m, "random": 0}).replace('"random": 0', f'"random": {_DEEP}'),
        "nested too deeply",
    ),
    "nodes as a list": (lambda m: {**m, "nodes": []}, "nodes must be an object"),
    "records as a string": (lambda m: {**m, "records": "abc"}, "records must be an object"),
    "a negative round": (lambda m: {**m, "round": -5}, "round must be an integer from 0, got -5"),
    "a fraction of a round": (lambda m: {**m, "round": 2.5}, "round must be an integer from 0, got 2.5"),
    "no model": (lambda m: replaced(m, ("records", "model"), [], drop=True), "nothing refers to|records must have 'model'"),
    "an empty model": (lambda m: replaced(m, ("records", "model"), []), "nothing refers to|must have a model"),
    "random as garbage": (lambda m: {**m, "random": {"python": "?", "numpy": []}}, "random must hold"),
    "no random": (lambda m: {**m, "random": {}}, "random must hold"),
    "a place behind the generator's end": (lambda m: replaced(m, ("random", "numpy", 2), 10**6), "random must hold"),
    "an array referred to twice": (
        lambda m: replaced(m, ("nodes", "1000", 0, 2, 0, 1, "bytes"), 0),
        "member '0.npy' must be there, and be referred to once",
    ),
    "a node that has no number": (lambda m: replaced(m, ("nodes", "x"), []), "the id of a node must be"),
    "no ledger": (
        lambda m: replaced(m, ("records", "strategy", 0), 0, drop=True),
        "its 'robustcomp.ledger', a ConfigRecord, got none",
    ),
    "a ledger of garbage": (
        lambda m: replaced(m, ("records", "strategy", 0, 2, 0, 1), "[[["),
        "the ledger must be as a checkpoint keeps it",
    ),
    "a ledger of another kind": (
        lambda m: replaced(m, ("records", "strategy", 0), ["robustcomp.ledger", "metrics", []]),
        "its 'robustcomp.ledger', a ConfigRecord, got MetricRecord",
    ),
    "a moment that is none": (
        lambda m: replaced(m, ("records", "strategy", 1, 2, 0, 1, "stype"), "?"),
        "stype must be",
    ),
}


@pytest.mark.parametrize(("change", "why"), MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_of_garbage_is_refused_with_nothing_changed(change: Any, why: str, tmp_path: Path) -> None:
    path = _lay_out(tmp_path)
    rewrite(path, change)
    with _refused(path, why):
        _go_on(tmp_path)


def _patched(data: bytes, offset: int, value: int) -> bytes:
    """Return an archive with a two-byte field of every central entry set; the fields' offsets are PKWARE's."""
    out, place = bytearray(data), 0
    while (place := data.find(b"PK\x01\x02", place)) >= 0:
        out[place + offset : place + offset + 2] = struct.pack("<H", value)
        place += 4
    return bytes(out)


def _deflated(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return out.getvalue()


def _with_member(data: bytes, name: str) -> bytes:
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(name, b"more")
    return out.getvalue()


ARCHIVES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "encrypted": (lambda data: _patched(data, 8, 1), "is encrypted"),
    "method 99": (lambda data: _patched(data, 10, 99), "must be stored as it is"),
    "a version of the future": (lambda data: _patched(data, 6, 99), "version"),
    "deflated": (_deflated, "must be stored as it is"),
    "one member twice": (lambda data: _with_member(data, "0.npy"), "'0.npy' is there twice"),
    "one member more": (lambda data: _with_member(data, "other"), "nothing refers to member 'other'"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize(("change", "why"), ARCHIVES.values(), ids=ARCHIVES)
def test_an_archive_of_another_kind_is_refused(change: Any, why: str, tmp_path: Path) -> None:
    path = _lay_out(tmp_path)
    path.write_bytes(change(path.read_bytes()))
    with _refused(path, why):
        _go_on(tmp_path)


def test_the_same_checkpoint_rewritten_is_read(tmp_path: Path) -> None:
    path = _lay_out(tmp_path)
    path.write_bytes(rewritten(path.read_bytes(), lambda manifest: manifest))
    _go_on(tmp_path)  # the tests above would pass if nothing could be read


class _Refusing(FedAvg):
    def state(self) -> RecordDict:
        return RecordDict({"mine": ConfigRecord({"x": 1})})

    def restore(self, state: RecordDict) -> None:
        raise LookupError("I know\nnothing")


def test_a_strategy_that_refuses_its_state_leaves_all_as_it_was(tmp_path: Path) -> None:
    def make() -> Strategy:
        return Decompressed(_Refusing(**SAMPLING), compressor=Q)

    with pytest.raises(Stopped):
        play(Checkpointed(make(), tmp_path), stop_at=4)
    with pytest.raises(ConfigurationError, match=r"checkpoint must be whole, got .*: I know nothing$"):
        _go_on(tmp_path, make())


def test_moments_of_flowers_strategies_are_read_before_any_is_set(tmp_path: Path) -> None:
    def make() -> Strategy:
        return Decompressed(FedAdam(eta=0.1, **SAMPLING), compressor=Q)

    with pytest.raises(Stopped):
        play(Checkpointed(make(), tmp_path), stop_at=4)
    path = tmp_path / CHECKPOINT_FILE
    found = read_snapshot(path)
    assert found is not None
    good = path.read_bytes()
    found.records["strategy"]["v_t"] = ArrayRecord({"x": Array("float32", (3,), "numpy.ndarray", b"garbage")})
    write_snapshot(path, found)
    with _refused(path):
        _go_on(tmp_path, make())
    found.records["strategy"]["v_t"] = ConfigRecord({"x": 1})
    write_snapshot(path, found)
    with _refused(path, "its 'v_t', an ArrayRecord, got ConfigRecord"):
        _go_on(tmp_path, make())
    path.write_bytes(good)
    _go_on(tmp_path, make())
