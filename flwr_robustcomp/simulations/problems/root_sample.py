"""Which training examples the server holds a clean copy of."""

from __future__ import annotations

import torch
from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.randomness import generator

__all__ = ["root_sample"]


def root_sample(seed: int, samples: int, examples: int) -> Tensor:
    """Return the places of the server's examples, shape (samples,), int64, drawn without replacement.

    Parameters
    ----------
    seed : int
        Of the run.
    samples : int
        How many.
    examples : int
        How many there are to train on. The nodes keep theirs: the server has a copy, with the true labels (Cao et al. 2021,
        section V-A, draw theirs from the training data too).

    Raises
    ------
    ConfigurationError
        For more examples than there are.
    """
    require(samples <= examples, "root_samples", samples, f"at most {examples}, the number of training examples")
    return torch.from_numpy(generator(seed, "root sample").permutation(examples)[:samples].copy())
