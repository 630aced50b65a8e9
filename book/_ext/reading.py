"""Comforts of reading: proofs that fold, previews of links, text for the search, data of a page.

The previews are collected after a build from the pages themselves into one script, which
``companion.js`` loads when a reader first points at a link; a page opened from a file may load a
script, but nothing else.

A Sphinx extension, loaded by ``_config.yml``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, Tag
from docutils import nodes
from sphinx.application import Sphinx
from sphinx_proof.nodes import proof_node

# What the theme and its extensions get wrong, and what is right. The first two: a page knows its
# colours before it is drawn, also without scripts, so that no line moves.
MENDED = {
    'localStorage.getItem("theme") || "auto";': 'localStorage.getItem("theme") || '
    '(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");',
    'data-theme="auto">': 'data-theme="light">',
    'aria-label="Search" data-bs-placement': "data-bs-placement",  # its text says it
    '<summary aria-label="Toggle hidden content">': "<summary>",
    '<div id="pst-primary-sidebar" class=': '<div id="pst-primary-sidebar" role="region" '
    'aria-label="Book" class=',
    '<div role="list" class="citation-list">': '<div class="citation-list">',  # of links too
}

# What has a preview: statements, displayed formulas, glossary entries, references.
PREVIEWED = "div.proof[id]:not(#proof), div.math[id], dt[id], div.citation[id]"
SILENT = ".headerlink, .katex-mathml, .backlinks, .fn-backref, .eqno"


def _open_proof(writer: Any, node: nodes.Element) -> None:
    writer.body.append('<details class="proof-fold" open="open"><summary>Proof</summary>\n')
    first = next(iter(node.findall(nodes.Text)), None)
    if first is not None and first.startswith("Proof. "):  # the summary says it
        first.parent.replace(first, nodes.Text(first.removeprefix("Proof. ")))


def _close_proof(writer: Any, _: nodes.Element) -> None:
    writer.body.append("</details>\n")


def preview(target: Tag) -> str:
    """The markup of one preview: no identifiers, no links, no second copy of formulas."""
    parts = [target]
    if target.name == "dt" and (meaning := target.find_next_sibling("dd")) is not None:
        parts.append(meaning)
    fresh = BeautifulSoup("".join(map(str, parts)), "html.parser")
    for tag in fresh.select(SILENT):
        tag.decompose()
    for tag in fresh.find_all("a"):
        tag.unwrap()
    for tag in fresh.find_all(True):
        tag.attrs.pop("id", None)
    for tag in fresh.find_all(["dt", "dd"]):
        tag.name = "div"
    return str(fresh)


def passages(article: Tag, name: str) -> list[dict[str, str]]:
    """Cut a page into sections of plain text for the search, formulas as they were written."""
    for tag in article.select(
        "pre, script, style, .headerlink, .claims-here, .table-wide, .live-bar, svg"
    ):
        tag.decompose()
    for tag in article.select(".katex"):
        written = tag.find("annotation")
        tag.replace_with(written.get_text() if isinstance(written, Tag) else "")
    found = []
    for section in reversed(article.find_all("section")):  # inner ones first, each text once
        head = section.find(["h1", "h2", "h3", "h4"])
        title = head.extract().get_text() if head else ""
        text = " ".join(section.get_text(" ").split())
        found.append({"anchor": str(section.get("id", "")), "title": title, "text": text})
        section.decompose()
    page = found[-1]["title"] if found else name
    return [{"address": name, "page": page, **section} for section in reversed(found)]


def collect(app: Sphinx, failure: Exception | None) -> None:
    """Write ``_static/previews.js``, and mend the pages."""
    if failure or app.builder.format != "html":
        return
    site = Path(app.outdir)
    for path in site.rglob("*.html"):
        text = mended = path.read_text(encoding="utf-8")
        for wrong, right in MENDED.items():
            mended = mended.replace(wrong, right)
        if mended != text:
            path.write_text(mended, encoding="utf-8")
    found, texts = {}, []
    for name in sorted(app.env.found_docs):
        path = site / f"{name}.html"
        article = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").find("article")
        if isinstance(article, Tag):
            for target in article.select(PREVIEWED):
                found[f"{name}.html#{target['id']}"] = preview(target)
            texts += passages(article, name)
    for file, value in (("previews.js", found), ("excerpts.js", texts)):
        variable = {"previews.js": "companionPreviews", "excerpts.js": "companionText"}[file]
        text = f"{variable} = {json.dumps(value, ensure_ascii=False)};\n"
        (site / "_static" / file).write_text(text, encoding="utf-8")


def offer_data(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], _doctree: object
) -> None:
    """Ship the data that a page declares, and hand ``_templates/reading.html`` their addresses."""
    if page not in app.env.found_docs:
        return
    source = Path(app.env.doc2path(page))
    if source.suffix != ".ipynb":
        return
    metadata = json.loads(source.read_text(encoding="utf-8"))["metadata"]
    offered = []
    for name in metadata.get("companion", {}).get("data", []):
        copy = Path(app.outdir, "_sources", name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(app.srcdir, name), copy)
        folder = context["pathto"]("_sources", 1)
        offered.append({"name": Path(name).name, "address": f"{folder}/{name}"})
    context["data_files"] = offered


def add_search(app: Sphinx, page: str, _template: str, context: Any, _doctree: object) -> None:
    """Load the book's own search on the search page."""
    if page == "search":
        app.add_js_file("excerpts.js", loading_method="defer", priority=900)
        app.add_js_file("find.js", loading_method="defer", priority=901)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension."""
    app.add_node(proof_node, override=True, html=(_open_proof, _close_proof))
    app.add_js_file("companion.js", loading_method="defer")
    app.connect("html-page-context", offer_data)
    app.connect("html-page-context", add_search)
    app.connect("build-finished", collect)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
