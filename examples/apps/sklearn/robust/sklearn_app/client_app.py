"""What a node does with the model that it receives."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from flwr_robustcomp import configured_mod
from sklearn_app.task import load_data, make_model, set_weights, weights_of
from sklearn_app.task import test as test_fn
from sklearn_app.task import train as train_fn

app = ClientApp(mods=[configured_mod])


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train the received model on the node's own images; reply with its new weights."""
    model = make_model(context.run_config["local-epochs"])
    set_weights(model, msg.content["arrays"].to_numpy_ndarrays())
    images, labels, _, _ = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])

    train_loss = train_fn(model, images, labels)

    metrics = MetricRecord({"train_loss": train_loss, "num-examples": len(labels)})
    content = RecordDict({"arrays": ArrayRecord(weights_of(model)), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Test the received model on the node's held-out images."""
    model = make_model(context.run_config["local-epochs"])
    set_weights(model, msg.content["arrays"].to_numpy_ndarrays())
    _, _, images, labels = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])

    eval_loss, eval_acc = test_fn(model, images, labels)

    metrics = MetricRecord({"eval_loss": eval_loss, "eval_acc": eval_acc, "num-examples": len(labels)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)
