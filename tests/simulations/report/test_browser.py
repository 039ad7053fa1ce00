"""The page in a real browser; skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulations.report.browser import EXECUTABLE, Page, chromium

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium on this machine"),
]

_LUMINANCE = """
const channel = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const rgb = text => text.match(/[\\d.]+/g).map(Number);
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const own = e => rgb(getComputedStyle(e).backgroundColor);
const ground = e => own(e)[3] === 0 ? ground(e.parentElement) : own(e);
const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with chromium() as page:
        yield page


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_it_opens_without_errors_and_without_the_network(tab: Page, page: Path, width: int, dark: bool) -> None:
    tab.requests.clear()
    tab.open(page, width=width, dark=dark)
    assert tab.complaints == []
    assert [url for url in tab.requests if not url.startswith(("file:", "data:"))] == []
    assert any(url == page.as_uri() for url in tab.requests)  # else nothing was listened to


@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_is_wider_than_the_window(tab: Page, page: Path, width: int) -> None:
    tab.open(page, width=width)
    tab.script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert tab.script("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert tab.script("document.querySelectorAll('.chart').length") > 10
    wide = "[...document.querySelectorAll('p, h1, h2, h3, figure, nav, details, dl')]"
    assert tab.script(f"{wide}.filter(e => e.getBoundingClientRect().right > innerWidth + 1).length") == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_can_be_read(tab: Page, page: Path, dark: bool) -> None:
    tab.open(page, width=1280, dark=dark)
    tab.script("document.querySelectorAll('details').forEach(d => d.open = true)")
    faint = tab.script(
        f"""(() => {{ {_LUMINANCE}
        const found = [];
        for (const e of document.querySelectorAll('body *')) {{
          if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || e.closest('title, desc, style')) continue;
          const style = getComputedStyle(e), text = rgb(e.closest('svg') ? style.fill : style.color);
          const value = contrast(luminance(text), luminance(ground(e)));
          if (value < 4.5) found.push([e.outerHTML.slice(0, 80), value]);
        }}
        return found; }})()"""
    )
    assert faint == []
    background = tab.script("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 300) is dark


def test_a_keyboard_reaches_everything(tab: Page, page: Path) -> None:
    tab.open(page, width=1280)
    tab.press("Tab", 9)
    assert tab.script("document.activeElement.className") == "skip"
    assert tab.script("document.activeElement.getBoundingClientRect().left") >= 0
    tab.press("Enter", 13, "\r")
    assert tab.script("document.activeElement.id") == "main"

    tab.script("document.querySelector('.block:not([open]) > summary').focus()")
    tab.press("Enter", 13, "\r")
    assert tab.script("document.activeElement.parentElement.open") is True

    # A space on a line's box hides the line in all panels of its block, and only there.
    tab.script("document.querySelector('.block[open] input').focus()")
    hidden = "[...document.querySelectorAll('.line')].filter(e => getComputedStyle(e).display === 'none').length"
    assert tab.script(hidden) == 0
    tab.press(" ", 32, " ")
    inside = "document.activeElement.closest('.block').querySelectorAll('.k0').length"
    assert tab.script(hidden) == tab.script(inside) > 0
    tab.press(" ", 32, " ")

    stops = "[...document.querySelectorAll('a, summary, input, [tabindex]')]"
    assert tab.script(f"{stops}.filter(e => e.tabIndex > 0).length") == 0
    assert tab.script("[...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0)") is True
