"""A replica in many pickled contexts is one replica."""

from __future__ import annotations

import gc
import pickle

import torch
from flwr.app import Array, ArrayRecord, RecordDict

from flwr_robustcomp import wire
from flwr_robustcomp.clients.incoming import ARRAYS
from flwr_robustcomp.flower import private_copy
from flwr_robustcomp.simulations import Scenario
from flwr_robustcomp.simulations.engines.parcel import seal, unseal
from flwr_robustcomp.wire import shared
from flwr_robustcomp.wire.shared import SharedArray, shared_arrays
from tests.simulations.engines.test_batch import WIDE, play_packed


def test_pickled_contexts_share_their_replica() -> None:
    states = play_packed(Scenario.parse({**WIDE, "downlink": "replica"}), batched=True).contexts[:2]
    parcels = [pickle.dumps(state) for state in states]
    del states
    one, other = (pickle.loads(parcel) for parcel in parcels)
    for name, array in one[ARRAYS].items():
        assert isinstance(array, SharedArray) and array is other[ARRAYS][name]
    again = unseal(seal({7: one}))[7][ARRAYS]
    assert all(again[name] is array for name, array in one[ARRAYS].items())


def test_what_a_node_gets_is_its_own() -> None:
    kept = shared_arrays({"w": torch.arange(3.0)})
    own = private_copy(RecordDict({"arrays": kept})).array_records["arrays"]["w"]
    assert type(own) is Array and own.data is kept["w"].data
    own.data = b""
    assert torch.equal(wire.from_arrays(kept)["w"], torch.arange(3.0))


def test_other_content_is_another_array_and_nothing_is_kept_alive() -> None:
    first = shared_arrays({"w": torch.ones(3), "b": torch.ones(3, dtype=torch.float64)})
    assert isinstance(first, ArrayRecord) and first["w"] is not first["b"]
    assert shared_arrays({"v": torch.ones(3)})["v"] is first["w"]
    assert shared_arrays({"v": torch.ones(3, 1)})["v"] is not first["w"]
    del first
    gc.collect()
    left = {array.data for array in shared._KNOWN.values()}
    assert wire.to_arrays({"w": torch.ones(3)})["w"].data not in left
