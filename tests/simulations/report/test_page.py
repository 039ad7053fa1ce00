"""What can be held about the page without a browser."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

import flwr_robustcomp.simulations.report as package
from flwr_robustcomp.simulations.report.page import chapters
from flwr_robustcomp.simulations.report.study import read_study

VOID = {"meta", "link", "input", "br", "img", "hr"}


class Document(HTMLParser):
    """Every element with its attributes, in order; raises where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


@pytest.fixture(scope="module")
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document(text: str) -> Document:
    return Document(text)


def _all(document: Document, tag: str) -> list[dict[str, str]]:
    return [attributes for name, attributes in document.elements if name == tag]


def test_nothing_points_outside(document: Document, text: str) -> None:
    for _, attributes in document.elements:
        for name in ("src", "href", "srcset", "action", "poster", "data", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert "script" not in {tag for tag, _ in document.elements}
    assert not re.search(r"https?:|@import|url\(", text)
    assert len(text) < 1_000_000


def test_ids_are_unique_and_every_reference_has_its_target(document: Document) -> None:
    ids = Counter(attributes["id"] for _, attributes in document.elements if "id" in attributes)
    assert [name for name, count in ids.items() if count > 1] == []
    links = {a["href"].removeprefix("#") for a in _all(document, "a")}
    names = {one for _, a in document.elements for one in a.get("aria-labelledby", "").split()}
    assert links
    assert names
    assert links | names <= ids.keys()


def test_every_chart_has_a_name_and_a_table(document: Document, text: str) -> None:
    charts = [a for a in _all(document, "svg") if a.get("class") == "chart"]
    assert len(charts) > 10
    assert all(a["role"] == "img" and len(a["aria-labelledby"].split()) == 2 for a in charts)
    blocks = text.count('<details class="block"')
    assert blocks == len(re.findall(r"The same as a table</summary>\s*<div class=\"scroll\"[^>]*>\s*<table>", text)) > 4
    assert len(_all(document, "table")) == text.count("<caption>")


def test_headings_go_down_one_level_at_a_time(document: Document) -> None:
    levels = [int(tag[1]) for tag, _ in document.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert ("html", {"lang": "en"}) in document.elements
    assert any(a.get("name") == "viewport" for a in _all(document, "meta"))


def test_names_from_a_suite_are_text_and_never_markup(text: str) -> None:
    assert "<vote>" not in text
    assert "&lt;vote&gt; &amp; co" in text


def test_the_page_says_how_to_repeat_it(text: str, folder: Path) -> None:
    assert "robustcomp compare digits.toml squares.toml" in text
    study = read_study(folder)
    for section in study.sections:
        assert all(cell.scenario.key in text for cell in section.cells)
    assert study.starts[0]["versions"]["torch"] in text


def test_every_topic_is_there(folder: Path) -> None:
    digits, squares = chapters(read_study(folder))
    assert [block.title for block in digits.blocks["rounds"]] == ["l1-sign", "top-k"]  # sign joins their panels
    labels = [label for label, _ in digits.blocks["rounds"][0].legend]
    assert labels == ["ours", "fed-avg", "<vote> & co (sign)"]
    assert [block.title for block in digits.blocks["bytes"]] == ["ours", "fed-avg"]
    assert [block.title for block in squares.blocks["bytes"]] == ["all defences"]
    assert [chart.title for chart in digits.blocks["found"][0].charts] == ["shifted-labels", "gaussian-noise"]
    assert [block.title for block in digits.blocks["norms"]] == ["ours, l1-sign", "ours, top-k"]
    assert digits.cost is not None
    assert {block.charts[0].y.log for block in squares.blocks["rounds"]} == {True}


# -- colours, by WCAG 2.2's formula for contrast ----------------------------------------------------------------------------

CSS = (Path(package.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")


def _palettes() -> dict[str, dict[str, str]]:
    light, dark = (
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", CSS, re.S)[:2]
    )
    assert light.keys() == dark.keys()
    return {"light": light, "dark": dark}


def _luminance(colour: str) -> float:
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_formula_gives_its_known_values() -> None:
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)
    assert _contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_on_every_ground_it_stands_on(scheme: str) -> None:
    colours = _palettes()[scheme]
    grounds = [colours[name] for name in ("page", "panel")]
    for name in ("text", "soft", "link"):
        assert min(_contrast(colours[name], ground) for ground in grounds) >= 4.5
    heat = [colour for name, colour in colours.items() if re.fullmatch(r"h\d", name)]
    assert len(heat) == 7
    assert min(_contrast(colours["text"], ground) for ground in [*heat, colours["notice"]]) >= 4.5
    assert _contrast(colours["link"], colours["notice"]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_have_contrast_on_the_panel(scheme: str) -> None:
    colours = _palettes()[scheme]
    lines = [colour for name, colour in colours.items() if re.fullmatch(r"s\d", name)]
    assert len(lines) == 8
    assert min(_contrast(line, colours["panel"]) for line in lines) >= 3  # WCAG 1.4.11, graphical objects
