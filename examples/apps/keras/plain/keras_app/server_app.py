"""What the server does: some rounds of federated averaging, and a test of every round's model."""

import keras
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from keras_app.task import load_data, make_model

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train a model on the nodes' data."""
    config = context.run_config
    keras.utils.set_random_seed(config["seed"])  # every run starts with the same weights
    nodes = config["min-nodes"]
    sampling = {"fraction_evaluate": config["fraction-evaluate"], "min_train_nodes": nodes, "min_available_nodes": nodes}

    strategy = FedAvg(**sampling)
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(make_model().get_weights()),
        train_config=ConfigRecord({"lr": config["learning-rate"]}),
        num_rounds=config["num-server-rounds"],
        evaluate_fn=global_evaluate,
    )
    final = result.evaluate_metrics_serverapp[config["num-server-rounds"]]
    print(f"accuracy after the last round: {final['accuracy']:.3f}")


def global_evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """Test the global model on all test images."""
    model = make_model()
    model.set_weights(arrays.to_numpy_ndarrays())
    _, _, images, labels = load_data(partition_id=0, num_partitions=1)
    loss, accuracy = model.evaluate(images, labels, verbose=0)
    return MetricRecord({"loss": loss, "accuracy": accuracy})
