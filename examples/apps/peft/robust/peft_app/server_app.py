"""What the server does: some rounds of federated averaging, and a test of every round's model."""

from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from peft import get_peft_model_state_dict, set_peft_model_state_dict

from flwr_robustcomp import Settings
from peft_app.task import load_data, make_model
from peft_app.task import test as test_fn

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train a model on the nodes' data."""
    config = context.run_config
    nodes = config["min-nodes"]
    sampling = {"fraction_evaluate": config["fraction-evaluate"], "min_train_nodes": nodes, "min_available_nodes": nodes}

    strategy = Settings.from_run_config(config).make_strategy(**sampling)
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(get_peft_model_state_dict(make_model())),
        train_config=ConfigRecord({"lr": config["learning-rate"]}),
        num_rounds=config["num-server-rounds"],
        evaluate_fn=global_evaluate,
    )
    final = result.evaluate_metrics_serverapp[config["num-server-rounds"]]
    print(f"accuracy after the last round: {final['accuracy']:.3f}")


def global_evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """Test the global model on all test images."""
    model = make_model()
    set_peft_model_state_dict(model, arrays.to_torch_state_dict())
    _, testloader = load_data(partition_id=0, num_partitions=1)
    loss, accuracy = test_fn(model, testloader)
    return MetricRecord({"loss": loss, "accuracy": accuracy})
