"""The delta-approximate compressors of the paper's section 3: mathematics and packed form, free of flwr.

`COMPRESSORS` is the closed registry that the command line, the scenarios and the contract tests walk.
"""

from __future__ import annotations

from flwr_robustcomp.compressors.base import Compressor
from flwr_robustcomp.compressors.choice import ByName, ByShape, BySize, Choice
from flwr_robustcomp.compressors.cross_polytope import CrossPolytope
from flwr_robustcomp.compressors.drive import Drive
from flwr_robustcomp.compressors.eden import Eden
from flwr_robustcomp.compressors.identity import Identity
from flwr_robustcomp.compressors.keeping_zeros import keeping_zeros
from flwr_robustcomp.compressors.low_rank import LowRank
from flwr_robustcomp.compressors.non_zeros import NonZeros
from flwr_robustcomp.compressors.norms import NORM_ORDERS, vector_norm
from flwr_robustcomp.compressors.payload import DTYPES, Payload, dtype_name, working_dtype
from flwr_robustcomp.compressors.qsgd import QSGD
from flwr_robustcomp.compressors.random_k import RandomK
from flwr_robustcomp.compressors.rotated_quantizer import RotatedQuantizer
from flwr_robustcomp.compressors.sign import L1Sign, Sign
from flwr_robustcomp.compressors.sparse_ternary import SparseTernary
from flwr_robustcomp.compressors.spherical_net import SphericalNet
from flwr_robustcomp.compressors.tern_grad import TernGrad
from flwr_robustcomp.compressors.top_k import TopK
from flwr_robustcomp.compressors.values import check_finite, values_from_bytes, values_to_bytes

__all__ = [
    "CHOICES",
    "COMPRESSORS",
    "DTYPES",
    "NORM_ORDERS",
    "QSGD",
    "ByName",
    "ByShape",
    "BySize",
    "Choice",
    "Compressor",
    "CrossPolytope",
    "Drive",
    "Eden",
    "Identity",
    "L1Sign",
    "LowRank",
    "NonZeros",
    "Payload",
    "RandomK",
    "RotatedQuantizer",
    "Sign",
    "SparseTernary",
    "SphericalNet",
    "TernGrad",
    "TopK",
    "check_finite",
    "dtype_name",
    "keeping_zeros",
    "values_from_bytes",
    "values_to_bytes",
    "vector_norm",
    "working_dtype",
]

COMPRESSORS: dict[str, type[Compressor]] = {
    "cross-polytope": CrossPolytope,
    "drive": Drive,
    "eden": Eden,
    "identity": Identity,
    "l1-sign": L1Sign,
    "low-rank": LowRank,
    "non-zeros": NonZeros,
    "qsgd": QSGD,
    "random-k": RandomK,
    "rotated-quantizer": RotatedQuantizer,
    "sign": Sign,
    "sparse-ternary": SparseTernary,
    "spherical-net": SphericalNet,
    "tern-grad": TernGrad,
    "top-k": TopK,
}
"""Every compressor by the name that scenarios and the wire use."""

CHOICES: dict[str, type[Choice]] = {"by-name": ByName, "by-shape": ByShape, "by-size": BySize}
"""Every rule that gives each array a compressor, by the name that scenarios use."""
