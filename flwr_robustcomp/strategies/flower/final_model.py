"""What a run returns of which no round moved the model: the model that it began with."""

from __future__ import annotations

from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Result

from flwr_robustcomp.flower import LOG

__all__ = ["with_final_model"]


def with_final_model(result: Result, initial: ArrayRecord) -> Result:
    """Put the initial model into a result of Flower's `start` that has none, and say so.

    Parameters
    ----------
    result : Result
        Changed in place. Flower leaves ``arrays`` empty until a round gives a model, and at the last good model afterwards.
    initial : ArrayRecord
        What `start` was given.

    Returns
    -------
    Result
        The same object.
    """
    if not result.arrays and initial:
        LOG.warning("No round moved the model: the run returns the initial one")
        result.arrays = initial
    return result
