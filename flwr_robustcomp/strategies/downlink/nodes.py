"""What the server knows of the nodes: the version that each said it holds, and whether its app unpacks a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Annotated, Self

from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from pydantic import Field, model_validator

from flwr_robustcomp.downlink.records import Version, arrays_digest
from flwr_robustcomp.downlink.typed_record import TypedRecord
from flwr_robustcomp.errors import require

__all__ = ["Nodes"]

_NODES = "robustcomp.downlink.nodes"
"""Name of the record in a checkpoint."""


_TRIALS = 2
"""How often a node is sent a packed model again that has answered one with an error, and the dense one, too."""


class Nodes:
    """An integer a node, and for each kind of message the nodes that unpack it and those that do not.

    Attributes
    ----------
    model : str
        Digest of the model that the replica was last brought towards: a model moves the replica once.
    """

    def __init__(self) -> None:
        self.model = ""
        self._last: ArrayRecord | None = None
        self._versions: dict[int, int] = {}
        self._read: dict[str, set[int]] = {}
        self._blind: dict[str, set[int]] = {}
        self._taken: Counter[tuple[str, int]] = Counter()

    def moves(self, arrays: ArrayRecord) -> bool:
        """Whether this is another model than the last one; it is the last one from now on."""
        if arrays is self._last:
            return False
        before, self._last, self.model = self.model, arrays, arrays_digest(arrays)
        return before != self.model

    def version(self, node: int) -> int:
        """Return the version that a node said it holds; 0 for none."""
        return self._versions.get(node, 0)

    def reads(self, node: int, kind: str) -> bool:
        """Whether a node is known to unpack messages of a kind."""
        return node in self._read.get(kind, ())

    def is_blind(self, node: int, kind: str) -> bool:
        """Whether a node is known not to unpack messages of a kind."""
        return node in self._blind.get(kind, ())

    def says(self, node: int, kind: str, version: int) -> None:
        """Take down what a node said in its reply to a message of a kind."""
        self._versions[node] = version
        self._read.setdefault(kind, set()).add(node)

    def lose_versions(self) -> None:
        """Forget which version each node holds: they are of another replica."""
        self._versions.clear()

    def blind(self, node: int, kind: str) -> None:
        """Take down that a node's app does not unpack messages of a kind."""
        self._blind.setdefault(kind, set()).add(node)
        self._taken[kind, node] += 1

    def errs_anyway(self, node: int, kind: str) -> None:
        """Take down that a node fails with a dense model, too: its first error said nothing of its app. Believed twice."""
        if self._taken[kind, node] <= _TRIALS:
            self._blind[kind].discard(node)

    def state(self) -> dict[str, ConfigRecord]:
        """Return what a checkpoint keeps."""
        said = _Said(
            model=self.model,
            nodes=tuple(self._versions),
            versions=tuple(self._versions.values()),
            seen=_pairs(self._read),
            blind=_pairs(self._blind),
        )
        return {_NODES: said.record()}

    @classmethod
    def restored(cls, state: RecordDict) -> Self:
        """Return what `state` left; nothing known where a checkpoint has none of it.

        Raises
        ------
        ConfigurationError
            For a record that it did not leave.
        """
        found = cls()
        if (said := _Said.in_checkpoint(state, _NODES)) is None:
            return found
        found.model = said.model
        found._versions = dict(zip(said.nodes, said.versions, strict=True))
        for pairs, kinds in ((said.seen, found._read), (said.blind, found._blind)):
            for kind, node in (pair.rpartition(" ")[::2] for pair in pairs):
                kinds.setdefault(kind, set()).add(int(node))
        return found


_Pair = Annotated[str, Field(pattern=r"^\S+ -?[0-9]{1,20}$")]


class _Said(TypedRecord):
    """What a checkpoint keeps; a kind of message and a node stand in one text."""

    model: str
    nodes: Annotated[tuple[int, ...], Field(strict=False)]
    versions: Annotated[tuple[Version, ...], Field(strict=False)]
    seen: Annotated[tuple[_Pair, ...], Field(strict=False)]
    blind: Annotated[tuple[_Pair, ...], Field(strict=False)]

    @model_validator(mode="after")
    def _fit(self) -> Self:
        require(len(self.nodes) == len(self.versions), "versions", len(self.versions), f"{len(self.nodes)} of them")
        return self


def _pairs(kinds: Mapping[str, Collection[int]]) -> tuple[str, ...]:
    return tuple(f"{kind} {node}" for kind, nodes in kinds.items() for node in sorted(nodes))
