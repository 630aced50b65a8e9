"""The ledger's picture by keyboard, and what of it is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from browser.conftest import Reader

pytestmark = pytest.mark.browser
ROWS = json.loads(
    (Path(__file__).resolve().parents[2] / "book/results/claims.json").read_text("utf-8")
)


def test_tiles_are_reached_by_keyboard_and_lead_to_rows(reader: Reader) -> None:
    page, trouble = reader.page, reader.trouble
    reader.open("book/claims.html")
    tiles = page.locator(".ledger-picture .tiles a")
    assert tiles.count() == len(ROWS)
    tiles.nth(0).focus()
    for row in ROWS:
        focused = page.evaluate("document.activeElement.getAttribute('href')")
        assert focused == f"#claim-{row['id']}"
        page.keyboard.press("Tab")
    tiles.nth(10).focus()
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == f"#claim-{ROWS[10]['id']}"
    assert page.locator(f"#claim-{ROWS[10]['id']}").is_visible()
    assert not trouble, trouble


def test_every_shape_has_its_name_and_no_two_look_alike(reader: Reader) -> None:
    page = reader.page
    reader.open("book/claims.html")
    legend = page.locator(".ledger-picture .legend svg")
    drawn = {svg.get_attribute("aria-label"): svg.inner_html() for svg in legend.all()}
    assert len(drawn) == legend.count() == len(set(drawn.values()))
    used = page.locator(".ledger-picture .tiles svg").all()
    assert {svg.get_attribute("aria-label") for svg in used} == set(drawn)


def test_rules_are_printed(reader: Reader) -> None:
    page = reader.page
    reader.open("book/claims.html")
    rule = page.locator("article.claim p.rule").first
    assert not rule.is_visible()
    page.emulate_media(media="print")
    assert rule.is_visible()
