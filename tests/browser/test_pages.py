"""The site as a reader has it: opened from files, with no network, at the width of a phone too.

`make test-browser` runs these; they need a Chromium (on PATH, or CHROMIUM=path).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

SITE = Path(__file__).resolve().parents[2] / "book/_build/html"
PAGES = sorted(
    str(p.relative_to(SITE))
    for folder in ("book", "notebooks")
    for p in (SITE / folder).glob("*.html")
)

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    assert program, "no Chromium on PATH: install one, or name it by CHROMIUM=path"
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def reader(browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    """A blank page, and the list of what went wrong or left the site while it was used."""
    context = browser.new_context()
    page, trouble = context.new_page(), []
    page.on("console", lambda m: trouble.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: trouble.append(str(e)))
    page.on("requestfailed", lambda r: trouble.append(f"failed: {r.url}"))
    page.on(
        "request",
        lambda r: (
            None if r.url.startswith(("file:", "data:")) else trouble.append(f"asked {r.url}")
        ),
    )
    yield page, trouble
    context.close()


def test_there_are_pages() -> None:
    assert "book/index.html" in PAGES, f"{SITE} is not built: `make book`"


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [360, 1280])
def test_page_opens_from_its_file(reader: tuple[Page, list[str]], name: str, width: int) -> None:
    page, trouble = reader
    page.set_viewport_size({"width": width, "height": 800})
    page.goto((SITE / name).as_uri(), wait_until="load")
    assert page.locator("article h1").first.is_visible()
    assert page.locator(".katex-error").count() == 0
    for picture in page.locator("article img").all():
        assert picture.evaluate("i => i.complete && i.naturalWidth > 0")
    overflow = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert overflow <= 0, f"{name} scrolls sideways by {overflow} px at {width} px"
    assert not trouble, trouble


def test_mathematics_uses_its_own_fonts(reader: tuple[Page, list[str]]) -> None:
    page, trouble = reader
    page.goto((SITE / "book/index.html").as_uri(), wait_until="load")
    assert page.locator(".katex").count() > 0
    assert page.evaluate("document.fonts.ready.then(f => f.check('1em KaTeX_Main'))")
    assert not trouble, trouble


def test_theme_choice_persists(reader: tuple[Page, list[str]]) -> None:
    page, trouble = reader
    page.emulate_media(color_scheme="light")
    page.goto((SITE / "book/index.html").as_uri(), wait_until="load")
    theme = "document.documentElement.dataset.theme"
    for _ in range(3):  # auto, light, dark in some order
        if page.evaluate(theme) == "dark":
            break
        page.locator("button.theme-switch-button:visible").first.click()
    assert page.evaluate(theme) == "dark"
    page.goto((SITE / "book/references.html").as_uri(), wait_until="load")
    assert page.evaluate(theme) == "dark"
    assert not trouble, trouble


def test_search_finds_a_theorem(reader: tuple[Page, list[str]]) -> None:
    page, trouble = reader
    page.goto((SITE / "search.html").as_uri() + "?q=dilation", wait_until="load")
    page.locator("#search-results li a").first.wait_for()
    assert "notebooks/theorem-1" in "".join(
        str(a.get_attribute("href")) for a in page.locator("#search-results li a").all()
    )
    assert not trouble, trouble
