"""What a mod needs to know of the message and the node that it runs on."""

from __future__ import annotations

import math

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.spans import DELTA_METRIC

__all__ = ["is_training", "only_arrays", "partition_of", "round_of", "seed_of", "tell_delta"]


def is_training(message: Message) -> bool:
    """Whether a message asks for training; mods that are registered for a whole app see evaluation pass by too."""
    return message.metadata.message_type.split(".")[0] == "train"


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


def tell_delta(content: RecordDict, delta: float) -> None:
    """Put a measured delta into a reply's metrics, or into a MetricRecord of its own; one that is not finite is not told.

    Screening rejects whoever tells a number that is not finite, and a delta is not worth a reply.
    """
    if math.isfinite(delta):
        records = [record for record in content.values() if isinstance(record, MetricRecord)]
        if not records:
            records = [MetricRecord()]
            content["robustcomp.metrics"] = records[0]
        records[0][DELTA_METRIC] = delta
