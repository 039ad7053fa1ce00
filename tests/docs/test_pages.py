"""Every code block of README.md and docs/ does what it says: Python runs, TOML is valid, commands parse and many are run."""

from __future__ import annotations

import importlib
import pickle
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.clientapp import ClientApp

from flwr_robustcomp import Settings
from flwr_robustcomp.component import flatten
from flwr_robustcomp.filters import FILTERS
from flwr_robustcomp.simulations.scenario import Scenario
from flwr_robustcomp.simulations.scenario.setup import SCENARIO_STRATEGIES as STRATEGIES
from flwr_robustcomp.simulations.scenario.suite import Suite
from tests.docs.blocks import PAGES, ROOT, Block, blocks_of
from tests.docs.commands import agrees, check, lines, run
from tests.optional import HAS_BYZFL

COMMANDS_RUN = {
    "docs/tutorial.md",
    "docs/how-to/choose-a-compressor.md",
    "docs/how-to/write-a-compressor.md",
    "docs/how-to/write-an-attack.md",
    "docs/how-to/write-a-strategy.md",
}
"""Pages whose `robustcomp` commands are run, in a folder that holds the files that their blocks name."""

PLAYED_ELSEWHERE = {"docs/deployment.md": "tests/deployment plays it on real processes"}
"""Pages whose shell blocks are one script that another test runs."""

DIFFS = {"README.md", "docs/index.md"}
"""Pages that show the change between the two examples; tests/test_readme.py holds README.md to it, a test below the other."""


def _given(page: str) -> dict[str, Any]:
    """Return the names that a page's blocks take from the reader's own app."""
    if page == "README.md":
        return {"ClientApp": ClientApp}
    if page == "docs/checkpoints.md":
        from tests.docs import reader

        return {name: getattr(reader, name) for name in reader.__all__}
    if page == "docs/scenarios.md":
        from tests.simulations.user_app import server_app

        return {"server_app": server_app}
    return {}


def _place(page: str, folder: Path) -> None:
    """Put the reader's files into the folder that a page's blocks run in."""
    if page == "docs/scenarios.md":  # the reader's package, whose name stands in the block
        (folder / "my_package").mkdir()
        somebodys = (ROOT / "tests/simulations/user_app.py").read_text(encoding="utf-8")
        (folder / "my_package/client_app.py").write_text(f"{somebodys}\n\napp = client_app\n", encoding="utf-8")
    if page == "docs/problems.md":
        rng = np.random.default_rng(0)
        parts = (("train", 2000), ("test", 20))
        images: dict[str, Any] = {f"x_{part}": rng.integers(0, 256, (n, 28, 28), dtype=np.uint8) for part, n in parts}
        (folder / "data/mnist").mkdir(parents=True)
        np.savez(folder / "data/mnist/images.npz", **images, y_train=np.arange(2000) % 10, y_test=np.arange(20) % 10)
        (folder / "cifar-10-batches-py").mkdir()
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
            batch = {b"data": np.zeros((10, 3072), np.uint8), b"labels": list(range(10))}
            (folder / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(batch))


STARTS_RAY = {"docs/tutorial.md", "docs/scenarios.md"}


@pytest.mark.parametrize("page", [pytest.param(p, marks=pytest.mark.processes if p in STARTS_RAY else ()) for p in PAGES])
def test_every_block(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    _place(page, tmp_path)
    scope, printed = _given(page), ""
    for block in blocks_of(page):
        if block.file:
            Path(block.file).write_text(block.text, encoding="utf-8")
        match block.language:
            case "python":
                _run_python(block, scope, monkeypatch)
            case "toml":
                _validate(block)
            case "sh":
                printed = _shell(block, tmp_path)
            case "diff":
                assert page in DIFFS, block
            case "text":
                assert page not in COMMANDS_RUN or agrees(block.text, printed), f"{block} is not in:\n{printed}"
            case other:
                pytest.fail(f"{block}: a block must say its language, one that tests/docs knows, not {other!r}")


def _run_python(block: Block, scope: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a block in the page's namespace; one that is a file is imported, as a scenario would import it."""
    if block.file:
        name = block.file.removesuffix(".py")
        monkeypatch.setitem(sys.modules, name, None)  # restored to absent afterwards
        del sys.modules[name]
        scope.update(vars(importlib.import_module(name)))
        return
    code = compile("\n" * (block.line - 1) + block.text, str(ROOT / block.page), "exec")  # tracebacks name the page's line
    exec(code, scope)


def _validate(block: Block) -> None:
    """A suite, a scenario or a part of one, or a table of a run config: whatever it is, it is accepted."""
    data = tomllib.loads(block.text)
    if not HAS_BYZFL and dict(data.get("strategy", {})).get("name") == "byzfl":
        return
    if "strategies" in data:
        Suite.model_validate(data).cells()
    elif "robustcomp" in data or "tool" in data:
        config = data if "robustcomp" in data else data["tool"]["flwr"]["app"]["config"]
        Settings.from_run_config(flatten(config))
    else:
        Scenario.parse(data)


def _shell(block: Block, folder: Path) -> str:
    if block.page in PLAYED_ELSEWHERE:
        return ""
    printed = ""
    for words in lines(block.text):
        check(words)
        if words[0] == "robustcomp" and block.page in COMMANDS_RUN:
            printed += run(words, folder)
    return printed


def test_the_change_to_an_app_is_the_same_everywhere() -> None:
    shown = [[block.text for block in blocks_of(page) if block.language == "diff"] for page in sorted(DIFFS)]
    assert len(shown[0]) == 3
    assert all(one == shown[0] for one in shown)


def test_the_pages_that_are_named_here_exist() -> None:
    assert {*COMMANDS_RUN, *PLAYED_ELSEWHERE, *DIFFS, *STARTS_RAY} <= set(PAGES)


@pytest.mark.parametrize(
    "line",
    [
        "robustcomp run first.toml --engin ray",
        "robustcomp advise --nodes many --byzantine 1 --compressor sign",
        "robustcomp adviser",
        "make everything",
        "pip install '.[gpu]'",
        "curl example",
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    (words,) = lines(line)
    with pytest.raises(Exception, match=r".") as caught:
        check(words)
    assert not isinstance(caught.value, FileNotFoundError)


def test_output_is_compared_by_its_words_and_its_numbers() -> None:
    assert agrees("a 90.8% of 1,000", "x\na   90.7% of 1,000\n")
    assert not agrees("a 90.8% of 1,000", "a 80.8% of 1,000")
    assert not agrees("a 90.8% of 1,000", "b 90.8% of 1,000")


def test_every_strategy_and_filter_is_listed_and_has_a_line_in_the_example() -> None:
    text = (ROOT / "docs/scenarios.md").read_text(encoding="utf-8").split("### Every defence")[1].split("From Python")[0]
    assert {name for name in {*STRATEGIES, *FILTERS} if f"`{name}`" not in text} == set()
    rows = tomllib.loads((ROOT / "examples/defences.toml").read_text(encoding="utf-8"))["strategies"]
    used = {row["name"] for row in rows} | {one for row in rows for one in re.split("[+:]", row.get("filters", "spectral"))}
    assert {*STRATEGIES, *FILTERS} <= used | {"byzfl"}  # an extra, which an example must not need
