"""What runs on the server: norm thresholding, filters by inner products, majority vote, ByzFL's rules, any Flower strategy."""

from __future__ import annotations

from flwr_robustcomp.strategies.byzfl import ByzFL
from flwr_robustcomp.strategies.compressed import CompressedStrategy
from flwr_robustcomp.strategies.decompressed import Decompressed
from flwr_robustcomp.strategies.majority_vote import SignMajorityVote
from flwr_robustcomp.strategies.nodes.ledger import Ledger
from flwr_robustcomp.strategies.norm_threshold import NormThreshold
from flwr_robustcomp.strategies.old_api.decompressed_fit import DecompressedFit
from flwr_robustcomp.strategies.old_api.strategy import OldStrategy
from flwr_robustcomp.strategies.policy import Policy
from flwr_robustcomp.strategies.replies.further_records import further_arrays
from flwr_robustcomp.strategies.report import Reason, Rejection, RoundReport
from flwr_robustcomp.strategies.robust_compressed import RobustCompressed
from flwr_robustcomp.strategies.round import Outcome, Round, SkippedRound
from flwr_robustcomp.strategies.server_step import Adam, Momentum, Plain, ServerStep
from flwr_robustcomp.strategies.trusted_root import TrustedRoot

__all__ = [
    "Adam",
    "ByzFL",
    "CompressedStrategy",
    "Decompressed",
    "DecompressedFit",
    "Ledger",
    "Momentum",
    "NormThreshold",
    "OldStrategy",
    "Outcome",
    "Plain",
    "Policy",
    "Reason",
    "Rejection",
    "RobustCompressed",
    "Round",
    "RoundReport",
    "ServerStep",
    "SignMajorityVote",
    "SkippedRound",
    "TrustedRoot",
    "further_arrays",
]
