"""Arrays lie end to end in the model's order; what must not be compressed stands aside."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.layout import Layout, shared_layout


def _model() -> dict[str, Any]:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Linear(4, 3))
    return dict(model.state_dict())


def test_places_tile_the_vector_in_the_models_order() -> None:
    layout = Layout.of(_model())
    assert [s.name for s in layout.compressed] == ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]
    assert [s.start for s in layout.compressed[1:]] == [s.stop for s in layout.compressed[:-1]]
    assert layout.dim == 18 + 2 + 2 + 2 + 12 + 3
    assert [s.name for s in layout.uncompressed] == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]


def test_everything_floating_can_be_compressed_on_request() -> None:
    assert [s.name for s in Layout.of(_model(), uncompressed=()).uncompressed] == ["1.num_batches_tracked"]


def test_flatten_split_and_join_are_inverse() -> None:
    model = _model()
    layout = Layout.of(model)
    joined = layout.join(layout.flatten(model), {s.name: model[s.name] for s in layout.uncompressed})
    assert list(joined) == list(model)
    assert all(torch.equal(joined[name], model[name]) and joined[name].dtype == model[name].dtype for name in model)


def test_flatten_never_shares_memory() -> None:
    for model in ({"w": torch.ones(4)}, {"w": torch.ones(4), "b": torch.ones(1)}):
        Layout.of(model).flatten(model).zero_()
        assert bool((model["w"] == 1).all())


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        (torch.float16, torch.float16, torch.float16),
        (torch.bfloat16, torch.float16, torch.float32),
        (torch.float32, torch.bfloat16, torch.float32),
        (torch.float32, torch.float64, torch.float64),
    ],
)
def test_mixed_dtypes(first: torch.dtype, second: torch.dtype, whole: torch.dtype) -> None:
    model = {"a": torch.ones(3, dtype=first), "b": torch.ones(2, dtype=second)}
    layout = Layout.of(model)
    assert layout.dtype == whole and [slot.dtype for slot in layout.compressed] == [first, second]
    assert {name: t.dtype for name, t in layout.split(layout.flatten(model)).items()} == {"a": first, "b": second}


def test_empty_and_scalar_arrays() -> None:
    layout = Layout.of({"none": torch.ones(0), "one": torch.tensor(2.0)})
    assert [s.name for s in layout.uncompressed] == ["none"] and layout.dim == 1


def test_a_model_must_leave_something_to_compress() -> None:
    with pytest.raises(ConfigurationError, match="no floating array to compress among"):
        Layout.of({"count": torch.tensor(3)})
    with pytest.raises(ConfigurationError, match="dtype of array 'z' must be real"):
        Layout.of({"z": torch.ones(2, dtype=torch.complex64)})


def test_shared_layout_is_made_anew_for_arrays_of_another_form() -> None:
    model = {"w": torch.ones(4)}
    first = shared_layout(model, ())
    assert shared_layout(model, ()) is first and shared_layout({"w": torch.zeros(4)}, ()) is first
    assert shared_layout({"w": torch.ones(5)}, ()).dim == 5
    assert shared_layout({"w": torch.ones(4).double()}, ()).dtype == torch.float64
    model["x"] = torch.ones(1)
    assert shared_layout(model, ()).dim == 5 and shared_layout(model, ("x",)).dim == 4
