"""Byzantine-robust, communication-efficient federated learning as a Flower plugin.

Client mods pack updates to bits, a strategy filters them by norm and averages them in the compressed domain, and a
Ray-backed simulation compares strategies before anyone deploys one. Method: Ghosh, Maity, Kadhe, Mazumdar and
Ramchandran, "Communication-Efficient and Byzantine-Robust Distributed Learning", 2020.
"""

from __future__ import annotations

from flwr_robustcomp.checkpoints import Checkpointed
from flwr_robustcomp.clients import CompressionMod, old_client, training_labels
from flwr_robustcomp.compressors import (
    QSGD,
    ByName,
    ByShape,
    BySize,
    CrossPolytope,
    Drive,
    Eden,
    Identity,
    L1Sign,
    LowRank,
    NonZeros,
    RandomK,
    RotatedQuantizer,
    Sign,
    SparseTernary,
    SphericalNet,
    TernGrad,
    TopK,
)
from flwr_robustcomp.downlink import Downlink
from flwr_robustcomp.errors import ConfigurationError, QuorumError, WireError
from flwr_robustcomp.filters import Filter
from flwr_robustcomp.packing import Packing
from flwr_robustcomp.settings import Settings, configured_mod
from flwr_robustcomp.strategies import (
    Adam,
    ByzFL,
    Decompressed,
    DecompressedFit,
    Momentum,
    NormThreshold,
    OldStrategy,
    Policy,
    RobustCompressed,
    RoundReport,
    SignMajorityVote,
    TrustedRoot,
)
from flwr_robustcomp.wire import from_arrays, to_arrays

__all__ = [
    "QSGD",
    "Adam",
    "ByName",
    "ByShape",
    "BySize",
    "ByzFL",
    "Checkpointed",
    "CompressionMod",
    "ConfigurationError",
    "CrossPolytope",
    "Decompressed",
    "DecompressedFit",
    "Downlink",
    "Drive",
    "Eden",
    "Filter",
    "Identity",
    "L1Sign",
    "LowRank",
    "Momentum",
    "NonZeros",
    "NormThreshold",
    "OldStrategy",
    "Packing",
    "Policy",
    "QuorumError",
    "RandomK",
    "RobustCompressed",
    "RotatedQuantizer",
    "RoundReport",
    "Settings",
    "Sign",
    "SignMajorityVote",
    "SparseTernary",
    "SphericalNet",
    "TernGrad",
    "TopK",
    "TrustedRoot",
    "WireError",
    "configured_mod",
    "from_arrays",
    "old_client",
    "to_arrays",
    "training_labels",
]

__version__ = "0.1.0"
