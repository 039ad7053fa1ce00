from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

from benchmarks.parts.problems import SMALL
from flwr_robustcomp.simulations.problems import PROBLEMS, Digits, LeastSquares, Problem


def same(labels: Tensor, classes: int) -> Tensor:
    return labels


def _share(problem: LeastSquares, partition: int) -> tuple[Tensor, Tensor]:
    """Recover A_i and b_i through the public gradient alone: it is affine in w, with slope A^T A / n and value -A^T b / n."""
    zero = {"w": torch.zeros(problem.dimension, dtype=torch.float64)}
    at_zero = problem.gradient(partition, zero, same)["w"]
    columns = [
        problem.gradient(partition, {"w": row}, same)["w"] - at_zero
        for row in torch.eye(problem.dimension, dtype=torch.float64)
    ]
    return torch.stack(columns), at_zero


@pytest.mark.parametrize("name", SMALL)
def test_problems_keep_the_protocol(name: str) -> None:
    problem: Problem = PROBLEMS[name](8, 0, **SMALL[name])
    model = problem.initial()
    assert problem.metric in problem.evaluate(model)
    assert problem.better in ("lower", "higher")
    for partition in (0, 7):
        gradient = problem.gradient(partition, model, same)
        assert {k: (v.shape, v.dtype) for k, v in gradient.items()} == {k: (v.shape, v.dtype) for k, v in model.items()}
        assert problem.num_examples(partition) >= 1


def test_least_squares_gradient_is_autograd_of_the_loss() -> None:
    problem = LeastSquares(4, 3, samples=24, dimension=7)
    a, b = (torch.from_numpy(part) for part in problem._draw(2))
    assert a.shape == (6, 7)
    w = torch.linspace(-1, 1, 7, dtype=torch.float64).requires_grad_()
    loss = (a @ w - b).square().sum() / (2 * problem.num_examples(2))
    (expected,) = torch.autograd.grad(loss, w)
    actual = problem.gradient(2, {"w": w.detach()}, same)["w"]
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_least_squares_is_solved_where_the_metric_is_zero() -> None:
    problem = LeastSquares(4, 3, samples=40, dimension=7)
    slopes, constants = zip(*(_share(problem, p) for p in range(4)), strict=True)
    solution = torch.linalg.solve(torch.stack(slopes).sum(0), -torch.stack(constants).sum(0))
    assert problem.evaluate({"w": solution})["error"] < 1e-10
    assert problem.evaluate(problem.initial())["error"] == pytest.approx(float(solution.norm()))


def test_least_squares_shares_depend_on_partition_and_seed_only() -> None:
    w = {"w": torch.ones(7, dtype=torch.float64)}
    here = LeastSquares(4, 3, samples=24, dimension=7)
    there = LeastSquares(4, 3, samples=24, dimension=7)
    there.gradient(0, w, same)  # the order in which shares are asked for does not matter
    assert torch.equal(here.gradient(3, w, same)["w"], there.gradient(3, w, same)["w"])
    fewer = LeastSquares(2, 3, samples=12, dimension=7)  # nor does how many nodes there are
    assert torch.equal(here.gradient(1, w, same)["w"], fewer.gradient(1, w, same)["w"])
    assert not torch.equal(here.gradient(0, w, same)["w"], here.gradient(1, w, same)["w"])
    other = LeastSquares(4, 4, samples=24, dimension=7)
    assert not torch.equal(here.gradient(0, w, same)["w"], other.gradient(0, w, same)["w"])


def test_digits_shapes_and_sizes() -> None:
    problem = Digits(20, 0, hidden=6)
    model = problem.initial()
    assert {name: tuple(t.shape) for name, t in model.items()} == {
        "hidden.weight": (6, 64),
        "hidden.bias": (6,),
        "output.weight": (10, 6),
        "output.bias": (10,),
    }
    assert {t.dtype for t in model.values()} == {torch.float32}
    assert problem.num_examples(0) == 1438 // 20  # 1797 images less 20 per cent
    metrics = problem.evaluate(model)
    assert 0 <= metrics["accuracy"] <= 1
    assert metrics["loss"] == pytest.approx(np.log(10), rel=0.2)  # an untrained network knows nothing


def _numpy_gradient(model: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Return the gradient of the mean cross-entropy by the chain rule on paper, in double precision."""
    before = x @ model["hidden.weight"].T + model["hidden.bias"]
    hidden = np.maximum(before, 0)
    logits = hidden @ model["output.weight"].T + model["output.bias"]
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    p /= len(y)
    back = (p @ model["output.weight"]) * (before > 0)
    return {
        "hidden.weight": back.T @ x,
        "hidden.bias": back.sum(0),
        "output.weight": p.T @ hidden,
        "output.bias": p.sum(0),
    }


@pytest.mark.parametrize("shifted", [False, True])
def test_digits_gradient_is_the_formula(shifted: bool) -> None:
    problem = Digits(20, 1, hidden=6)
    model = problem.initial()
    images, labels = problem._train
    own = slice(3 * problem.share, 4 * problem.share)
    y = labels[own].numpy()
    actual = problem.gradient(3, model, (lambda t, c: c - 1 - t) if shifted else same)
    expected = _numpy_gradient(
        {k: v.double().numpy() for k, v in model.items()}, images[own].double().numpy(), 9 - y if shifted else y
    )
    for name, gradient in actual.items():
        np.testing.assert_allclose(gradient.numpy(), expected[name], rtol=2e-4, atol=2e-6)


def test_digits_gradient_leaves_the_model_alone() -> None:
    problem = Digits(20, 1, hidden=3)
    model = problem.initial()
    before = {name: t.clone() for name, t in model.items()}
    problem.gradient(0, model, same)
    problem.evaluate(model)
    assert all(torch.equal(before[name], t) and not t.requires_grad for name, t in model.items())


def test_relabelling_is_asked_for_the_nodes_own_labels() -> None:
    problem = Digits(20, 1, hidden=3)
    asked: list[tuple[Tensor, int]] = []

    def record(labels: Tensor, classes: int) -> Tensor:
        asked.append((labels, classes))
        return labels

    problem.gradient(2, problem.initial(), record)
    ((labels, classes),) = asked
    assert classes == 10
    assert len(labels) == problem.num_examples(2)
    assert torch.equal(labels, problem._train[1][2 * problem.share : 3 * problem.share])


def test_digits_split_is_disjoint_and_complete() -> None:
    problem = Digits(7, 5)
    train, test = problem._train[0], problem._test[0]
    assert (len(train), len(test)) == (1438, 359)
    everything = torch.from_numpy(load_digits().data).float() / 16
    assert float(everything.min()) == 0.0
    assert float(everything.max()) == 1.0

    def rows(t: Tensor) -> list[tuple[float, ...]]:
        return sorted(map(tuple, t.tolist()))

    assert rows(torch.cat([train, test])) == rows(everything)  # each image once: in one of the two


def test_digits_depend_on_the_seed() -> None:
    one, same_seed, other = Digits(7, 5), Digits(7, 5), Digits(7, 6)
    assert torch.equal(one._train[0], same_seed._train[0])
    assert torch.equal(one.initial()["hidden.weight"], same_seed.initial()["hidden.weight"])
    assert not torch.equal(one._train[0], other._train[0])
    assert not torch.equal(one.initial()["hidden.weight"], other.initial()["hidden.weight"])


def test_digits_metrics_are_those_of_torch() -> None:
    problem = Digits(7, 5, hidden=4)
    model = problem.initial()
    network = torch.nn.Sequential(torch.nn.Linear(64, 4), torch.nn.ReLU(), torch.nn.Linear(4, 10))
    network.load_state_dict(dict(zip(network.state_dict(), model.values(), strict=True)))
    with torch.no_grad():
        loss = functional.cross_entropy(network(problem._train[0]), problem._train[1])
        hits = network(problem._test[0]).argmax(1) == problem._test[1]
    assert problem.evaluate(model) == pytest.approx({"accuracy": float(hits.double().mean()), "loss": float(loss)})
