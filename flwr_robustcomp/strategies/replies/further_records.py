"""Arrays beside the model in an accepted reply, such as SCAFFOLD's control variates, read on the server's terms."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from flwr.app import ArrayRecord
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.errors import WireError
from flwr_robustcomp.strategies.replies.screening import Update

__all__ = ["further_arrays"]


def further_arrays(update: Update, key: str, like: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the dense arrays that an accepted reply holds under a key, if they are what the server expects.

    Parameters
    ----------
    update : Update
        From a strategy's ``aggregate``.
    key : str
        The ArrayRecord's.
    like : mapping of str to Tensor
        The names, shapes and dtypes that the arrays must have.

    Returns
    -------
    dict of str to Tensor, or None
        Copies. None if the reply has no such record, if names, shapes or dtypes differ, or if a number is not finite: one
        client's fault, which raises nothing.

    Examples
    --------
    >>> import torch
    >>> from flwr.app import ArrayRecord, Message, RecordDict
    >>> from flwr_robustcomp import to_arrays
    >>> from flwr_robustcomp.strategies.replies.screening import Update
    >>> class Reply:
    ...     content = RecordDict({"control": to_arrays({"w": torch.tensor([1.0, 2.0])})})
    >>> update = Update(Reply, 7, (), {}, None, {})
    >>> further_arrays(update, "control", {"w": torch.zeros(2)})
    {'w': tensor([1., 2.])}
    >>> further_arrays(update, "control", {"w": torch.zeros(3)}) is None
    True
    """
    record = update.message.content.get(key)
    if not isinstance(record, ArrayRecord) or record.keys() != like.keys():
        return None
    found: dict[str, Tensor] = {}
    for name, wanted in like.items():
        try:
            found[name] = wire.read_dense(record[name], tuple(wanted.shape), wanted.dtype)
        except WireError:
            return None
        if found[name].is_floating_point() and not bool(torch.isfinite(found[name]).all()):
            return None
    return found
