"""The replica: both sides hold the same bits, and it follows the model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flwr_robustcomp.compressors import Compressor, Drive, Eden, L1Sign, TopK
from flwr_robustcomp.downlink.records import Header, Held, change_record, part_of, read_changes
from flwr_robustcomp.downlink.replica import Added, Replaced, Replica, change_to
from flwr_robustcomp.errors import WireError
from flwr_robustcomp.randomness import generator

ASIDE = ("*running_mean",)
QUANTISER = Eden(bits=8)
RUNGS: list[Compressor] = [Drive(), Eden(bits=2), Eden(bits=4), L1Sign(), TopK(ratio=0.1)]


def _model(seed: int, scale: float = 1.0) -> dict[str, Tensor]:
    """Return arrays of every kind that a model can have."""
    rng = generator(seed, "model")

    def draw(*shape: int) -> Tensor:
        return torch.from_numpy(np.asarray(scale * rng.standard_normal(shape)))

    return {
        "conv.weight": draw(6, 3, 5, 5).float(),
        "conv.bias": draw(6).float(),
        "bn.running_mean": draw(6).float(),
        "bn.count": torch.tensor(seed),
        "half": draw(70, 3).half(),
        "brain": draw(90).bfloat16(),
        "double": draw(300).double(),
        "scalar": draw().float(),
        "empty": torch.zeros(0, 3),
        "mask": draw(5) > 0,
    }


def _sent(change: dict[str, Added | Replaced], base: Held, target: Held, replica: Replica) -> Replica:
    """Return what a node makes of a change, through the bytes that travel."""
    record = change_record(change, target.version)
    header = Header.read(Header.between("arrays", base, target).record())
    (arrays,) = read_changes(record, header)
    return replica.after({name: part_of(array, name, replica) for name, array in arrays.items()})


@given(st.integers(0, 2**32), st.lists(st.sampled_from(RUNGS), min_size=1, max_size=6))
def test_a_node_holds_the_servers_bits(seed: int, rungs: list[Compressor]) -> None:
    server = node = Replica.empty()
    held = Held()
    for round_, rung in enumerate([QUANTISER, *rungs], start=1):
        change = change_to(_model(seed + round_), server, rung.for_round(round_), ASIDE)
        server = server.after(change)
        target = Held(version=round_, digest=server.digest)
        node, held = _sent(change, held, target, node), target
        assert node.digest == server.digest
        for name, array in server.arrays.items():
            assert torch.equal(array, node.arrays[name]), name
    assert [(t.dtype, t.shape) for t in node.model().values()] == [(t.dtype, t.shape) for t in _model(0).values()]


@pytest.mark.parametrize("rung", [Drive(), Eden(bits=2), Eden(bits=4)], ids=str)
def test_it_follows_a_model_that_stands_still(rung: Compressor) -> None:
    model, replica, lags = _model(3), Replica.empty(), []
    for version in range(1, 12):
        replica = replica.after(change_to(model, replica, rung.for_round(version), ASIDE))
        gaps = [model[n].double() - replica.arrays[n].double() for n in ("conv.weight", "double")]
        lags.append(math.sqrt(sum(float(gap.square().sum()) for gap in gaps)))
    assert lags[-1] < 0.05 * lags[0]
    assert torch.equal(replica.arrays["bn.running_mean"], model["bn.running_mean"]), "what is replaced is exact"


def test_what_is_the_same_is_not_sent() -> None:
    model = _model(1)
    replica = Replica.of(1, model)
    assert change_to(model, replica, Drive(), ASIDE) == {}
    moved = {**model, "conv.weight": model["conv.weight"] + 1}
    assert [*change_to(moved, replica, Drive(), ASIDE)] == ["conv.weight"]


def test_what_cannot_be_packed_replaces() -> None:
    model = _model(1)
    replica = Replica.of(1, model)
    broken = {**model, "conv.weight": model["conv.weight"] * math.inf}
    change = change_to(broken, replica, Drive(), ASIDE)
    assert isinstance(change["conv.weight"], Replaced)
    huge = {**model, "double": torch.full((300,), 1.7e308, dtype=torch.float64)}
    opposite = replica.after({"double": Replaced(-huge["double"])})
    assert isinstance(change_to(huge, opposite, Drive(), ASIDE)["double"], Replaced), "the difference overflows"


@pytest.mark.parametrize("what", ["name", "shape", "dtype"])
def test_a_change_of_another_model_is_refused(what: str) -> None:
    replica = Replica.of(1, {"w": torch.zeros(64)})
    tensor = torch.zeros(65) if what == "shape" else torch.zeros(64, dtype=torch.float64 if what == "dtype" else torch.float32)
    with pytest.raises(WireError, match="array 'v'" if what == "name" else "array 'w' must be"):
        replica.after({"v" if what == "name" else "w": Replaced(tensor)})


def test_the_digest_is_of_content_and_version() -> None:
    one, other = Replica.of(1, {"w": torch.zeros(64)}), Replica.of(1, {"w": torch.full((64,), 1e-40)})
    renamed, half = Replica.of(1, {"v": torch.zeros(64)}), Replica.of(1, {"w": torch.zeros(64).half()})
    assert len({one.digest, other.digest, renamed.digest, half.digest, Replica.of(2, one.arrays).digest}) == 5


def test_the_digest_is_what_it_was() -> None:
    """Nodes keep replicas over releases: a digest that changes makes all of them ask anew."""
    values = torch.from_numpy(np.arange(64, dtype=np.float32) / 8 - 4).reshape(8, 8)
    assert Replica.of(3, {"w": values, "n": torch.tensor(7)}).digest == "e6b5413f4a204303"
