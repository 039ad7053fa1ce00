"""What a mod needs to know of the message and the node that it runs on."""

from __future__ import annotations

import math
from collections.abc import Collection

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.spans import DELTA_METRIC

__all__ = ["array_records", "is_training", "model_keys", "only_arrays", "partition_of", "report_delta", "round_of", "seed_of"]


_MODEL = "arrays"
"""The key under which Flower's strategies send the model."""


def is_training(message: Message) -> bool:
    """Whether a message asks for training; mods that are registered for a whole app see evaluation pass by too."""
    return message.metadata.message_type.split(".")[0] == "train"


def array_records(content: RecordDict) -> dict[str, ArrayRecord]:
    """Return the ArrayRecords of a message by their keys."""
    return {key: record for key, record in content.items() if isinstance(record, ArrayRecord)}


def model_keys(received: Collection[str], replied: Collection[str], key: str | None) -> tuple[str, str]:
    """Return the keys of the model in the server's message and in the reply.

    Parameters
    ----------
    received, replied : collection of str
        The keys of the ArrayRecords in the server's message, and in the reply.
    key : str or None
        The key that the user named.

    Returns
    -------
    tuple of str
        The named key, which both must have. Where none is named: the only ones, if there is one on each side; else the only key
        that both have; else ``"arrays"``, if both have it, which is what Flower's strategies call the model.

    Raises
    ------
    ConfigurationError
        In every other case, with the keys of both.

    Examples
    --------
    >>> model_keys(["arrays"], ["weights"], None)
    ('arrays', 'weights')
    >>> model_keys(["arrays"], ["arrays", "control"], None)
    ('arrays', 'arrays')
    """
    common = set(received) & set(replied)
    if key is not None and key in common:
        return key, key
    if key is None:
        if len(received) == len(replied) == 1:
            return next(iter(received)), next(iter(replied))
        if len(common) == 1 or _MODEL in common:
            one = _MODEL if _MODEL in common else min(common)
            return one, one
    keys = f"the ArrayRecords {sorted(received)} in the server's message and {sorted(replied)} in the reply"
    if key is not None:
        raise ConfigurationError(f"key must be of an ArrayRecord in both, got {key!r}, and {keys}")
    raise ConfigurationError(f'the model must be named, as by CompressionMod(key="..."), got {keys}')


def only_arrays(content: RecordDict, what: str) -> tuple[str, ArrayRecord]:
    """Return the one ArrayRecord and its key.

    Raises
    ------
    ConfigurationError
        If there is none, or more than one.
    """
    found = [(key, record) for key, record in content.items() if isinstance(record, ArrayRecord)]
    if len(found) != 1:
        raise ConfigurationError(f"{what} must hold exactly one ArrayRecord, got {len(found)}")
    return found[0]


def round_of(message: Message) -> int:
    """Return the server round that the message belongs to, 0 if the server did not say."""
    for record in message.content.values():
        if isinstance(record, ConfigRecord) and isinstance(number := record.get("server-round"), int):
            return number
    return 0


def partition_of(context: Context) -> int:
    """Return the node's partition id, stable between engines; the node id where a deployment names no partition."""
    return int(context.node_config.get("partition-id", context.node_id))


def seed_of(context: Context, default: int | None) -> int:
    """Return the mod's own seed, else the run's ``seed``, else 0."""
    return int(context.run_config.get("seed", 0)) if default is None else default


def report_delta(content: RecordDict, delta: float) -> None:
    """Put a measured delta into a reply's metrics, or into a MetricRecord of its own; one that is not finite is not told.

    Screening rejects whoever tells a number that is not finite, and a delta is not worth a reply.
    """
    if math.isfinite(delta):
        records = [record for record in content.values() if isinstance(record, MetricRecord)]
        if not records:
            records = [MetricRecord()]
            content["robustcomp.metrics"] = records[0]
        records[0][DELTA_METRIC] = delta
