"""What a filter sees besides inner products survives what earlier filters do, or is refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import Beside, Root, Vectors

X = np.random.default_rng(0).normal(size=(4, 6))
SUMS = np.random.default_rng(1).normal(size=(4, 6))
OWN = np.random.default_rng(2).normal(size=6)


def _signs(x: np.ndarray) -> np.ndarray:
    return np.stack([(x < 0).mean(axis=1), (x == 0).mean(axis=1), (x > 0).mean(axis=1)], axis=1)


def _vectors() -> Vectors:
    beside = Beside(lambda: _signs(X), lambda: SUMS @ SUMS.T, lambda: Root(float(np.linalg.norm(OWN)), X @ OWN))
    return Vectors.of_gram(X @ X.T, beside)


def test_a_subset_knows_what_was_known() -> None:
    kept = np.array([2, 0])
    left = _vectors().subset(kept)
    np.testing.assert_allclose(left.signs, _signs(X[kept]))
    np.testing.assert_allclose(left.history, SUMS[kept] @ SUMS[kept].T)
    np.testing.assert_allclose(left.root.products, X[kept] @ OWN)


def test_scaled_vectors_keep_their_signs_and_histories_and_scale_their_products() -> None:
    scales = np.array([0.5, 1.0, 0.25, 2.0])
    left = _vectors().combined(np.diag(scales))
    np.testing.assert_allclose(left.signs, _signs(X))
    np.testing.assert_allclose(left.history, SUMS @ SUMS.T)
    np.testing.assert_allclose(left.root.products, scales * (X @ OWN))


def test_mixtures_have_histories_and_products_and_no_signs() -> None:
    mixing = np.random.default_rng(3).dirichlet(np.ones(4), size=3)
    left = _vectors().combined(mixing)
    np.testing.assert_allclose(left.history, mixing @ SUMS @ SUMS.T @ mixing.T)
    np.testing.assert_allclose(left.root.products, mixing @ X @ OWN)
    with pytest.raises(ConfigurationError, match="signs must be known"):
        _ = left.signs


@pytest.mark.parametrize("what", ["signs", "history", "root"])
def test_what_nobody_knows_is_refused_by_name(what: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{what} must be known"):
        getattr(Vectors.of_gram(X @ X.T), what)
