"""The paper's figures: `robustcomp reproduce`.

`figures` has 1 to 3, on the regression problem, and `figure4` the network on MNIST; `step_size` has the rules for what the
paper leaves open. Builds on `comparison`, for its plots, and on `runs`, `records` and `scenario`.
"""

from __future__ import annotations

__all__ = []
