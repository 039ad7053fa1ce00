"""The command line as a user meets it: in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from flwr_robustcomp import cli
from flwr_robustcomp.cli import console
from flwr_robustcomp.simulations import Scenario, run_scenario
from flwr_robustcomp.simulations.records.cell_index import CELLS_FILE
from flwr_robustcomp.simulations.records.curves import ROUNDS_FILE, read_curves
from flwr_robustcomp.simulations.scenario.suite import Suite
from flwr_robustcomp.theory import CATALOGUE, label
from tests.simulations.bad_inputs import BAD, COMMON
from tests.simulations.kit import descendants, gone, marked, until

SCENARIO = COMMON + 'rounds = 3\nstrategy = { name = "norm-threshold", trim = "byzantine+1", step_size = 0.4 }\n'

SUITE = """
title = "Tiny"
byzantine = [0, 2]
[base]
nodes = 10
rounds = 3
problem = { name = "least-squares", samples = 80, dimension = 12 }
[[strategies]]
name = "norm-threshold"
label = "ours"
trim = "byzantine+1"
step_size = 0.4
[[strategies]]
name = "fed-avg"
step_size = 0.4
"""

LONG = SUITE.replace("rounds = 3", "rounds = 100_000")


@pytest.fixture(scope="module")
def environ() -> Iterator[dict[str, str]]:
    # Ray puts Unix sockets (107 bytes at most) under its folder: pytest's own folders are too deep.
    folder = tempfile.mkdtemp(prefix="rct-", dir="/tmp")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    yield {**kept, "RAY_TMPDIR": folder, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    shutil.rmtree(folder, ignore_errors=True)


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def robustcomp(environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that runs the command line to its end."""
    folder = tmp_path_factory.mktemp("cwd")

    def run(*arguments: str | Path, cwd: Path = folder) -> subprocess.CompletedProcess[str]:
        return subprocess.run(_command(arguments), cwd=cwd, env=environ, capture_output=True, text=True, timeout=120)

    return run


def _command(arguments: Sequence[str | Path]) -> list[str]:
    return [sys.executable, "-m", "flwr_robustcomp.cli", *map(str, arguments)]


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _assert_one_line(done: subprocess.CompletedProcess[str], words: Sequence[str]) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("robustcomp: error: ")
    for word in words:
        assert word in done.stderr


Main = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Main:
    """Return a function that calls the command line's entry point here: the same code, without a second's imports."""

    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["robustcomp", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, int(ended.value.code or 0), captured.out, captured.err)

    return call


@pytest.mark.parametrize("case", BAD)
def test_every_bad_scenario_is_one_line_and_status_2(main: Main, tmp_path: Path, case: str) -> None:
    text, words = BAD[case]
    _assert_one_line(main("run", _write(tmp_path / "scenario.toml", text)), words)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str | Path]:
    (tmp_path / "other").mkdir()
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{one.getsockname()[1]}"
    return {
        "NOWHERE": tmp_path / "nowhere.toml",
        "SCENARIO": _write(tmp_path / "scenario.toml", SCENARIO),
        "SUITE": _write(tmp_path / "suite.toml", SUITE),
        "BAD": _write(tmp_path / "bad.toml", SUITE.replace("fed-avg", "hope")),
        "NAMESAKE": _write(tmp_path / "other" / "suite.toml", SUITE),
        "INSIDE-A-FILE": tmp_path / "scenario.toml" / "sub",
        "CLOSED": closed,
        "BOARD": tmp_path / "board",
    }


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("run NOWHERE", ["nowhere.toml", "No such file"]),
        ("run SCENARIO --engine steam", ["engine", "inprocess, ray", "'steam'"]),
        ("run SCENARIO --ray-address CLOSED", ["ray-address", "--engine ray", "127.0.0.1"]),
        ("run SCENARIO --engine ray --ray-address CLOSED", ["ray_address", "running Ray cluster", "127.0.0.1"]),
        ("run SCENARIO --engine ray --workers 0", ["num_workers", "at least 1", "0"]),
        ("run SCENARIO --out INSIDE-A-FILE", ["out", "writable folder"]),
        ("compare NOWHERE", ["nowhere.toml", "No such file"]),
        ("compare BAD", ["bad.toml", "strategy", "'hope'", "norm-threshold"]),
        ("compare SUITE NAMESAKE", ["suites", "different names"]),
        ("compare SUITE --ray-address CLOSED", ["ray_address", "running Ray cluster", "127.0.0.1"]),
        ("compare SUITE --jobs -1", ["jobs", "at least 1", "-1"]),
        ("compare SUITE --out INSIDE-A-FILE", ["out", "writable folder"]),
        ("compare SUITE --tensorboard BOARD", ["tensorboard", "pip install"]),
        ("run SCENARIO --tensorboard BOARD", ["tensorboard", "pip install"]),
        ("report NOWHERE", ["folder", "rounds.jsonl", "nowhere.toml"]),
        ("report INSIDE-A-FILE", ["folder", "rounds.jsonl"]),
        ("report . --figures gif", ["figures", "svg, pdf", "'gif'"]),
        ("reproduce figure5", ["figure", "figure1, figure2, figure3, figure4", "'figure5'"]),
        ("reproduce figure4 --data-dir NOWHERE", ["data_dir", "IDX", ".npz", "nowhere.toml"]),
        ("reproduce figure4 --byzantine 7", ["byzantine", "5, 10 or 20", "7"]),
        ("reproduce figure1 --data-dir NOWHERE", ["data-dir", "figure4 only"]),
        ("reproduce figure1 --runs 0", ["runs", "at least 1", "0"]),
        (
            "advise --nodes 20 --byzantine 2 --compressor by-shape",
            ["compressor must be one compressor", "'by-shape' chooses from"],
        ),
        ("advise --nodes 20 --byzantine 2 --compressor zip", ["compressor", "'zip'", "l1-sign"]),
        ("advise --nodes 20 --byzantine 2 --compressor top-k", ["compressor 'top-k'", "k, ratio"]),
        ("advise --nodes 20 --byzantine 2 --compressor top-k --compressor-option ratio", ["KEY=VALUE", "'ratio'"]),
        ("advise --nodes 20 --byzantine 2 --compressor top-k --compressor-option ratio=[", ["TOML value", "'['"]),
        ("advise --nodes 20 --byzantine 2 --compressor top-k --compressor-option size=1", ["compressor.size", "k, ratio"]),
        ("advise --nodes 20 --byzantine 2 --compressor {ratio=0.5}", ["compressor", "must have a name"]),
        ("advise --nodes 20 --byzantine 2 --compressor sign --downlink zip", ["downlink must be", "'zip'", "drive"]),
        ("advise --nodes 20 --byzantine 2 --compressor sign --downlink by-shape", ["downlink must be one compressor"]),
        ("advise --nodes 20 --byzantine 2 --compressor sign --downlink-model top-k", ["downlink-model 'top-k'", "k, ratio"]),
        ("advise --nodes 20 --byzantine 2 --compressor l1-sign --filters zip", ["filters", "'zip'", "spectral"]),
        ("advise --nodes 20 --byzantine 2 --compressor l1-sign --rule zip", ["rule", "'zip'", "median"]),
        ("advise --nodes 20 --byzantine 12 --compressor l1-sign", ["byzantine", "nodes/2 = 10", "12"]),
        ("advise --nodes 20 --byzantine 5 --trim 4 --compressor l1-sign", ["trim", "byzantine = 5", "4"]),
        ("compressors --dimension 10", ["dimension", "100", "10"]),
    ],
)
def test_every_bad_argument_is_one_line_and_status_2(
    main: Main, files: dict[str, str | Path], line: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as where it is not installed
    _assert_one_line(main(*(files.get(word, word) for word in line.split())), words)


@pytest.mark.processes
def test_a_process_of_its_own_says_the_same(robustcomp: Run, files: dict[str, str | Path]) -> None:
    # Of all bad arguments this is where most could print beside the line: Ray's own processes and its C++.
    _assert_one_line(robustcomp("run", files["SCENARIO"], "--engine", "ray", "--ray-address", files["CLOSED"]), ["ray_address"])


def test_help_names_the_commands(main: Main) -> None:
    done = main("--help")
    assert done.returncode == 0
    for command in ("run", "compare", "report", "reproduce", "advise", "compressors"):
        assert f" {command} " in done.stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "--compressor l1-sign --trim 22",
            [
                "200 nodes, 20 of them Byzantine, 22 trimmed, L1Sign() on d = 1,000",
                "guaranteed: 0.001",
                "is not covered for every gradient: delta must exceed 0.399, and L1Sign() guarantees 0.001; it is where",
                "guaranteed delta 0.001: no Byzantine nodes",
                "covered by their guarantee: CrossPolytope(repetitions=1000), Drive(), Eden(), ",
                "A round sends up 26,600 bytes, 1.06 bits a coordinate; dense float32 is 800,000, 30.1 times as much.",
                "the model, dense 800,000 32 826,600 1.94 times",
                "change of a replica, Drive() ",
            ],
        ),
        (
            "--compressor identity --downlink l1-sign --downlink-model {name='rotated-quantizer',levels=4}",
            [
                "the model, RotatedQuantizer(levels=4) ",
                "change of a replica, L1Sign() 26,600 1.06 826,600 1.94 times",
                "in longest steps of a round: at most 2e+03 by its guarantee, at most 1.4",
                "less than the dense model for up to 30 rounds.",
            ],
        ),
        ("--compressor identity --downlink sign", ["in longest steps of a round: no bound by its guarantee, "]),
        ("--compressor identity", ["guaranteed: 1", "(sorting by the norm of what arrives) is covered."]),
        (
            "--compressor qsgd --compressor-option levels=300",
            [
                "guaranteed in expectation",
                "if it is larger) is covered, in expectation over its draws.",
                "arrives) is covered, in",
            ],
        ),
        ('--compressor {name="top-k",ratio=0.7} --dimension 500', ["TopK(ratio=0.7) on d = 500", "is covered."]),
        ("--compressor l1-sign --error-feedback", ["nobody has proved why"]),
        ("--compressor sign", ["guaranteed: none", "does not embed the norm."]),
    ],
)
def test_advise_says_where_a_configuration_stands(
    line: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "out", Console(width=200))
    monkeypatch.setattr(sys, "argv", ["robustcomp", "advise", "--nodes", "200", "--byzantine", "20", *line.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().out
    assert ended.value.code == 0
    for word in words:
        assert word in said or word in " ".join(said.split())  # tables are padded


def test_compressors_prints_the_table_and_writes_it(main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "out", Console(width=200))
    done = main("compressors", "--dimension", "200", "--markdown", tmp_path / "table.md")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "table.md").read_text(encoding="utf-8")
    for entry in CATALOGUE.values():
        for compressor in entry.configurations:
            assert label(compressor) in done.stdout and f"| `{label(compressor)}` |" in page

    done = main("compressors", "--dimension", "200", "--markdown", tmp_path)
    assert done.returncode == 2
    assert "robustcomp: error: markdown must be a writable file" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.processes
def test_run_prints_the_curve_and_records_it(robustcomp: Run, tmp_path: Path) -> None:
    path = _write(tmp_path / "mine.toml", SCENARIO)
    done = robustcomp("run", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scenario = Scenario.from_toml(path)
    curves = read_curves(tmp_path / "out" / "mine")
    assert curves == {scenario.key: run_scenario(scenario)}
    (index,) = (tmp_path / "out" / "mine" / CELLS_FILE).read_text().splitlines()
    assert json.loads(index) == {
        "cell": scenario.key,
        "scenario": scenario.model_dump(),
        "problem": {"metric": "error", "better": "lower", "dimension": 12},
        "guaranteed_delta": 1 / 12,
    }
    assert f"mine: error {curves[scenario.key][-1]['error']:.2e} after 3 rounds with 2 of 10 nodes Byzantine" in done.stdout
    assert (
        "note: Theorem 2 does not cover 3 Byzantine of 10 nodes, the worst that trim=3 is for: delta must exceed" in done.stdout
    )
    assert "Traceback" not in done.stderr


@pytest.mark.processes
def test_compare_prints_tables_and_draws(robustcomp: Run, main: Main, tmp_path: Path) -> None:
    path = _write(tmp_path / "tiny.toml", SUITE)
    done = robustcomp("compare", path, "--out", "here", "--jobs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    suite = Suite.from_toml(path)
    assert read_curves(tmp_path / "here") == {cell.scenario.key: run_scenario(cell.scenario) for cell in suite.cells()}
    with Image.open(tmp_path / "here" / "tiny.png") as picture:
        picture.load()
    sentence = json.loads((tmp_path / "here" / "tiny.json").read_text())["sentence"]
    assert sentence in done.stdout
    assert "Tiny, 10 honest nodes" in done.stdout
    assert "Tiny, 2 of 10 nodes Byzantine: gaussian-noise" in done.stdout
    assert "Traceback" not in done.stderr

    done = main("report", "here", "--csv", "tables", "--figures", "svg")
    assert done.returncode == 0, done.stderr
    assert "2 defences against 1 attack with 1 compressor and 1 seed: 4 of 4 runs finished." in done.stdout
    assert f"report: {Path('here') / 'report.html'}" in done.stdout
    assert f"robustcomp compare {path} --out here --jobs 1" in (tmp_path / "here" / "report.html").read_text()
    assert (tmp_path / "tables" / "tiny-heat-map.csv").exists()
    assert (tmp_path / "here" / "figures" / "tiny-heat-map.svg").exists()
    assert done.stderr == ""


@pytest.mark.processes
@pytest.mark.parametrize("jobs", ["2", "1"], ids=["ray", "inprocess"])
def test_ctrl_c_keeps_the_rounds_and_leaves_nothing_running(environ: dict[str, str], tmp_path: Path, jobs: str) -> None:
    path = _write(tmp_path / "long.toml", LONG)
    out = tmp_path / "out"
    before = descendants()
    process = subprocess.Popen(
        _command(["compare", path, "--out", out, "--jobs", jobs]),
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts background jobs with SIGINT ignored, and children inherit that; a terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    try:
        # A terminal sends SIGINT to the whole group: the driver's, which Ray's own processes belong to as far as Ray lets them.
        started = until(lambda: sum(len(curve) > 3 for curve in read_curves(out).values()) >= int(jobs))
        children = descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert started
    assert process.returncode == 130, stderr
    assert stdout == ""
    lines = [line for line in stderr.splitlines() if line.startswith("robustcomp: ")]
    assert lines == [f"robustcomp: interrupted; the rounds so far are in {out / ROUNDS_FILE}"]
    assert "Traceback" not in stderr
    assert not gone(children)
    assert not gone(descendants() - before | marked(environ["RAY_TMPDIR"]))
    cells = {cell.scenario.key: cell.scenario for cell in Suite.from_toml(path).cells()}
    for key, curve in read_curves(out).items():
        few = curve[:4]
        assert [record["round"] for record in few] == [0, 1, 2, 3][: len(few)]
        assert few == run_scenario(cells[key].varied(rounds=3))[: len(few)]
