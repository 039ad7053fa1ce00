"""What the server does: some rounds of federated averaging, and a test of every round's model."""

import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from lightning_app.task import LitNet, load_data, make_trainer

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train a model on the nodes' data."""
    config = context.run_config
    torch.manual_seed(config["seed"])  # every run starts with the same weights
    nodes = config["min-nodes"]
    sampling = {"fraction_evaluate": config["fraction-evaluate"], "min_train_nodes": nodes, "min_available_nodes": nodes}

    strategy = FedAvg(**sampling)
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(LitNet().state_dict()),
        num_rounds=config["num-server-rounds"],
        evaluate_fn=global_evaluate,
    )
    final = result.evaluate_metrics_serverapp[config["num-server-rounds"]]
    print(f"accuracy after the last round: {final['accuracy']:.3f}")


def global_evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """Test the global model on all test images."""
    model = LitNet()
    model.load_state_dict(arrays.to_torch_state_dict())
    _, testloader = load_data(partition_id=0, num_partitions=1)
    (found,) = make_trainer().test(model, testloader, verbose=False)
    return MetricRecord({"loss": found["test_loss"], "accuracy": found["test_acc"]})
