"""A vector that a node keeps between rounds, in the state that Flower keeps for it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from flwr.app import ArrayRecord, RecordDict
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.flower import LOG

__all__ = ["NodeVector"]


@dataclass(frozen=True)
class NodeVector:
    """Where a vector of shape (d,) stands in `Context.state`.

    Parameters
    ----------
    record : str
        Name of its ArrayRecord.
    key : str
        Of its Array.
    what : str
        What it is, for the log.
    """

    record: str
    key: str
    what: str

    def load(self, state: RecordDict, size: int, dtype: torch.dtype) -> Tensor | None:
        """Return the vector, or None where there is none.

        One of another size or dtype (the model changed, or the state is another app's) is dropped with a warning.
        """
        record = state.get(self.record)
        if not isinstance(record, ArrayRecord) or self.key not in record:
            return None
        vector = wire.read_dense(record[self.key])
        if vector.shape != (size,) or vector.dtype != dtype:
            shape = tuple(vector.shape)
            LOG.warning("%s of shape %s and dtype %s dropped: the model has d = %d", self.what, shape, vector.dtype, size)
            return None
        return vector

    def kept(self, vector: Tensor) -> ArrayRecord:
        """Return the vector as it stands in a node's state, under ``record``."""
        record = ArrayRecord()
        record[self.key] = wire.to_array(vector)
        return record
