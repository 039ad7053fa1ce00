"""Filters that drop now one node and now another trim honest minorities; colluders are dropped again and again."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.strategies.nodes.drop_watch import DropWatch, _at_least

NODES = frozenset(range(20))
seeds = pytest.mark.parametrize("seed", range(5))


def _rotating(watch: DropWatch, seed: int, rounds: int = 40, count: int = 3, asked: int = 20) -> list[int]:
    """Return the rounds with a warning, where a lot drops nodes."""
    rng = np.random.default_rng(seed)
    told = []
    for t in range(rounds):
        there = {int(node) for node in rng.choice(20 if asked == 20 else 10 * asked, asked, replace=False)}
        out = {int(node) for node in rng.choice(sorted(there), count, replace=False)}
        if watch.judge(there - out, out):
            told.append(t)
    return told


@seeds
@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_rotating_minority_is_told_of_once(seed: int, count: int) -> None:
    told = _rotating(DropWatch(), seed, count=count)
    assert len(told) == 1
    assert told[0] >= 9


@seeds
@pytest.mark.parametrize("colluders", [1, 3, 8])
def test_colluders_who_persist_raise_no_warning_with_honest_nodes_among_the_dropped(seed: int, colluders: int) -> None:
    rng, watch = np.random.default_rng(seed), DropWatch()
    for _ in range(40):
        out = frozenset(range(colluders)) | {int(node) for node in rng.choice(range(colluders, 20), 1)}
        assert watch.judge(NODES - out, out) is None


@pytest.mark.parametrize("period", [2, 3])
def test_rounds_without_drops_raise_none(period: int) -> None:
    watch = DropWatch()
    for t in range(40):
        out = frozenset({t % 20}) if t % period == 0 else frozenset()
        assert watch.judge(NODES - out, out) is None


@seeds
def test_nodes_that_take_part_too_rarely_to_stand_out_prove_nothing(seed: int) -> None:
    assert _rotating(DropWatch(), seed, asked=10, count=3) == []


def test_the_warning_says_what_to_change() -> None:
    watch = DropWatch()
    *_, warning = (watch.judge(NODES - {t}, {t}) for t in range(10))
    assert warning is not None
    assert "in 10 of the last 10 rounds" in warning
    for advice in ("norm-clipping+directions+spectral", "larger slack", "smaller trim"):
        assert advice in warning


@pytest.mark.parametrize("stop", [4, 9, 10, 20])
def test_a_watch_goes_on_where_a_checkpoint_left_it(stop: int) -> None:
    def watched(resume: bool) -> list[str | None]:
        watch, found = DropWatch(), []
        for t in range(30):
            if resume and t == stop:
                watch = DropWatch.restored(watch.state())
            found.append(watch.judge(NODES - {t % 20}, {t % 20}))
        return found

    assert watched(True) == watched(False)
    assert sum(one is not None for one in watched(True)) == 1


def test_older_checkpoints_hold_none_and_garbled_ones_are_refused() -> None:
    assert list(DropWatch.restored(None).rounds) == []
    garbled: list[Any] = ["", "3", "[]", "{}", json.dumps({"told": True, "rounds": [[[1], ["a"]]]}), [1]]
    for state in garbled:
        with pytest.raises(ConfigurationError, match="the last drops must be as a checkpoint keeps them"):
            DropWatch.restored(state)


def test_the_tail_of_a_binomial() -> None:
    rng = np.random.default_rng(0)
    draws = rng.binomial(10, 0.25, 200_000)
    for k in (1, 4, 7):
        assert _at_least(k, 10, 0.25) == pytest.approx((draws >= k).mean(), abs=5e-3)
    assert math.isclose(_at_least(0, 10, 0.25), 1.0)
    assert math.isclose(_at_least(10, 10, 0.25), 0.25**10)
