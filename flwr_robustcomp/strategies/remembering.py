"""A strategy that remembers what its nodes sent: what enters the memory, what filters see of it, what checkpoints keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import working_dtype
from flwr_robustcomp.compressors.count_sketch import CountSketch
from flwr_robustcomp.errors import ConfigurationError, printable, require
from flwr_robustcomp.filters import FILTERS, Filter, Matrix
from flwr_robustcomp.spans import decompress_spans
from flwr_robustcomp.strategies.nodes.memory import Memory
from flwr_robustcomp.strategies.resumable import Resumable
from flwr_robustcomp.strategies.round import Round

__all__ = ["Remembering", "checked_memory"]

_SIZE = 4096
"""Numbers that are kept of an update. The standard error of a cosine is then at most 1/64 where that is near zero."""


def checked_memory(memory: float | None, filters: Sequence[Filter]) -> Memory | None:
    """Return the memory to begin with; None for none.

    Raises
    ------
    ConfigurationError
        For a share outside (0, 1), or where no filter would look at it.
    """
    number = isinstance(memory, int | float) and not isinstance(memory, bool)
    require(memory is None or (number and 0 <= memory < 1), "memory", memory, "in (0, 1), or None or 0 for none")
    if not memory:
        return None
    looking = [name for name, one in FILTERS.items() if "history" in one.looks_at]
    looked = any("history" in one.looks_at for one in filters)
    require(looked, "memory", memory, f"left out where no filter looks at histories, as {' and '.join(looking)} do")
    return Memory(memory)


class Remembering(Resumable):
    """Part of `RobustCompressed`: a `Memory` of sketches, made and kept only where it is asked for.

    Attributes
    ----------
    memory : Memory or None
        What is remembered; None where nothing is to be.
    """

    memory_record: ClassVar[str] = "robustcomp.memory"
    """Name of the record in a checkpoint that has the memory."""

    memory: Memory | None = None
    seed: int

    def remember(self, round_: Round) -> Callable[[], Matrix] | None:
        """Enter the updates of a round; return what computes the inner products of their nodes' histories.

        Parameters
        ----------
        round_ : Round
            With the updates that no screen has stopped: the others count as absent.

        Returns
        -------
        callable or None
            For `Beside.history`; None without a memory.

        Notes
        -----
        One update at a time is dense, in the basis of the model: rotations differ from round to round. The seed of the sketch
        is the strategy's, which is secret unless it was given: who knows it can hide from the memory.
        """
        if self.memory is None:
            return None
        sketch = CountSketch(round_.layout.dim, _SIZE, self.seed)
        dtype = working_dtype(round_.layout.dtype)
        made = {one.node_id: sketch(decompress_spans(one.payloads, round_.spans, dtype).numpy()) for one in round_.updates}
        memory = self.memory = self.memory.after(made)
        return lambda: memory.gram(round_.nodes)

    def state(self) -> RecordDict:
        """Return what a checkpoint keeps, the memory included."""
        state = super().state()
        if self.memory is not None:
            state[self.memory_record] = wire.to_arrays(self.memory.state())
        return state

    def restore(self, state: RecordDict) -> None:
        """Go on from what `state` returned; from a checkpoint without a memory with an empty one."""
        memory = self._memory_in(state)
        super().restore(state)
        self.memory = memory

    def check_state(self, state: RecordDict, model: ArrayRecord) -> None:
        """Raise `ConfigurationError` unless this is the state of a run of this model."""
        super().check_state(state, model)
        self._memory_in(state, self.packing.layout(wire.from_arrays(model)).dim)

    def _memory_in(self, state: RecordDict, d: int | None = None) -> Memory | None:
        name, record, ours = self.memory_record, state.get(self.memory_record), self.memory
        if record is None:
            return None if ours is None else Memory(ours.keep)
        if ours is None:
            raise ConfigurationError(f"memory must be set where a checkpoint has {name!r}, got None")
        if not isinstance(record, ArrayRecord):
            raise ConfigurationError(f"{name!r} must be an ArrayRecord, got {type(record).__name__}")
        # Sums of sketches mean nothing without the seed of the sketch.
        if not isinstance(state.get(self.seed_record), ConfigRecord):
            raise ConfigurationError(f"{self.seed_record!r} must be there where {name!r} is, got none")
        try:
            return Memory(ours.keep).restored(wire.from_arrays(record), None if d is None else min(d, _SIZE))
        except ValueError as error:  # WireError and ConfigurationError are
            raise ConfigurationError(f"{name!r} must be as a checkpoint keeps it: {printable(str(error))}") from error
