"""Every page from its file: with no network, and with no script."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from browser.conftest import SITE, Reader, pages
from browser.test_access import OWN

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("name", pages())
def test_page_from_its_file(reader: Reader, name: str) -> None:
    reader.open(name)
    page = reader.page
    assert page.locator("h1:visible").count() > 0
    assert page.locator(".katex-error").count() == 0
    whole = "all => all.every(i => i.complete && i.naturalWidth > 0)"
    assert page.locator("article img").evaluate_all(whole)
    assert not reader.trouble, reader.trouble


@pytest.mark.parametrize("name", OWN)
def test_text_needs_no_script(browser: Browser, name: str) -> None:
    shown = []
    for scripts in (True, False):
        context = browser.new_context(java_script_enabled=scripts, color_scheme="light")
        page = context.new_page()
        page.goto((SITE / name).as_uri(), wait_until="load")
        words = (
            page.locator("article").first.locator(":is(p, li, dd):not(figure *)").all_inner_texts()
        )
        shown.append(" ".join(" ".join(words).split()))
        context.close()
    assert shown[1] == shown[0] != ""
