"""`robustcomp`: argument parsing, progress and error lines, one file a command; the work is done elsewhere."""

from __future__ import annotations

import typer

from flwr_robustcomp.cli.advise import advise_command
from flwr_robustcomp.cli.compare import compare_command
from flwr_robustcomp.cli.compressors import compressors_command
from flwr_robustcomp.cli.console import CONFIGURATION, FAILED, fail
from flwr_robustcomp.cli.report import report_command
from flwr_robustcomp.cli.reproduce import reproduce_command
from flwr_robustcomp.cli.run import run
from flwr_robustcomp.errors import ConfigurationError, QuorumError
from flwr_robustcomp.simulations.records.record import RecordError
from flwr_robustcomp.simulations.runs.run import quiet_flower
from flwr_robustcomp.simulations.runs.sweep import SweepError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Byzantine-robust, communication-efficient federated learning: advise, simulate, compare, report, reproduce.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(name="run")(run)
app.command(name="compare")(compare_command)
app.command(name="report")(report_command)
app.command(name="reproduce")(reproduce_command)
app.command(name="advise")(advise_command)
app.command(name="compressors")(compressors_command)


def main() -> None:
    """Run the command line; a configuration's fault is one line and exit status 2."""
    try:
        with quiet_flower():
            app(standalone_mode=True)
    except ConfigurationError as error:
        fail(f"error: {error}", CONFIGURATION)
    except (QuorumError, RecordError, SweepError) as error:
        fail(f"error: {error}", FAILED)
