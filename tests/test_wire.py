"""Dense and packed Arrays: what is written reads back, and nothing else is let in."""

from __future__ import annotations

from io import BytesIO
from typing import Literal

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import L1Sign, TopK
from flwr_robustcomp.errors import ConfigurationError, WireError

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (2, 0), (2, 1, 3)], ids=str)
def test_dense_round_trip(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if dtype == torch.bfloat16 and 0 in shape:
        return  # nothing in it
    tensor = (torch.arange(torch.Size(shape).numel()).reshape(shape) % 2).to(dtype)
    back = wire.read_dense(wire.to_array(tensor), shape, dtype)
    assert back.dtype == dtype and torch.equal(back, tensor)
    if dtype != torch.bfloat16:
        assert np.array_equal(wire.to_array(tensor).numpy(), tensor.numpy())  # Flower reads it too


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("descr", ["<f4", ">f4", "<f8", "<i8", "|b1"])
def test_reads_what_numpy_writes(order: Literal["C", "F"], descr: str) -> None:
    values = np.asarray(np.arange(6).reshape(2, 3) % 2, dtype=descr, order=order)
    assert np.array_equal(wire.read_dense(Array(values)).numpy(), values)


def test_reading_copies() -> None:
    array = wire.to_array(torch.ones(3))
    wire.read_dense(array).zero_()
    assert wire.read_dense(array).tolist() == [1.0, 1.0, 1.0]


def _npy(header: str, body: bytes = b"") -> Array:
    text = header.encode().ljust(117) + b"\n"
    return Array("float32", (2,), "numpy.ndarray", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body)


@pytest.mark.parametrize(
    "array",
    [
        Array("float32", (2,), "numpy.ndarray", b""),
        Array("float32", (2,), "numpy.ndarray", b"garbage"),
        Array("float32", (2,), "pickle", b"\x80\x04."),
        Array("float32", (2,), "numpy.ndarray", b"\x93NUMPY\x01\x00\xff\xff"),
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"),
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"),
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", bytes(8)),
        _npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", bytes(16)),
        _npy("{'descr': '<U2', 'fortran_order': False, 'shape': (2,), }", bytes(16)),
        _npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", bytes(8)),
        _npy("__import__('os')", bytes(8)),
        _npy("((((((((((((((((", bytes(8)),
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), '\\q': 1}", bytes(8)),
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), '1or': 0x2}", bytes(8)),
        Array(np.ones(3, np.float32)),
        Array(np.ones(2, np.float64)),
        Array(np.ones((2, 1), np.float32)),
    ],
)
def test_other_dense_arrays_are_refused(array: Array) -> None:
    with pytest.raises(WireError):
        wire.read_dense(array, (2,), torch.float32)


@given(data=st.binary(max_size=200), keep=st.integers(0, 140))
def test_garbage_is_refused_or_read(data: bytes, keep: int) -> None:
    good = wire.to_array(torch.ones(2)).data
    try:
        tensor = wire.read_dense(Array("float32", (2,), "numpy.ndarray", good[:keep] + data), (2,), torch.float32)
    except WireError:
        return
    assert tensor.shape == (2,)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"stype": "numpy.ndarray"}, "stype must be 'robustcomp/l1-sign/1'"),
        ({"stype": "robustcomp/l1-sign/2"}, "stype must be"),
        ({"stype": "robustcomp/sign/1"}, "stype must be"),
        ({"dtype": "float64"}, "dtype must be float32, got 'float64'"),
        ({"shape": (9, 1)}, r"shape must be \(9,\)"),
        ({"shape": (2**62,)}, r"shape must be \(9,\)"),
        ({"data": b""}, "data must be 10 bytes, got 0"),
    ],
)
def test_packed_arrays_must_be_what_the_server_expects(change: dict[str, object], named: str) -> None:
    array = wire.pack(L1Sign().compress(torch.ones(9)), L1Sign())
    for field, value in change.items():
        setattr(array, field, value)
    with pytest.raises(WireError, match=named):
        wire.read_packed(array, L1Sign(), (9,), torch.float32)


def test_flower_itself_refuses_packed_bits() -> None:
    with pytest.raises(TypeError, match="Unsupported serialization type"):
        wire.pack(L1Sign().compress(torch.ones(9)), L1Sign()).numpy()


def test_headers_must_be_canonical() -> None:
    from flwr_robustcomp.compressors import RandomK
    from flwr_robustcomp.randomness import generator

    compressor = RandomK(k=2, unbiased=True)
    array = wire.pack(compressor.compress(torch.ones(9), generator(0, "x")), compressor)
    array.data = array.data[:4] + b"\x02" + array.data[5:]
    with pytest.raises(WireError, match="not canonical"):
        wire.read_packed(array, compressor, (9,), torch.float32)


def test_unknown_codecs_are_named() -> None:
    array = wire.pack(TopK(k=1).compress(torch.ones(3)), TopK(k=1))
    for stype in ("robustcomp/unknown/1", "robustcomp/top-k/9", "numpy.ndarray", "robustcomp"):
        array.stype = stype
        with pytest.raises(WireError, match="not a packed array"):
            wire.unpack_trusted(array)


def test_state_dicts_of_any_dtype() -> None:
    model = {"half": torch.ones(2).half(), "brain": torch.ones(2).bfloat16(), "count": torch.tensor(3)}
    back = wire.from_arrays(wire.to_arrays(model))
    assert all(torch.equal(back[name], model[name]) and back[name].dtype == model[name].dtype for name in model)


def test_shared_tensors_follow_the_bytes() -> None:
    record = wire.to_arrays({"w": torch.ones(3)})
    assert wire.shared_tensors(record) is wire.shared_tensors(record)
    assert wire.shared_tensors(ArrayRecord(dict(record))) is wire.shared_tensors(record)  # a copy that shares the bytes
    other = wire.to_arrays({"w": torch.zeros(3)})
    assert wire.shared_tensors(other)["w"].tolist() == [0.0, 0.0, 0.0]
    assert wire.shared_tensors(record)["w"].tolist() == [1.0, 1.0, 1.0]


def test_an_unreadable_model_is_a_configuration_error() -> None:
    buffer = BytesIO()
    np.save(buffer, np.array(["text"]))
    record = ArrayRecord({"w": Array("str", (1,), "numpy.ndarray", buffer.getvalue())})
    with pytest.raises(ConfigurationError, match="the model cannot be read"):
        wire.shared_tensors(record)
