"""Flower's old API in the terms of the new one: what its records are called, and names for its arrays, which have none.

The old API is that of ``NumPyClient``, ``client_fn`` and ``flwr.server.strategy``. A model is there a list of arrays; it
travels as npy bytes, and whatever an `Array` says beside its bytes is lost on the way to the strategy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from flwr.app import Array, ArrayRecord, MetricRecord
from torch import Tensor

from flwr_robustcomp import wire

__all__ = [
    "EVALUATE_CONFIG",
    "EVALUATE_MODEL",
    "FIT_CONFIG",
    "FIT_METRICS",
    "FIT_MODEL",
    "FIT_REPLY",
    "NORM_METRIC",
    "STYPES_METRIC",
    "WEIGHT_KEY",
    "array_names",
    "named",
    "numbers_of",
    "stypes_from_text",
    "stypes_to_text",
]

FIT_MODEL = "fitins.parameters"
FIT_CONFIG = "fitins.config"
FIT_REPLY = "fitres.parameters"
FIT_METRICS = "fitres.metrics"
EVALUATE_MODEL = "evaluateins.parameters"
EVALUATE_CONFIG = "evaluateins.config"

WEIGHT_KEY = "num-examples"
"""The metric that counts examples in the new API; the old one has a field for it."""

NORM_METRIC = f"{wire.NORM_RECORD}.reported."
"""Before the name of a reported norm among a reply's metrics: the old API drops records that it does not know."""

STYPES_METRIC = f"{wire.NORM_RECORD}.stypes"
"""The metric that tells the ``stype`` of each Array of a reply: the old API keeps that of the first alone."""


def array_names(tensors: Iterable[Tensor]) -> list[str]:
    """Return a name for each array of a model: its number, and what a batch normalisation's statistics are.

    Parameters
    ----------
    tensors : iterable of Tensor
        The model, in the order of its arrays.

    Returns
    -------
    list of str
        ``"0"``, ``"1"``, ... Where an integer scalar follows two floating vectors of one length, as the counter of batches
        follows the running mean and variance in PyTorch's ``state_dict``, these two get ``".running_mean"`` and
        ``".running_var"`` behind their number. So they travel uncompressed by default, as they do in the new API.

    Examples
    --------
    >>> import torch
    >>> array_names([torch.zeros(4, 3), torch.zeros(4)])
    ['0', '1']
    >>> array_names(torch.nn.BatchNorm1d(2).state_dict().values())
    ['0', '1', '2.running_mean', '3.running_var', '4']
    """
    model = list(tensors)
    names = [str(number) for number in range(len(model))]
    for number in range(2, len(model)):
        mean, variance, count = model[number - 2 : number + 1]
        vectors = mean.is_floating_point() and variance.is_floating_point() and mean.dim() == 1
        if vectors and mean.shape == variance.shape and count.dim() == 0 and _is_integer(count):
            names[number - 2] += ".running_mean"
            names[number - 1] += ".running_var"
    return names


def _is_integer(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype != torch.bool


def named(arrays: Iterable[Array]) -> ArrayRecord:
    """Return a dense model's Arrays under `array_names`.

    Raises
    ------
    ConfigurationError
        If one of them is not a dense array of numbers; an XGBoost model is not.
    """
    record = ArrayRecord()
    for number, array in enumerate(arrays):
        record[str(number)] = array
    names = array_names(wire.shared_tensors(record).values())
    if names == list(record):
        return record
    return ArrayRecord(dict(zip(names, record.values(), strict=True)))


def numbers_of(metrics: Mapping[str, Any]) -> MetricRecord:
    """Return the metrics that are numbers; the old API also allows text, bytes and truth values."""
    return MetricRecord({name: x for name, x in metrics.items() if isinstance(x, int | float) and not isinstance(x, bool)})


def stypes_to_text(stypes: Sequence[str]) -> str:
    """Return the stypes of a reply's Arrays as one short text; empty where all are equal.

    Examples
    --------
    >>> stypes_to_text(["a", "b", "a"])
    'a,b;0.1.0'
    >>> stypes_to_text(["a", "a"])
    ''
    """
    distinct = list(dict.fromkeys(stypes))
    if len(distinct) < 2:
        return ""
    return ",".join(distinct) + ";" + ".".join(str(distinct.index(stype)) for stype in stypes)


def stypes_from_text(text: object, first: str, count: int) -> list[str]:
    """Return the stype of each Array, from a client's own text.

    Parameters
    ----------
    text : object
        What the client tells, if anything.
    first : str
        The stype that the old API kept.
    count : int
        How many Arrays there are.

    Returns
    -------
    list of str
        ``count`` of them: ``first`` for all where the text tells nothing that fits.

    Examples
    --------
    >>> stypes_from_text("a,b;0.1.0", "a", 3)
    ['a', 'b', 'a']
    >>> stypes_from_text("a,b;0.7", "a", 2)
    ['a', 'a']
    """
    if isinstance(text, str) and text:
        names, _, places = text.partition(";")
        distinct, found = names.split(","), places.split(".", count)
        known = {str(place): stype for place, stype in enumerate(distinct[:count])}
        if len(found) == count and all(place in known for place in found):
            return [known[place] for place in found]
    return [first] * count
