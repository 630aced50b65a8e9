"""What is done to the pages when all are written: icons, previews of links, text for the search.

The icons that pages use become a style sheet of a few kB, in place of the theme's 1.5 MB of script:
they show without one, and nothing moves when they do. The previews and the text are collected from
the pages into one script each, which ``companion.js`` and ``find.js`` read; a page opened from a
file may load a script, but nothing else.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import quote

from bs4 import BeautifulSoup, Tag
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

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
SCRIPT = re.compile(r'\s*<script defer src="[^"]*/fontawesome\.js[^"]*"></script>')

USED = re.compile(r'<(?:i|span) class="([^"]*\bfa-[^"]*)"')
STYLES = ("fa-solid", "fas", "fa-brands", "fab", "fa-regular", "far")
OUTLINE = re.compile(  # in the script: "name":[width,height,["other name",…],"code","path"]
    r'"?([\w-]+)"?:\[(\d+),(\d+),\[([^\]]*)\],"[^"]*","([^"]*)"\]'
)
BASE = f"""/* Icons of this site, from Font Awesome Free 6 (https://fontawesome.com), CC BY 4.0. */
:is(.{", .".join(STYLES)}) {{
  background: currentColor; display: inline-block; height: 1em; width: 1em;
  mask: var(--icon) center / contain no-repeat; vertical-align: -0.125em;
}}
:is(.{", .".join(STYLES)})::before {{ content: none; }}
"""

# What has a preview: statements, displayed formulas, glossary entries, references.
PREVIEWED = "div.proof[id]:not(#proof), div.math[id], dt[id], div.citation[id]"
SILENT = ".headerlink, .katex-mathml, .backlinks, .fn-backref, .eqno"
UNSEARCHED = "pre, script, style, .headerlink, .claims-here, .table-wide, .live-bar, svg"


def icons(names: set[str], script: str) -> str:
    """Make a style sheet for the icons named, whose outlines stand in the theme's script."""
    found: dict[str, str] = {}
    others: dict[str, str] = {}
    for name, width, height, aliases, path in OUTLINE.findall(script):
        start = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'>"
        svg = quote(f"{start}<path d='{path}'/></svg>", safe=" =:/'")
        found.setdefault(name, svg)
        others |= dict.fromkeys(re.findall(r'"([\w-]+)"', aliases), svg)
    found = others | found
    if missing := [name for name in sorted(names) if name[3:] not in found]:
        raise ExtensionError(f"the theme's Font Awesome has no icon {', '.join(missing)}.")
    rules = [
        f'.{name} {{ --icon: url("data:image/svg+xml,{found[name[3:]]}"); }}\n'
        for name in sorted(names)
    ]
    return BASE + "".join(rules)


def preview(target: Tag) -> str:
    """Mark up one preview: no identifiers, no links, no second copy of formulas."""
    meaning = target.find_next_sibling("dd") if target.name == "dt" else None
    fresh = BeautifulSoup(f"{target}{meaning or ''}", "html.parser")
    for tag in fresh.select(SILENT):
        tag.decompose()
    for tag in fresh.find_all("a"):
        tag.unwrap()
    for tag in fresh.find_all(True):
        tag.attrs.pop("id", None)
        tag.name = "div" if tag.name in ("dt", "dd") else tag.name
    return str(fresh)


def passages(article: Tag, name: str) -> list[dict[str, str]]:
    """Cut a page into sections of plain text for the search, formulas as they were written."""
    for tag in article.select(UNSEARCHED):
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


def finish(app: Sphinx, failure: Exception | None) -> None:
    """Mend every page, then write what is collected from them into ``_static``."""
    site, static = Path(app.outdir), Path(app.outdir, "_static")
    script = static / "scripts" / "fontawesome.js"
    if failure or app.builder.format != "html":
        return
    names, previews, texts = {"fa-xmark"}, {}, []  # the first is what the theme's script adds
    for path in site.rglob("*.html"):
        text = mended = path.read_text("utf-8")
        for wrong, right in MENDED.items():
            mended = mended.replace(wrong, right)
        if (mended := SCRIPT.sub("", mended)) != text:
            path.write_text(mended, "utf-8")
        names |= {c for classes in USED.findall(text) for c in classes.split() if c[:3] == "fa-"}
    if script.is_file():  # else no page was out of date, and nothing was written
        chosen = names - {*STYLES, "fa-lg", "fa-fw"}
        (static / "icons.css").write_text(icons(chosen, script.read_text("utf-8")), "utf-8")
    for extra in [*static.rglob("*.map"), script]:
        extra.unlink(missing_ok=True)
    for name in sorted(app.env.found_docs):
        path = site / f"{name}.html"  # one page alone may have been built
        text = path.read_text("utf-8") if path.is_file() else ""
        if isinstance(article := BeautifulSoup(text, "html.parser").find("article"), Tag):
            for target in article.select(PREVIEWED):
                previews[f"{name}.html#{target['id']}"] = preview(target)
            texts += passages(article, name)
    for file, variable, value in (
        ("previews.js", "companionPreviews", previews),
        ("excerpts.js", "companionText", texts),
    ):
        held = json.dumps(value, ensure_ascii=False)
        (static / file).write_text(f"{variable} = {held};\n", "utf-8")


def setup(app: Sphinx) -> None:
    """Connect the extension."""
    app.add_css_file("icons.css")
    app.connect("build-finished", finish)
