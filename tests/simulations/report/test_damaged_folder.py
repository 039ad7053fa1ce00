"""Damage to a folder of records is named, and costs no more than the lines that it struck."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.records.cell_index import CELLS_FILE
from flwr_robustcomp.simulations.records.cost import COSTS_FILE
from flwr_robustcomp.simulations.records.curves import ROUNDS_FILE
from flwr_robustcomp.simulations.records.provenance import RUNS_FILE
from flwr_robustcomp.simulations.report import report
from flwr_robustcomp.simulations.report.study import read_study

FILES = (RUNS_FILE, CELLS_FILE, ROUNDS_FILE, COSTS_FILE)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


BAD_LINES = [
    b'{"cell": "a", "round": 1, "err',
    b'{"cell": 3, "round": "3"}',
    b'{"cell": ["a"], "round": 1, "trimmed": 3}',
    b'{"cell": "a", "round": 1, "error": NaN}',
    b"\xff\xfe",
    b"[" * 10_000,
    b'{"cell": "a", "round": ' + b"7" * 5_000 + b"}",
]


@pytest.mark.parametrize("name", FILES)
def test_bad_lines_are_counted_and_the_first_are_named(copy: Path, name: str) -> None:
    whole, _, _ = report(copy)
    before = whole.read_text(encoding="utf-8")
    lines = (copy / name).read_bytes().splitlines(keepends=True)
    (copy / name).write_bytes(b"".join([lines[0], *(line + b"\n" for line in BAD_LINES), *lines[1:]]))
    study = read_study(copy)
    assert [line.line for line in study.skipped] == list(range(2, 2 + len(BAD_LINES)))
    assert {line.file for line in study.skipped} == {name}
    page, words, _ = report(copy)
    text = page.read_text(encoding="utf-8")
    for said in ("\n".join(words), text):
        assert f"{len(BAD_LINES)} lines of the record cannot be read, and nothing counts them. The first 5:" in said
        assert f"{name} line 2: " in said
        assert f"{name} line 7: " not in said
    notice = re.search(r'<div class="notice" role="note">\n<h2>Left out</h2>.*?</div>\n', text, re.S)
    assert notice is not None
    assert text.replace(notice[0], "") == before  # every record counts as before


def test_a_suite_that_is_no_json_is_named(copy: Path) -> None:
    (copy / RUNS_FILE).unlink()
    (copy / "digits.json").write_bytes(b"[" * 100_000)
    (copy / "squares.json").write_bytes(b"\xff")
    study = read_study(copy)
    assert [str(line) for line in study.skipped] == [
        "digits.json: is nested too deeply",
        "squares.json: is not UTF-8 at byte 1",
    ]
    assert sum(len(section.cells) for section in study.sections) > 0


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([1e308, -1e308, 5e-324, 0.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def _damage(draw: st.DrawFn, lines: list[bytes]) -> bytes:
    """Return lines of which some were dropped, doubled, torn, or have a field of another value."""
    result = []
    for line in lines:
        match draw(st.sampled_from(["keep"] * 6 + ["field", "field", "tear", "byte", "drop", "twice"])):
            case "keep":
                result.append(line)
            case "field":
                record = json.loads(line)
                place = record
                while True:
                    name = draw(st.sampled_from(sorted(place)))
                    if not (isinstance(place[name], dict) and place[name]) or draw(st.booleans()):
                        break
                    place = place[name]
                place[name] = draw(VALUES)
                result.append(json.dumps(record).encode() + b"\n")
            case "tear":
                result.append(line[: draw(st.integers(0, len(line)))])
            case "byte":
                at = draw(st.integers(0, len(line) - 1))
                result.append(line[:at] + draw(st.binary(min_size=1, max_size=3)) + line[at + 1 :])
            case "twice":
                result += [line, line]
            case "drop":
                pass
    return b"".join(result)


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_whatever_was_done_to_a_folder_there_is_a_report_or_one_line(folder: Path, tmp_path: Path, data: st.DataObject) -> None:
    copy = tmp_path / "damaged"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    keys = {cell.scenario.key.encode() for cell in read_study(folder).sections[1].cells}
    for name in FILES:
        lines = (folder / name).read_bytes().splitlines(keepends=True)
        few = [line for line in lines if name == RUNS_FILE or any(key in line for key in keys)]
        (copy / name).write_bytes(data.draw(_damage(few), label=name))
    if data.draw(st.booleans()):
        (copy / "squares.json").write_bytes(data.draw(_damage([(folder / "squares.json").read_bytes()])))
    with contextlib.suppress(ConfigurationError):
        page, words, _ = report(copy)
        page.read_text(encoding="utf-8")
        assert all(line.isprintable() or "\u202f" in line or "\u00a0" in line for line in words)
