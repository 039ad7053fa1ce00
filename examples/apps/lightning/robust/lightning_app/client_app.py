"""What a node does with the model that it receives."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from flwr_robustcomp import configured_mod
from lightning_app.task import LitNet, load_data, make_trainer

app = ClientApp(mods=[configured_mod])


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train the received model on the node's own images; reply with its new weights."""
    model = LitNet()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    trainloader, _ = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])

    trainer = make_trainer(context.run_config["local-epochs"])
    trainer.fit(model, trainloader)

    train_loss = trainer.callback_metrics["train_loss"].item()
    metrics = MetricRecord({"train_loss": train_loss, "num-examples": len(trainloader.dataset)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Test the received model on the node's held-out images."""
    model = LitNet()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    _, testloader = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])

    (found,) = make_trainer().test(model, testloader, verbose=False)

    metrics = MetricRecord({**found, "num-examples": len(testloader.dataset)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)
