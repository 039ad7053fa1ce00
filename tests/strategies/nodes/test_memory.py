"""A memory is the fading mean that its docstring writes down, bounded in nodes, and back from a checkpoint as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.strategies.nodes import memory
from flwr_robustcomp.strategies.nodes.memory import Memory

Sketches = dict[int, npt.NDArray[np.float64]]


def _rounds(seed: int, rounds: int, nodes: int = 6, k: int = 4) -> list[Sketches]:
    """Return who took part with what, some nodes absent in each round."""
    rng = np.random.default_rng(seed)
    return [{node: rng.standard_normal(k) for node in range(nodes) if rng.random() < 0.6} for _ in range(rounds)]


def _after(rounds: list[Sketches], keep: float = 0.5) -> Memory:
    kept = Memory(keep)
    for sketches in rounds:
        kept = kept.after(sketches)
    return kept


@given(seed=st.integers(0, 500), count=st.integers(1, 6), keep=st.sampled_from([0.3, 0.5, 0.9]))
def test_a_history_is_the_fading_mean_of_what_the_node_sent(seed: int, count: int, keep: float) -> None:
    rounds = _rounds(seed, count)
    kept = _after(rounds, keep)
    rows = {}
    for node in {node for sketches in rounds for node in sketches}:
        share = [keep**age for age, sketches in enumerate(reversed(rounds)) if node in sketches]
        sent = [sketches[node] for sketches in reversed(rounds) if node in sketches]
        if sum(share) >= 0.01:
            rows[node] = sum(w * x for w, x in zip(share, sent, strict=True)) / sum(share)
    assert rows.keys() == kept.sums.keys() == kept.weights.keys()
    x = np.stack(list(rows.values())) if rows else np.zeros((0, 4))
    if rows:
        gram = kept.gram(list(rows))
        np.testing.assert_allclose(gram, x @ x.T, atol=1e-12)
        assert np.array_equal(gram, gram.T)


def test_a_round_changes_no_memory_that_somebody_holds() -> None:
    first = Memory(0.5).after({1: np.ones(2)})
    first.after({1: np.ones(2)})
    assert first.sums[1].tolist() == [1.0, 1.0] and first.weights[1] == 1.0
    with pytest.raises(TypeError):
        first.sums[2] = np.ones(2)  # type: ignore[index]


def test_who_stays_away_long_enough_is_forgotten() -> None:
    kept, rounds = Memory(0.9).after({1: np.ones(2), 2: np.ones(2)}), 0
    while 1 in kept.sums:
        kept, rounds = kept.after({2: np.ones(2)}), rounds + 1
    assert rounds == 44
    assert kept.after({1: np.full(2, 3.0)}).gram([1]).tolist() == [[18.0]]  # as one that was never there


def test_no_more_nodes_are_remembered_than_the_bound_or_the_round_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_NODES", 4)
    kept = _after([{1: np.ones(2), 2: np.ones(2)}, {3: np.ones(2)}, {1: np.ones(2)}, {4: np.ones(2), 5: np.ones(2)}])
    assert set(kept.sums) == {3, 1, 4, 5}, "node 2 was absent longest"
    assert set(kept.after({node: np.ones(2) for node in range(10, 16)}).sums) == set(range(10, 16))


def test_sums_of_another_model_are_forgotten() -> None:
    kept = Memory(0.5).after({1: np.ones(2), 2: np.ones(2)}).after({1: np.ones(3)})
    assert list(kept.sums) == [1] and kept.gram([1]).tolist() == [[3.0]]


@given(seed=st.integers(0, 200))
def test_a_checkpoint_gives_it_back_bit_for_bit(seed: int) -> None:
    rounds = _rounds(seed, 5)
    kept = _after(rounds, 0.9)
    back = Memory(0.9).restored(kept.state(), 4)
    assert list(back.weights.items()) == list(kept.weights.items())  # in one order
    later = _rounds(seed + 1, 3)
    for sketches in later:
        kept, back = kept.after(sketches), back.after(sketches)
    nodes = list(kept.sums)
    assert nodes == list(back.sums)
    assert not nodes or np.array_equal(kept.gram(nodes), back.gram(nodes))


WHOLE = torch.tensor([1.5, 1.0, 2.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("state", "named"),
    [
        ({"x": WHOLE}, "a node that is remembered must be an integer"),
        ({"-1": WHOLE}, "a node that is remembered must be an integer"),
        ({"07": WHOLE}, "a node that is remembered must be an integer"),
        ({str(2**64): WHOLE}, "a node that is remembered must be an integer"),
        ({"9" * 5000: WHOLE}, "a node that is remembered must be an integer"),
        ({"7": WHOLE.float()}, "what is remembered of node 7 must be torch.float64"),
        ({"7": WHOLE[:2]}, r"what is remembered of node 7 must be torch.float64 \(3,\), got 'torch.float64 \(2,\)'"),
        ({"7": WHOLE[None]}, "what is remembered of node 7 must be"),
        ({"7": WHOLE * torch.nan}, "what is remembered of node 7 must be finite"),
        ({"7": -WHOLE}, "the weight of node 7 must be in"),
        ({"7": 2 * WHOLE}, r"the weight of node 7 must be in \(0, 2\], got 3.0"),
    ],
)
def test_what_no_memory_has_is_refused(state: dict[str, Any], named: str) -> None:
    assert len(Memory(0.5).restored({"7": WHOLE}, 2)) == 1
    with pytest.raises(ConfigurationError, match=named) as caught:
        Memory(0.5).restored(state, 2)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200


def test_without_a_model_lengths_must_agree() -> None:
    with pytest.raises(ConfigurationError, match="what is remembered of node 8"):
        Memory(0.5).restored({"7": WHOLE, "8": WHOLE[:2]})


@pytest.mark.parametrize("keep", [0.0, 1.0, -0.5, float("nan")])
def test_what_is_kept_is_a_share(keep: float) -> None:
    with pytest.raises(ConfigurationError, match=r"memory must be in \(0, 1\)"):
        Memory(keep)
