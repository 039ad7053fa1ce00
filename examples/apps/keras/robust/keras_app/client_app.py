"""What a node does with the model that it receives."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from flwr_robustcomp import configured_mod
from keras_app.task import load_data, make_model

app = ClientApp(mods=[configured_mod])


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train the received model on the node's own images; reply with its new weights."""
    model = make_model(msg.content["config"]["lr"])
    model.set_weights(msg.content["arrays"].to_numpy_ndarrays())
    images, labels, _, _ = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])

    history = model.fit(images, labels, epochs=context.run_config["local-epochs"], batch_size=32, verbose=0)

    metrics = MetricRecord({"train_loss": history.history["loss"][-1], "num-examples": len(labels)})
    content = RecordDict({"arrays": ArrayRecord(model.get_weights()), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Test the received model on the node's held-out images."""
    model = make_model()
    model.set_weights(msg.content["arrays"].to_numpy_ndarrays())
    _, _, images, labels = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])

    eval_loss, eval_acc = model.evaluate(images, labels, verbose=0)

    metrics = MetricRecord({"eval_loss": eval_loss, "eval_acc": eval_acc, "num-examples": len(labels)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)
