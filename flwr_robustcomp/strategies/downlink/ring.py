"""The server's replica, and the last changes of it, for nodes that missed some."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Self

import torch
from flwr.app import ArrayRecord, RecordDict
from pydantic import Field, model_validator
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.downlink import Downlink
from flwr_robustcomp.downlink.records import (
    NOTHING,
    Digest,
    Held,
    Names,
    Version,
    array_bytes,
    change_record,
    narrow_dtypes,
    read_snapshot,
    snapshot_record,
)
from flwr_robustcomp.downlink.replica import Change, Replica, change_to
from flwr_robustcomp.downlink.typed_record import TypedRecord
from flwr_robustcomp.errors import ConfigurationError, WireError, require
from flwr_robustcomp.one_slot import OneSlot

__all__ = ["Ring", "distance"]

_REPLICA, _CHANGES, _VERSION = "robustcomp.downlink.replica", "robustcomp.downlink.changes", "robustcomp.downlink.version"
"""Names of the records in a checkpoint."""


class Ring:
    """The current version of the replica, and the K changes that led to it.

    Parameters
    ----------
    downlink : Downlink
        One with a replica.

    Attributes
    ----------
    replica : Replica
        v; version 0 until the first `advance`.

    Notes
    -----
    Memory: the replica, in working precision, and the packed changes, together no more than the cheapest other form of the
    model, or ``downlink.keep`` of them.
    """

    def __init__(self, downlink: Downlink) -> None:
        self.downlink = downlink
        self.replica = Replica.empty()
        self._changes: dict[int, ArrayRecord] = {}
        self._digests: dict[int, str] = {0: ""}
        self._model: OneSlot[ArrayRecord] = OneSlot()

    @property
    def model(self) -> ArrayRecord:
        """The current version in the model's dtypes: what the nodes train from."""
        return self._model.get([self.replica], None, lambda: wire.to_arrays(self.replica.model()))

    @property
    def held(self) -> Held:
        """The current version, as a node names it."""
        return self.at(self.replica.version)

    def known(self, said: Held) -> int:
        """Return the version that a node says it holds; 0 where no chain leads from it, or it is not of this replica."""
        return said.version if self._digests.get(said.version) == said.digest else 0

    def made(self, said: Held) -> bool:
        """Whether what a node says it holds may be a version of this replica: of those that are forgotten, any may be."""
        return said.version <= self.replica.version and self._digests.get(said.version, said.digest) == said.digest

    def at(self, version: int) -> Held:
        """Return a version as nodes name it; `NOTHING` where no chain leads from it any more."""
        return Held(version=version, digest=self._digests[version]) if version in self._digests else NOTHING

    def chain(self, base: Held) -> ArrayRecord | None:
        """Return the changes from a version to the current one; None where one is no longer kept, or there is none yet."""
        chain = ArrayRecord()
        if not self.replica.version:
            return None
        for version in range(base.version + 1, self.replica.version + 1):
            if version not in self._changes:
                return None
            chain.update(self._changes[version])
        return chain

    def advance(self, model: Mapping[str, Tensor], step: float | None, whole: int) -> None:
        """Bring the replica towards the model by one change; by none where the two are equal.

        Parameters
        ----------
        model : mapping of str to Tensor
            w; one that `fits`.
        step : float or None
            The length of w's longest step of late, if it is known: what the lag is measured in.
        whole : int
            Bytes of the whole model in the cheapest form: of more changes than that no use is made.
        """
        change, replica = self._change(model, step)
        if not change:
            return
        version = replica.version
        self.replica = replica
        self._changes[version] = change_record(change, version)
        self._digests[version] = replica.digest
        self._forget(whole)

    def fits(self, model: Mapping[str, Tensor]) -> bool:
        """Whether a model has the arrays of the replica; version 0 fits any."""
        known = self.replica
        same = [*model] == [*known.arrays] and all(
            (tensor.shape, tensor.dtype) == (known.arrays[name].shape, known.dtypes[name]) for name, tensor in model.items()
        )
        return same or not known.version

    def _change(self, model: Mapping[str, Tensor], step: float | None) -> tuple[Change, Replica]:
        """Return the change that is sent, and the replica after it: the coarsest that does not lag too far behind."""
        version, aside = self.replica.version + 1, self.downlink.uncompressed
        rungs = self.downlink.rungs if self.replica.version else (self.downlink.model,)
        for rung in rungs:
            compressor = None if rung is None else rung.for_round(version)
            change = change_to(model, self.replica, compressor, aside)
            replica = self.replica.after(change)
            if rung is rungs[-1] or step is None or distance(model, replica.arrays) <= self.downlink.lag * step:
                break
        return change, replica

    def _forget(self, bound: int) -> None:
        """Forget the oldest changes beyond K."""
        total = sum(map(array_bytes, self._changes.values()))
        for version in sorted(self._changes):
            most = len(self._changes) if self.downlink.keep is None else self.downlink.keep
            too_large = self.downlink.keep is None and total > bound and len(self._changes) > 1
            if len(self._changes) <= most and not too_large:
                break
            total -= array_bytes(self._changes.pop(version))
            del self._digests[version - 1]

    # -- checkpoints ------------------------------------------------------------------------------------------------------

    def state(self) -> RecordDict:
        """Return what a checkpoint keeps."""
        every = ArrayRecord()
        for change in self._changes.values():
            every.update(change)
        known, digests = tuple(self._digests), tuple(self._digests.values())
        kept = _Known(version=self.replica.version, dtypes=narrow_dtypes(self.replica), known=known, digests=digests)
        return RecordDict({_REPLICA: snapshot_record(self.replica), _CHANGES: every, _VERSION: kept.record()})

    def restore(self, state: RecordDict) -> None:
        """Go on from what `state` returned; from nothing where a checkpoint has none of it: nodes then get the model anew.

        Raises
        ------
        ConfigurationError
            For records that no ring leaves behind.
        """
        names = (_REPLICA, _CHANGES, _VERSION)
        if not any(name in state for name in names):
            state = Ring(self.downlink).state()
        try:
            kept = _Known.read(state.get(_VERSION))
            replica = read_snapshot(_arrays(state, _REPLICA), kept.version, kept.dtypes)
            changes = _by_version(_arrays(state, _CHANGES), kept)
        except WireError as error:
            raise ConfigurationError(f"the downlink in a checkpoint must be what a ring leaves: {error}") from error
        self.replica, self._changes = replica, changes
        self._digests = dict(zip(kept.known, kept.digests, strict=True))


class _Known(TypedRecord):
    """What a checkpoint keeps of a ring beside its arrays: the digests of the versions from which a chain leads on."""

    version: Version
    dtypes: Names
    known: Annotated[tuple[Version, ...], Field(strict=False)]
    digests: Annotated[tuple[Digest, ...], Field(strict=False)]

    @model_validator(mode="after")
    def _fit(self) -> Self:
        require(len(self.known) == len(self.digests), "digests", len(self.digests), f"{len(self.known)} of them")
        require(self.version in self.known, "version", self.version, "one with a digest")
        return self


def _arrays(state: RecordDict, name: str) -> ArrayRecord:
    record = state.get(name)
    if not isinstance(record, ArrayRecord):
        raise WireError(f"{name!r} must be an ArrayRecord, got {type(record).__name__}")
    return record


def _by_version(changes: ArrayRecord, kept: _Known) -> dict[int, ArrayRecord]:
    """Return the Arrays of each change that is kept."""
    found: dict[int, ArrayRecord] = {}
    for label, array in changes.items():
        number = label.partition(":")[0]
        if number not in map(str, kept.known):
            raise WireError(f"a change must be of a version that is known, got {label[:64]!r}")
        found.setdefault(int(number), ArrayRecord())[label] = array
    return found


def distance(model: Mapping[str, Tensor], arrays: Mapping[str, Tensor]) -> float:
    """Return ||w - v|| over the floating arrays, in double precision."""
    total = 0.0
    for name, tensor in model.items():
        if tensor.is_floating_point() and tensor.numel():
            gap = tensor.detach().to(arrays[name].dtype) - arrays[name]
            total += float(torch.linalg.vector_norm(gap, dtype=torch.float64)) ** 2
    return math.sqrt(total)
