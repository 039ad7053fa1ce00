"""Whatever a lying server or proxy sends down, a node gets a model or asks again, and allocates no more than what came."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import example, given
from hypothesis import strategies as st

from flwr_robustcomp import to_arrays, wire
from flwr_robustcomp.clients.incoming import Unreadable, receive
from flwr_robustcomp.compressors import COMPRESSORS, Drive, Eden
from flwr_robustcomp.downlink import Form
from flwr_robustcomp.downlink.records import HEADER, Header, Held, array_bytes, change_record, snapshot_record
from flwr_robustcomp.downlink.replica import Replica, change_to

MODEL = {"w": torch.linspace(-1, 1, 600).reshape(20, 30), "h": torch.ones(70).half(), "n": torch.tensor(3)}
MOVED = {**MODEL, "w": MODEL["w"] * 1.5, "n": torch.tensor(4)}


def _messages() -> tuple[dict[str, RecordDict], RecordDict]:
    """Return one honest message of each form, and the state of a node that holds version 1."""
    first = Replica.empty().after(change_to(MODEL, Replica.empty(), Eden(bits=8), ()))
    change = change_to(MOVED, first, Drive().for_round(2), ())
    second = first.after(change)
    one, two = (Held(version=r.version, digest=r.digest) for r in (first, second))
    shot = change_record(change_to(MODEL, Replica.empty(), Eden(bits=4), ()))
    start = change_record(change_to(MODEL, Replica.empty(), Eden(bits=8), ()), 1)
    dense = Header(form=Form.DENSE, key="arrays", version=2, digest=two.digest, dtypes=("float32", "float16", ""))

    def told(header: Header, arrays: ArrayRecord) -> RecordDict:
        return RecordDict({"arrays": arrays, HEADER: header.record()})

    state = RecordDict()
    begun = receive(told(Header.between("arrays", Held(), one), start), state)
    assert begun is not None
    state.update(begun.kept)
    return {
        "first": told(Header.between("arrays", Held(), one), start),
        "change": told(Header.between("arrays", one, two), change_record(change, 2)),
        "quantised": told(Header(form=Form.QUANTISED, key="arrays"), shot),
        "dense": told(dense, snapshot_record(second)),
    }, state


MESSAGES, STATE = _messages()
STYPES = [*(f"robustcomp/{name}/1" for name in COMPRESSORS), "numpy.ndarray", "robustcomp/zip/1", "robustcomp/drive+eden/1", ""]
SHAPES: list[tuple[int, ...]] = [(), (0,), (-20, -30), (2**62, 4), (30, 20), (600,), (10**9,), (20, 30, 1)]
LABELS = ["w", "1:w", "2:w", "3:h", ":", "02:w", "-1:w", "9" * 40 + ":w", "2:" + "w" * 999]
VALUES: list[Any] = [-1, 0, 1, 2, 3, 2**40, "", "0" * 16, "x" * 99, 1.5, True, ["w"], [], b"1"]


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[str, RecordDict]:
    """Return a message with one to three things wrong in it."""
    name = draw(st.sampled_from([*MESSAGES]))
    content = RecordDict(dict(MESSAGES[name]))
    arrays = ArrayRecord({k: Array(a.dtype, a.shape, a.stype, a.data) for k, a in content.array_records["arrays"].items()})
    header = dict(content.config_records[HEADER])
    for _ in range(draw(st.integers(1, 3))):
        label = draw(st.sampled_from([*arrays]))
        array, what = arrays[label], draw(st.integers(0, 7))
        if what == 0 and array.data:
            data = bytearray(array.data)
            data[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
            array.data = bytes(data)
        elif what == 1:
            array.data = array.data[: draw(st.integers(0, len(array.data)))] + draw(st.binary(max_size=9))
        elif what == 2:
            array.stype = draw(st.sampled_from(STYPES))
        elif what == 3:
            array.shape = draw(st.sampled_from(SHAPES))
        elif what == 4:
            array.dtype = draw(st.sampled_from(["float64", "float16", "bfloat16", "int64", "complex64", "", "float8"]))
        elif what == 5:
            arrays[
                draw(st.sampled_from(["w", "1:w", "2:w", "3:h", ":", "02:w", "-1:w", "9" * 40 + ":w", "2:" + "w" * 999]))
            ] = array
        elif what == 6 and len(arrays) > 1:
            del arrays[label]
        else:
            header[draw(st.sampled_from([*header, "extra"]))] = draw(st.sampled_from(VALUES))
    return name, RecordDict({"arrays": arrays, HEADER: ConfigRecord(header)})


@given(spoilt(), st.booleans())
@example(("dense", RecordDict({HEADER: ConfigRecord({})})), True)
def test_a_spoilt_message_is_read_or_asked_for_again(told: tuple[str, RecordDict], holds: bool) -> None:
    name, content = told
    state = RecordDict(dict(STATE) if holds else {})
    before = dict(state)
    tracemalloc.start()
    try:
        received = receive(content, state)
    except Unreadable as error:
        assert str(error).isprintable()
        assert len(str(error)) < 600
        received = None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    came = array_bytes(content) + array_bytes(MESSAGES["dense"])
    assert peak < 200 * came + 2_000_000, f"{name}: {peak} bytes for {came}"
    assert dict(state) == before
    if received is not None:
        assert all(not wire.is_packed(array) for array in received.model.values())


@pytest.mark.parametrize("codec", sorted({"top-k", "low-rank", "spherical-net", "qsgd", "rotated-quantizer", "sparse-ternary"}))
def test_a_whole_model_comes_by_compressors_whose_bytes_bound_it(codec: str) -> None:
    arrays = ArrayRecord({"w": Array("float32", (2**40,), f"robustcomp/{codec}/1", bytes(64))})
    content = RecordDict({"arrays": arrays, HEADER: Header(form=Form.QUANTISED, key="arrays").record()})
    with pytest.raises(Unreadable):
        receive(content, RecordDict())


def test_a_dense_array_in_a_change_must_fit_the_replica() -> None:
    content = RecordDict(dict(MESSAGES["change"]))
    arrays = ArrayRecord(dict(content.array_records["arrays"]))
    arrays["2:w"] = to_arrays({"w": torch.zeros(3)})["w"]
    content["arrays"] = arrays
    with pytest.raises(Unreadable, match="shape must be"):
        receive(content, RecordDict(dict(STATE)))
