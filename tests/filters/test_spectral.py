"""The spectral filter: what its stopping rule promises, and what it catches."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pytest

from flwr_robustcomp.component import Component, build
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import FILTERS, Norm, Spectral, chain
from tests.filters.test_filter_contract import of, vectors


def scatter(x: np.ndarray) -> np.ndarray:
    """Eigenvalues of the scatter about the mean, descending."""
    return np.square(np.linalg.svd(x - x.mean(axis=0), compute_uv=False))


@pytest.mark.parametrize("seed", range(20))
def test_without_attack_nothing_is_dropped(seed: int) -> None:
    x = vectors(100, 400, seed) + 3.0
    assert (chain([Spectral(trim=11)], of(x)) > 0).all()


def test_with_a_fixed_budget_all_of_it_is_spent() -> None:
    assert (chain([Spectral(trim=11, slack=None)], of(vectors(100, 400))) == 0).sum() == 11


@pytest.mark.parametrize("directions", [1, 2])
def test_colluders_of_honest_length_are_found(directions: int) -> None:
    x = vectors(100, 4000)
    honest = np.linalg.norm(x, axis=1).mean()
    for node in range(8):
        x[node] = 0
        x[node, node % directions] = -honest
    assert (np.flatnonzero(chain([Norm(8)], of(x))[:8])).size > 0  # norms tell nothing
    weights = chain([Spectral(trim=10, slack=1.5)], of(x))
    assert (weights[:8] == 0).sum() >= 7  # one alone in its direction is as short as the honest scatter allows
    assert (weights[8:] > 0).all()


def test_independent_giants_are_found_without_honest_losses() -> None:
    x = vectors(100, 400)
    x[:8] *= 1e6
    weights = chain([Spectral(trim=8)], of(x))
    assert (weights[:8] == 0).all() and (weights[8:] > 0).all()


@pytest.mark.parametrize("seed", range(10))
def test_byzantine_vectors_cannot_raise_the_estimate_of_the_honest_scatter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    trim, honest = 6, vectors(34, 20, seed)
    largest = scatter(honest)[0]
    for scale in (0.1, 1.0, 1e3):
        byzantine = scale * rng.standard_normal((trim, 20)) * rng.standard_normal((trim, 1)) + scale * rng.standard_normal(20)
        values = scatter(np.concatenate([byzantine, honest]))
        assert values[trim + 1] <= largest * (1 + 1e-9)


@pytest.mark.parametrize("offset", [0.5, 1.0, 2.0, 4.0, 8.0, 40.0, 100.0])
def test_what_is_left_of_the_bias_is_within_the_bound(offset: float) -> None:
    kappa, trim, honest = 3.0, 10, vectors(90, 300)
    byzantine = honest.mean(axis=0) + offset * np.eye(300)[0] + np.zeros((trim, 1))
    x = np.concatenate([byzantine, honest])
    weights = chain([Spectral(trim=trim, slack=kappa)], of(x))
    kept = weights > 0
    b, k = int(kept[:trim].sum()), int(kept.sum())
    mean_h = x[trim:][kept[trim:]].mean(axis=0)
    bound = np.sqrt(kappa * b * scatter(x[trim:][kept[trim:]])[0] / (k * (k - b)))
    assert np.linalg.norm(weights @ x - mean_h) <= bound + 1e-9
    assert (b == 0) == (offset > 20)  # both sides of the rule are met


@pytest.mark.parametrize("dimension", [200, 400, 2000])
def test_isotropic_honest_vectors_pass_with_a_quarter_as_budget(dimension: int) -> None:
    x = vectors(200, dimension, 1)
    spectral = Spectral(trim=50)
    assert spectral.is_quiet(x @ x.T, 50)
    assert (chain([spectral], of(x)) > 0).all()


def test_with_fewer_dimensions_than_the_budget_it_is_spent() -> None:
    assert (chain([Spectral(trim=20)], of(vectors(100, 10))) == 0).sum() == 20


def test_once_alarmed_the_filter_goes_on_to_the_lower_threshold() -> None:
    x = vectors(90, 900)
    colluders = x[10:20] + 0.75 * np.linalg.norm(x, axis=1).mean() * np.eye(900)[0]
    everyone = of(np.concatenate([colluders, x]))
    left = {low: int((chain([Spectral(trim=11, resume_slack=low)], everyone)[:10] > 0).sum()) for low in (3.0, 1.5)}
    assert not Spectral(trim=11).is_quiet(everyone.gram, 11)
    assert left[1.5] < left[3.0] < 10  # with one threshold it stops as soon as the direction no longer stands out


def test_the_lower_threshold_alone_alarms_nobody() -> None:
    x = np.concatenate([vectors(90, 900), vectors(10, 900, 5)])
    x[:10, 0] += 0.35 * np.linalg.norm(x, axis=1).mean()
    values = scatter(x)
    assert 1.5 < values[0] / values[12] < 3
    assert (chain([Spectral(trim=11)], of(x)) > 0).all()


@pytest.mark.parametrize("resume_slack", [1.0, 0.0, float("inf"), float("nan")])
def test_bad_lower_thresholds_are_refused(resume_slack: float) -> None:
    with pytest.raises(ConfigurationError, match="resume_slack must be above 1 and finite"):
        Spectral(trim=1, resume_slack=resume_slack)


def test_the_old_name_of_the_lower_threshold_works_and_says_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match="calm of Spectral is now resume_slack") as caught:
        spectral = Spectral(trim=2, calm=2.0)
    assert caught[0].filename == __file__
    assert spectral == Spectral(trim=2, resume_slack=2.0)
    assert replace(spectral, trim=3) == Spectral(3, 3.0, 2.0)
    assert "calm" not in repr(spectral)
    with pytest.warns(DeprecationWarning, match="calm of Spectral is now resume_slack"):
        assert spectral.calm == 2.0


def test_the_old_name_of_the_lower_threshold_works_in_a_configuration() -> None:
    with pytest.warns(DeprecationWarning, match="calm of Spectral is now resume_slack"):
        spectral = build("filter", FILTERS, Component.model_validate({"name": "spectral", "trim": 2, "calm": 2.0}))
    assert spectral == Spectral(trim=2, resume_slack=2.0)
    with pytest.raises(ConfigurationError, match=r"filter 'spectral': calm must be left out where resume_slack"):
        build("filter", FILTERS, Component.model_validate({"name": "spectral", "calm": 2.0, "resume_slack": 2.0}))


def test_both_names_of_the_lower_threshold_are_refused_in_one_line() -> None:
    with pytest.raises(ConfigurationError, match=r"^calm must be left out where resume_slack, .* is given, got 1\.5$"):
        Spectral(trim=1, calm=1.5, resume_slack=2.0)


@pytest.mark.parametrize("slack", [1.0, 0.0, -2.0, float("inf"), float("nan")])
def test_bad_slack_is_refused(slack: float) -> None:
    with pytest.raises(ConfigurationError, match="slack must be above 1 and finite, or None"):
        Spectral(trim=1, slack=slack)


def test_replace_takes_the_old_name() -> None:
    with pytest.warns(DeprecationWarning, match="calm of Spectral is now resume_slack"):
        assert dataclasses.replace(Spectral(trim=2), calm=1.2).resume_slack == 1.2  # type: ignore[call-arg]
