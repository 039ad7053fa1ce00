"""The attacks that change from round to round: the bounce and the slow drift."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flwr_robustcomp.compressors import Compressor, Drive, Identity, L1Sign
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import run_scenario
from flwr_robustcomp.simulations.attacks import Bounce, Drift, SlowDrift
from flwr_robustcomp.simulations.attacks.lengths import against
from tests.simulations.attacks.kit import gaussian, lengths, seen_of
from tests.simulations.kit import small

H, B, D = 20, 4, 64
compressors = pytest.mark.parametrize("compressor", [Identity(), L1Sign(), Drive()], ids=str)


@compressors
@pytest.mark.parametrize("period", [1, 3])
def test_the_bounce_turns_around_at_the_length_of_the_longest(compressor: Compressor, period: int) -> None:
    attack = Bounce(period=period)
    state, first, signs = attack.init(), None, []
    for t in range(4 * period):
        seen = seen_of(gaussian(H, D, t), B, compressor=compressor, seed=t)
        first = against(seen) if first is None else first
        rows, state = attack.craft(seen, state)
        decoded = seen.sent(rows)
        assert lengths(decoded).tolist() == pytest.approx([float(lengths(seen.honest).max())] * B)
        signs.append(float(torch.sign(decoded[0] @ first)))
    assert signs == ([1.0] * period + [-1.0] * period) * 2


def test_with_nothing_to_push_along_the_bounce_waits() -> None:
    rows, state = Bounce().craft(seen := seen_of(torch.zeros(3, D), B), None)
    assert torch.equal(rows, seen.own)
    assert state == (0, None)
    _, (rounds, u) = Bounce().craft(seen := seen_of(gaussian(H, D), B), state)
    assert rounds == 1
    assert torch.equal(u, against(seen))


@pytest.mark.parametrize("compressor", [Identity(), L1Sign()], ids=str)
def test_the_drift_grows_in_equal_steps_and_stays_there(compressor: Compressor) -> None:
    attack = SlowDrift(z=2.0, rounds=4)
    state, found, u = attack.init(), [], None
    for t in range(7):
        seen = seen_of(gaussian(H, D, t, mean=1.0), B, compressor=compressor, seed=t)
        u = against(seen) if u is None else u
        rows, state = attack.craft(seen, state)
        projections = seen.honest @ u
        found.append(float(((seen.sent(rows) @ u).mean() - projections.mean()) / projections.std(correction=0)))
        assert torch.equal(state[1], u)
    assert found == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0], abs=0.35)
    assert found[3:] == pytest.approx([2.0] * 4, abs=0.1)


def test_where_it_has_grown_it_is_the_drift() -> None:
    seen = seen_of(gaussian(H, D), B)
    assert torch.equal(SlowDrift(z=1.5, rounds=1).craft(seen, None)[0], Drift(z=1.5).craft(seen, None)[0])
    zero = seen_of(torch.zeros(3, D), B)
    assert SlowDrift().craft(zero, None)[1] == (0, None)


@pytest.mark.parametrize("attack", ["bounce", "slow-drift"])
def test_with_error_feedback_a_run_under_it_is_the_same_again(attack: str) -> None:
    scenario = small(attack=attack, compressor="drive", error_feedback=True, rounds=6)
    records = run_scenario(scenario)
    assert records == run_scenario(scenario)
    assert records[-1]["error"] != run_scenario(scenario.varied(byzantine=0))[-1]["error"]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Bounce(period=0), "period must be at least 1, got 0"),
        (lambda: SlowDrift(z=0.0), "z must be positive and finite, got 0.0"),
        (lambda: SlowDrift(rounds=0), "rounds must be at least 1, got 0"),
    ],
)
def test_bad_options_raise_at_construction(make: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()
