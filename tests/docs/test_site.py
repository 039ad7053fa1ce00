"""The built site in a real browser: without a network, on a phone's width, in the dark; skipped where it cannot be built."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT
from tests.simulations.report.browser import EXECUTABLE, Page, chromium

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="the extra docs is not installed (`make docs`)"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    made = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    if EXECUTABLE is None:
        pytest.skip("no Chromium on this machine")
    with chromium() as page:
        yield page


def test_every_page_is_there(site: Path) -> None:
    for page in PAGES:
        if page != "README.md":
            assert (site / page.removeprefix("docs/")).with_suffix(".html").exists(), page


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    import flwr_robustcomp

    reference = (site / "reference/api/flwr_robustcomp.html").read_text(encoding="utf-8")
    missing = [name for name in flwr_robustcomp.__all__ if f'id="flwr_robustcomp.{name}"' not in reference]
    assert missing == []


def test_every_command_is_in_the_reference(site: Path) -> None:
    page = (site / "reference/command-line.html").read_text(encoding="utf-8")
    for command in ("run", "compare", "report", "reproduce", "advise", "compressors"):
        assert f"robustcomp {command}</code>" in page, command
    assert "--checkpoint" in page


def test_pages_fetch_nothing_and_fit_a_phone(site: Path, tab: Page) -> None:
    for path in sorted(site.rglob("*.html")):
        if path.name == "404.html":
            continue  # made for a server, from whose root it takes its styles
        tab.requests.clear()
        tab.complaints.clear()
        tab.open(path, width=390)
        assert tab.complaints == [], path
        assert [url for url in tab.requests if not url.startswith(("file:", "data:", "about:", "blob:"))] == [], path
        assert tab.script("document.documentElement.scrollWidth") <= 390, path


def test_dark_is_dark(site: Path, tab: Page) -> None:
    for dark in (False, True):
        tab.open(site / "tutorial.html", width=1280, dark=dark)
        red = "Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
        assert (tab.script(red) < 64) is dark


def test_the_search_works_without_a_server(site: Path, tab: Page) -> None:
    tab.open(site / "index.html", width=1280)
    tab.script(
        "(box => { box.focus(); box.value = 'majority'; box.dispatchEvent(new Event('input', {bubbles: true})) })"
        "(document.querySelector('[data-md-component=search-query]'))"
    )
    for _ in range(200):
        if found := tab.script("document.querySelectorAll('.md-search-result__item').length"):
            break
        tab.script("new Promise(done => setTimeout(done, 25))")
    assert found > 3
