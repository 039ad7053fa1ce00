"""What Theorems 1 and 2 ask of delta: against each other, against the recursion behind them, and against adversaries."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flwr_robustcomp.compressors import L1Sign, TopK
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters.norm import shortest
from flwr_robustcomp.theory import (
    Form,
    Theorem,
    allowed_trims,
    contraction,
    is_covered,
    largest_alpha,
    largest_byzantine,
    needed_delta,
)

THEOREMS: list[Theorem] = [1, 2]
FORMS: list[Form] = ["stated", "exact", "sharp", "drawn"]
GRID = [(a / 200, b / 200) for b in range(100) for a in range(b + 1)]
LAMBDAS = [0.0, 0.01, 0.3, 2.0]

shares = st.tuples(st.floats(0, 0.499), st.floats(0, 0.499)).map(lambda ab: (min(ab), max(ab)))
deltas = st.floats(1e-6, 1.0)


# -- against the recursion ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theorem", THEOREMS)
@pytest.mark.parametrize("form", ["exact", "sharp", "drawn"])
@given(delta=deltas, ab=shares, lambda0=st.floats(0, 3))
def test_a_delta_is_enough_exactly_where_the_recursion_contracts(
    theorem: Theorem, form: Form, delta: float, ab: tuple[float, float], lambda0: float
) -> None:
    kappa = contraction(delta, *ab, theorem=theorem, form=form)
    factor = (1 + lambda0) * kappa**2
    if abs(factor - 1) > 1e-9:  # apart from rounding at the very edge
        assert is_covered(delta, *ab, theorem=theorem, form=form, lambda0=lambda0) == (factor < 1)


@pytest.mark.parametrize("lambda0", LAMBDAS)
def test_the_stated_condition_of_theorem_2_implies_the_exact_one(lambda0: float) -> None:
    for alpha, beta in GRID:
        stated = needed_delta(alpha, beta, theorem=2, form="stated", lambda0=lambda0)
        exact = needed_delta(alpha, beta, theorem=2, form="exact", lambda0=lambda0)
        assert exact <= stated + 1e-12 or stated >= 1


def test_the_stated_condition_of_theorem_1_does_not_imply_the_exact_one() -> None:
    delta, alpha, beta = 0.522, 20 / 200, 22 / 200  # figure 1's largest setting
    assert is_covered(delta, alpha, beta, theorem=1, form="stated")
    assert not is_covered(delta, alpha, beta, theorem=1, form="exact")
    assert contraction(delta, alpha, beta, theorem=1, form="exact") > 1
    assert contraction(delta, alpha, beta, theorem=1, form="sharp") < 1


def test_where_theorem_1_states_less_than_its_proof_uses() -> None:
    for alpha, beta in GRID:
        stated = needed_delta(alpha, beta, theorem=1, form="stated")
        exact = needed_delta(alpha, beta, theorem=1, form="exact")
        margin = beta - alpha * (5 / 4 - alpha)
        if alpha and math.isfinite(exact) and abs(margin) > 1e-9:
            assert (stated > exact) == (margin > 0)
        if math.isfinite(exact):
            assert stated - exact == pytest.approx(alpha * (4 * beta - 5 * alpha + 4 * alpha**2), abs=1e-12)


@pytest.mark.parametrize("theorem", THEOREMS)
@pytest.mark.parametrize("lambda0", LAMBDAS)
def test_what_is_stated_and_what_the_proof_uses_both_imply_the_other_forms(theorem: Theorem, lambda0: float) -> None:
    for alpha, beta in GRID:
        sharp, drawn = (needed_delta(alpha, beta, theorem=theorem, form=form, lambda0=lambda0) for form in ("sharp", "drawn"))
        assert sharp <= drawn + 1e-12
        assert alpha != beta or sharp == pytest.approx(drawn)
        for form in ("stated", "exact"):
            needed = needed_delta(alpha, beta, theorem=theorem, form=form, lambda0=lambda0)
            assert drawn <= needed + 1e-12 or needed >= 1


@pytest.mark.parametrize(
    ("theorem", "form", "value"),
    [
        # By hand, alpha = 1/10, beta = 1/5, lambda_0 = 0.
        (1, "stated", 1 - 0.64 + 0.4 - 0.09 + 0.004),
        (2, "stated", 1 - 0.64 / 1.44 + 0.4 - 0.08 + 0.004),
        (1, "exact", 1 - 0.6**2),
        (2, "exact", 1 - (0.6 / 1.2) ** 2),
        (1, "sharp", 1 - 0.75**2),
        (2, "sharp", 1 - 0.75**2),
        (1, "drawn", 1 - (0.6 / 0.9) ** 2),
        (2, "drawn", 1 - (0.6 / 0.9) ** 2),
    ],
)
def test_conditions_by_hand(theorem: Theorem, form: Form, value: float) -> None:
    assert needed_delta(0.1, 0.2, theorem=theorem, form=form) == pytest.approx(value)


def test_remarks_4_and_6() -> None:
    # delta > 4 alpha + 2 beta, and 4 alpha + 4 beta, "ignoring the higher order dependence".
    small = 1e-6
    assert needed_delta(small, 2 * small, theorem=1, form="stated") == pytest.approx(8 * small, rel=1e-4)
    assert needed_delta(small, 2 * small, theorem=2, form="stated") == pytest.approx(12 * small, rel=1e-4)
    assert needed_delta(small, 2 * small, form="sharp") == pytest.approx(4 * small, rel=1e-4)  # trimming itself costs nothing


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("theorem", THEOREMS)
def test_without_byzantine_nodes_and_trim_every_delta_is_enough(theorem: Theorem, form: Form) -> None:
    assert needed_delta(0, 0, theorem=theorem, form=form) == 0
    assert is_covered(1e-9, 0, 0, theorem=theorem, form=form)
    assert not is_covered(None, 0, 0, theorem=theorem, form=form)


def test_a_larger_lambda_asks_for_more() -> None:
    for theorem in THEOREMS:
        for form in FORMS:
            values = [needed_delta(0.05, 0.06, theorem=theorem, form=form, lambda0=x) for x in LAMBDAS]
            assert values == sorted(values)


# -- against adversaries --------------------------------------------------------------------------------------------------


def _deviation(
    xs: list[Tensor], sent: list[Tensor], norms: list[float], trim: int, honest: int
) -> tuple[float, float, float, float]:
    """Return ||g - grad F||, G, epsilon_1 and epsilon_2 of one round, where grad F is the mean of the honest gradients."""
    gradient = torch.stack(xs[:honest]).mean(dim=0)
    kept = shortest(norms, len(norms) - trim)
    step = torch.stack([sent[i] for i in kept]).mean(dim=0)
    epsilon1 = max(float((x - gradient).norm()) for x in xs[:honest])
    return float((step - gradient).norm()), float(gradient.norm()), epsilon1, 0.0


ADVERSARIES: dict[str, Callable[[Tensor, float, np.random.Generator], Tensor]] = {
    "opposite": lambda gradient, longest, rng: -gradient / gradient.norm() * longest * 0.999,
    "opposite, half": lambda gradient, longest, rng: -gradient / gradient.norm() * longest * 0.5,
    "far away": lambda gradient, longest, rng: 1e6 * gradient,
    "noise": lambda gradient, longest, rng: torch.from_numpy(rng.standard_normal(len(gradient))) * longest / 5,
}


@pytest.mark.parametrize("theorem", THEOREMS)
@pytest.mark.parametrize("adversary", ADVERSARIES)
@pytest.mark.parametrize("seed", range(5))
def test_the_sharp_bound_holds_against_adversaries(theorem: Theorem, adversary: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, byzantine, trim, d = 20, 4, 5, 24
    honest = m - byzantine
    gradient = torch.from_numpy(rng.standard_normal(d))
    xs = [gradient + 0.3 * torch.from_numpy(rng.standard_normal(d)) for _ in range(honest)]
    compressor = TopK(k=12)

    def q(x: Tensor) -> Tensor:
        return compressor.decompress(compressor.compress(x))

    sent = [q(x) for x in xs]
    longest = max(float((x if theorem == 1 else y).norm()) for x, y in zip(xs, sent, strict=True))
    for _ in range(byzantine):
        x = ADVERSARIES[adversary](gradient, longest, rng)
        xs.append(x)
        sent.append(q(x) if theorem == 1 else x)
    norms = [float(v.norm()) for v in (xs if theorem == 1 else sent)]
    deviation, size, epsilon1, epsilon2 = _deviation(xs, sent, norms, trim, honest)
    delta = min(compressor.measured_delta(x) for x in xs)
    alpha, beta = byzantine / m, trim / m
    kappa = contraction(delta, alpha, beta, theorem=theorem, form="sharp")
    share = math.sqrt(1 - delta) + (alpha + beta) / (1 - beta)
    assert deviation <= kappa * size + share * epsilon1 + (1 - alpha) / (1 - beta) * epsilon2
    if adversary == "opposite, half":  # none of them is trimmed
        assert deviation > 0.2 * kappa * size  # the bound is not idle


def test_no_smaller_contraction_would_do() -> None:
    # Q(x) = (1 - s) x along g and (1 + s) x against it: a delta-approximate compressor on the multiples of g.
    g, s = torch.tensor([3.0, 4.0], dtype=torch.float64), 0.3
    m, byzantine, trim = 20, 4, 6
    sent = [(1 - s) * g] * (m - byzantine) + [-(1 + s) * g] * byzantine
    norms = [float(g.norm())] * m  # of the inputs g and -g: Algorithm 1
    kept = [*range(trim, m)]  # ties: the honest come first among the trimmed
    step = torch.stack([sent[i] for i in kept]).mean(dim=0)
    kappa = contraction(1 - s**2, byzantine / m, trim / m, theorem=1, form="sharp")
    assert len(set(norms)) == 1
    assert float((step - g).norm()) == pytest.approx(kappa * float(g.norm()))
    assert torch.allclose(step, (1 - kappa) * g)


# -- what a delta allows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theorem", THEOREMS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("delta", [1e-3, 0.1, 0.4, 2 / math.pi, 0.9, 1.0])
@pytest.mark.parametrize("lambda0", [0.0, 0.1])
def test_the_largest_alpha_is_the_edge(theorem: Theorem, form: Form, delta: float, lambda0: float) -> None:
    edge = largest_alpha(delta, theorem=theorem, form=form, lambda0=lambda0)
    options: dict[str, Any] = {"theorem": theorem, "form": form, "lambda0": lambda0}
    if edge == 0:
        assert not is_covered(delta, 0, 0, **options)
        return
    assert is_covered(delta, 0.999 * edge, 0.999 * edge, **options)
    assert not is_covered(delta, 1.001 * edge, 1.001 * edge, **options)


def test_without_compression_a_third_is_the_edge() -> None:
    for theorem in THEOREMS:
        assert largest_alpha(1.0, theorem=theorem, form="sharp") == pytest.approx(1 / 3)
        assert largest_alpha(1.0, theorem=theorem, form="exact") == pytest.approx(1 / 3)
    assert largest_alpha(1.0, theorem=1, form="stated") == pytest.approx(1 - math.sqrt(0.5))  # (2a - 1)(2a^2 - 4a + 1) = 0


@pytest.mark.parametrize("theorem", THEOREMS)
@pytest.mark.parametrize("form", FORMS)
@given(delta=deltas, nodes=st.integers(1, 60), data=st.data())
def test_counts_agree_with_the_condition(theorem: Theorem, form: Form, delta: float, nodes: int, data: st.DataObject) -> None:
    trim = data.draw(st.integers(0, (nodes - 1) // 2))

    def covered(byzantine: int, trimmed: int) -> bool:
        return is_covered(delta, byzantine / nodes, trimmed / nodes, theorem=theorem, form=form)

    found = largest_byzantine(delta, nodes, trim=trim, theorem=theorem, form=form)
    assert found == max((b for b in range(trim + 1) if covered(b, trim)), default=None)
    trims = allowed_trims(delta, nodes, trim, theorem=theorem, form=form)
    assert list(trims) == [t for t in range(trim, (nodes + 1) // 2) if covered(trim, t)]
    free = largest_byzantine(delta, nodes, theorem=theorem, form=form)
    assert free == max((b for b in range((nodes + 1) // 2) if covered(b, b)), default=None)


def test_no_delta_allows_nothing() -> None:
    assert largest_byzantine(None, 10) is None
    assert list(allowed_trims(None, 10, 0)) == []


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: needed_delta(0.2, 0.1), r"alpha must be in \[0, beta = 0.1\], got 0.2"),
        (lambda: needed_delta(0.1, 0.5), r"beta must be in \[0, 0.5\), got 0.5"),
        (lambda: needed_delta(0.1, 0.1, theorem=3), "theorem must be 1 or 2, got 3"),  # type: ignore[arg-type]
        (lambda: needed_delta(0.1, 0.1, form="loose"), "form must be one of stated, exact, sharp, drawn, got 'loose'"),  # type: ignore[arg-type]
        (lambda: needed_delta(0.1, 0.1, lambda0=-1), "lambda0 must be at least 0, got -1"),
        (lambda: contraction(0.0, 0.1, 0.1), r"delta must be in \(0, 1\], got 0.0"),
        (lambda: contraction(0.5, 0.1, 0.1, form="stated"), "form must be exact, sharp or drawn"),
        (lambda: largest_alpha(1.5), r"delta must be in \(0, 1\], got 1.5"),
        (lambda: largest_byzantine(0.5, 10, trim=5), "must be below half of the 10 nodes, got 5"),
        (lambda: allowed_trims(0.5, 0, 0), "nodes must be at least 1, got 0"),
    ],
)
def test_bad_values_are_named(call: Callable[[], object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        call()


def test_forms_are_the_registered_ones() -> None:
    assert tuple(FORMS) == get_args(Form)
    assert L1Sign().delta(10) == 0.1  # what makes the scaled sign's guarantee so small
