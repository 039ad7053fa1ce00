"""What Flower's old API hands to a strategy, as the Messages that screening reads: ``FitRes``, ``EvaluateRes`` and failures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import dtype_name
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.flower import ClientProxy, EvaluateRes, FitRes, Parameters, Scalar, ndarrays_to_parameters
from flwr_robustcomp.old_api import NORM_METRIC, STYPES_METRIC, WEIGHT_KEY, named, numbers_of, stypes_from_text
from flwr_robustcomp.strategies.replies.screening import RoundRequest

__all__ = ["OTHER_METRICS", "Failure", "evaluations", "model_of", "node_of", "parameters_of", "request_to", "trained"]

Failure = tuple[ClientProxy, FitRes] | tuple[ClientProxy, EvaluateRes] | BaseException
"""What Flower says of a client that did not reply as it should."""

OTHER_METRICS = "fitres.metrics"
"""The ConfigRecord of a reply that keeps metrics which are no numbers."""

_RAISED = 2
"""Flower's code for an app that raised."""

_LOST = 5
"""Flower's code for a node that is not there, which says nothing of the app."""

_MOST_WORDS = 3  # different failures that are quoted


def node_of(proxy: ClientProxy) -> int:
    """Return the id of a client's node.

    Raises
    ------
    ConfigurationError
        If it has none: the client was not started by a SuperLink.
    """
    node = getattr(proxy, "node_id", None)
    if not isinstance(node, int):
        raise ConfigurationError(
            f"client {proxy.cid[:64]!r} has no node id: run the app with `flwr run`, flwr.server.start_server cannot compress"
        )
    return node


def model_of(parameters: Parameters) -> ArrayRecord:
    """Return a model of the old API as the record that layouts are made of; the bytes are shared."""
    return named(Array("", (), parameters.tensor_type, tensor) for tensor in parameters.tensors)


def parameters_of(tensors: Iterable[Tensor]) -> Parameters:
    """Return a model as the old API has it."""
    return ndarrays_to_parameters([tensor.numpy() for tensor in tensors])


def request_to(node: int, server_round: int, kind: str) -> Message:
    """Return a message that stands for the one that Flower sends to a node; its content is not needed."""
    return Message(RecordDict(), dst_node_id=node, message_type=kind, group_id=str(server_round))


def trained(
    requests: Mapping[int, Message],
    results: Sequence[tuple[ClientProxy, FitRes]],
    failures: Sequence[Failure],
    expected: RoundRequest,
) -> list[Message]:
    """Return a round's replies to training as the new API has them.

    Parameters
    ----------
    requests : mapping of int to Message
        By node id, what was asked.
    results, failures
        What Flower hands to ``aggregate_fit``.
    expected : RoundRequest
        The round's. Of a packed reply the old API keeps the bytes and the first Array's ``stype``; shapes, dtypes and names are
        therefore the server's own. The length of the bytes is held against them, as in the new API.

    Returns
    -------
    list of Message
        One for each result, and an error for each node that was asked and has none.
    """
    replies = [
        Message(_fit_content(result, expected), reply_to=_request(requests, node_of(proxy), "train"))
        for proxy, result in results
    ]
    return replies + _failed(requests, {node_of(proxy) for proxy, _ in results}, failures)


def evaluations(
    requests: Mapping[int, Message], results: Sequence[tuple[ClientProxy, EvaluateRes]], failures: Sequence[Failure]
) -> list[Message]:
    """Return a round's replies to evaluation as the new API has them, the loss among the metrics; errors as in `trained`."""
    replies = []
    for proxy, result in results:
        metrics = numbers_of(result.metrics)
        metrics.update({"loss": result.loss, WEIGHT_KEY: result.num_examples})
        content = RecordDict({"metrics": metrics, **_others(result.metrics, metrics)})
        replies.append(Message(content, reply_to=_request(requests, node_of(proxy), "evaluate")))
    return replies + _failed(requests, {node_of(proxy) for proxy, _ in results}, failures)


def _request(requests: Mapping[int, Message], node: int, kind: str) -> Message:
    """Return the request of a node; a new one for a node that was not asked, whose reply screening then rejects."""
    return requests[node] if node in requests else request_to(node, 0, kind)


def _fit_content(result: FitRes, expected: RoundRequest) -> RecordDict:
    norms = {name.removeprefix(NORM_METRIC): x for name, x in result.metrics.items() if name.startswith(NORM_METRIC)}
    own = {name: x for name, x in result.metrics.items() if not name.startswith(NORM_METRIC) and name != STYPES_METRIC}
    metrics = numbers_of(own)
    others = _others(own, metrics)
    metrics[WEIGHT_KEY] = result.num_examples
    content = RecordDict({"arrays": _arrays(result, expected), "metrics": metrics, **others})
    if norms:
        content[wire.NORM_RECORD] = ConfigRecord(norms)  # type: ignore[arg-type]
    return content


def _others(metrics: Mapping[str, Scalar], numbers: Mapping[str, Any]) -> dict[str, ConfigRecord]:
    """Return the metrics that are no numbers, in a record of their own: they count into a reply's size, which is bounded."""
    others: dict[str, Any] = {name: value for name, value in metrics.items() if name not in numbers}
    return {OTHER_METRICS: ConfigRecord(others)} if others else {}


def _arrays(result: FitRes, expected: RoundRequest) -> ArrayRecord:
    """Name a packed reply's tensors: first the spans, then what stands aside, as `CompressionMod` writes them."""
    spans, aside = expected.spans, expected.layout.uncompressed
    tensors, first, record = result.parameters.tensors, result.parameters.tensor_type, ArrayRecord()
    if len(tensors) != len(spans) + len(aside):
        for number, tensor in enumerate(tensors):
            record[str(number)] = Array("", (), first, tensor)
        return record
    stypes = stypes_from_text(result.metrics.get(STYPES_METRIC), first, len(tensors))
    for span, stype, tensor in zip(spans, stypes, tensors, strict=False):
        record[span.name or wire.MODEL_ARRAY] = Array(dtype_name(span.dtype), span.shape, stype, tensor)
    for slot, tensor in zip(aside, tensors[len(spans) :], strict=True):
        record[slot.name] = Array("", (), "numpy.ndarray", tensor)  # npy bytes tell their own shape and dtype
    return record


def _failed(requests: Mapping[int, Message], heard: set[int], failures: Sequence[Failure]) -> list[Message]:
    """Return an error for each node without a result. Of an exception Flower does not say whose it is."""
    told = {node_of(one[0]): one[1] for one in failures if isinstance(one, tuple)}
    errors = [
        Message(Error(_RAISED, str(result.status.message)), reply_to=_request(requests, node, "train"))
        for node, result in told.items()
    ]
    raised = [one for one in failures if isinstance(one, BaseException)]
    words = "; or: ".join(list(dict.fromkeys(_words(one) for one in raised))[:_MOST_WORDS])
    codes = {_code(one) for one in raised}
    error = Error(codes.pop() if len(codes) == 1 else _LOST, words or "no reply")
    missing = [request for node, request in requests.items() if node not in heard and node not in told]
    return errors + [Message(error, reply_to=request) for request in missing]


def _words(failure: BaseException) -> str:
    held = failure.args[0] if failure.args else None
    return str(held.reason) if isinstance(held, Error) else str(failure)


def _code(failure: BaseException) -> int:
    """Return Flower's code: kept by its workflow, lost by its client proxy, whose text has the class that the app raised."""
    held = failure.args[0] if failure.args else None
    return held.code if isinstance(held, Error) else _RAISED if "(reason: <class '" in str(failure) else _LOST
