"""Every page on a server: in both themes, on a phone; its weight, stillness and accessibility.

`make test-browser` runs these; they need a Chromium (on PATH, or CHROMIUM=path).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from browser.conftest import ROOT, SITE, Reader, pages

AXE = ROOT / ".cache/axe-core/axe.min.js"
PICTURES = ROOT / "book/_build/screenshots"
HEAVIEST = 1_500_000  # bytes that a page may load, uncompressed
LARGEST_SHIFT = 0.05  # of the layout; 0.1 is what the web calls good

pytestmark = pytest.mark.browser


def test_there_are_pages() -> None:
    assert "book/index.html" in pages(), f"{SITE} is not built: `make book`"


def violations(reader: Reader) -> list[str]:
    """What axe-core calls more than minor; of coqdoc's own pages, what it calls serious."""
    allowed = ["minor", "moderate"] if "/_static/proofs/" in reader.page.url else ["minor"]
    reader.page.evaluate(AXE.read_text(encoding="utf-8"))
    found = reader.page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{v['impact']} {v['id']}: {v['help']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for v in found
        if v["impact"] not in allowed
        for node in v["nodes"][:3]
    ]


def photograph(reader: Reader, name: str, kind: str) -> None:
    """Keep what the page looks like."""
    path = PICTURES / f"{Path(name).stem}-{kind}.png"
    path.parent.mkdir(exist_ok=True)
    reader.page.screenshot(path=path, full_page=True)


@pytest.mark.parametrize("name", pages())
def test_page_on_a_server(visitor: Reader, name: str) -> None:
    """Light, dark, phone; weight, stillness and accessibility."""
    page = visitor.page
    visitor.open(name)
    assert page.evaluate("window.shifted") <= LARGEST_SHIFT
    assert visitor.weight <= HEAVIEST, f"{name} loads {visitor.weight} bytes"
    found = {"light": violations(visitor)}
    photograph(visitor, name, "light")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("['dark', undefined].includes(document.documentElement.dataset.theme)")
    found["dark"] = violations(visitor)
    photograph(visitor, name, "dark")
    page.set_viewport_size({"width": 360, "height": 800})
    overflow = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    photograph(visitor, name, "phone")
    assert overflow <= 0, f"{name} scrolls sideways by {overflow} px on a phone"
    faults = [f"{theme}: {fault}" for theme, list_ in found.items() for fault in list_]
    assert not faults, "\n".join(["", *faults])
    assert not visitor.trouble, visitor.trouble
