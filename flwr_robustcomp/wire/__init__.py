"""Payloads and tensors as Flower Arrays: the one package that reads foreign bytes.

`packed` writes and reads what compressors make, `dense` everything else; `shared` has what many nodes of a process keep.
Reading checks everything a sender could have chosen (stype, dtype, shape, the exact length) against what the receiver expects
before it looks at, or allocates for, the content.
"""

from __future__ import annotations

from flwr_robustcomp.wire.dense import dense_values, from_arrays, read_dense, shared_tensors, to_array, to_arrays
from flwr_robustcomp.wire.packed import (
    MODEL_ARRAY,
    NORM_RECORD,
    compressor_of,
    is_packed,
    norm_key,
    pack,
    packed_fields,
    read_packed,
    stype_of,
    unpack_trusted,
)
from flwr_robustcomp.wire.shared import shared_arrays

__all__ = [
    "MODEL_ARRAY",
    "NORM_RECORD",
    "compressor_of",
    "dense_values",
    "from_arrays",
    "is_packed",
    "norm_key",
    "pack",
    "packed_fields",
    "read_dense",
    "read_packed",
    "shared_arrays",
    "shared_tensors",
    "stype_of",
    "to_array",
    "to_arrays",
    "unpack_trusted",
]
