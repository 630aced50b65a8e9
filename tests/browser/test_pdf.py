"""The PDF: every page of the book is in it, its contents are right, and it is whole."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml
from pypdf import PdfReader
from pypdf.generic import Destination

from browser.conftest import ROOT

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def book() -> PdfReader:
    subprocess.run([sys.executable, ROOT / "book/pdf.py"], check=True)
    return PdfReader(ROOT / "book/_build/pdf/companion.pdf")


def headings(outline: list[object]) -> list[str]:
    """Titles of an outline, nested ones included."""
    found: list[str] = []
    for entry in outline:
        if isinstance(entry, list):
            found += headings(entry)
        elif isinstance(entry, Destination):
            found.append(" ".join(str(entry.title).split()))
    return found


def text(book: PdfReader, number: int) -> str:
    """One page's text, from its number in the margin on."""
    return " ".join(book.pages[number].extract_text().split())


def test_every_chapter_is_in_the_outline(book: PdfReader) -> None:
    toc = yaml.safe_load((ROOT / "book/_toc.yml").read_text(encoding="utf-8"))
    names = [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]
    listed = headings(book.outline)
    for name in names:
        source = ROOT / f"{name}.md"
        title = re.search(r"^# (.*)$", source.read_text(encoding="utf-8"), re.MULTILINE)
        if name == "book/contribute":  # takes its text from elsewhere
            title = re.search(r"^# (.*)$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
        assert title
        assert title[1] in listed


def test_contents_name_the_right_pages(book: PdfReader) -> None:
    """The number printed beside a title is that of the page on which the title stands."""
    start = next(
        i for i in range(5) if text(book, i).endswith("Contents") or " Contents " in text(book, i)
    )
    listed = ""
    for number in range(start, start + 5):
        listed += book.pages[number].extract_text() + "\n"
    for theorem in ("Theorem 1: twice the states are enough", "Symbols and words"):
        found = re.search(re.escape(theorem) + r"\s+(\d+)", " ".join(listed.split()))
        assert found, theorem
        assert text(book, int(found[1]) - 1).startswith(f"{found[1]} {theorem}")


def test_pages_have_their_numbers_and_nothing_is_unresolved(book: PdfReader) -> None:
    assert len(book.pages) > 40
    pages = [text(book, i) for i in range(len(book.pages))]
    for number, page in enumerate(pages[1:], start=2):
        assert page.startswith(f"{number} "), f"page {number} does not bear its number"
        assert "??" not in page
    whole = " ".join(pages)
    for statement in ("Theorem 1", "Theorem 2", "Theorem 3", "Proof"):
        assert statement in whole
    for control in ("Run this page here", "Show the", "Details", "Hold still"):
        assert control not in whole


def test_pages_are_of_paper_and_the_file_is_a_document(book: PdfReader) -> None:
    width, height = (float(book.pages[0].mediabox[i]) for i in (2, 3))
    assert (round(width), round(height)) == (595, 842)  # A4 in points
    assert book.metadata is not None
    assert book.metadata.title == "Unitary and contractive RNNs"
    assert "/StructTreeRoot" in book.trailer["/Root"]  # tagged, for screen readers
    assert str(book.trailer["/Root"]["/Lang"]).startswith("en")
