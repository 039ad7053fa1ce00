"""What runs on the server: norm thresholding, majority vote, and a wrapper for any Flower strategy."""

from __future__ import annotations

from flwr_robustcomp.strategies.compressed import CompressedStrategy
from flwr_robustcomp.strategies.decompressed import Decompressed
from flwr_robustcomp.strategies.majority_vote import SignMajorityVote
from flwr_robustcomp.strategies.norm_threshold import NormThreshold
from flwr_robustcomp.strategies.report import Reason, Rejection, RoundReport

__all__ = [
    "CompressedStrategy",
    "Decompressed",
    "NormThreshold",
    "Reason",
    "Rejection",
    "RoundReport",
    "SignMajorityVote",
]
