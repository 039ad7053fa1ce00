"""`robustcomp advise`: what the theorems say about a configuration, before anyone runs it."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Annotated, Any

import torch
import typer
from pydantic import ValidationError
from rich import box
from rich.table import Table

from flwr_robustcomp.cli import console
from flwr_robustcomp.component import Component, build
from flwr_robustcomp.compressors import CHOICES, COMPRESSORS, Compressor
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.strategies import RobustCompressed
from flwr_robustcomp.strategies.filtering import named_filters
from flwr_robustcomp.strategies.trusted_root import TrustedRoot
from flwr_robustcomp.theory import label, shortfall
from flwr_robustcomp.theory.advice import Advice, advise
from flwr_robustcomp.theory.coverage import Coverage

__all__ = ["advise_command"]


def advise_command(
    nodes: Annotated[int, typer.Option(help="m.")],
    byzantine: Annotated[int, typer.Option(help="How many of them may lie.")],
    compressor: Annotated[str, typer.Option(help="A name, or a table as in scenarios: '{name = \"top-k\", ratio = 0.5}'.")],
    trim: Annotated[int | None, typer.Option(help="How many the server trims; by default as many.")] = None,
    dimension: Annotated[int, typer.Option(help="d, the parameters of the model.")] = 1000,
    compressor_option: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, for example ratio=0.5; repeatable.")] = None,
    error_feedback: Annotated[bool, typer.Option("--error-feedback", help="Clients keep what compression dropped.")] = False,
    downlink: Annotated[str, typer.Option(help="What packs the changes of a replica of the model, as --compressor.")] = "drive",
    downlink_model: Annotated[
        str, typer.Option(help="What packs the model for nodes without a replica, as --compressor.")
    ] = "{name = 'eden', bits = 4}",
    filters: Annotated[
        str | None, typer.Option(help="Of robust-compressed, joined by +; by default Algorithms 1 and 2.")
    ] = None,
    rule: Annotated[str, typer.Option(help="Of robust-compressed, after its filters.")] = "mean",
) -> None:
    """Say which of the paper's theorems cover a configuration, what to change where none does, and what it costs."""
    chosen = _compressor("compressor", compressor, compressor_option or [])
    advice = advise(
        chosen,
        nodes=nodes,
        byzantine=byzantine,
        trim=trim,
        dimension=dimension,
        error_feedback=error_feedback,
        replica=_compressor("downlink", downlink),
        model=_compressor("downlink-model", downlink_model),
    )
    line = _of_filters(advice, filters, rule)
    _say(
        f"{advice.nodes} nodes, {advice.byzantine} of them Byzantine, {advice.trim} trimmed, "
        f"{label(chosen)}{' with error feedback' if error_feedback else ''} on d = {dimension:,}"
    )
    if line is not None:
        for further in [line, *_cost(advice)]:
            _say(further)
        return
    console.out.print()
    console.out.print(_table(advice))
    for line in [*_verdicts(advice), *_changes(advice), *_cost(advice)]:
        _say(line)
    console.out.print()
    console.out.print(_both_ways(advice))
    for line in _catching_up(advice):
        _say(line)


def _say(line: str) -> None:
    console.out.print(line, highlight=False, markup=False, soft_wrap=True)


def _of_filters(advice: Advice, filters: str | None, rule: str) -> str | None:
    """Return what is proved of filters and a rule; None where the theorems are about them."""
    if filters is None and rule == "mean":
        return None
    named = filters or ""
    asked = {what for one in named_filters(named, advice.trim) for what in one.looks_at}
    root = TrustedRoot(lambda server_round, arrays: arrays, lambda server_round, arrays: 0.0)
    strategy = RobustCompressed(
        compressor=advice.compressor,
        filters=named,
        rule=rule,
        trim=advice.trim,
        memory=0.5 if "history" in asked else None,
        root=root if asked & {"root", "losses"} else None,
    )
    strategy.check_nodes(advice.nodes)
    line = strategy.outside_theory(Layout.of({"w": torch.zeros(advice.dimension)}), advice.nodes)
    return None if line is None else f"{line[1][0].upper()}{line[1][1:]}."


def _table(advice: Advice) -> Table:
    """Return the delta that each theorem asks for, and whether what there is exceeds its last form."""
    guarantee = "none" if advice.guaranteed is None else f"{advice.guaranteed:.3g}"
    kind = "guaranteed" if advice.compressor.pointwise else "guaranteed in expectation"
    table = Table("delta needed", "as stated", "by its proof", "at the least", f"{kind}: {guarantee}", box=box.SIMPLE)
    table.add_column(f"Gaussian vector: {advice.typical:.3g}")
    for coverage in advice.coverages:
        needed = (f"{delta:.3f}" if delta < 1 else "-" for delta in coverage.needed.values())
        verdicts = (coverage.covered, coverage.would_be(advice.typical))
        table.add_row(f"Theorem {coverage.theorem}", *needed, *("yes" if v else "no" for v in verdicts))
    return table


def _verdicts(advice: Advice) -> list[str]:
    return ["", *(_verdict(coverage, advice) for coverage in advice.coverages)]


def _verdict(coverage: Coverage, advice: Advice) -> str:
    arrives = "sorting by the norm of what arrives"
    server = f"{arrives}, or by the one that clients report if it is larger" if coverage.theorem == 1 else arrives
    head = f"Algorithm {coverage.theorem} ({server})"
    why = shortfall(coverage, advice.compressor)
    if why is None:
        expected = "" if advice.compressor.pointwise else ", in expectation over its draws"
        return f"{head} is covered{expected}."
    if coverage.would_be(advice.typical):
        return f"{head} is not covered for every gradient: {why}; it is where gradients compress like Gaussian vectors."
    return f"{head} is not covered: {why}."


def _changes(advice: Advice) -> list[str]:
    """Return what would help, where something has to."""
    if advice.error_feedback and not advice.byzantine:
        return [
            "",
            "Error feedback without Byzantine nodes is Theorem 3, for every delta > 0; see docs/theory.md for its rate.",
        ]
    if advice.error_feedback:
        return ["", "Error feedback with a threshold works in the paper's experiments and here; nobody has proved why."]
    lines = ["", "What the numbers allow:"]
    for name, delta, most, trims in zip(
        ("guaranteed", "Gaussian"), (advice.guaranteed, advice.typical), advice.most_byzantine, advice.trims, strict=True
    ):
        if delta is None or not most:
            lines.append(f"  {name} delta{'' if delta is None else f' {delta:.3g}'}: no Byzantine nodes")
            continue
        span = f"trim {trims[0]} to {trims[-1]}" if trims else "no trim"
        lines.append(
            f"  {name} delta {delta:.3g}: up to {most} Byzantine nodes, trimming as many; against {advice.byzantine}, {span}"
        )
    lines.append(f"  {advice.byzantine} Byzantine and {advice.trim} trimmed nodes: {_smallest(advice)}")
    both = [label(other) for other, first, second in advice.alternatives if first and second]
    lines.append(f"  covered by their guarantee: {', '.join(both) or 'no compressor'}")
    return lines


def _smallest(advice: Advice) -> str:
    needed = advice.coverages[1].least
    return f"delta above {needed:.3f}" if needed < 1 else "no delta at all"


def _cost(advice: Advice) -> list[str]:
    cost = advice.down.dense.up
    return [
        "",
        f"A round sends up {cost.packed:,} bytes, {cost.bits:.3g} bits a coordinate; dense float32 is {cost.dense:,}, "
        f"{cost.ratio:.3g} times as much.",
    ]


def _both_ways(advice: Advice) -> Table:
    """Return what the server may send down, and what a round costs with it in both directions."""
    down = advice.down
    table = Table(box=box.SIMPLE)
    table.add_column("down")
    for title in ("bytes down", "bits a coordinate", "bytes both ways", "dense both ways"):
        table.add_column(title, justify="right")
    forms = (
        ("the model, dense", down.dense),
        (f"the model, {label(down.model)}", down.quantised),
        (f"change of a replica, {label(down.replica)}", down.shared),
    )
    for form, both in forms:
        cells = (f"{both.down.packed:,}", f"{both.down.bits:.3g}", f"{both.packed:,}", f"{both.ratio:.3g} times")
        table.add_row(form, *cells)
    return table


def _catching_up(advice: Advice) -> list[str]:
    """Return what a replica costs beside bytes: how far it lags, and how long a node may be away."""
    (guaranteed, typical), rounds = advice.down.lags, advice.down.shared.down.worth_sending
    bounds = ["no bound" if lag is None else f"at most {lag:.3g}" for lag in (guaranteed, typical)]
    return [
        "How far a replica is behind the model, in longest steps of a round: "
        f"{bounds[0]} by its guarantee, {bounds[1]} where changes compress like Gaussian vectors.",
        f"A node that missed rounds is sent their changes: less than the dense model for up to {rounds:,} rounds.",
    ]


def _compressor(field: str, text: str, options: Sequence[str] = ()) -> Compressor:
    """Build a compressor from a name or an inline table, and KEY=VALUE options."""
    data: Any = _toml(field, text) if text.lstrip().startswith("{") else {"name": text}
    for option in options:
        key, sign, value = option.partition("=")
        if not sign or not key.strip():
            raise ConfigurationError(f"{field}-option must be KEY=VALUE, got {option!r}")
        data[key.strip()] = _toml(f"{field}-option", value)
    try:
        component = Component.model_validate(data)
    except ValidationError as error:
        raise ConfigurationError(f"{field} must have a name, got {text!r}") from error
    one = f"one compressor, as the theorems have: ask for each that {component.name!r} chooses from"
    require(component.name not in CHOICES, field, component.name, one)
    return build(field, COMPRESSORS, component, base=Compressor)


def _toml(field: str, value: str) -> Any:
    """Read a value as TOML writes it; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        if value.strip().replace("-", "").replace("_", "").isalnum():
            return value.strip()
        raise ConfigurationError(f"{field} must be a TOML value, got {value!r}") from error
