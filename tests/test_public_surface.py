"""What a user imports, and nothing else."""

from __future__ import annotations

import importlib
import pkgutil

import flwr_robustcomp


def test_the_public_face() -> None:
    assert flwr_robustcomp.__all__ == [
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


def test_every_module_says_what_it_offers() -> None:
    for info in pkgutil.walk_packages(flwr_robustcomp.__path__, "flwr_robustcomp."):
        module = importlib.import_module(info.name)
        assert hasattr(module, "__all__"), info.name
        assert len(set(module.__all__)) == len(module.__all__), info.name
        assert all(hasattr(module, name) for name in module.__all__), info.name
        assert module.__doc__, info.name
