"""The example apps: plain and robust differ by a few lines, and both learn. Apps whose framework is missing are skipped."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.apps_catalogue import APPS, EXTRA, NODES, App
from benchmarks.apps_folders import accuracy_in, changed_lines, run_config_of, run_in_process, with_attacker
from benchmarks.apps_page import KINDS, Found, merged, page, read, write
from benchmarks.stock_flower import Backend, flwr_run
from flwr_robustcomp import Settings
from tests.simulations.kit import nothing_left_running

ROOT = Path(__file__).parents[1]
BY_NAME = {app.name: app for app in APPS}
OF_ANOTHER_FRAMEWORK = [app for app in APPS if app.name != "PyTorch"]  # tests/test_quickstart.py has that one

every_app = pytest.mark.parametrize("app", APPS, ids=lambda app: app.package)
# The frameworks' own warnings are not ours to mend.
frameworks_may_warn = pytest.mark.filterwarnings("default")


def needs(app: App) -> None:
    if app.missing:
        pytest.skip(f"{', '.join(app.missing)} is not installed (the extra {EXTRA})")


def outcome(folder: Path, app: App, capsys: pytest.CaptureFixture[str]) -> tuple[float, list[int]]:
    """Run a folder; return the accuracy and the bytes of each training reply."""
    sizes = run_in_process(folder, app.package, nodes=NODES, run_config={"min-nodes": NODES})
    accuracy = accuracy_in(capsys.readouterr().out)
    assert accuracy is not None
    return accuracy, sizes


@every_app
def test_a_few_lines_make_it_robust(app: App) -> None:
    changed = changed_lines(app)
    assert sorted(changed) == ["client_app.py", "pyproject.toml", "server_app.py"]
    assert sum(map(len, changed.values())) <= 10


@every_app
def test_its_table_can_be_read(app: App) -> None:
    Settings.from_run_config(run_config_of(app.robust))
    assert not any(key.startswith("robustcomp") for key in run_config_of(app.plain))


@pytest.mark.parametrize("app", OF_ANOTHER_FRAMEWORK, ids=lambda app: app.package)
@frameworks_may_warn
def test_it_learns_plain_and_robust(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    needs(app)
    plain, dense = outcome(app.plain, app, capsys)
    robust, packed = outcome(app.robust, app, capsys)
    assert plain > 0.9
    assert robust > plain - 0.03
    assert len(packed) == len(dense) == NODES * run_config_of(app.robust)["num-server-rounds"]
    assert max(packed) < min(dense) / 8


@pytest.mark.parametrize("name", ["NumPy", "scikit-learn"])
def test_a_node_that_attacks_ruins_the_plain_one_only(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = BY_NAME[name]
    plain, _ = outcome(with_attacker(app, app.plain, tmp_path / "plain"), app, capsys)
    robust, _ = outcome(with_attacker(app, app.robust, tmp_path / "robust"), app, capsys)
    assert plain < 0.5
    assert robust > 0.9


def test_an_app_without_the_expected_line_gets_no_attacker(tmp_path: Path) -> None:
    app = BY_NAME["NumPy"]
    copied = with_attacker(app, app.plain, tmp_path / "once")
    with pytest.raises(ValueError, match=r"must make its app by ClientApp\(\)"):
        with_attacker(app, copied, tmp_path / "twice")


def test_a_node_that_fails_is_an_error(tmp_path: Path) -> None:
    app = BY_NAME["NumPy"]
    copied = with_attacker(app, app.plain, tmp_path / "failing")
    (copied / app.package / "attacker.py").write_text("def attacker(*_):\n    raise ValueError('no data')\n")
    with pytest.raises(RuntimeError, match=r"a node failed: .*no data"):
        run_in_process(copied, app.package, nodes=NODES)


def test_a_file_in_one_folder_alone_is_found(tmp_path: Path) -> None:
    app = BY_NAME["NumPy"]
    (tmp_path / "more.py").touch()
    with pytest.raises(ValueError, match="must hold the same files"):
        changed_lines(replace(app, robust=tmp_path))


@pytest.mark.processes
def test_doubles_pass_through_flwr_run(tmp_path: Path) -> None:
    app = BY_NAME["NumPy"]
    with nothing_left_running(tmp_path):
        run = flwr_run(
            app.robust,
            num_supernodes=NODES,
            home=tmp_path / "flwr",
            run_config={"num-server-rounds": 2},
            backend=Backend(init_num_cpus=1),
        ).check()
    assert (accuracy_in(run.log) or 0) > 0.5
    assert len(re.findall(r"aggregate_train: kept .* rejected 0 replies", run.log)) == 2


# -- the page -------------------------------------------------------------------------------------------------------------


def found(app: str = "NumPy", flower: str = "1.41.0", accuracy: float | None = 0.5, status: str = "completed") -> Found:
    return Found(
        app=app,
        framework="numpy 2",
        flower=flower,
        python="3.11",
        added=8,
        removed=3,
        rounds=4,
        bytes_plain=32000,
        bytes_robust=1000,
        accuracy=dict.fromkeys(KINDS, accuracy),
        status={"plain": status, "robust": status},
    )


def test_new_records_replace_those_of_the_same_app_and_flower_only() -> None:
    old = [found("JAX"), found("NumPy", "1.9.0"), found("NumPy", "1.32.0"), found("gone")]
    records = merged(old, [found("NumPy", "1.32.0", 0.75)])
    assert [(one.app, one.flower, one.accuracy["plain"]) for one in records] == [
        ("NumPy", "1.9.0", 0.5),
        ("NumPy", "1.32.0", 0.75),
        ("JAX", "1.41.0", 0.5),
    ]


def test_records_survive_their_file(tmp_path: Path) -> None:
    records = [found(), found("JAX", accuracy=None)]
    write(tmp_path / "apps.json", records)
    assert read(tmp_path / "apps.json") == records
    assert read(tmp_path / "absent.json") == []
    write(tmp_path / "none.json", [])
    assert read(tmp_path / "none.json") == []


def test_the_page_says_which_run_did_not_end_well() -> None:
    assert "| 0.500 | completed |" in page([found()])
    assert "| - | plain: failed; robust: failed |" in page([found(accuracy=None, status="failed")])
    assert found(status="failed").result == "plain: failed; robust: failed"
    assert found(accuracy=None).result.startswith("plain: completed")  # and yet it printed no accuracy
    assert "not installed: JAX, Keras." in page([], ["Keras", "JAX"])


def test_the_committed_page_shows_the_committed_records() -> None:
    records = read(ROOT / "docs/apps.json")
    missing = BY_NAME.keys() - {one.app for one in records}
    assert (ROOT / "docs/apps.md").read_text(encoding="utf-8") == page(records, missing)


def test_every_app_is_in_the_committed_page() -> None:
    assert {one.app for one in read(ROOT / "docs/apps.json")} == BY_NAME.keys()
