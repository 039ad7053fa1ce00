"""Ray that is started here and stopped here, and Ray that others started and that stays."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import RayGrid, run_scenario
from flwr_robustcomp.simulations.engines.ray_session import gpu_share, ray_session
from tests.simulations.kit import alive, descendants, gone, nothing_left_running, small

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("ray_dir")]

_HEAD = """
import sys, ray
context = ray.init(address="local", num_cpus=2, num_gpus=int(sys.argv[1]), include_dashboard=False, log_to_driver=False)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
ray.shutdown()
"""


def _name(pid: int) -> str:
    return Path("/proc", str(pid), "comm").read_text(encoding="utf-8").strip()


@contextmanager
def _cluster(gpus: int = 0) -> Iterator[tuple[str, set[int]]]:
    """Start a Ray cluster in a process of its own, with GPUs that are only declared; yield its address and its processes."""
    head = subprocess.Popen([sys.executable, "-c", _HEAD, str(gpus)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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


@pytest.mark.parametrize(
    ("gpus", "workers", "share"),
    [(0, 4, 0.0), (1, 1, 1.0), (1, 3, 0.3333), (2, 5, 0.3333), (2, 3, 0.5), (4, 4, 1.0), (8, 2, 1.0)],
)
def test_the_shares_of_gpus_fit(gpus: int, workers: int, share: float) -> None:
    ray = SimpleNamespace(available_resources=lambda: {"CPU": 8.0} | ({"GPU": float(gpus)} if gpus else {}))
    assert gpu_share(ray, workers) == share
    if gpus:  # Ray puts an actor on one GPU: so many go on each
        assert gpus * int(1 / share + 1e-9) >= workers


def test_every_worker_sees_a_gpu_of_the_cluster() -> None:
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        seen = ConfigRecord({"pid": os.getpid(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "unset")})
        return Message(RecordDict({"seen": seen}), reply_to=message)

    with _cluster(gpus=1) as (address, _), RayGrid(app, 3, num_workers=3, ray_address=address) as grid:
        messages = [grid.create_message(RecordDict(), "query", node, "") for node in grid.get_node_ids()]
        seen = [reply.content["seen"] for reply in grid.send_and_receive(messages, timeout=60)]
    assert len({one["pid"] for one in seen}) == 3
    assert {one["gpus"] for one in seen} == {"0"}  # Ray shows an actor that asks for none an empty list


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
