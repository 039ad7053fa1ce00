"""What a node does with the model that it receives."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from jax_app.task import arrays_of, initial_params, load_data, with_arrays
from jax_app.task import test as test_fn
from jax_app.task import train as train_fn

app = ClientApp()


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train the received model on the node's own images; reply with its new weights."""
    params = with_arrays(initial_params(), msg.content["arrays"].to_numpy_ndarrays())
    images, labels, _, _ = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])

    params, train_loss = train_fn(params, images, labels, context.run_config["local-epochs"], msg.content["config"]["lr"])

    metrics = MetricRecord({"train_loss": train_loss, "num-examples": len(labels)})
    content = RecordDict({"arrays": ArrayRecord(arrays_of(params)), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Test the received model on the node's held-out images."""
    params = with_arrays(initial_params(), msg.content["arrays"].to_numpy_ndarrays())
    _, _, images, labels = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])

    eval_loss, eval_acc = test_fn(params, images, labels)

    metrics = MetricRecord({"eval_loss": eval_loss, "eval_acc": eval_acc, "num-examples": len(labels)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)
