"""The model and the data; nothing here knows of Flower."""

import functools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported, which reads it

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits


@functools.cache
def make_model(lr: float = 0.1) -> keras.Model:
    """Return a perceptron with one hidden layer of 128 on images of 8 x 8 pixels: 9,610 parameters.

    A process has one: TensorFlow traces every new model anew, which takes longer than the training here.
    """
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(128, activation="relu"), keras.layers.Dense(10, activation="softmax")]
    )
    model.compile(keras.optimizers.SGD(lr), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def load_data(partition_id: int, num_partitions: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return a node's share of the training images and labels, and of the test ones, every fifth of all."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    is_test = np.arange(len(order)) % 5 == 0
    train, test = order[~is_test][partition_id::num_partitions], order[is_test][partition_id::num_partitions]
    images = (data.data / 16).astype(np.float32)
    return images[train], data.target[train], images[test], data.target[test]
