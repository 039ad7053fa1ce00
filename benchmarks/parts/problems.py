"""Every registered problem with parameters that make it small."""

from __future__ import annotations

from typing import Any

from flwr_robustcomp.simulations.problems import PROBLEMS

__all__ = ["SMALL"]

SMALL: dict[str, dict[str, Any]] = {
    **{name: {} for name in PROBLEMS},
    "classification": {"hidden": 3},
    "digits": {"hidden": 3},
    "least-squares": {"samples": 16, "dimension": 5},
}
"""By default without parameters."""
