"""How the vectors that filters leave become one, straight from their packed form: mathematics, free of flwr.

`RULES` is the closed registry that strategies, scenarios and the contract tests walk.
"""

from __future__ import annotations

from flwr_robustcomp.rules.base import Mass, Rule
from flwr_robustcomp.rules.mean import Mean
from flwr_robustcomp.rules.median import Median
from flwr_robustcomp.rules.trimmed_mean import TrimmedMean

__all__ = ["RULES", "Mass", "Mean", "Median", "Rule", "TrimmedMean"]

RULES: dict[str, type[Rule]] = {"mean": Mean, "median": Median, "trimmed-mean": TrimmedMean}
"""Every rule by the name that strategies and scenarios use."""
