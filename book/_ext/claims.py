"""The ledger on the site: the directive ``claims``, and numbers in prose by the role ``result``.

    ```{claims}
    ```

on a theorem's or figure's page shows the claims that are run there. ``:summary:`` gives a
row a section, ``:cards:`` a card a claim, ``:outcome:`` the five lines of the front page. In a
sentence, {result}`F2-double.here` is that field of that row. The markup is
``_templates/claims.html``; all of it comes from ``book/results/claims.json``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from jinja2 import Environment, FileSystemLoader
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

BOOK = Path(__file__).resolve().parents[1]
RESULTS = BOOK / "results"
RECORD = RESULTS / "claims.json"
TEMPLATE = BOOK / "_templates" / "claims.html"
VERDICTS = {  # in the order in which they are counted
    "proved": "checked by Coq, or by a proof that stands in the row",
    "certified": "proved for the numbers in a file, which anyone can check again",
    "reproduced": "our run shows it too, by the rule in the row",
    "depends on": "it holds under a condition that the poster does not state",
    "contradicted": "our run shows the opposite",
    "undecided": "our intervals are too wide to say",
    "not tested": "no run has been made, and the row says why",
    "note": "a remark and no test: nothing to reproduce, proved on paper only, or open",
}


def verdict(row: dict[str, Any]) -> str:
    """Name a row's verdict; ledgers before 26 November had one word for two of them."""
    if row["verdict"] == "not reproduced":
        return "contradicted" if "contradicted" in row["why"] else "undecided"
    return str(row["verdict"])


def counted(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Count the verdicts, those that occur, in their order."""
    found = Counter(map(verdict, rows))
    return {name: found[name] for name in VERDICTS if found[name]}


def read() -> list[dict[str, Any]]:
    """Read the ledger; a verdict that has no word here is an error."""
    rows = [row | {"verdict": verdict(row)} for row in json.loads(RECORD.read_text("utf-8"))]
    if unknown := {row["verdict"] for row in rows} - VERDICTS.keys():
        raise ValueError(f"claims.json has verdicts that book/_ext/claims.py lacks: {unknown}")
    return rows


def render(view: str, rows: list[dict[str, Any]], app: Any, up: str) -> str:
    """Render one of the template's views."""
    templates = Environment(loader=FileSystemLoader(TEMPLATE.parent), autoescape=True)
    moved = app.config.moved_pages
    sections = {s: [r for r in rows if r["section"] == s] for s in [r["section"] for r in rows]}
    return templates.get_template(TEMPLATE.name).render(
        view=view,
        rows=rows,
        sections=sections,
        counted=counted,
        meanings=VERDICTS,
        up=up,
        runs=len({name for row in rows for name in row["runs"]}),
        digest=hashlib.sha256(RECORD.read_bytes()).hexdigest()[:12],
        page=lambda name: moved.get(name, name).partition("#")[0],
    )


class Claims(SphinxDirective):
    """The ledger, or a page's part of it."""

    has_content = False
    views = ("summary", "cards", "outcome")
    option_spec: ClassVar[dict[str, Any]] = dict.fromkeys(views, directives.flag)

    def run(self) -> list[nodes.Node]:
        """Build the HTML."""
        for path in (RECORD, TEMPLATE):
            self.env.note_dependency(str(path))
        rows = read()
        view = next(iter(self.options), "here")
        if view == "here":
            moved, here = self.config.moved_pages, self.env.docname
            rows = [r for r in rows if moved.get(r["page"], r["page"]).partition("#")[0] == here]
            if not rows:
                raise self.error(f"no claim names {here} as its page")
        up = "../" * self.env.docname.count("/")
        return [nodes.raw("", render(view, rows, self.env.app, up), format="html")]


def result(
    role: str, raw: str, text: str, line: int, inliner: Any, *_: Any
) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """Put a row's field into a sentence; a row or field that is not there is an error."""
    inliner.document.settings.env.note_dependency(str(RECORD))
    name, _, key = text.partition(".")
    value = {row["id"]: row for row in read()}.get(name, {}).get(key)
    if not isinstance(value, str) or not value:
        error = inliner.reporter.error(f"the ledger has no {text!r}", line=line)
        return [inliner.problematic(raw, raw, error)], [error]
    return [nodes.inline(raw, "; ".join(value.splitlines()), classes=["result"])], []


def copy_records(app: Sphinx, failure: Exception | None) -> None:
    """Put the records that the rows link to beside the site."""
    if failure or app.builder.format != "html":
        return
    for path in RESULTS.rglob("*.json"):
        target = Path(app.outdir, "_records", path.relative_to(RESULTS))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension; its own text counts as a source of every page that uses it."""
    app.add_config_value("moved_pages", {}, "html")
    app.add_directive("claims", Claims)
    app.add_role("result", result)
    app.add_css_file("claims.css")
    app.connect("build-finished", copy_records)
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    return {"version": version, "parallel_read_safe": True, "parallel_write_safe": True}
