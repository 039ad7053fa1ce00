"""The robust quickstart deployed to six nodes: two are Byzantine, one is killed in the second round, one starts then."""

from __future__ import annotations

import ast
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deployment.deployment import Deployment, Node, wait_for
from tests.deployment.relay import Traffic
from tests.quickstart import ROBUST

__all__ = ["PACKED", "ROLES", "ROUNDS", "Outcome", "play"]

ROLES = {"first": "honest", "second": "honest", "doomed": "honest", "poison": "poison", "garbage": "garbage", "late": "honest"}
"""Every SuperNode's role, in the order of their partition ids; the first one's traffic is counted."""

ROUNDS = 4

COORDINATES = 64 * 256 + 256 + 256 * 10 + 10
"""d of the quickstart's model."""

PACKED = 8 + -(-COORDINATES // 8)
"""Bytes of a reply's packed Array: the scale, then a bit a coordinate."""


@dataclass(frozen=True)
class Outcome:
    """What is left of a deployment.

    Attributes
    ----------
    status : str
        Of the run, as ``flwr ls`` says it.
    log : str
        The ServerApp's.
    ids : dict of str to int
        Node ids by name.
    traffic : Traffic
        Of the first node.
    late_log : str
        The late SuperNode's.
    stranger : int
        Exit status of a SuperNode whose key nobody registered.
    """

    status: str
    log: str
    ids: dict[str, int]
    traffic: Traffic
    late_log: str
    stranger: int

    @property
    def accounts(self) -> dict[int, dict[str, Any]]:
        """The metrics of every round."""
        found = re.findall(r"\[ROUND (\d+)/\d+\].*?Aggregated MetricRecord: (\{.*?\})$", self.log, re.DOTALL | re.MULTILINE)
        return {int(round_): ast.literal_eval(metrics) for round_, metrics in found}


PAPERS = {
    'robustcomp.compressor = "drive"': 'robustcomp.compressor = { name = "l1-sign", plus_zero = true }\n'
    "robustcomp.error-feedback = false",
    "robustcomp.strategy.trim = 0.2": 'robustcomp.strategy = { name = "norm-threshold", trim = 1 }',
}
"""What the deployment runs in the place of the example's defaults: the paper's Algorithm 2."""


def play(folder: Path) -> Outcome:
    """Play it on free ports of the loopback interface, in an empty folder; two minutes, of which Flower waits one."""
    app = _app(folder / "app")
    with Deployment(folder / "deployment") as deployment, deployment.relay() as relay:
        ids = deployment.register(*ROLES)
        deployment.make_key("stranger")
        ports = {"first": relay.port}
        nodes = {name: _start(deployment, name, ports.get(name)) for name in ROLES if name != "late"}
        stranger = deployment.supernode("stranger", _node_config("first"))
        wait_for(lambda: all(node.connected for node in nodes.values()), "the SuperNodes")
        run = deployment.run(app, {"num-server-rounds": ROUNDS, "fraction-evaluate": 0.0, "min-nodes": 4})
        wait_for(lambda: run.reached(rf"\[ROUND 2/{ROUNDS}\]"), "the second round")
        nodes["doomed"].kill()
        late = _start(deployment, "late")
        run.process.wait(timeout=420)
        stranger.process.wait(timeout=60)
        status = deployment.status()
    return Outcome(status, run.log, ids, relay.traffic, late.log, stranger.process.poll() or 0)


def _app(folder: Path) -> Path:
    """Copy the example; what its nodes do is changed by their role alone."""
    shutil.copytree(ROBUST, folder)
    shutil.copy(Path(__file__).with_name("hostile.py"), folder / "quickstart")
    project = folder / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    text = text.replace("quickstart.client_app:app", "quickstart.hostile:app")
    # Two of five nodes lie, which the paper's threshold withstands and the default filters need seven nodes for.
    for ours, papers in PAPERS.items():
        text = text.replace(ours, papers)
    project.write_text(text, encoding="utf-8")
    return folder


def _start(deployment: Deployment, name: str, port: int | None = None) -> Node:
    return deployment.supernode(name, _node_config(name), port=port)


def _node_config(name: str) -> dict[str, str | int | float | bool]:
    return {"partition-id": list(ROLES).index(name), "num-partitions": len(ROLES), "role": ROLES[name]}
