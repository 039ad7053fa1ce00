"""What every test runs under: no telemetry, no network, a home of its own, one thread."""

from __future__ import annotations

import gc
import os
import tempfile

# Before flwr is imported, which reads them.
os.environ.update(
    {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
)
_home = tempfile.TemporaryDirectory(prefix="flwr-home-")
os.environ["FLWR_HOME"] = _home.name

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from flwr_robustcomp.flower import assume_identity  # noqa: E402

torch.set_num_threads(1)
settings.register_profile(
    "tests",
    deadline=None,
    derandomize=True,
    max_examples=40,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _identity() -> None:
    """Messages may be made in every test, as inside Flower's runners."""
    assume_identity(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start processes stay with one worker, one after the other; the rest spreads over the others."""
    for item in items:
        if item.get_closest_marker("processes"):
            item.add_marker(pytest.mark.xdist_group("processes"))


def pytest_collection_finish() -> None:
    """Keep what was collected out of the garbage collector's way: Bulyan and q-FedAvg of Flower call it for every reply."""
    gc.collect()
    gc.freeze()
