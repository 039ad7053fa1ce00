"""Every rule over every compressor that serves it: the dense definition, on the vectors that the payloads stand for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.colluding_vectors import draw, rows_of
from flwr_robustcomp.compressors import Compressor, Drive, Identity, L1Sign, NonZeros
from flwr_robustcomp.filters import Bounds
from flwr_robustcomp.rules import RULES, Mass, Mean, Rule
from tests.compressors.samples import ALL, DTYPE_LIST, gaussian, rng

Rows = npt.NDArray[np.float64]

DENSE: dict[str, Callable[[Rows, int], Rows]] = {
    "mean": lambda rows, _: rows.mean(axis=0),
    "median": lambda rows, _: np.median(rows, axis=0),
    "trimmed-mean": lambda rows, b: np.sort(rows, axis=0)[b : len(rows) - b].mean(axis=0),
}
SERVED = [one for one in ALL if not one.wants_matrices and not one.sparse]
K, D = 9, 200


def _mixed(k: int, m: int) -> Rows:
    return rng(5).dirichlet(np.ones(m), size=k)


def _scaled(k: int, m: int) -> Rows:
    return np.diag(rng(6).uniform(0.2, 1.0, m))[rng(7).permutation(m)[:k]]


def _outcome(rule: Rule, compressor: Compressor, dtype: torch.dtype, coefficients: Rows) -> tuple[Rows, Rows, Mass]:
    """Return the outcome in the basis that the vectors share, the vectors there, and the mass."""
    xs = [gaussian(D, dtype, seed=i) * (i + 1) / 4 + gaussian(D, dtype, seed=99) for i in range(coefficients.shape[1])]
    packed = [compressor.compress(x, rng(i)) for i, x in enumerate(xs)]
    out = torch.zeros(D, dtype=torch.float64)
    mass = rule.combine(out, compressor, packed, coefficients, trim=2)
    columns = compressor.columns(packed)
    rows = coefficients @ columns.rows(columns.payloads).double().numpy()
    wanted = columns.in_model(torch.from_numpy(DENSE[rule.name](rows, 2)))
    return out.numpy(), wanted.numpy(), mass


@pytest.mark.parametrize("coefficients", [_mixed(K, K), _scaled(K - 1, K)], ids=["mixed", "scaled"])
@pytest.mark.parametrize("compressor", SERVED, ids=repr)
@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_its_dense_definition(name: str, compressor: Compressor, coefficients: Rows) -> None:
    got, wanted, mass = _outcome(RULES[name](), compressor, torch.float32, coefficients)
    np.testing.assert_allclose(got, wanted, atol=2e-5 * max(1.0, float(np.abs(wanted).max())))
    assert (mass.survived <= mass.total * (1 + 1e-9)).all()


@pytest.mark.parametrize("dtype", DTYPE_LIST, ids=str)
@pytest.mark.parametrize("compressor", [L1Sign(), Drive(), Identity()], ids=repr)
def test_a_rule_knows_every_dtype(compressor: Compressor, dtype: torch.dtype) -> None:
    got, wanted, _ = _outcome(RULES["trimmed-mean"](), compressor, dtype, _scaled(K - 1, K))
    np.testing.assert_allclose(got, wanted, atol=4 * torch.finfo(dtype).eps * float(np.abs(wanted).max()))


@pytest.mark.parametrize("inner", [Drive(), L1Sign()], ids=repr)
def test_zeros_that_all_vectors_share_stay_zeros(inner: Compressor) -> None:
    compressor, out = NonZeros(inner), torch.zeros(D)
    xs = [gaussian(D, seed=i) for i in range(K)]
    for x in xs:
        x[20:70] = 0.0
    RULES["median"]().combine(out, compressor, [compressor.compress(x, rng(1)) for x in xs], np.eye(K), trim=2)
    assert not out[20:70].any() and out[:20].any() and out[70:].any()


@pytest.mark.parametrize("name", RULES)
def test_one_vector_is_the_outcome(name: str) -> None:
    x, out = gaussian(D), torch.zeros(D)
    RULES[name]().combine(out, Identity(), [Identity().compress(x)], np.eye(1), trim=3)
    torch.testing.assert_close(out, x)


@pytest.mark.parametrize("name", RULES)
def test_colluders_move_a_rule_no_further_than_it_promises(name: str) -> None:
    rule = RULES[name]()
    for number in range(300):
        generator = np.random.default_rng([number, 17])
        trim = int(generator.integers(1, 6))
        m = int(generator.integers(2 * trim + 1, 4 * trim + 6))
        crowd, colluders = draw(generator, trim)
        if m <= len(colluders):
            continue
        rows = rows_of(crowd, m - len(colluders), int(generator.integers(1, 40)), colluders, number, 1.0)
        packed = [Identity().compress(torch.from_numpy(row)) for row in rows]
        out = torch.zeros(rows.shape[1], dtype=torch.float64)
        rule.combine(out, Identity(), packed, np.eye(m), trim)
        longest = float(np.linalg.norm(rows, axis=1).max())
        promised = rule.reach(Bounds(longest=longest, mean=np.inf, gain=1.0, count=m, most=m), trim)
        assert np.linalg.norm(out.numpy()) <= promised * (1 + 1e-9)


def test_masses_of_parts_add_up() -> None:
    both = Mass(np.array([2.0, 0.0]), np.array([1.0, 0.0])) + Mass(np.array([2.0, 0.0]), np.array([2.0, 0.0]))
    assert both.shares.tolist() == [0.75, 1.0]  # a zero vector lost nothing


def test_a_payload_of_weight_zero_is_not_touched() -> None:
    x, out = gaussian(D), torch.zeros(D)
    used, broken = Identity().compress(x), Identity().compress(torch.full((D,), 1.0))
    object.__setattr__(broken, "body", b"")
    Mean().combine(out, Identity(), [used, broken], np.array([[1.0, 0.0]]), trim=0)
    torch.testing.assert_close(out, x)
