"""What a downlink may be, and what is said where it may not."""

from __future__ import annotations

from typing import Any

import pytest

from flwr_robustcomp.component import Component, build
from flwr_robustcomp.compressors import QSGD, Drive, Eden, LowRank, RotatedQuantizer, TopK
from flwr_robustcomp.downlink import DOWNLINKS, Downlink
from flwr_robustcomp.errors import ConfigurationError


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"replica": None, "model": None}, "downlink must be one of the two at least, got 'neither replica nor model'"),
        ({"replica": QSGD()}, "downlink.replica must be a compressor that draws nothing, or from the round's shared seed"),
        ({"replica": (Drive(), LowRank(2))}, "downlink.replica must be a compressor that unpacks to the same bits"),
        ({"model": RotatedQuantizer()}, "downlink.model must be a compressor that draws nothing"),
        ({"model": TopK(ratio=0.1)}, "downlink.model must be a compressor whose size follows from the shape alone"),
        ({"keep": 0}, "downlink.keep must be an integer from 1, or None, got 0"),
        ({"keep": True}, "downlink.keep must be an integer from 1, or None, got True"),
        ({"lag": 0.0}, "downlink.lag must be positive and finite, got 0.0"),
        ({"lag": float("nan")}, "downlink.lag must be positive and finite, got nan"),
        ({"resends": -1}, "downlink.resends must be an integer from 0, got -1"),
        ({"replica": (Drive(), Eden(bits=4)), "model": Eden(bits=2)}, "downlink.replica must be smaller than the whole model"),
        ({"replica": "drive"}, "downlink.replica must be a Compressor"),
    ],
)
def test_what_cannot_work_is_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Downlink(**given)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        ({"name": "replica", "bits": 2, "model_bits": 4}, Downlink((Eden(bits=2),), Eden(bits=4))),
        ({"name": "replica", "bits": 1, "model_bits": 0, "keep": 3}, Downlink(Drive(), None, keep=3)),
        ({"name": "replica", "model_bits": 1}, Downlink(Drive(), Drive())),
        ({"name": "quantised", "bits": 4}, Downlink(None, Eden(bits=4))),
        ({"name": "dense"}, None),
    ],
)
def test_tables_name_it(table: dict[str, Any], wanted: Downlink | None) -> None:
    assert build("downlink", DOWNLINKS, Component(**table)) == wanted


def test_a_table_without_numbers_is_the_default() -> None:
    assert build("downlink", DOWNLINKS, Component(name="replica")) == Downlink()


@pytest.mark.parametrize(
    ("table", "field"), [({"name": "replica", "bits": 9}, "bits"), ({"name": "quantised", "bits": 0}, "bits")]
)
def test_numbers_of_tables_are_checked(table: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError, match=f"downlink.{field} must be an integer"):
        build("downlink", DOWNLINKS, Component(**table))
