"""Clients of Flower's old API, ``NumPyClient`` under ``ClientApp(client_fn)``: the mods understand their messages.

Two cases. *An old server asks an old client*: `through_old_api` shows a mod the message and the reply as the new API has them,
and puts what the mod replies with back into the old form. *A new server asks an old client*: `old_client`, a mod, translates
between the two.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.clients.node import only_arrays
from flwr_robustcomp.errors import ConfigurationError, WireError
from flwr_robustcomp.old_api import (
    EVALUATE_CONFIG,
    EVALUATE_MODEL,
    FIT_CONFIG,
    FIT_METRICS,
    FIT_MODEL,
    FIT_REPLY,
    NORM_METRIC,
    STYPES_METRIC,
    WEIGHT_KEY,
    named,
    numbers_of,
    stypes_to_text,
)

__all__ = ["call_next_or_explain", "is_old", "old_client", "through_old_api"]

_SCALARS = bool | bytes | float | int | str
"""What the old API allows in a config and in metrics."""

_ROUND = "server-round"


def is_old(message: Message) -> bool:
    """Whether a message asks for training in the words of the old API."""
    return FIT_MODEL in message.content


def through_old_api(
    mod: Callable[[Message, Context, ClientAppCallable], Message],
    message: Message,
    context: Context,
    call_next: ClientAppCallable,
) -> Message:
    """Let a mod work on a message of the old API.

    Parameters
    ----------
    mod : callable
        Reads ``arrays`` and ``config`` of the message, and ``arrays`` and ``metrics`` of the reply.
    message : Message
        One for which `is_old` is true.
    context : Context
        The node's.
    call_next : callable
        What the mod is listed before; it gets the message as it came.

    Returns
    -------
    Message
        A reply of the old API. ``fitres.metrics`` has what the mod added to the metrics, norms that it reports, and
        `STYPES_METRIC`. An error, and a ``FitRes`` whose status is not OK, pass as they are: the mod is left at that point.

    Raises
    ------
    ConfigurationError
        If the message does not tell its round, or the reply has another number of arrays than the model.
    """
    received = named(_arrays(message.content, FIT_MODEL).values())
    config = _values(message.content, FIT_CONFIG)
    view = RecordDict({"arrays": received, "config": ConfigRecord({**config, _ROUND: _round_of(message, config)})})
    replies: list[Message] = []

    def train(_view: Message, own: Context) -> Message:
        reply = call_next(message, own)
        if reply.has_error() or _status(reply) != 0:
            raise _AsItIs(reply)
        replies.append(reply)
        metrics = MetricRecord({WEIGHT_KEY: _examples(reply)})
        norms = {name: x for name, x in _values(reply.content, FIT_METRICS).items() if name.startswith(NORM_METRIC)}
        content = RecordDict({"arrays": _like(_arrays(reply.content, FIT_REPLY), received), "metrics": metrics})
        if norms:  # an inner mod's, which an attack listed before it rewrites
            content[wire.NORM_RECORD] = ConfigRecord({name.removeprefix(NORM_METRIC): x for name, x in norms.items()})
        return _with_content(reply, content)

    try:
        answer = mod(_with_content(message, view), context, train)
    except _AsItIs as as_it_is:
        return as_it_is.reply
    if answer.has_error() or not replies:
        return answer
    old = replies[-1]
    content = old.content.copy()
    content[FIT_REPLY] = arrays = _arrays(answer.content, "arrays")
    added: dict[str, Any] = {
        name: x for record in answer.content.metric_records.values() for name, x in record.items() if name != WEIGHT_KEY
    }
    norms = _values(answer.content, wire.NORM_RECORD)
    added.update({NORM_METRIC + name: x for name, x in norms.items()})
    metrics = {name: x for name, x in _values(old.content, FIT_METRICS).items() if name != STYPES_METRIC}
    if stypes := stypes_to_text([array.stype for array in arrays.values()]):
        added[STYPES_METRIC] = stypes
    content[FIT_METRICS] = ConfigRecord({**metrics, **added})
    return _with_content(old, content)


class _AsItIs(Exception):
    """A reply that no mod has anything to do with; never leaves `through_old_api`."""

    def __init__(self, reply: Message) -> None:
        super().__init__()
        self.reply = reply


def _round_of(message: Message, config: Mapping[str, Any]) -> int:
    """Return the round, which compressors draw their numbers from: the config's, else Flower's group id."""
    if isinstance(number := config.get(_ROUND), int):
        return number
    group = message.metadata.group_id
    if not (group.isascii() and group.isdecimal()):
        raise ConfigurationError(
            f"the message of the old API does not tell its round (group id {group[:32]!r}): "
            f"let on_fit_config_fn put it under {_ROUND!r}"
        )
    return int(group)


def _arrays(content: RecordDict, key: str) -> ArrayRecord:
    record = content.get(key)
    if not isinstance(record, ArrayRecord):
        raise ConfigurationError(
            f"the reply holds no {key!r}: an app of the new API, with @app.train(), cannot work for a server of the old one"
        )
    return record


def _status(reply: Message) -> object:
    return _values(reply.content, "fitres.status").get("code", 0)


def _examples(reply: Message) -> Any:
    return _values(reply.content, "fitres.num_examples").get("num_examples", 0)


def _values(content: RecordDict, name: str) -> dict[str, Any]:
    """Return what a record of metrics or of a config holds; nothing where it is missing."""
    record = content.get(name)
    return dict(record) if isinstance(record, ConfigRecord | MetricRecord) else {}


def _like(arrays: ArrayRecord, model: ArrayRecord) -> ArrayRecord:
    """Return a dense reply's arrays under the model's names and in its dtypes; a packed reply as it is."""
    if any(array.stype.startswith("robustcomp/") for array in arrays.values()):
        return arrays
    if len(arrays) != len(model):
        raise ConfigurationError(f"fit must return the {len(model)} arrays that it was given, got {len(arrays)}")
    dtypes = {name: tensor.dtype for name, tensor in wire.shared_tensors(model).items()}
    like = ArrayRecord()
    for name, array in zip(model, arrays.values(), strict=True):
        try:
            tensor = wire.read_dense(array)
        except WireError as error:
            raise ConfigurationError(f"array {name} of the reply cannot be read: {error}") from error
        like[name] = array if tensor.dtype == dtypes[name] else wire.to_array(_cast(tensor, dtypes[name], name))
    return like


def _cast(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """Return a client's array in the dtype of the model's: a mean on the server may have widened that."""
    if not torch.can_cast(tensor.dtype, dtype):
        raise ConfigurationError(f"array {name} of the reply must be of the model's dtype {dtype}, got {tensor.dtype}")
    return tensor.to(dtype)


def _with_content(message: Message, content: RecordDict) -> Message:
    other = copy.copy(message)
    other.content = content
    return other


# -- a new server, an old client ------------------------------------------------------------------------------------------


def old_client(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Let a client of the old API serve a strategy of the new one.

    A mod for ``ClientApp(client_fn, mods=[configured_mod, old_client])``. It is listed last: the mods before it see messages of
    the new API. The strategy is one of ours or of ``flwr.serverapp.strategy``.

    Parameters
    ----------
    message : Message
        With one ArrayRecord, the model, whose names the client does not see; its first ConfigRecord is the client's ``config``.
    context : Context
        The node's.
    call_next : callable
        The old app.

    Returns
    -------
    Message
        To training, the arrays under the names that came, and the metrics that are numbers, ``num-examples`` among them. To
        evaluation, the metrics and ``loss``. Messages of the old API, queries and errors pass as they are.

    Raises
    ------
    ConfigurationError
        If the client's status is not OK, or the reply does not fit the model: Flower reports it as an error of this node.
    """
    kind = message.metadata.message_type
    if kind == "train" and FIT_MODEL not in message.content:
        return _fit(message, context, call_next)
    if kind == "evaluate" and EVALUATE_MODEL not in message.content:
        return _evaluate(message, context, call_next)
    return call_next(message, context)


def _fit(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    key, model = only_arrays(message.content, "the server's message")
    reply = call_next(_in_old_words(message, model, FIT_MODEL, FIT_CONFIG), context)
    if reply.has_error():
        return reply
    _check_status(reply, "fitres")
    metrics = numbers_of(_values(reply.content, FIT_METRICS))
    metrics[WEIGHT_KEY] = _examples(reply)
    return _with_content(reply, RecordDict({key: _like(_arrays(reply.content, FIT_REPLY), model), "metrics": metrics}))


def _evaluate(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    _, model = only_arrays(message.content, "the server's message")
    reply = call_next(_in_old_words(message, model, EVALUATE_MODEL, EVALUATE_CONFIG), context)
    if reply.has_error():
        return reply
    _check_status(reply, "evaluateres")
    metrics = numbers_of(_values(reply.content, "evaluateres.metrics"))
    for record in reply.content.metric_records.values():  # the loss and the number of examples
        metrics.update({name.replace("_", "-"): value for name, value in record.items()})
    return _with_content(reply, RecordDict({"metrics": metrics}))


def _in_old_words(message: Message, model: ArrayRecord, arrays: str, config: str) -> Message:
    own = ConfigRecord(
        {
            name: value
            for record in list(message.content.config_records.values())[:1]
            for name, value in record.items()
            if isinstance(value, _SCALARS)
        }
    )
    return _with_content(message, RecordDict({arrays: ArrayRecord(dict(model.items())), config: own}))


def _check_status(reply: Message, record: str) -> None:
    status = _values(reply.content, f"{record}.status")
    if status.get("code", 0) != 0:
        raise ConfigurationError(f"the client replied with status {status.get('code')}: {status.get('message')}")


def call_next_or_explain(call_next: ClientAppCallable, message: Message, context: Context) -> Message:
    """Call what a mod is listed before; explain the one error by which an old client meets a new server.

    Raises
    ------
    ConfigurationError
        If the app has the old API and the message the new one.
    """
    try:
        return call_next(message, context)
    except KeyError as error:
        if error.args not in ((FIT_MODEL,), (EVALUATE_MODEL,)):
            raise
        raise ConfigurationError(
            "this ClientApp has Flower's old API (client_fn) and the server's strategy the new one: "
            "list old_client last, ClientApp(client_fn, mods=[..., old_client])"
        ) from error
