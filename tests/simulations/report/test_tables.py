from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.simulations.report.tables import Table

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\u202f\x00"), max_size=12)


@given(st.lists(st.lists(TEXT, min_size=3, max_size=3), max_size=4))
def test_csv_comes_back(rows: list[list[str]]) -> None:
    text = Table("t", "caption", ["a", "b,\n", '"c"'], rows).csv()
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["a", "b,\n", '"c"'], *rows]


def test_latex_is_escaped_and_complete() -> None:
    table = Table("heat map", "50 % of a_b & c", ["defence", "x^2"], [["{ours}", "92 ± 2\u202f%"], ["\\", "\N{EN DASH}"]])
    lines = table.latex().splitlines()
    assert lines[2] == r"\caption{50 \% of a\_b \& c}"
    assert lines[3] == r"\label{tab:heat-map}"
    assert lines[4] == r"\begin{tabular}{lr}"
    assert lines[6] == r"defence & x\textasciicircum{}2 \\"
    assert lines[8] == r"\{ours\} & 92 $\pm$ 2\,\% \\"
    assert lines[9] == r"\textbackslash{} & -- \\"
    opened = [line for line in lines if line.startswith(r"\begin")]
    closed = [line for line in lines if line.startswith(r"\end")]
    assert [line.split("}")[0][7:] for line in opened] == [line.split("}")[0][5:] for line in reversed(closed)]
