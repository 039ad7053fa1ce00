"""The quickstart, plain and robust: they differ by ten lines, and both run under `flwr run`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.stock_flower import Backend, LocalFlower
from tests.quickstart import PLAIN, ROBUST, run_in_process
from tests.simulations.kit import nothing_left_running


def difference() -> dict[str, list[str]]:
    """Return the lines that differ between the two examples, marked + and -, by file; no file exists in one alone."""
    files = sorted(path.relative_to(PLAIN) for path in PLAIN.rglob("*") if path.suffix in (".py", ".toml"))
    assert files == sorted(path.relative_to(ROBUST) for path in ROBUST.rglob("*") if path.suffix in (".py", ".toml"))
    found = {}
    for file in files:
        plain, robust = ((folder / file).read_text(encoding="utf-8").splitlines() for folder in (PLAIN, ROBUST))
        changed = [line for line in difflib.ndiff(plain, robust) if line[0] in "+-"]
        if changed:
            found[file.name] = [line[0] + line[2:] for line in changed]
    return found


def test_ten_lines_make_it_robust() -> None:
    changed = difference()
    assert sorted(changed) == ["client_app.py", "pyproject.toml", "server_app.py"]
    assert sum(map(len, changed.values())) <= 10


@pytest.mark.parametrize("folder", [PLAIN, ROBUST], ids=lambda folder: folder.name)
def test_it_learns_in_this_process(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_in_process(folder, 5, num_server_rounds=6)
    assert _accuracy(capsys.readouterr().out) > 0.8


def test_the_robust_one_says_what_is_wrong_with_its_config() -> None:
    with pytest.raises(ValueError, match=r"robustcomp\.compressor must be one of .*, got 'l3-sign'"):
        run_in_process(ROBUST, 5, **{"robustcomp.compressor": "l3-sign"})


@pytest.fixture(scope="module")
def flower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFlower]:
    home = tmp_path_factory.mktemp("flwr")
    with nothing_left_running(home), LocalFlower(home=home) as flower:
        yield flower


@pytest.mark.processes
@pytest.mark.parametrize("folder", [PLAIN, ROBUST], ids=lambda folder: folder.name)
def test_it_runs_under_flwr_run(folder: Path, flower: LocalFlower) -> None:
    run = flower.run(
        folder,
        num_supernodes=5,
        run_config={"num-server-rounds": 2, "local-epochs": 20, "min-nodes": 5},
        backend=Backend(init_num_cpus=1),
        timeout=600.0,  # on a machine that does much else
    ).check()
    assert _accuracy(run.log) > 0.5
    sizes = [int(size) for size in re.findall(r"aggregate_train: kept 5, .* rejected 0 replies; (\d+) bytes received", run.log)]
    assert len(sizes) == (0 if folder == PLAIN else 2)
    # Five nodes with 19,210 coordinates each: a bit for each, the scales of Drive, and which pixels are always dark.
    assert all(5 * 19_210 // 16 < size < 5 * 19_210 * 4 / 28 for size in sizes)


def _accuracy(text: str) -> float:
    (found,) = re.findall(r"accuracy after the last round: ([\d.]+)", text)
    return float(found)
