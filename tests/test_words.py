"""The book as text: every figure has a caption, a description and its code; words are spelt right.

Of the built site: `make test` builds it first; alone, this file wants an earlier `make book`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup, Tag
from spellchecker import SpellChecker

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "book/_build/html"
TOC = yaml.safe_load((ROOT / "book/_toc.yml").read_text(encoding="utf-8"))
PAGES = [TOC["root"], *(c["file"] for part in TOC["parts"] for c in part["chapters"])]
# Not prose: code, formulas, what programs print, names in references, keys on the page.
NOT_PROSE = "pre, code, script, style, .math, .katex, .citation-list, .headerlink, svg, .kbd, kbd"
WORD = re.compile(r"(?<![\w])[A-Za-zÀ-ž]+(?:['’][A-Za-z]+)*(?![\w])")  # not parts of hashes


def article(name: str) -> Tag:
    text = (SITE / f"{name}.html").read_text(encoding="utf-8")
    found = BeautifulSoup(text, "html.parser").find("article")
    assert isinstance(found, Tag)
    return found


def described(figure: Tag) -> bool:
    """Whether each picture of a figure has a text for those who do not see it."""
    pictures = figure.select("img, [role=img], [data-alt]")
    texts = [str(p.get("alt") or p.get("aria-label") or p.get("data-alt") or "") for p in pictures]
    return bool(texts) and all(len(text.split()) >= 5 for text in texts)


def explained(figure: Tag) -> bool:
    """Whether a figure has a caption of more than a word."""
    caption = figure.find("figcaption")
    return caption is not None and len(caption.get_text().split()) >= 5


def drawn_by(figure: Tag) -> bool:
    """Whether the code that drew a figure is beside it, or linked from it."""
    cell = figure.find_parent("div", class_="cell")
    beside = cell is not None and cell.select_one(".cell_input pre") is not None
    return beside or figure.select_one("figcaption a.drawn-by[href]") is not None


def faults(body: Tag) -> list[str]:
    """What the figures of a page lack."""
    found = [
        f"{i} stands in no figure" for i in body.find_all("img") if not i.find_parent("figure")
    ]
    figures = body.find_all("figure")
    for number, figure in enumerate(figures, start=1):
        name = figure.get("id") or f"figure {number}"
        found += [f"{name} has no caption"] * (not explained(figure))
        found += [f"{name} has a picture without description"] * (not described(figure))
        found += [f"{name} has no way back to its code"] * (not drawn_by(figure))
    return found


@pytest.mark.parametrize("name", PAGES)
def test_figures_have_caption_description_and_code(name: str) -> None:
    found = [fault[:200] for fault in faults(article(name))]
    assert not found, "\n".join(found)


def test_there_are_figures() -> None:
    assert sum(len(article(name).find_all("figure")) for name in PAGES) > 15


@pytest.mark.parametrize(
    ("markup", "complaint"),
    [
        ('<img alt="a b c d e">', "in no figure"),
        ('<figure><img alt="a b c d e"></figure>', "no caption"),
        ("<figure><img><figcaption>a b c d e</figcaption></figure>", "without description"),
        ('<figure><img alt="a b c d e"><figcaption>a b c d e</figcaption></figure>', "no way back"),
    ],
)
def test_the_check_sees_what_is_missing(markup: str, complaint: str) -> None:
    assert any(complaint in fault for fault in faults(BeautifulSoup(markup, "html.parser")))


def misspelt(text: str, known: set[str], speller: SpellChecker) -> list[str]:
    """The words of a text that neither the dictionary nor the list has."""
    words = {w.lower().replace("’", "'").removesuffix("'s") for w in WORD.findall(text)}
    return sorted(w for w in speller.unknown(words) if len(w) > 1 and w not in known)


@pytest.fixture(scope="module")
def speller() -> SpellChecker:
    return SpellChecker(language="en", distance=1)


@pytest.fixture(scope="module")
def known() -> set[str]:
    words = (ROOT / "tests/words.txt").read_text(encoding="utf-8").split()
    assert words == sorted(words), "tests/words.txt: keep it sorted"
    return set(words)


@pytest.mark.parametrize("name", PAGES)
def test_words_are_spelt_right(name: str, speller: SpellChecker, known: set[str]) -> None:
    body = article(name)
    packages = ", table, details" if name == "book/provenance" else ""
    for tag in body.select(NOT_PROSE + packages):
        tag.replace_with(" ")
    found = misspelt(body.get_text(" "), known, speller)
    assert not found, f"{found}: correct them, or add them to tests/words.txt"


def test_readme_is_spelt_right(speller: SpellChecker, known: set[str]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"(?ms)^```.*?^```|^ {4}.*?$|`[^`]*`|\]\([^)]*\)", " ", text)
    assert not (found := misspelt(text, known, speller)), found


def test_the_speller_sees_a_mistake(speller: SpellChecker) -> None:
    text = "An orthogonal matrix is not contractiv, a network’s statez are many."
    assert misspelt(text, {"contractive"}, speller) == ["contractiv", "statez"]
