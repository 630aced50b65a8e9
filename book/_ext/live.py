"""Pages that run in the reader's browser: a bar each, and the files that it loads.

``book/assets.py runtime`` has brought the runtime, Pyodide; here the package's wheel joins it, and
beside each file the same as a script, for pages that are opened from files. Without the runtime the
bars say how to get it.
"""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from executed import BOOK, RESULTS, machine
from flit_core.wheel import make_wheel_in
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

from companion.running.parameters import parse_parameters

ASSETS, OWN = BOOK / "_static/live-assets", BOOK / "_static/live"
LOCK = ASSETS / "pyodide-lock.json"  # names the packages that were brought
CORE = ("pyodide.asm.wasm", "pyodide.asm.js", "pyodide.js", "python_stdlib.zip", LOCK.name)
# with what a page does not load, since nothing on it imports it
PAGES = dict.fromkeys(("background", "theorem-2"), ("scipy", "openblas"))
PAGES |= dict.fromkeys(("theorem-1", "theorem-3", "smaller", "linear", "parallel"), ())


def here() -> bool:
    """Say whether the runtime has been brought, all of it."""
    return (ASSETS / "licences.txt").is_file()


def pack(app: Sphinx) -> None:
    """Add the package's wheel and our own scripts, and beside each file the same as a script."""
    if not here():
        return
    make_wheel_in(BOOK.parent / "pyproject.toml", ASSETS)
    for own in OWN.glob("*.py"):
        shutil.copy(own, ASSETS)
    for path in ASSETS.iterdir():
        script = path.with_name(f"{path.name}.js")
        loaded = path.name in CORE or path.suffix in (".whl", ".zip", ".py", ".json")
        if loaded and not (script.is_file() and script.stat().st_mtime > path.stat().st_mtime):
            data = base64.b64encode(path.read_bytes()).decode()
            script.write_text(f'companionRun.put("{path.name}", "{data}");\n', encoding="ascii")


def loads(page: str) -> tuple[list[str], list[tuple[str, int]]]:
    """Name the packages that a page loads, and all its files with their sizes."""
    if not here():
        return [], []
    known = json.loads(LOCK.read_bytes())["packages"]
    packages = [name for name in known if name not in PAGES[page]]
    files = [ASSETS / name for name in (*CORE, *(known[name]["file_name"] for name in packages))]
    files += [*ASSETS.glob("companion-*.whl"), *ASSETS.glob("*.py")]
    return packages, [(path.name, path.stat().st_size) for path in files]


class Bars(SphinxPostTransform):
    """Put a bar below the parameters of each page that can run."""

    default_priority = 190
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Find the cell, and fill ``_templates/live.html`` in."""
        page = Path(self.env.docname).name
        for cell in list(self.document.findall(nodes.container)) if page in PAGES else ():
            if "tag_parameters" not in cell["classes"]:
                continue
            packages, files = loads(page)
            parameters = [
                {
                    "name": p.name,
                    "type": p.type,
                    "default": str(p.default).lower() if p.type == "bool" else str(p.default),
                    "doc": p.doc,
                    "allowed": p.allowed,
                    "list": p.is_list,
                    "file": p.is_file,
                }
                for p in parse_parameters(cell.children[0].astext())
            ]
            data = {"page": page, "parameters": parameters, "files": files, "packages": packages}
            made = self.app.builder.templates.render("live.html", data | {"data": json.dumps(data)})
            cell.parent.insert(cell.parent.index(cell) + 1, nodes.raw("", made, format="html"))


class LiveTimes(SphinxDirective):
    """How soon such a page starts and answers, as ``benchmarks/live.py`` has measured it."""

    def run(self) -> list[nodes.Node]:
        """Say it in a sentence."""
        r = json.loads((RESULTS / "live.json").read_bytes())
        said = (
            f"The page {r['page']}, run in {r['browser']} on {machine(r['environment'])} "
            f"({r['finished'][:10]}, load average {r['load_average']}): Python has started after "
            f"{r['start_s']:.1f} s, and a change of n or of the seed shows its first figure after "
            f"{r['first_figure_s']:.1f} s. To measure again: "
        )
        again = nodes.literal("", "python -m benchmarks.live --json book/results/live.json")
        return [nodes.paragraph("", "", nodes.Text(said), again)]


def add_files(app: Sphinx, page: str, *_: Any) -> None:
    """Load the bar's script and style where there is one."""
    if Path(page).name in PAGES:
        app.add_css_file("live/live.css")
        app.add_js_file("live/bar.js", loading_method="defer")


def setup(app: Sphinx) -> None:
    """Connect the extension."""
    app.add_post_transform(Bars)
    app.add_directive("live-times", LiveTimes)
    app.connect("builder-inited", pack)
    app.connect("html-page-context", add_files)
