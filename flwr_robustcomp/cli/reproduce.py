"""`robustcomp reproduce`: the paper's figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flwr_robustcomp.cli import console
from flwr_robustcomp.cli.console import Bar, cores, interruptible
from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.paper.figure4 import PANELS, reproduce_figure4
from flwr_robustcomp.simulations.paper.figures import FIGURES, PAIRS, reproduce

__all__ = ["reproduce_command"]


def reproduce_command(
    figure: Annotated[str, typer.Argument(help="figure1, figure2, figure3 or figure4.")],
    runs: Annotated[int | None, typer.Option(help="Runs that a curve is the mean of; 20, for figure4 1.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds of each run; 200, for figure4 40.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first run.")] = 0,
    jobs: Annotated[int | None, typer.Option(help="Runs at a time; one for each core, for figure4 1.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of MNIST's files, for figure4.")] = None,
    byzantine: Annotated[int | None, typer.Option(help="5, 10 or 20: figure4 with this count only.")] = None,
    panel: Annotated[str | None, typer.Option(help="a, b or c: figure4 with this panel only.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for FIGURE.png, FIGURE.json and the record.")] = Path("out/figures"),
) -> None:
    """Reproduce one of the paper's figures."""
    known = (*FIGURES, "figure4")
    require(figure in known, "figure", figure, f"one of {', '.join(known)}")
    network = figure == "figure4"
    runs = runs if runs is not None else 1 if network else 20
    rounds = rounds if rounds is not None else 40 if network else 200
    require(network or data_dir is None, "data-dir", data_dir, "given with figure4 only")
    pairs = [pair for pair in PAIRS if byzantine in (None, pair[0])]
    require(bool(pairs) and (network or byzantine is None), "byzantine", byzantine, "5, 10 or 20, given with figure4 only")
    panels = [one for letter, one in zip("abc", PANELS, strict=True) if panel in (None, letter)]
    require(bool(panels) and (network or panel is None), "panel", panel, "a, b or c, given with figure4 only")
    with interruptible(out), Bar(figure, runs * rounds) as bar:

        def advance(done: int, total: int) -> None:
            bar.advance(done, total=total)

        if network:
            verdict = reproduce_figure4(
                out,
                data_dir=data_dir,
                runs=runs,
                rounds=rounds,
                seed=seed,
                jobs=1 if jobs is None else jobs,
                pairs=pairs,
                panels=panels,
                advance=advance,
            )
        else:
            jobs = cores() if jobs is None else jobs
            verdict = reproduce(figure, out, runs=runs, rounds=rounds, seed=seed, jobs=jobs, advance=advance)
    console.out.print(verdict, highlight=False, soft_wrap=True)
    console.out.print(f"  {out / figure}.png, {out / figure}.json", highlight=False, soft_wrap=True)
