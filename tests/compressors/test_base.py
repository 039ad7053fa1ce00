"""What a compressor of a user's own is asked for when its class is defined."""

from __future__ import annotations

import pytest

from flwr_robustcomp.compressors import L1Sign
from flwr_robustcomp.errors import ConfigurationError


@pytest.mark.parametrize("name", ["_encode", "_decode", "_encode_array"])
def test_a_class_with_an_old_method_is_refused_with_the_new_names(name: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"methods of Mine must be named encode, decode and encode_array, got '{name}'"
    ):
        type("Mine", (L1Sign,), {name: lambda *_: None})
