"""What a node does with the model that it receives."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from flwr_robustcomp import configured_mod
from numpy_app.task import load_data
from numpy_app.task import test as test_fn
from numpy_app.task import train as train_fn

app = ClientApp(mods=[configured_mod])


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train the received model on the node's own images; reply with its new weights."""
    weights = msg.content["arrays"].to_numpy_ndarrays()
    images, labels, _, _ = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])

    weights = train_fn(weights, images, labels, context.run_config["local-epochs"], msg.content["config"]["lr"])

    metrics = MetricRecord({"num-examples": len(labels)})
    return Message(content=RecordDict({"arrays": ArrayRecord(weights), "metrics": metrics}), reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Test the received model on the node's held-out images."""
    weights = msg.content["arrays"].to_numpy_ndarrays()
    _, _, images, labels = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])

    eval_loss, eval_acc = test_fn(weights, images, labels)

    metrics = MetricRecord({"eval_loss": eval_loss, "eval_acc": eval_acc, "num-examples": len(labels)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)
