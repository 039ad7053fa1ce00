"""The vector x = w_t - w_local inside a client's reply: reading it, and writing another in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from flwr.app import ArrayRecord
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import Compressor, NonZeros, Payload, keeping_zeros, working_dtype
from flwr_robustcomp.compressors.values import as_numpy
from flwr_robustcomp.errors import ConfigurationError, WireError, require
from flwr_robustcomp.layout import Layout

__all__ = ["Reply", "check_reply", "dense_update", "missing_entries", "packed_names", "packed_update", "with_update"]

Reply = Literal["weights", "update"]
"""What the training function replies with: its new weights w_local, or the update x itself (a gradient, say)."""


def check_reply(value: str) -> None:
    """Raise unless ``value`` is a `Reply`."""
    require(value in get_args(Reply), "reply", value, f"one of {', '.join(get_args(Reply))}")


def dense_update(
    layout: Layout, model: dict[str, Tensor], arrays: ArrayRecord, reply: Reply, *, partial: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """Read x and the uncompressed arrays from a dense reply.

    Parameters
    ----------
    layout : Layout
        Of the model.
    model : dict of str to Tensor
        w_t, as it was received.
    arrays : ArrayRecord
        The training function's reply.
    reply : {"weights", "update"}
        What it holds.
    partial : bool
        Whether some of the model's arrays may be missing: these are unchanged. One at least must be there.

    Returns
    -------
    x : Tensor, shape (d,), working precision
        w_t - w_local, or the update as replied; zero where an array is missing.
    aside : dict of str to Tensor
        The arrays that travel uncompressed: the client's new values.

    Raises
    ------
    ConfigurationError
        If names, shapes or dtypes differ from the model's.
    """
    if not (arrays and arrays.keys() <= layout.names if partial else arrays.keys() == layout.names):
        some = "some of " if partial else ""
        raise ConfigurationError(f"the reply must hold {some}the model's arrays {sorted(layout.order)}, got {sorted(arrays)}")
    x = torch.empty(layout.dim, dtype=working_dtype(layout.dtype))
    out = x.numpy()
    try:
        for slot in layout.compressed:
            if slot.name not in arrays:
                out[slot.start : slot.stop] = 0
                continue
            # One pass over memory, straight from the reply's bytes, where reading, flattening and subtracting are three.
            theirs = wire.dense_values(arrays[slot.name], tuple(slot.shape), slot.dtype).reshape(-1)
            target = out[slot.start : slot.stop]
            if reply == "update":
                target[:] = theirs
            else:
                np.subtract(as_numpy(model[slot.name].reshape(-1)), theirs, out=target, dtype=target.dtype)
        aside = {
            s.name: wire.read_dense(arrays[s.name], tuple(s.shape), s.dtype) if s.name in arrays else model[s.name]
            for s in layout.uncompressed
        }
    except WireError as error:
        raise ConfigurationError(f"the reply does not fit the model: {error}") from error
    return x, aside


def missing_entries(layout: Layout, arrays: ArrayRecord) -> Tensor | None:
    """Return which coordinates a partial reply leaves out, bool, shape (d,); None if it leaves out none."""
    left_out = [slot for slot in layout.compressed if slot.name not in arrays]
    if not left_out:
        return None
    missing = torch.zeros(layout.dim, dtype=torch.bool)
    for slot in left_out:
        missing[slot.start : slot.stop] = True
    return missing


def with_update(layout: Layout, model: dict[str, Tensor], x: Tensor, aside: dict[str, Tensor], reply: Reply) -> ArrayRecord:
    """Write a dense reply that holds x, the inverse of `dense_update`."""
    flat = x if reply == "update" else layout.flatten(model).sub_(x)
    return wire.to_arrays(layout.join(flat, aside))


def packed_names(arrays: ArrayRecord, layout: Layout) -> list[str]:
    """Return the names of the packed Arrays; none if the reply is dense.

    A bfloat16 model that was sent per array by the identity codec looks like a dense reply and is taken for one.
    """
    if wire.MODEL_ARRAY in arrays:
        return [wire.MODEL_ARRAY]
    names = [slot.name for slot in layout.compressed if slot.name in arrays]
    return names if any(wire.is_packed(arrays[name]) for name in names) else []


def packed_update(arrays: ArrayRecord, names: Sequence[str], layout: Layout) -> tuple[Tensor, list[tuple[Compressor, Payload]]]:
    """Read Q(x), shape (d,) in working precision, from the named, packed Arrays; and the compressor and payload of each.

    The compressor is one under which zeros can stay zero, for a server reads that from anybody.
    """
    packed = []
    for name in names:
        compressor, payload = wire.unpack_trusted(arrays[name], layout.shapes)
        reader = keeping_zeros(compressor, layout.shapes, reading=True)
        packed.append(
            (reader, payload if reader.plain is None or isinstance(compressor, NonZeros) else reader.adopted(payload))
        )
    return torch.cat([c.decompress(p).reshape(-1).to(working_dtype(p.dtype)) for c, p in packed]), packed
