"""The model, the data and the training loop; nothing here knows of Flower."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

Params = dict[str, dict[str, jax.Array]]


def initial_params(seed: int = 0) -> Params:
    """Return a perceptron with one hidden layer of 128 as a tree of arrays: 9,610 parameters."""
    first, second = jax.random.split(jax.random.key(seed))
    return {
        "hidden": {"w": 0.2 * jax.random.normal(first, (64, 128)), "b": jnp.zeros(128)},
        "output": {"w": 0.1 * jax.random.normal(second, (128, 10)), "b": jnp.zeros(10)},
    }


def arrays_of(params: Params) -> list[NDArray[np.float32]]:
    """Return the leaves of the tree as NumPy arrays."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


def with_arrays(params: Params, arrays: list[NDArray[np.float32]]) -> Params:
    """Return a tree of the same structure with other leaves."""
    return jax.tree.unflatten(jax.tree.structure(params), arrays)


def load_data(partition_id: int, num_partitions: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return a node's share of the training images and labels, and of the test ones, every fifth of all."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    is_test = np.arange(len(order)) % 5 == 0
    train, test = order[~is_test][partition_id::num_partitions], order[is_test][partition_id::num_partitions]
    images = (data.data / 16).astype(np.float32)
    return images[train], data.target[train], images[test], data.target[test]


def loss_fn(params: Params, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the mean cross-entropy and the logits, shape (images, 10)."""
    hidden = jax.nn.relu(images @ params["hidden"]["w"] + params["hidden"]["b"])
    logits = hidden @ params["output"]["w"] + params["output"]["b"]
    right = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return -right.mean(), logits


@jax.jit
def step(params: Params, images: jax.Array, labels: jax.Array, lr: float) -> tuple[Params, jax.Array]:
    """Return the parameters after one step of gradient descent, and the loss before it."""
    (loss, _), gradient = jax.value_and_grad(loss_fn, has_aux=True)(params, images, labels)
    return jax.tree.map(lambda p, g: p - lr * g, params, gradient), loss


def train(params: Params, images: NDArray, labels: NDArray, epochs: int, lr: float) -> tuple[Params, float]:
    """Return the parameters after some epochs in batches of 32, and the loss of the last batch."""
    loss = jnp.zeros(())
    for _ in range(epochs):
        for start in range(0, len(images) - 31, 32):  # whole batches only: one shape, so one compilation
            params, loss = step(params, images[start : start + 32], labels[start : start + 32], lr)
    return params, float(loss)


def test(params: Params, images: NDArray, labels: NDArray) -> tuple[float, float]:
    """Return the mean loss and the accuracy."""
    loss, logits = loss_fn(params, jnp.asarray(images), jnp.asarray(labels))
    return float(loss), float((np.asarray(logits).argmax(axis=1) == labels).mean())
