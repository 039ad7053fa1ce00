"""Every kind of hostile reply against every strategy: ``python -m benchmarks.hostile`` writes docs/hostile-replies.md."""

from __future__ import annotations

import argparse
import copy
import functools
import logging
import math
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import Bulyan, FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum, Strategy
from torch import Tensor

from benchmarks.hostile_replies import VECTORS, kinds
from benchmarks.parts.strategies import installed
from flwr_robustcomp import from_arrays, to_arrays, wire
from flwr_robustcomp.compressors import L1Sign, vector_norm
from flwr_robustcomp.flower import assume_identity
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies import Decompressed

__all__ = ["BUILT_IN", "OURS", "honest_replies", "outcome"]

_NODES, _D = 9, 23
_MODEL = {"w": torch.zeros(_D)}
_FAR = 10.0
"""A step longer than so many times the longest honest update has moved the model far."""
_SAMPLING: dict[str, Any] = {"fraction_evaluate": 0.0, "min_train_nodes": _NODES, "min_available_nodes": _NODES}

OURS: dict[str, Callable[[], Any]] = {
    sample.label: functools.partial(sample.make, 1, **_SAMPLING)
    for sample in sorted(installed(extras=False), key=lambda sample: sample.label)
}
"""Every registered strategy that needs no extra."""
BUILT_IN: dict[str, Callable[[], FedAvg]] = {
    "FedAvg": lambda: FedAvg(**_SAMPLING),
    "FedMedian": lambda: FedMedian(**_SAMPLING),
    "FedTrimmedAvg": lambda: FedTrimmedAvg(beta=0.2, **_SAMPLING),
    "Krum": lambda: Krum(num_malicious_nodes=1, **_SAMPLING),
    "MultiKrum": lambda: MultiKrum(num_malicious_nodes=1, num_nodes_to_select=4, **_SAMPLING),
    "Bulyan": lambda: Bulyan(num_malicious_nodes=1, **_SAMPLING),
}


def _update(node: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(node).standard_normal(_D) * (1 + 0.1 * node)).float()


def honest_replies(strategy: Strategy) -> list[Message]:
    """Ask nine nodes and return their honest replies: dense weights for Flower's own strategies, packed updates for ours."""
    dense = type(strategy).__module__.startswith("flwr.")
    compressor = L1Sign() if dense else strategy.packing.compressor  # type: ignore[attr-defined]
    requests = strategy.configure_train(1, to_arrays(_MODEL), ConfigRecord(), InProcessGrid(ClientApp(), _NODES))
    replies = []
    for i, request in enumerate(sorted(requests, key=lambda message: message.metadata.dst_node_id)):
        x = _update(i)
        arrays = (
            to_arrays({"w": -x}) if dense else ArrayRecord({wire.MODEL_ARRAY: wire.pack(compressor.compress(x), compressor)})
        )
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 3, "loss": 1 + i / 8})})
        content[wire.NORM_RECORD] = ConfigRecord({"norm-2": vector_norm(x, 2)})
        if dense:
            del content[wire.NORM_RECORD]
        replies.append(Message(content, reply_to=request))
    return replies


def _result(strategy: Strategy, replies: Sequence[Message]) -> Tensor | None:
    arrays, _ = strategy.aggregate_train(1, replies)
    return None if arrays is None else from_arrays(arrays)["w"]


def outcome(make: Callable[[], Any], kind: str) -> str:
    """Return "survived", "changed", "far" or "raised <exception>" for a round of eight honest replies and a hostile one.

    Survived: to float tolerance the result is that of the eight, or of the nine if the ninth update was honest all the same. A
    strategy that reports whom it rejected must give the one of the two that its report says. An update of the hostile node's
    own choice (`VECTORS`) may change the result. The evaluation loss over the same replies lies between the honest ones.
    """
    strategy = make()
    replies = honest_replies(strategy)
    ninth = replies[8].metadata.src_node_id
    wanted = [*_honest_results(make)]
    try:
        sent = [*replies[:8], *kinds()[kind](replies[8])]
        got = _result(strategy, sent)
        told = strategy.aggregate_evaluate(1, sent) or {}
    except Exception as error:  # noqa: BLE001 (what a strategy raises is what is measured)
        return f"raised {type(error).__name__}"
    if got is not None and not got.double().norm() <= _FAR * max(_update(node).norm() for node in range(_NODES)):
        return "far"
    if reports := getattr(strategy, "reports", None):
        wanted = [wanted[ninth in {*reports[-1].kept, *reports[-1].trimmed}]]
    same = got is not None if kind in VECTORS else any(_same(got, one) for one in wanted)
    return "survived" if same and 1 <= told.get("loss", math.nan) <= 2 else "changed"


@functools.cache
def _honest_results(make: Callable[[], Any]) -> tuple[Tensor | None, ...]:
    """Return the results of the eight honest replies, and of all nine."""
    strategy = make()
    replies = honest_replies(strategy)
    return tuple(_result(strategy, copy.deepcopy(replies[:n])) for n in (8, 9))


def _same(got: Tensor | None, wanted: Tensor | None) -> bool:
    if got is None or wanted is None or got.shape != wanted.shape:
        return False
    return torch.allclose(got.double(), wanted.double(), rtol=1e-5, atol=1e-6)


def _wrapped(make: Callable[[], FedAvg]) -> Callable[[], Decompressed]:
    return lambda: Decompressed(make(), compressor=L1Sign())


def _page(skip: Sequence[str]) -> str:
    strategies: dict[str, Callable[[], Any]] = dict(OURS)
    for name, make in BUILT_IN.items():
        if name in skip:
            continue
        strategies[name] = make
        strategies[f"Decompressed({name})"] = _wrapped(make)
    found = {kind: [outcome(make, kind) for make in strategies.values()] for kind in kinds()}
    counts = [f"{sum(row[i] == 'survived' for row in found.values())} of {len(found)}" for i in range(len(strategies))]
    lines = [
        "# Hostile replies",
        "",
        f"Made by `python -m benchmarks.hostile{' --skip ' + ' '.join(skip) if skip else ''}`. A round of eight honest replies",
        "and one of each kind below (packed for ours and behind `Decompressed`, dense for Flower's strategies bare).",
        "",
        "- *survived*: to float tolerance the result is that of the eight, or of the nine where the ninth update was honest",
        "  all the same (for ours and behind `Decompressed`: of those whom the report calls accepted). The evaluation loss of",
        "  the same replies lies between the honest ones.",
        "- *changed*: another result or loss, or none.",
        "- *far*: a step of more than ten times the longest honest update, or none that is finite.",
        "- *raised*: the exception out of `aggregate_train` or `aggregate_evaluate`, which ends the run.",
        "",
        f"Some of the kinds ({', '.join(VECTORS)})",
        "are updates that an honest compressor could have sent. They may change the result, but not move the model far; behind",
        "`Decompressed` that is the inner strategy's task.",
        "",
        f"| kind | {' | '.join(strategies)} |",
        "|---" * (len(strategies) + 1) + "|",
        f"| **survived** | {' | '.join(counts)} |",
        *(f"| {kind} | {' | '.join(row)} |" for kind, row in found.items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/hostile-replies.md"))
    parser.add_argument("--skip", nargs="*", default=[], choices=list(BUILT_IN), help="Flower's strategies to leave out")
    options = parser.parse_args()
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")  # numpy's, from Flower's strategies over NaN
    torch.set_num_threads(1)
    assume_identity(1)
    options.out.write_text(_page(options.skip), encoding="utf-8")


if __name__ == "__main__":
    main()
