"""How unlike the vectors of a round are, as filters on their scatter see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flwr_robustcomp.filters.base import Filter
from flwr_robustcomp.filters.scatter import centred, is_rounding
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["VectorSpread", "eigenvalue_ratio", "spread_of", "spread_seen"]

_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True, slots=True)
class VectorSpread:
    """How unlike the vectors of a round are.

    Attributes
    ----------
    ratio : float or None
        lambda_1 / lambda_{t+2} of their scatter, what `Spectral` compares with its slack. None where there are too few vectors,
        or too few that differ.
    direction_ratio : float or None
        The same of the unit vectors, what `Directions` compares with its slack.
    cosines : tuple of float, or None
        Quantiles of the cosines of all pairs, at 5, 50 and 95 %. None where there is no pair of vectors that are not zero.

    Notes
    -----
    With at most t Byzantine vectors lambda_{t+2} is at most the largest eigenvalue of the honest scatter (`Spectral`), and
    lambda_1 is anybody's. The ratio of an honest round is near the edge of the Marchenko-Pastur law over a quantile of it,
    below 3; nodes with unlike data, or colluders, raise it. Cosines near zero say that the nodes of a round have little in
    common.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import Vectors, spread_of
    >>> x = np.array([[3.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> spread = spread_of(Vectors.of_gram(x @ x.T), trim=0)
    >>> round(spread.ratio, 2), round(spread.direction_ratio, 2), spread.cosines[1]
    (4.5, 1.0, 0.0)
    """

    ratio: float | None = None
    direction_ratio: float | None = None
    cosines: tuple[float, float, float] | None = None

    def __str__(self) -> str:
        """Return it as a few words for a log line."""
        ratios = " and ".join("?" if one is None else f"{one:.3g}" for one in (self.ratio, self.direction_ratio))
        cosines = "?" if self.cosines is None else " / ".join(f"{one:.2f}" for one in self.cosines)
        return f"spread {ratios} (of directions), cosines {cosines}"


def spread_of(vectors: Vectors, trim: int) -> VectorSpread:
    """Return the spread of vectors; their Gram matrix is computed for it, if it was not.

    Parameters
    ----------
    vectors : Vectors
        m of them.
    trim : int
        t, the number of Byzantine vectors to expect.
    """
    gram = vectors.gram
    lengths = np.sqrt(np.maximum(np.diag(gram), 0.0))  # a sketch estimates both, and cosines are of one estimate
    scale = np.where(lengths > 0, lengths, 1.0)
    units = gram / scale[:, None] / scale
    some = np.flatnonzero(lengths > 0)
    pairs = np.clip(units[np.ix_(some, some)][np.triu_indices(some.size, 1)], -1.0, 1.0)
    low, middle, high = np.quantile(pairs, _QUANTILES).tolist() if pairs.size else (0.0, 0.0, 0.0)
    return VectorSpread(
        eigenvalue_ratio(gram, trim), eigenvalue_ratio(units, trim), (low, middle, high) if pairs.size else None
    )


def eigenvalue_ratio(gram: Matrix, trim: int) -> float | None:
    """Return lambda_1 / lambda_{t+2} of the scatter of m vectors, by their Gram matrix; None where lambda_{t+2} is zero."""
    m = len(gram)
    if m < trim + 3:  # the scatter has m - 1 eigenvalues
        return None
    values = np.linalg.eigvalsh(centred(gram))
    honest = float(values[-trim - 2])
    return None if is_rounding(honest, gram) else float(values[-1]) / honest


def spread_seen(filters: Sequence[Filter], vectors: Vectors, trim: int) -> VectorSpread | None:
    """Return the spread of the vectors of a round, as the first filter sees it that drops or merges any.

    Filters before that one shorten or mix, and their outcome is what it sees. None where no filter has looked at inner
    products: nothing is computed then.
    """
    if not vectors.has_gram:
        return None
    for one in filters:
        m = len(vectors)
        if one.left(m, trim) < m or m < one.least(trim) or one.looks_at:
            break
        vectors = vectors.combined(one.combine(vectors, trim))
    return spread_of(vectors, trim)
