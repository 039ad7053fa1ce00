"""The delta-approximate compressors of the paper's section 3: mathematics and packed form, free of flwr.

`COMPRESSORS` is the closed registry that the command line, the scenarios and the contract tests walk.
"""

from __future__ import annotations

from flwr_robustcomp.compressors.base import NORM_ORDERS, Compressor, vector_norm
from flwr_robustcomp.compressors.identity import Identity
from flwr_robustcomp.compressors.payload import DTYPES, Payload, dtype_name, working_dtype
from flwr_robustcomp.compressors.qsgd import QSGD
from flwr_robustcomp.compressors.random_k import RandomK
from flwr_robustcomp.compressors.sign import L1Sign, Sign
from flwr_robustcomp.compressors.top_k import TopK

__all__ = [
    "COMPRESSORS",
    "DTYPES",
    "NORM_ORDERS",
    "QSGD",
    "Compressor",
    "Identity",
    "L1Sign",
    "Payload",
    "RandomK",
    "Sign",
    "TopK",
    "dtype_name",
    "vector_norm",
    "working_dtype",
]

COMPRESSORS: dict[str, type[Compressor]] = {
    "identity": Identity,
    "l1-sign": L1Sign,
    "qsgd": QSGD,
    "random-k": RandomK,
    "sign": Sign,
    "top-k": TopK,
}
"""Every compressor by the name that scenarios and the wire use."""
