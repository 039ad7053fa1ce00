"""Ray that is started here and stopped here, and Ray that others started and that stays."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import RayGrid, run_scenario
from flwr_robustcomp.simulations.ray_session import ray_session
from tests.simulations.kit import alive, descendants, gone, nothing_left_running, small

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("ray_dir")]

_HEAD = """
import sys, ray
context = ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
ray.shutdown()
"""


def _name(pid: int) -> str:
    return Path("/proc", str(pid), "comm").read_text(encoding="utf-8").strip()


@contextmanager
def _cluster() -> Iterator[tuple[str, set[int]]]:
    """Start a Ray cluster in a process of its own; yield its address and its processes."""
    head = subprocess.Popen([sys.executable, "-c", _HEAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert head.stdin is not None
    assert head.stdout is not None
    with head:
        address = head.stdout.readline().strip()
        # Idle workers come and go as Ray sees fit; these stay.
        everything = descendants(head.pid)
        processes = {pid for pid in everything if _name(pid) in ("raylet", "gcs_server")}
        assert len(processes) == 2
        yield address, processes
        head.stdin.close()
        assert head.wait(30) == 0
    assert not gone(everything)


def test_ray_is_stopped_with_the_run() -> None:
    scenario = small()
    with nothing_left_running():
        records = run_scenario(scenario, engine="ray", num_workers=2)
    assert records == run_scenario(scenario)


def test_an_existing_cluster_is_joined_and_left_running() -> None:
    scenario = small()
    with _cluster() as (address, processes):
        before = descendants()
        records = run_scenario(scenario, engine="ray", num_workers=2, ray_address=address)
        assert records == run_scenario(scenario)
        assert alive(processes) == processes
        with ray_session(address) as ray:
            assert ray.is_initialized()
            assert ray.cluster_resources()["CPU"] == 2
        assert alive(processes) == processes
        assert not gone(descendants() - before)


def _closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_an_address_where_nothing_answers_is_a_configuration_error(prefix: str) -> None:
    address = f"{prefix}127.0.0.1:{_closed_port()}"
    with nothing_left_running(), pytest.raises(ConfigurationError, match="ray_address must name a running") as caught:
        RayGrid("tests.simulations.user_app:client_app", 2, ray_address=address)
    assert address in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rays_own_refusal_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def init(**options: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nPlease specify the one to connect to.")

    # Not Ray itself: "auto" looks through the whole machine, and would join whatever somebody else runs there.
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ConfigurationError) as caught, ray_session("auto"):
        pass
    assert str(caught.value) == (
        "ray_address must name a running Ray cluster, got 'auto': Could not find any running Ray instance."
    )


@pytest.mark.parametrize("address", ["nonsense", ":6379", "host:", "host:port", "127.0.0.1:99999999"])
def test_an_address_that_is_none_is_a_configuration_error(address: str) -> None:
    with pytest.raises(ConfigurationError, match=f"ray_address must .*{address}"):
        RayGrid("tests.simulations.user_app:client_app", 2, ray_address=address)
