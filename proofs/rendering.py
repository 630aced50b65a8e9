"""The Coq sources as pages of the book."""

from __future__ import annotations

import html
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from coq import HERE, LIBRARY, Failed, run
from drawing import proof_map

PAGES = HERE.parent / "book" / "_static" / "proofs"


def render(folder: Path, order: list[str], record: dict[str, Any]) -> None:
    """Make pages of the sources, in the order in which they build on each other, and a map."""
    target = folder / "html"
    target.mkdir()
    (folder / "header.html").write_text(HEADER, encoding="utf-8")
    (folder / "footer.html").write_text("</div></body></html>\n", encoding="utf-8")
    done = run(
        folder, "coqdoc", "--html", "--utf8", "--no-externals", "--no-index", "--lib-subtitles",
        "--with-header", "header.html", "--with-footer", "footer.html", "-R", ".", LIBRARY,
        "-d", "html", *order,
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"coqdoc: {done.stderr}")
    texts = {page.name: page.read_text(encoding="utf-8") for page in target.glob("*.html")}
    for name, text in readable(texts).items():
        (target / name).write_text(text, encoding="utf-8")
    shutil.copy(HERE / "proofs.css", target / "coqdoc.css")
    (target / "map.htm").write_text(proof_map(record), encoding="utf-8")
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(target, PAGES)


# What coqdoc marks beyond keywords and tactics: half of a page's size, and no reader sees it.
PLAIN = re.compile(r'<span class="id" title="(?!keyword|tactic)[^"]*">([^<]*)</span>')
LINK = re.compile(r'<a (?:id="[^"]*" )?class="idref" href="([^"#]*)#([^"]*)">(.*?)</a>')
HEADER = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="coqdoc.css"><title>TITLE</title></head>
<body><div id="main"><nav>NAV</nav>
"""


def readable(pages: dict[str, str]) -> dict[str, str]:
    """Strip from the pages what no reader sees or can follow, with the file's own `*`."""
    pages = {name: PLAIN.sub(r"\1", text).replace("×", "*") for name, text in pages.items()}
    anchors = {
        name: {html.unescape(anchor) for anchor in re.findall(r' id="([^"]*)"', text)}
        for name, text in pages.items()
    }

    def link(name: str, found: re.Match[str]) -> str:
        page, anchor = found[1] or name, html.unescape(found[2])
        # Links to variables bound in the same line, and to what has no anchor, such as notations.
        dead = anchor and anchor not in anchors.get(page, ())
        return found[3] if dead or re.search(r":\d+$", anchor) else found[0]

    names = sorted(pages)
    out = {}
    for name, text in pages.items():
        titles = {other: other.removeprefix(f"{LIBRARY}.").removesuffix(".html") for other in names}
        nav = " ".join(f'<a href="{other}">{titles[other]}</a>' for other in names)
        linked = LINK.sub(partial(link, name), text)
        out[name] = linked.replace("NAV", nav, 1).replace("TITLE", titles[name], 1)
    return out
