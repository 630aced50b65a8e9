"""The book as one PDF: the pages of the built site, in order, typeset for paper by Chromium.

    python book/pdf.py            # writes book/_build/pdf/companion.pdf

Nothing is fetched. The pages are joined into one document, whose links lead within it; it is
printed twice, since the page numbers of the contents are known only after the first time.
"""

from __future__ import annotations

import html
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag
from playwright.sync_api import Page, sync_playwright
from pypdf import PdfReader

from companion.theory.files import whole

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "book/_build/html"
TARGET = ROOT / "book/_build/pdf/companion.pdf"
STYLES = (
    "pygments.css",
    "katex/katex.min.css",
    "proof.css",
    "custom.css",
    "claims.css",
    "print.css",
)
# What is of no use on paper. Code that only draws is closed on the page, and left out.
DROPPED = (
    "script:not([type='application/json']), .headerlink, .copybtn, noscript, "
    "details.above-input, .drawn-by, .hold, .live-bar, details.hide > summary"
)
# A formula or a title too wide for the page is set smaller (a title of two lines loses a space in
# the PDF's outline); a drawing has to be there before it is printed.
FIT = """() => {
  for (const f of document.querySelectorAll("section.chapter :is(h1, div.math, table)")) {
    const room = f.closest("section.chapter").clientWidth;
    const size = parseFloat(getComputedStyle(f).fontSize);
    if (f.scrollWidth > room) f.style.fontSize = `${(0.97 * size * room) / f.scrollWidth}px`;
  }
}"""
DRAWN = """() => [...document.querySelectorAll(".explore .drawing, .live-drawing")]
  .every(place => place.querySelector("svg")?.children.length)"""


def contents() -> list[tuple[str, list[str]]]:
    """List the parts of the book with their pages, as in ``_toc.yml``; first the root page."""
    toc = yaml.safe_load((ROOT / "book/_toc.yml").read_text(encoding="utf-8"))
    parts = [(p["caption"], [c["file"] for c in p["chapters"]]) for p in toc["parts"]]
    return [("", [toc["root"]]), *parts]


def slug(page: str, anchor: str = "") -> str:
    """Name a place within the joined document."""
    return page.replace("/", "-") + (f"--{anchor}" if anchor else "")


def _tags(soup: Tag, selector: str) -> Iterator[Tag]:
    yield from soup.select(selector)


def chapter(page: str, pages: set[str]) -> Tag:
    """Make a page of the site a chapter: identifiers unique, links led within the document."""
    text = (SITE / f"{page}.html").read_text(encoding="utf-8")
    article = BeautifulSoup(text, "html.parser").find("article")
    if not isinstance(article, Tag):
        raise SystemExit(f"{page}.html has no article: `make book` builds it.")
    for tag in _tags(article, DROPPED):
        tag.decompose()
    for tag in _tags(article, "details"):
        tag["open"] = ""
        if tag.find("summary", recursive=False) is None:  # else a browser puts one of its own
            tag.name, tag.attrs = "div", {}
    for tag in _tags(article, "[id]"):
        tag["id"] = slug(page, str(tag["id"]))
    for tag in _tags(article, "img[src]"):
        if not str(tag["src"]).startswith("data:"):
            tag["src"] = (SITE / page).parent.joinpath(unquote(str(tag["src"]))).resolve().as_uri()
    for tag in _tags(article, "a[href]"):
        parts = urlsplit(str(tag["href"]))
        if parts.scheme:
            continue
        path = (SITE / page).parent / unquote(parts.path) if parts.path else SITE / f"{page}.html"
        target = os.path.relpath(path, SITE).removesuffix(".html")
        if target in pages:
            tag["href"] = "#" + slug(target, unquote(parts.fragment))
        else:
            tag.unwrap()  # data, notebooks, code: on the site
    article.name = "section"
    article.attrs = {"class": "chapter", "id": slug(page)}
    return article


def joined(numbers: dict[str, int]) -> str:
    """Join the document; ``numbers`` are the pages on which identifiers stand, once known."""
    settings = yaml.safe_load((ROOT / "book/_config.yml").read_text(encoding="utf-8"))
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    parts = contents()
    pages = {page for _, names in parts for page in names}
    listed, body = "", ""
    for caption, names in parts:
        listed += f'<p class="part">{html.escape(caption)}</p>' if caption else ""
        for page in names:
            made = chapter(page, pages)
            heads = [made.find("h1"), *made.find_all("h2")]
            for head in filter(None, heads):
                at = str(head.find_parent(id=True)["id"])
                listed += (
                    f'<p class="{head.name}"><a href="#{at}"><span>{head.decode_contents()}</span>'
                    f"<i></i><b>{numbers.get(at, '')}</b></a></p>"
                )
            body += str(made)
    styles = "".join(f'<link rel="stylesheet" href="_static/{name}">' for name in STYLES)
    title = html.escape(settings["title"])
    return f"""<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">
<title>{title}</title>{styles}<script defer src="_static/companion.js"></script></head><body>
<header class="title"><h1>{title}</h1><p>{html.escape(cited["title"])}</p>
<p>Version {cited["version"]}, {settings["copyright"]}</p></header>
<nav class="contents"><h1>Contents</h1>{listed}
<p class="note">On the site each page can be downloaded as a program, figures can be explored,
and the code of the figures unfolds; it is left out here.</p></nav>{body}</body></html>"""


def printed(page: Page, text: str, target: Path) -> None:
    """Print one document, which lies in the site meanwhile, so that it finds its files."""
    source = SITE / "print.html"
    source.write_text(text, encoding="utf-8")
    try:
        page.goto(source.as_uri(), wait_until="load")
        page.emulate_media(media="print")
        page.wait_for_function(DRAWN)
        page.evaluate("document.fonts.ready")
        page.evaluate(FIT)
        page.pdf(path=target, prefer_css_page_size=True, outline=True, tagged=True)
    finally:
        source.unlink()


def main() -> None:
    """Print, read the page numbers, print again."""
    if not (SITE / "index.html").is_file():
        raise SystemExit(f"{SITE} is not built: `make book` builds it.")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not program:
        raise SystemExit("No Chromium on PATH: install one, or name it by CHROMIUM=path.")
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    with whole(TARGET) as unfinished, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        # as wide as the text on paper, so that what fits there fits here
        page = browser.new_page(viewport={"width": 642, "height": 900})
        printed(page, joined({}), unfinished)
        numbers = page_numbers(unfinished)
        printed(page, joined(numbers), unfinished)
        browser.close()
        if page_numbers(unfinished) != numbers:
            raise SystemExit("the page numbers changed with the contents: leave room for them.")
    pages = len(PdfReader(TARGET).pages)
    print(f"{TARGET}: {pages} pages, {TARGET.stat().st_size / 1e6:.1f} MB")


def page_numbers(path: Path) -> dict[str, int]:
    """Find the page, from 1, of each place that a link leads to."""
    reader = PdfReader(path)
    found: dict[str, Any] = reader.named_destinations
    numbers = {k: reader.get_destination_page_number(d) for k, d in found.items()}
    return {re.sub("^/", "", k): n + 1 for k, n in numbers.items() if n is not None}


if __name__ == "__main__":
    main()
