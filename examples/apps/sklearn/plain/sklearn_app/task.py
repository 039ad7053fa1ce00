"""The model, the data and the training; nothing here knows of Flower."""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

CLASSES = np.arange(10)


def make_model(local_epochs: int = 1) -> LogisticRegression:
    """Return a logistic regression with all weights zero: 650 parameters in float64."""
    model = LogisticRegression(max_iter=local_epochs, warm_start=True)  # warm: `fit` goes on from the weights that are set
    model.classes_, model.n_features_in_ = CLASSES, 64
    set_weights(model, [np.zeros((10, 64)), np.zeros(10)])
    return model


def weights_of(model: LogisticRegression) -> list[NDArray[np.float64]]:
    """Return the coefficients, shape (10, 64), and the intercepts, shape (10,)."""
    return [model.coef_, model.intercept_]


def set_weights(model: LogisticRegression, weights: list[NDArray[np.float64]]) -> None:
    """Put weights into the model."""
    model.coef_, model.intercept_ = weights


def load_data(partition_id: int, num_partitions: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return a node's share of the training images and labels, and of the test ones, every fifth of all."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    is_test = np.arange(len(order)) % 5 == 0
    train, test = order[~is_test][partition_id::num_partitions], order[is_test][partition_id::num_partitions]
    images = data.data / 16
    return images[train], data.target[train], images[test], data.target[test]


def train(model: LogisticRegression, images: NDArray, labels: NDArray) -> float:
    """Train in place; return the mean loss."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few iterations a round are meant
        model.fit(images, labels)
    return float(log_loss(labels, model.predict_proba(images), labels=CLASSES))


def test(model: LogisticRegression, images: NDArray, labels: NDArray) -> tuple[float, float]:
    """Return the mean loss and the accuracy."""
    loss = log_loss(labels, model.predict_proba(images), labels=CLASSES)
    return float(loss), float(model.score(images, labels))
