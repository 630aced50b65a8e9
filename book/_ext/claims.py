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
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from executed import RESULTS, fill
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

RECORD = RESULTS / "claims.json"
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


def counted(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Count the verdicts, those that occur, in their order."""
    found = Counter(row["verdict"] for row in rows)
    return {name: found[name] for name in VERDICTS if found[name]}


def read() -> list[dict[str, Any]]:
    """Read the ledger; a verdict that has no word here is an error."""
    rows: list[dict[str, Any]] = json.loads(RECORD.read_text("utf-8"))
    if unknown := {row["verdict"] for row in rows} - VERDICTS.keys():
        raise ValueError(f"claims.json has verdicts that book/_ext/claims.py lacks: {unknown}")
    return rows


def render(view: str, rows: list[dict[str, Any]], moved: dict[str, str], up: str) -> nodes.raw:
    """Render one of the template's views."""
    return fill(
        "claims.html",
        view=view,
        rows=rows,
        sections={s: [r for r in rows if r["section"] == s] for s in [r["section"] for r in rows]},
        counted=counted,
        meanings=VERDICTS,
        up=up,
        runs=len({name for row in rows for name in row["runs"]}),
        digest=hashlib.sha256(RECORD.read_bytes()).hexdigest()[:12],
        page=lambda name: moved.get(name, name).partition("#")[0],
    )


class Claims(SphinxDirective):
    """The ledger, or a page's part of it."""

    option_spec = dict.fromkeys(("summary", "cards", "outcome"), directives.flag)

    def run(self) -> list[nodes.Node]:
        """Build the HTML."""
        rows, moved, here = read(), self.config.moved_pages, self.env.docname
        view = next(iter(self.options), "here")
        if view == "here":
            rows = [r for r in rows if moved.get(r["page"], r["page"]).partition("#")[0] == here]
            if not rows:
                raise self.error(f"no claim names {here} as its page")
        return [render(view, rows, moved, "../" * here.count("/"))]


class Result(SphinxRole):
    """A row's field in a sentence; a row or field that is not there is an error."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Find it."""
        name, _, key = self.text.partition(".")
        value = {row["id"]: row for row in read()}.get(name, {}).get(key)
        if not isinstance(value, str) or not value:
            error = self.inliner.reporter.error(
                f"the ledger has no {self.text!r}", line=self.lineno
            )
            return [self.inliner.problematic(self.rawtext, self.rawtext, error)], [error]
        shown = "; ".join(value.splitlines())
        return [nodes.inline(self.rawtext, shown, classes=["result"])], []


def copy_records(app: Sphinx, failure: Exception | None) -> None:
    """Put the records that the rows link to beside the site."""
    if not failure and app.builder.format == "html":
        shutil.copytree(
            RESULTS,
            Path(app.outdir, "_records"),
            ignore=lambda _, names: [n for n in names if Path(n).suffix not in ("", ".json")],
            dirs_exist_ok=True,
        )


def setup(app: Sphinx) -> None:
    """Connect the extension."""
    app.add_directive("claims", Claims)
    app.add_role("result", Result())
    app.add_css_file("claims.css")
    app.connect("build-finished", copy_records)
