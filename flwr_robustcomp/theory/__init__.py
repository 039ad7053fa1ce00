"""The guarantees of the paper's sections 4 to 6 as functions: mathematics, free of flwr.

`conditions` has the delta that Theorems 1 and 2 ask for, `error_floor` what they converge to, `error_feedback` Theorem 3;
`coverage` holds a configuration against them, and `cost` counts its bytes. What the project adds: `spectral_filter`, the bounds
of that filter on compressed updates, and the theory of a compressed downlink in `lag`, `primal_feedback` and `both_ways`.
docs/theory.md tells the same in prose.
"""

from __future__ import annotations

from flwr_robustcomp.theory.both_ways import ByzEF21BC, FeedbackBothWays
from flwr_robustcomp.theory.catalogue import CATALOGUE, label
from flwr_robustcomp.theory.conditions import (
    Form,
    Theorem,
    allowed_trims,
    contraction,
    is_covered,
    largest_alpha,
    largest_byzantine,
    needed_delta,
)
from flwr_robustcomp.theory.cost import Cost, Traffic, downlink, traffic, uplink
from flwr_robustcomp.theory.coverage import Adversary, Coverage, cover, shortfall
from flwr_robustcomp.theory.error_feedback import ErrorFeedback
from flwr_robustcomp.theory.error_floor import convergence_bound, epsilon_1, epsilon_2, error_floor, failure_probability
from flwr_robustcomp.theory.lag import lag_factor, memoryless_floor, replica_lag
from flwr_robustcomp.theory.primal_feedback import PrimalErrorFeedback, sampling_noise
from flwr_robustcomp.theory.spectral_filter import (
    filtered_contraction,
    filtered_floor,
    honest_loss,
    payload_scatter,
    stopped_bias,
)

__all__ = [
    "CATALOGUE",
    "Adversary",
    "ByzEF21BC",
    "Cost",
    "Coverage",
    "ErrorFeedback",
    "FeedbackBothWays",
    "Form",
    "PrimalErrorFeedback",
    "Theorem",
    "Traffic",
    "allowed_trims",
    "contraction",
    "convergence_bound",
    "cover",
    "downlink",
    "epsilon_1",
    "epsilon_2",
    "error_floor",
    "failure_probability",
    "filtered_contraction",
    "filtered_floor",
    "honest_loss",
    "is_covered",
    "label",
    "lag_factor",
    "largest_alpha",
    "largest_byzantine",
    "memoryless_floor",
    "needed_delta",
    "payload_scatter",
    "replica_lag",
    "sampling_noise",
    "shortfall",
    "stopped_bias",
    "traffic",
    "uplink",
]
