"""Vectors of which everything is known: whether filters can work on so many is asked of them, before any update is there."""

from __future__ import annotations

import numpy as np

from flwr_robustcomp.filters.vectors import Beside, Root, Vectors

__all__ = ["specimen"]

_COSINE = 1e-6
"""Cosines are below: far above rounding, and far below what makes a direction stand out."""


def specimen(m: int) -> Vectors:
    """Return m nearly orthogonal unit vectors that know all that a filter can ask for; the root is along their sum.

    No two of them have the same cosine with a third, so that a filter which keeps a majority cluster drops all others.

    Examples
    --------
    >>> from flwr_robustcomp.filters import FLTrust, chain
    >>> from flwr_robustcomp.filters.specimen import specimen
    >>> chain([FLTrust()], specimen(4))
    array([0.25, 0.25, 0.25, 0.25])
    """
    places = np.arange(m) / max(m, 1) * _COSINE**0.5
    gram = np.outer(places, places)
    np.fill_diagonal(gram, 1.0)
    root = Root(1.0, np.full(m, m**-0.5))
    signs = np.tile([0.0, 1 - 1 / m, 1 / m], (m, 1))
    beside = Beside(lambda: signs, lambda: gram, lambda: root, lambda mixing: -mixing.sum(axis=1))
    return Vectors.of_gram(gram, beside)
