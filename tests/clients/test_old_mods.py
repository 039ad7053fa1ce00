"""Every mod that reads or writes a model knows the old API by itself."""

from __future__ import annotations

from typing import Any

import pytest

from flwr_robustcomp import configured_mod
from flwr_robustcomp.clients import ClientMomentum, CompressionMod, SignFlip
from flwr_robustcomp.compressors import Drive, L1Sign
from flwr_robustcomp.errors import ConfigurationError
from tests.apps import node
from tests.clients.test_old_clients import Trains, arrays_of, data, fit, new_request, old_request, steps
from tests.old_apps import client_app

TABLE = {"robustcomp.compressor": "l1-sign", "robustcomp.strategy.name": "norm-threshold"}


def reply(mods: list[Any], **run_config: Any) -> list[tuple[str, bytes]]:
    return data(arrays_of(client_app(mods, lambda _: Trains(steps))(old_request(round_=3), node(**run_config))))


@pytest.mark.parametrize("mod", [CompressionMod(Drive()), ClientMomentum(0.5), SignFlip()], ids=lambda mod: type(mod).__name__)
def test_by_itself(mod: Any) -> None:
    assert reply([mod]) == data(arrays_of(fit([mod], old_request(round_=3))))


def test_from_the_table() -> None:
    assert reply([configured_mod], **TABLE) == reply([CompressionMod(L1Sign())])


def test_an_old_client_under_a_new_server_is_explained() -> None:
    with pytest.raises(ConfigurationError, match="list old_client last"):
        client_app([CompressionMod(L1Sign())], lambda _: Trains(steps))(new_request(), node())
