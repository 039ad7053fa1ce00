"""What a rule after filters needs: compressors that serve it, a trim that cuts something, and enough updates."""

from __future__ import annotations

import functools

from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.filters.base import trim_of
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.packing import Packing
from flwr_robustcomp.rules import Rule

__all__ = ["check_leaves", "check_served"]

_MANY = 1000
"""Of so many updates a share of them is at least one."""


def check_served(rule: Rule, packing: Packing, trim: int | float) -> None:
    """Raise `ConfigurationError` if a compressor cannot serve the rule; warn if the rule cuts nothing.

    The warning is no error: a run without liars is compared with the same run under attack, where ``trim`` is their number.
    """
    sparse = [one.name for one in packing.compressors if one.sparse]
    allowed = f"mean with {', '.join(sparse)}, whose updates are mostly zeros (drive and l1-sign serve every rule)"
    require(not (rule.by_coordinate and sparse), "rule", rule.name, allowed)
    if rule.by_coordinate and not rule.cut(_MANY, trim_of(trim, _MANY)):
        _warn(rule.name, trim)


def check_leaves(rule: Rule, trim: int, nodes: int) -> None:
    """Raise `ConfigurationError` if so many updates are too few for the rule."""
    if rule.by_coordinate and nodes < 2 * trim + 1:
        raise ConfigurationError(f"{rule.name!r} with trim {trim} needs at least {2 * trim + 1} updates, got {nodes}")


@functools.cache  # once in a process: every side builds a strategy to check its settings
def _warn(rule: str, trim: int | float) -> None:
    LOG.warning("the rule %r with trim=%r cuts nothing, and is the mean: set trim to how many nodes may lie", rule, trim)
