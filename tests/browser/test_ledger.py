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


def test_summary_is_reached_by_keyboard_and_leads_to_rows(reader: Reader) -> None:
    page = reader.page
    reader.open("book/claims.html")
    links = page.locator(".ledger-summary th a")
    sections = dict.fromkeys(row["section"] for row in ROWS)
    assert links.all_inner_texts() == list(sections)
    first = next(row["id"] for row in ROWS if row["section"] == list(sections)[-1])
    links.last.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == f"#claim-{first}"
    assert page.locator(f"#claim-{first}").is_visible()
    assert not reader.trouble, reader.trouble


def test_rules_are_printed(reader: Reader) -> None:
    page = reader.page
    reader.open("book/claims.html")
    rule = page.locator("article.claim p.rule").first
    assert not rule.is_visible()
    page.emulate_media(media="print")
    assert rule.is_visible()
