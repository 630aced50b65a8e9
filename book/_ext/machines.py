"""The directive ``provenance``: every page and every published run, with machine, time and command.

It reads the metadata of the executed notebooks and the records in ``book/results/``.

A Sphinx extension, loaded by ``_config.yml``.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]


def machine(environment: dict[str, Any]) -> str:
    """A machine in words."""
    gpus = ", ".join(environment["gpus"])
    cpu = f"{environment['cpu']}, {environment['cores']} cores"
    return f"{cpu}; {gpus}" if gpus else cpu


def duration(seconds: float) -> str:
    """Seconds as a reader says them."""
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def command(record: dict[str, Any], defaults: dict[str, Any] | None = None) -> str:
    """The command that makes a run again."""
    words = ["companion", "run", record["notebook"]]
    for name, value in record["parameters"].items():
        if defaults is None or defaults.get(name) != value:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            words += ["-p", f"{name}={text}"]
    return shlex.join(words)


def page_record(notebook: Path) -> dict[str, Any] | None:
    """What an executed page says of its execution, or None where it does not."""
    metadata = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]
    record: dict[str, Any] = metadata.get("companion", {})
    return record if "finished" in record else None


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table that scrolls by itself where it is too wide."""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return (
        '<div class="wide"><table class="table"><thead><tr>'
        f"{cells}</tr></thead><tbody>{body}</tbody></table></div>"
    )


class Provenance(SphinxDirective):
    """The three tables."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        """Build them."""
        up = "../" * self.env.docname.count("/")
        pages, defaults = {}, {}
        for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
            self.env.note_dependency(str(path))
            if (record := page_record(path)) and f"notebooks/{path.stem}" in self.env.found_docs:
                pages[path.stem], defaults[path.stem] = record, record["parameters"]
        rows = [
            [
                f'<a href="{up}notebooks/{name}.html">{name}</a>',
                record["finished"][:10],
                duration(record["duration_s"]),
                escape(machine(record["environment"])),
                f"<code>{record['source_tree'][:12]}</code>",
            ]
            for name, record in pages.items()
        ]
        text = table(["page", "date", "took", "machine", "source tree"], rows)
        rows = []
        for path in sorted((ROOT / "book/results").rglob("*.json")):
            record = json.loads(path.read_text(encoding="utf-8"))
            if not (isinstance(record, dict) and {"notebook", "finished"} <= record.keys()):
                continue
            self.env.note_dependency(str(path))
            name = path.relative_to(ROOT / "book/results").as_posix()
            commit = f"{(record['commit'] or 'unknown')[:12]}{' changed' * bool(record['dirty'])}"
            rows.append(
                [
                    f'<a href="{up}_records/{name}">{name.removesuffix(".json")}</a>',
                    record["finished"][:10],
                    duration(record["duration_s"]),
                    escape(machine(record["environment"])),
                    f"<code>{commit}</code>",
                    f"<code>{escape(command(record, defaults.get(record['notebook'])))}</code>",
                ]
            )
        text += table(["run", "date", "took", "machine", "commit", "again"], rows)
        versions: dict[str, set[str]] = {}
        for record in pages.values():
            found = {"python": record["environment"]["python"], **record["environment"]["packages"]}
            for package, version in found.items():
                if version != "not installed":
                    versions.setdefault(package, set()).add(version)
        listed = ", ".join(f"{p} {' or '.join(sorted(v))}" for p, v in sorted(versions.items()))
        text += f"<details><summary>Versions</summary><p>{escape(listed)}</p></details>"
        return [nodes.raw("", text, format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension; its own text counts as a source of every page that uses it."""
    app.add_directive("provenance", Provenance)
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    return {"version": version, "parallel_read_safe": True, "parallel_write_safe": True}
