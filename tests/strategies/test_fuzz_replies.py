"""A slice of `make fuzz-replies`: whole replies that no honest client sent, against every strategy."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_replies import HONEST, HOSTILE, Arena
from benchmarks.fuzz_subjects import SUBJECTS
from benchmarks.reply_mutations import MUTATIONS

steps = st.tuples(st.sampled_from([*MUTATIONS, "repeat", "vector", "collude"]), st.integers(0, 2**32 - 1))
rounds = st.lists(st.lists(steps, max_size=5), min_size=HOSTILE, max_size=HOSTILE)

arena_of = functools.cache(Arena)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, from Flower's strategies on large numbers
@pytest.mark.parametrize("name", SUBJECTS)
def test_no_reply_stops_a_round_or_changes_what_honest_ones_do(name: str) -> None:
    arena = arena_of(name)

    @settings(max_examples=25)
    @given(rounds)
    def play(round_: list[list[tuple[str, int]]]) -> None:
        assert arena.play(round_) is None

    play()


def test_the_checks_can_fail() -> None:
    arena = Arena("NormThreshold, L1Sign")
    honest: list[list[tuple[str, int]]] = [[]] * HOSTILE
    assert arena.play(honest, measured=True) is None
    arena._subject = replace(arena._subject, promise=0.1)
    assert "honest lengths, promised 0.1" in str(arena.play(honest))
    arena._subject = replace(arena._subject, promise=None)
    stop = arena.strategy.aggregate_train
    arena.strategy.aggregate_train = lambda *_: 1 / 0
    assert arena.play(honest) == "raised ZeroDivisionError: division by zero"
    arena.strategy.aggregate_train = stop
    spoilt = arena.honest[0].content.array_records["arrays"]
    next(iter(spoilt.values())).data = b""
    assert "did not accept 1 honest replies" in str(arena.play(honest))


def test_the_hostile_are_fewer_than_half() -> None:
    assert 2 * HOSTILE < HONEST + HOSTILE
