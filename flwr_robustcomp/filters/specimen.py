"""Vectors of which everything is known: whether filters can work on so many is asked of them, before any update is there."""

from __future__ import annotations

import numpy as np

from flwr_robustcomp.filters.vectors import Beside, Root, Vectors

__all__ = ["specimen"]


def specimen(m: int) -> Vectors:
    """Return m orthogonal unit vectors that know all that a filter can ask for; the root is along their sum.

    Examples
    --------
    >>> from flwr_robustcomp.filters import FLTrust, chain
    >>> from flwr_robustcomp.filters.specimen import specimen
    >>> chain([FLTrust()], specimen(4))
    array([0.25, 0.25, 0.25, 0.25])
    """
    root = Root(1.0, np.full(m, m**-0.5))
    signs = np.tile([0.0, 1 - 1 / m, 1 / m], (m, 1))
    beside = Beside(lambda: signs, lambda: np.eye(m), lambda: root, lambda mixing: -mixing.sum(axis=1))
    return Vectors.of_gram(np.eye(m), beside)
