"""Somebody's own Flower app, which knows nothing of this package: FedAvg on a mean, with a client that keeps a counter."""

from __future__ import annotations

import os

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

client_app = ClientApp()
server_app = ServerApp()
not_an_app = object()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Move half-way to the node's own target; count rounds; spoil the message that was received."""
    partition = int(context.node_config["partition-id"])
    seen = context.state.config_records.get("seen", ConfigRecord({"rounds": 0}))
    rounds = int(str(seen["rounds"])) + 1
    context.state["seen"] = ConfigRecord({"rounds": rounds})
    (w,) = message.content.array_records["arrays"].to_numpy_ndarrays()
    reply = RecordDict(
        {
            "arrays": ArrayRecord([(w + partition) / 2]),
            "metrics": MetricRecord({"num-examples": partition + 1, "rounds": rounds, "sum": float(w.sum())}),
        }
    )
    message.content["arrays"] = ArrayRecord([np.full(3, np.nan)])
    message.content.config_records["config"]["server-round"] = -1
    del message.content["config"]
    return Message(reply, reply_to=message)


@client_app.query()
def query(message: Message, context: Context) -> Message:
    """Do what the message asks for."""
    order = str(message.content["config"]["order"])
    if order == "raise":
        raise RuntimeError("no such luck\nsecond line")
    if order == "exit":
        raise SystemExit(3)
    if order == "die" and int(context.node_config["partition-id"]) == 0:
        os._exit(1)
    partition = int(context.node_config["partition-id"])
    return Message(RecordDict({"metrics": MetricRecord({"partition": partition})}), reply_to=message)


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Run FedAvg and leave the result in the context."""
    result = FedAvg(fraction_evaluate=0.0, min_train_nodes=2).start(
        grid, ArrayRecord([np.zeros(3)]), num_rounds=int(context.run_config.get("rounds", 2))
    )
    context.state["final"] = result.arrays
    context.state["metrics"] = result.train_metrics_clientapp[int(context.run_config.get("rounds", 2))]
