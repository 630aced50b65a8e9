"""The directive ``provenance``: every page and every published run, with machine, time and command.

It reads the metadata of the executed notebooks and the records in ``book/results/``; the markup is
``_templates/provenance.html``.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

from docutils import nodes
from jinja2 import Environment, FileSystemLoader
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "book/results"


def machine(environment: dict[str, Any]) -> str:
    """Describe a machine in words."""
    cpu = f"{environment['cpu']}, {environment['cores']} cores"
    return "; ".join([cpu, *[", ".join(environment["gpus"])][: bool(environment["gpus"])]])


def duration(seconds: float) -> str:
    """Say a time as a reader would."""
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def command(record: dict[str, Any], defaults: dict[str, Any]) -> str:
    """Give the command that makes a run again."""
    words = ["companion", "run", record["notebook"]]
    for name, value in record["parameters"].items():
        if name not in defaults or defaults[name] != value:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            words += ["-p", f"{name}={text}"]
    return shlex.join(words)


def page_record(notebook: Path) -> dict[str, Any] | None:
    """Read what an executed page says of its execution, or None where it does not."""
    record: dict[str, Any] = json.loads(notebook.read_text("utf-8"))["metadata"].get(
        "companion", {}
    )
    return record if "finished" in record else None


class Provenance(SphinxDirective):
    """The tables."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        """Build them."""
        pages = {}
        for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
            self.env.note_dependency(str(path))
            if (record := page_record(path)) and f"notebooks/{path.stem}" in self.env.found_docs:
                pages[path.stem] = record
        runs = []
        for path in sorted(RESULTS.rglob("*.json")):
            record = json.loads(path.read_text("utf-8"))
            if isinstance(record, dict) and {"notebook", "finished"} <= record.keys():
                self.env.note_dependency(str(path))
                name = path.relative_to(RESULTS).with_suffix("").as_posix()
                defaults = pages.get(record["notebook"], {"parameters": {}})["parameters"]
                runs.append((name, record, command(record, defaults)))
        versions: dict[str, set[str]] = {}
        for record in pages.values():
            found = {"python": record["environment"]["python"], **record["environment"]["packages"]}
            for package, version in found.items():
                versions.setdefault(package, set()).add(version)
        templates = Environment(loader=FileSystemLoader(ROOT / "book/_templates"), autoescape=True)
        text = templates.get_template("provenance.html").render(
            pages=pages,
            runs=runs,
            versions=[(p, sorted(v - {"not installed"})) for p, v in sorted(versions.items())],
            machine=machine,
            duration=duration,
            up="../" * self.env.docname.count("/"),
        )
        return [nodes.raw("", text, format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension; its own text counts as a source of every page that uses it."""
    app.add_directive("provenance", Provenance)
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    return {"version": version, "parallel_read_safe": True, "parallel_write_safe": True}
