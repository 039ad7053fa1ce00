"""Samples of every registered strategy over packed updates."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from benchmarks.parts.table import filled
from flwr_robustcomp.compressors import Compressor, L1Sign, Sign
from flwr_robustcomp.strategies import CompressedStrategy, NormThreshold, RobustCompressed, SignMajorityVote
from flwr_robustcomp.strategies.registry import OURS

__all__ = ["SAMPLES", "Sample", "installed"]


@dataclass(frozen=True)
class Sample:
    """A strategy as tests make it.

    Attributes
    ----------
    label : str
        What reports call it.
    kind : type of CompressedStrategy
        Its class.
    options : dict
        Its own parameters, besides ``trim``, which is given where the class has one.
    compressor : Compressor
        What its clients send.
    extra : bool
        Whether it needs a package that is not installed everywhere.
    """

    label: str
    kind: Callable[..., CompressedStrategy]
    options: dict[str, Any] = field(default_factory=dict)
    compressor: Compressor = field(default_factory=L1Sign)
    extra: bool = False

    def make(self, trim: int, **options: Any) -> CompressedStrategy:
        """Return a strategy that withstands ``trim`` Byzantine nodes, if it can be told to.

        Parameters
        ----------
        trim : int
            How many clients may lie.
        **options
            Those that all strategies have; ``compressor`` may be another.
        """
        own = {"trim": trim} if "trim" in inspect.signature(self.kind).parameters else {}
        return self.kind(**{"compressor": self.compressor, **own, **self.options, **options})


_SAMPLES: dict[str, list[Sample]] = {
    "byzfl": [Sample("ByzFL(Krum)", OURS["byzfl"], {"aggregator": "Krum"}, extra=True)],
    "majority-vote": [Sample("SignMajorityVote", SignMajorityVote, {"step_size": 0.1}, Sign())],
    "norm-threshold": [
        Sample("NormThreshold", NormThreshold),
        Sample("NormThreshold, reported", NormThreshold, {"norm": "reported"}),
    ],
    "robust-compressed": [Sample("RobustCompressed", RobustCompressed)],
}


def _default(kind: type[CompressedStrategy]) -> list[Sample]:
    sample = Sample(kind.__name__, kind)
    sample.make(1)
    return [sample]


SAMPLES = filled(OURS, _SAMPLES, _default)
"""At least one of each; by default with `L1Sign` and no parameters but ``trim``."""

_HAS_BYZFL = importlib.util.find_spec("byzfl") is not None


def installed(*, extras: bool = True, besides: Collection[object] = ()) -> list[Sample]:
    """Return the samples that can be made here.

    Parameters
    ----------
    extras : bool
        With those that need a package of an extra, if it is there.
    besides : collection of type
        Classes to leave out.
    """
    samples = [sample for samples in SAMPLES.values() for sample in samples if sample.kind not in besides]
    return [sample for sample in samples if not sample.extra or (extras and _HAS_BYZFL)]
