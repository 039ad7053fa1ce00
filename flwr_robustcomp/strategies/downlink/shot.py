"""The whole model, quantised, for nodes that hold nothing: made once for all of them, when the first needs it."""

from __future__ import annotations

from flwr.app import ArrayRecord

from flwr_robustcomp import wire
from flwr_robustcomp.downlink import Downlink
from flwr_robustcomp.downlink.records import array_bytes, arrays_digest, change_record, part_of
from flwr_robustcomp.downlink.replica import Replica, change_to, packed_size

__all__ = ["Shot"]


class Shot:
    """One model in the form without memory.

    Parameters
    ----------
    downlink : Downlink, optional
        Whose ``model`` is what it goes through; without one the form is not used.

    Attributes
    ----------
    dense : int
        Bytes of Array data of the dense model.
    size : int or None
        Bytes of Array data of this form; None where it is not used.
    """

    def __init__(self, downlink: Downlink | None) -> None:
        self.compressor = None if downlink is None else downlink.model
        self.uncompressed = () if downlink is None else downlink.uncompressed
        self.dense = 0
        self.size: int | None = None
        self._arrays = ArrayRecord()
        self._record: ArrayRecord | None = None
        self._unpacked: ArrayRecord | None = None

    def aim(self, arrays: ArrayRecord) -> None:
        """Take another model."""
        self._arrays, self._record, self._unpacked = arrays, None, None
        self.dense = array_bytes(arrays)
        self.size = None
        if self.compressor is not None:
            model = wire.shared_tensors(arrays)
            packed = {name: packed_size(model[name], name, self.compressor, self.uncompressed) for name in arrays}
            self.size = sum(array_bytes(ArrayRecord({name: arrays[name]})) if n is None else n for name, n in packed.items())

    @property
    def record(self) -> ArrayRecord:
        """The packed model."""
        if self._record is None:
            # Another model gets another rotation, and one model the same, also after a resume.
            number = int(arrays_digest(self._arrays), 16) % 2**32
            compressor = None if self.compressor is None else self.compressor.for_round(number)
            model = wire.shared_tensors(self._arrays)
            self._record = change_record(change_to(model, Replica.empty(), compressor, self.uncompressed))
        return self._record

    @property
    def unpacked(self) -> ArrayRecord:
        """The dense model that a node gets from `record`."""
        if self._unpacked is None:
            empty = Replica.empty()
            change = {name: part_of(array, name, empty) for name, array in self.record.items()}
            self._unpacked = wire.to_arrays(empty.after(change).model())
        return self._unpacked
