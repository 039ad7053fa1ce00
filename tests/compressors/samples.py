"""The configurations of every registered compressor in one list, and the vectors they are tried on."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import Tensor

from benchmarks.parts.compressors import SAMPLES
from flwr_robustcomp.compressors import DTYPES

ALL = [compressor for samples in SAMPLES.values() for compressor in samples]
DTYPE_LIST = list(DTYPES.values())

SUMMED_UNROUNDED = ("drive", "eden", "low-rank", "non-zeros", "rotated-quantizer", "spherical-net")
"""Compressors whose payloads are added before each is rounded to the model's dtype."""


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def gaussian(d: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.from_numpy(rng(seed).standard_normal(d)).to(dtype)


def vectors(max_size: int = 40) -> st.SearchStrategy[Tensor]:
    """Finite vectors of any dtype, moderate in size so that float16 holds their norms."""
    elements = st.floats(-100, 100, width=16)
    arrays = npst.arrays(np.float64, st.integers(1, max_size), elements=elements)
    return st.builds(lambda a, t: torch.from_numpy(a.copy()).to(t), arrays, st.sampled_from(DTYPE_LIST))


def tolerance(dtype: torch.dtype) -> float:
    return 4 * torch.finfo(dtype).eps
