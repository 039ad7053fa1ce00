"""The robust quickstart with a compressed downlink on six nodes: one restarted, one asleep, one that lies, one killed."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.deployment.deployment import Deployment, Node, Run, wait_for
from tests.deployment.relay import Relay, Traffic
from tests.quickstart import ROBUST

__all__ = ["COORDINATES", "ROUNDS", "Played", "Stories", "app_folder", "play"]

NAMES = ("first", "second", "restarted", "sleeper", "liar", "doomed")
"""Every SuperNode, in the order of their partition ids; each has a relay of its own before the SuperLink."""

ROUNDS = 14

WIDTH = 2048

COORDINATES = 64 * WIDTH + WIDTH + WIDTH * 10 + 10
"""d of the app's model, the quickstart's with a wider hidden layer: packed Arrays are larger than what stands around them."""

RESTART, KILL = 3, 5
"""Rounds in which one SuperNode is stopped and started anew, and in whose evaluation one dies and one falls asleep."""

ASLEEP = 6
"""Rounds that the sleeper misses, at least."""

LEAST = 10_000
"""The body of an answer to ``pull-object`` in whose middle the doomed node dies: a packed Array."""


@dataclass(frozen=True)
class Played:
    """One run.

    Attributes
    ----------
    status : str
        As ``flwr ls`` says it.
    log : str
        The ServerApp's.
    """

    status: str
    log: str

    def accounts(self, phase: str = "train") -> dict[int, dict[str, Any]]:
        """Return the metrics of every round, of training or of evaluation."""
        found = {}
        for round_, text in re.findall(r"\[ROUND (\d+)/\d+\](.*?)(?=\[ROUND|\Z)", self.log, re.DOTALL):
            metrics = re.search(rf"configure_{phase}: .*?Aggregated MetricRecord: (\{{.*?\}})$", text, re.DOTALL | re.MULTILINE)
            if metrics:
                found[int(round_)] = ast.literal_eval(metrics[1])
        return found

    @property
    def accuracy(self) -> float:
        """After the last round."""
        (found,) = re.findall(r"accuracy after the last round: ([\d.]+)", self.log)
        return float(found)

    def sent_in(self, phase: str) -> int:
        """Bytes that the strategy says it sent in training or in evaluation."""
        key = {"train": "robustcomp.bytes-sent", "evaluate": "robustcomp.evaluation-bytes-sent"}[phase]
        return sum(account[key] for account in self.accounts(phase).values())

    def asked(self, phase: str) -> int:
        """How many messages with a model went out in training or in evaluation, those that went again not counted."""
        return sum(map(int, re.findall(rf"configure_{phase}: Sampled (\d+) nodes", self.log)))

    @property
    def sent(self) -> int:
        """Bytes that the strategy says it sent, training and evaluation."""
        return self.sent_in("train") + self.sent_in("evaluate")

    @property
    def replies(self) -> int:
        """How many updates came up."""
        return sum(account["robustcomp.kept"] + account["robustcomp.trimmed"] for account in self.accounts().values())

    def lines(self, node: int, words: str) -> list[str]:
        """Return the lines that name a node and hold these words, from their mark on."""
        found = [line for line in self.log.splitlines() if str(node) in line and words in line]
        return [re.sub(r"^\w+ *:\s*(?:> )?", "", line) for line in found]

    @property
    def received(self) -> int:
        """Bytes that the strategy says it received."""
        return sum(account["robustcomp.bytes-received"] for account in self.accounts().values())


@dataclass
class Stories:
    """What is left of the deployment.

    Attributes
    ----------
    packed : Played
        The run with a compressed downlink and all the stories.
    ids, ids_after : dict of str to int
        Node ids by name, and those of the SuperNodes that were started again.
    traffic : dict of str to Traffic
        By name.
    logs : dict of str to str
        The SuperNodes'.
    """

    packed: Played
    ids: dict[str, int]
    traffic: dict[str, Traffic]
    logs: dict[str, str]
    ids_after: dict[str, int] = field(default_factory=dict)


def play(folder: Path) -> Stories:
    """Play it on free ports of the loopback interface, in an empty folder."""
    app = app_folder(folder / "app")
    with ExitStack() as stack:
        deployment = stack.enter_context(Deployment(folder / "deployment", warm=True))
        relays = {name: stack.enter_context(deployment.relay()) for name in NAMES}
        ids = deployment.register(*NAMES)
        nodes = {name: _start(deployment, name, relays[name]) for name in NAMES}
        wait_for(lambda: all(node.connected for node in nodes.values()), "the SuperNodes")
        run = deployment.run(
            app, {"num-server-rounds": ROUNDS, "min-nodes": 3, "local-epochs": 2, "robustcomp.downlink.name": "replica"}
        )
        again = _tell(deployment, run, nodes, relays)
        run.process.wait(timeout=420)
        played = Played(deployment.status(), run.log)
        logs = {name: node.log for name, node in {**nodes, "again": again}.items()}
    ids_after = {"restarted": int(re.findall(r"SuperNode ID: (\d+)", logs["again"])[0])}
    return Stories(played, ids, {name: relay.traffic for name, relay in relays.items()}, logs, ids_after)


def _tell(deployment: Deployment, run: Run, nodes: Mapping[str, Node], relays: Mapping[str, Relay]) -> Node:
    """Let each story happen in its round; return the SuperNode that was started again."""
    _reach(run, RESTART)
    nodes["restarted"].stop()
    again = _start(deployment, "restarted", relays["restarted"], home="restarted-again")
    _reach(run, KILL)
    relays["doomed"].stop_within("pull-object", LEAST)
    wait_for(relays["doomed"].stopped.is_set, "a download to be cut")
    nodes["doomed"].kill()
    nodes["sleeper"].sleep()  # the SuperLink takes both for dead at the same time
    _reach(run, KILL + ASLEEP + 1)
    nodes["sleeper"].wake()
    return again


def _reach(run: Run, round_: int) -> None:
    wait_for(lambda: run.reached(rf"\[ROUND {round_}/{ROUNDS}\]"), f"round {round_}")


def app_folder(folder: Path) -> Path:
    """Copy the example, with a wider model, a downlink, and a liar that reads its role."""
    shutil.copytree(ROBUST, folder)
    shutil.copy(Path(__file__).with_name("liar.py"), folder / "quickstart")
    _change(
        folder / "quickstart" / "task.py",
        {"nn.Linear(64, 256)": f"nn.Linear(64, {WIDTH})", "nn.Linear(256, 10)": f"nn.Linear({WIDTH}, 10)"},
    )
    downlink = 'robustcomp.downlink = { name = "dense" }\nrobustcomp.strategy.trim = 0.2'
    _change(
        folder / "pyproject.toml",
        {"quickstart.client_app:app": "quickstart.liar:app", "robustcomp.strategy.trim = 0.2": downlink},
    )
    return folder


def _change(path: Path, changes: Mapping[str, str]) -> None:
    text = path.read_text(encoding="utf-8")
    for before, after in changes.items():
        if before not in text:
            raise ValueError(f"{path.name} has no {before!r}")
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")


def _start(deployment: Deployment, name: str, relay: Relay, *, home: str | None = None) -> Node:
    config = {"partition-id": NAMES.index(name), "num-partitions": len(NAMES), "role": "liar" if name == "liar" else "honest"}
    return deployment.supernode(name, config, port=relay.port, home=home or name)
