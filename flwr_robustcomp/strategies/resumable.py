"""What this package's strategies carry from round to round, and how a checkpoint keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.serverapp.strategy import Strategy
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import working_dtype
from flwr_robustcomp.errors import ConfigurationError, printable
from flwr_robustcomp.packing import Packing
from flwr_robustcomp.strategies.downlink.outgoing import Outgoing
from flwr_robustcomp.strategies.flower.stateful import check_state, stateful
from flwr_robustcomp.strategies.kept_state import check_vectors, kept_seed
from flwr_robustcomp.strategies.nodes.history import LEDGER_RECORD, RunHistory

__all__ = ["Resumable", "ResumableWrapper"]


class Resumable:
    """Part of `CompressedStrategy`: its state goes into checkpoints, and comes back checked.

    Attributes
    ----------
    carried : mapping of str to Tensor
        What the last `Outcome` left for the next round: vectors of shape (d,).
    seed : int or None
        Of what the strategy draws; None where it draws nothing.
    """

    state_record: ClassVar[str] = "robustcomp.state"
    """Name of the record in a checkpoint that has `carried`."""

    seed_record: ClassVar[str] = "robustcomp.draws"
    """Name of the record in a checkpoint that has `seed`."""

    history: RunHistory
    outgoing: Outgoing
    packing: Packing
    carried: Mapping[str, Tensor] = {}
    seed: int | None = None

    def state(self) -> RecordDict:
        """Return what a checkpoint keeps: the ledger, what is carried from round to round, and the seed of what is drawn."""
        state = RecordDict({LEDGER_RECORD: self.history.state(), self.state_record: wire.to_arrays(dict(self.carried))})
        if self.seed is not None:
            state[self.seed_record] = ConfigRecord({"seed": self.seed})
        state.update(self.outgoing.state())
        return state

    def restore(self, state: RecordDict) -> None:
        """Go on from what `state` returned; `ConfigurationError`, and nothing is changed, for what it cannot have."""
        carried, seed = self._carried_in(state), self.seed
        self.check_carried(carried)
        if seed is not None:
            seed = kept_seed(state, self.seed_record, seed)
        self.outgoing.restore(state)
        self.history.restore(state.get(LEDGER_RECORD))
        self.carried, self.seed = carried, seed

    def check_state(self, state: RecordDict, model: ArrayRecord) -> None:
        """Raise `ConfigurationError` unless this is the state of a run of this model."""
        layout = self.packing.layout(wire.from_arrays(model))
        self.check_carried(self._carried_in(state), layout.dim, working_dtype(layout.dtype))
        if self.seed is not None:
            kept_seed(state, self.seed_record, self.seed)

    def check_carried(self, state: Mapping[str, Tensor], d: int | None = None, dtype: torch.dtype | None = None) -> None:
        """Refuse what no `Outcome` of this strategy leaves for the next round; by default anything but finite vectors.

        Parameters
        ----------
        state : mapping of str to Tensor
            From a checkpoint.
        d : int, optional
            Length of its vectors, where the model is known.
        dtype : torch.dtype, optional
            In which the model is computed, where it is known.
        """
        check_vectors("the strategy's", state, d)

    def _carried_in(self, state: RecordDict) -> dict[str, Tensor]:
        record = state.get(self.state_record)
        if record is None:
            return {}
        if not isinstance(record, ArrayRecord):
            raise ConfigurationError(f"{self.state_record!r} must be an ArrayRecord, got {type(record).__name__}")
        try:
            return wire.from_arrays(record)
        except ValueError as error:  # WireError is one
            why = printable(str(error))
            raise ConfigurationError(f"{self.state_record!r} must hold arrays that can be read: {why}") from error


class ResumableWrapper:
    """Part of `Decompressed`: the state of the strategy inside goes into checkpoints, and the ledger beside it."""

    strategy: Strategy
    history: RunHistory
    outgoing: Outgoing

    def state(self) -> RecordDict:
        """Return what a checkpoint keeps: the records of the strategy inside, and the ledger."""
        return RecordDict({**stateful(self.strategy).state(), LEDGER_RECORD: self.history.state(), **self.outgoing.state()})

    def restore(self, state: RecordDict) -> None:
        """Go on from what `state` returned; `ConfigurationError` where the ledger is missing or another."""
        stateful(self.strategy).restore(state)
        self.outgoing.restore(state)
        self.history.restore(state.get(LEDGER_RECORD))

    def check_state(self, state: RecordDict, model: ArrayRecord) -> None:
        """Raise `ConfigurationError` unless the strategy inside can have this state in a run of this model."""
        check_state(self.strategy, state, model)
