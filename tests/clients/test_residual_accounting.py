"""The books of error feedback over a run in which everything goes wrong (docs/adr/0004): nothing twice, nothing lost unseen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flwr_robustcomp import CompressionMod, NormThreshold, from_arrays, to_arrays, wire
from flwr_robustcomp.clients.error_feedback import RESIDUAL
from flwr_robustcomp.clients.node import round_of
from flwr_robustcomp.compressors import QSGD, Compressor, L1Sign, TopK
from flwr_robustcomp.randomness import generator
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.simulations.runs.run import quiet_flower
from tests.apps import app, node, request

NODES, ROUNDS, D = 6, 5, 9
START = {"w": torch.zeros(D, dtype=torch.float64)}
ZERO = torch.zeros(D, dtype=torch.float64)

FATES = ("well", "well", "training raises", "overflows", "spoiled", "raises after packing", "lost", "restarts before")
"""What happens to one node in one round."""

Fates = list[list[str]]


class _Books:
    """A grid and an app that do to every node what its fate says, and write down what each trained and sent."""

    def __init__(self, fates: Fates, compressor: Compressor) -> None:
        self.fates, self.compressor = fates, compressor
        self.trained: dict[tuple[int, int], Tensor] = {}
        self.sent: dict[tuple[int, int], Tensor] = {}
        self.forgotten: dict[tuple[int, int], Tensor] = {}
        self.app = ClientApp(mods=[self._watch, CompressionMod(compressor, error_feedback=True, reply="update")])
        self.app.train()(self._train)

    def fate(self, partition: int, round_: int) -> str:
        return self.fates[round_ - 1][partition]

    def _train(self, message: Message, context: Context) -> Message:
        partition, round_ = int(context.node_config["partition-id"]), round_of(message)
        x = torch.from_numpy(generator(0, "x", round_=round_, partition=partition).integers(-9, 10, D).astype(float))
        match self.fate(partition, round_):
            case "training raises":
                raise RuntimeError("out of memory")
            case "overflows":
                x[0] = torch.inf
            case _:
                self.trained[partition, round_] = x
        content = RecordDict({"arrays": to_arrays({"w": x}), "metrics": MetricRecord({"num-examples": 1})})
        return Message(content, reply_to=message)

    def _watch(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Stand outside the compression: see what leaves the node, and spoil it on the way."""
        partition, round_ = int(context.node_config["partition-id"]), round_of(message)
        reply = call_next(message, context)
        record = reply.content["arrays"]
        assert isinstance(record, ArrayRecord)
        compressor, payload = wire.unpack_trusted(record[wire.MODEL_ARRAY])
        self.sent[partition, round_] = compressor.decompress(payload).to(torch.float64)
        match self.fate(partition, round_):
            case "spoiled":
                array = record[wire.MODEL_ARRAY]
                record[wire.MODEL_ARRAY] = Array(array.dtype, array.shape, array.stype, array.data[:-1])
            case "raises after packing":
                raise RuntimeError("the outermost mod")
        return reply


class _Lossy(InProcessGrid):
    """Loses replies and restarts nodes, as the books say."""

    def __init__(self, books: _Books) -> None:
        super().__init__(books.app, NODES)
        self.books, self.round_ = books, 0

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        messages = list(messages)
        if not messages:
            return []
        self.round_ += 1
        states = self.node_states()
        for node_id, partition in self.partition_of.items():
            if self.books.fate(partition, self.round_) == "restarts before":
                residual = RESIDUAL.load(states.pop(node_id), D, torch.float64)
                self.books.forgotten[partition, self.round_] = ZERO if residual is None else residual
        self.restore_node_states(states)
        return [
            reply
            for reply in super().send_and_receive(messages)
            if self.books.fate(self.partition_of[reply.metadata.src_node_id], self.round_) != "lost"
        ]


_TABLES = st.lists(st.lists(st.sampled_from(FATES), min_size=NODES, max_size=NODES), min_size=ROUNDS, max_size=ROUNDS)


@pytest.mark.parametrize("compressor", [TopK(k=2), L1Sign(), QSGD(levels=2)], ids=repr)
@given(fates=_TABLES)
@settings(max_examples=15)
def test_every_update_is_sent_once_or_still_in_a_residual(compressor: Compressor, fates: Fates) -> None:
    books = _Books(fates, compressor)
    models = [START]
    strategy = NormThreshold(
        compressor=compressor, trim=1, fraction_evaluate=0.0, min_train_nodes=NODES, min_available_nodes=NODES
    )
    with quiet_flower(), _Lossy(books) as grid:
        strategy.start(
            grid, to_arrays(START), num_rounds=ROUNDS, evaluate_fn=lambda r, w: models.append(from_arrays(w)) if r else None
        )
        states = {partition: grid.node_states()[node_id] for node_id, partition in grid.partition_of.items()}
        partition_of = grid.partition_of

    # Who replied at all: everybody but those whose training raised or whose update no compressor takes.
    replied = {
        (i, r) for r in range(1, ROUNDS + 1) for i in range(NODES) if books.fate(i, r) not in ("training raises", "overflows")
    }
    assert books.sent.keys() == books.trained.keys() == replied

    # 1. Each node: sent + residual = updates, whatever became of the replies; a restart forgets the residual, once.
    for i in range(NODES):
        residual = RESIDUAL.load(states[i], D, torch.float64)
        sent, trained, forgotten = (_total(one, {i}) for one in (books.sent, books.trained, books.forgotten))
        assert torch.allclose(sent + forgotten + (ZERO if residual is None else residual), trained, rtol=0, atol=1e-9)

    # 2. The server: each round's step is the mean of what the kept nodes sent in that round, and of nothing else.
    fate_of: dict[tuple[int, int], str] = {}
    for report, before, after in zip(strategy.reports, models[:-1], models[1:], strict=True):
        kept = {partition_of[node_id] for node_id in report.kept}
        step = sum((books.sent[i, report.round_] for i in kept), ZERO) / max(1, len(kept))
        assert torch.allclose(before["w"] - after["w"], step, rtol=0, atol=1e-9)
        fate_of |= {(i, report.round_): "kept" for i in kept}
        fate_of |= {(partition_of[n], report.round_): "trimmed" for n in report.trimmed}
        fate_of |= {(partition_of[one.node_id], report.round_): "rejected" for one in report.rejected}

    # 3. What the server did not use was trimmed, rejected, lost, or came in a round that was skipped; there is no other way.
    for key in replied - {key for key, fate in fate_of.items() if fate == "kept"}:
        skipped = strategy.reports[key[1] - 1].skipped is not None
        assert fate_of.get(key) in ("trimmed", "rejected") or books.fate(*key) == "lost" or skipped


def _total(book: dict[tuple[int, int], Tensor], partitions: set[int]) -> Tensor:
    return sum((value for (partition, _), value in book.items() if partition in partitions), ZERO)


def test_a_round_that_fails_leaves_the_residual_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    x = {"w": torch.tensor([3.0, 2.0, 1.0])}
    client, context = app(lambda w: x, [CompressionMod(TopK(k=1), error_feedback=True, reply="update")]), node()
    client(request(x), context)
    before = context.state[RESIDUAL.record].copy()
    with monkeypatch.context() as patch:
        patch.setattr(wire, "pack", _raise)  # the last thing that can go wrong, when Q(p) and e' are known
        with pytest.raises(MemoryError):
            client(request(x, round_=2), context)
    assert context.state[RESIDUAL.record] == before
    answer = client(request(x, round_=3), context)
    record = answer.content["arrays"]
    assert isinstance(record, ArrayRecord)
    _, payload = wire.unpack_trusted(record[wire.MODEL_ARRAY])
    # Twice x minus the 3 that round 1 sent is (3, 4, 2): the failed round left nothing behind.
    assert TopK(k=1).decompress(payload).tolist() == [0.0, 4.0, 0.0]


def _raise(*rest: Any) -> None:
    raise MemoryError


def test_a_node_that_restarts_with_an_empty_state_goes_on() -> None:
    x = {"w": torch.tensor([3.0, 2.0, 1.0])}
    client = app(lambda w: x, [CompressionMod(TopK(k=1), error_feedback=True, reply="update")])
    old, new = node(), node()
    first = [client(request(x, round_=r), old).content for r in (1, 2)]
    again = [client(request(x, round_=r), new).content for r in (1, 2)]
    assert again == first
    residual = RESIDUAL.load(new.state, 3, torch.float32)
    assert residual is not None and residual.tolist() == [3.0, 0.0, 2.0]


def test_a_residual_of_another_dtype_is_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    client, context = app(lambda w: w, [CompressionMod(TopK(k=1), error_feedback=True, reply="update")]), node()
    client(request({"w": torch.tensor([3.0, 2.0])}), context)
    with caplog.at_level("WARNING", logger="flwr"):
        client(request({"w": torch.tensor([3.0, 2.0], dtype=torch.float64)}, round_=2), context)
    assert "Residual of shape (2,) and dtype torch.float32 dropped" in caplog.text
    residual = RESIDUAL.load(context.state, 2, torch.float64)
    assert residual is not None and residual.tolist() == [0.0, 2.0]
