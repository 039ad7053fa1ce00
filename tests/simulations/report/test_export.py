from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

import pytest

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.report import export, report
from flwr_robustcomp.simulations.report.page import chapters
from flwr_robustcomp.simulations.report.study import read_study


def test_every_table_becomes_csv_and_latex(folder: Path, tmp_path: Path) -> None:
    _, _, files = report(folder, csv=tmp_path / "csv", latex=tmp_path / "tex")
    tables = [table for chapter in chapters(read_study(folder)) for table in chapter.tables]
    assert len(files) == 2 * len(tables) == len(set(files))
    with (tmp_path / "csv" / "digits-heat-map.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["defence", "compressor", "no attack", "shifted-labels", "gaussian-noise"]
    assert len(rows) == 2 * 2 + 1
    assert (tmp_path / "tex" / "digits-heat-map.tex").read_text(encoding="utf-8").startswith(r"\begin{table}")


@pytest.mark.parametrize("ending", ["svg", "pdf"])
def test_every_block_becomes_a_picture(folder: Path, tmp_path: Path, ending: export.Format) -> None:
    parts = chapters(read_study(folder))[1:]
    files = export.export_figures(parts, tmp_path, ending)
    assert len(files) == 1 + sum(len(blocks) for blocks in parts[0].blocks.values()) == len(set(files))
    for path in files:
        if ending == "svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
        else:
            assert path.read_bytes().startswith(b"%PDF")


def test_an_unknown_format_is_refused_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="figures must be one of svg, pdf, got 'gif'"):
        report(folder, csv=tmp_path / "csv", figures="gif")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"folder must be writable, got '.*file'"):
        report(folder, csv=tmp_path / "file")
