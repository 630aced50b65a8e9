"""Executed pages: below each where it comes from, and the directive ``provenance`` for all of them.

It reads the metadata of the notebooks and the records in ``book/results``. The markup is in the
templates ``executed.html``, ``reading.html`` and ``provenance.html``.
"""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from jinja2 import Environment, FileSystemLoader
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

BOOK = Path(__file__).resolve().parents[1]
RESULTS = BOOK / "results"


def fill(template: str, **given: Any) -> nodes.raw:
    """Fill one of the book's templates in."""
    templates = Environment(loader=FileSystemLoader(BOOK / "_templates"), autoescape=True)
    return nodes.raw("", templates.get_template(template).render(given), format="html")


def machine(environment: dict[str, Any]) -> str:
    """Describe a machine in words."""
    gpus = ", ".join(environment["gpus"])
    return f"{environment['cpu']}, {environment['cores']} cores" + (f"; {gpus}" if gpus else "")


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


def page_record(notebook: Path) -> dict[str, Any]:
    """Read what an executed page says of its execution; nothing where it does not."""
    record: dict[str, Any] = json.loads(notebook.read_text("utf-8"))["metadata"].get(
        "companion", {}
    )
    return record if "finished" in record else {}


def show_origin(app: Sphinx, page: str, _template: str, context: Any, _doctree: object) -> None:
    """Ship a page's text, data and record; hand the templates what they say of its execution."""
    notebook = Path(app.env.doc2path(page)) if page in app.env.found_docs else Path()
    if notebook.suffix != ".ipynb":
        return
    record, text = page_record(notebook), notebook.with_suffix(".md")
    data = [p.removeprefix("data ") for p in record.get("parts", {}) if p.startswith("data ")]
    shipped = {BOOK.parent / name: name for name in data}
    if text.is_file():  # the theme ships the notebook; its text goes beside it
        shipped[text] = f"{page}.md"
    for path, name in shipped.items():
        copy = Path(app.outdir, "_sources", name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    runs = dict.fromkeys(
        Path(name).relative_to("book/results").with_suffix("").as_posix()
        for name in data
        if name.startswith("book/results/")
    )
    context["executed"] = {"text": text.is_file(), **record}
    context["data_files"] = data
    if record:
        rerun = "id" in record  # which says what it was given, and has its files beside it
        context["executed"]["again"] = command(record, {} if rerun else record["parameters"])
        own = Path(app.outdir, "_records", "pages", f"{notebook.stem}.json")
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(json.dumps(record, ensure_ascii=False, indent=1), encoding="utf-8")
        context["executed"] |= {
            "took": duration(record["duration_s"]),
            "on": machine(record["environment"]),
            "runs": [name for name in runs if (RESULTS / f"{name}.json").is_file()],
        }


class Provenance(SphinxDirective):
    """The tables of all pages and all published runs: machine, time and command."""

    def run(self) -> list[nodes.Node]:
        """Build them."""
        pages, runs = {}, []
        for path in sorted((BOOK.parent / "notebooks").glob("*.ipynb")):
            if (record := page_record(path)) and f"notebooks/{path.stem}" in self.env.found_docs:
                pages[path.stem] = record
        for path in sorted(RESULTS.rglob("*.json")):
            record = json.loads(path.read_text("utf-8"))
            if isinstance(record, dict) and {"notebook", "finished"} <= record.keys():
                name = path.relative_to(RESULTS).with_suffix("").as_posix()
                defaults = pages.get(record["notebook"], {"parameters": {}})["parameters"]
                runs.append((name, record, command(record, defaults)))
        versions: dict[str, set[str]] = {}
        for record in pages.values():
            found = {"python": record["environment"]["python"], **record["environment"]["packages"]}
            for package, version in found.items():
                versions.setdefault(package, set()).add(version)
        return [
            fill(
                "provenance.html",
                pages=pages,
                runs=runs,
                versions=[(p, sorted(v - {"not installed"})) for p, v in sorted(versions.items())],
                machine=machine,
                duration=duration,
                up="../" * self.env.docname.count("/"),
            )
        ]


def setup(app: Sphinx) -> None:
    """Connect the extension."""
    app.add_directive("provenance", Provenance)
    app.connect("html-page-context", show_origin)
