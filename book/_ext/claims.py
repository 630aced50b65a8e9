"""The ledger on the site: the directive ``claims``, and numbers in prose by the role ``result``.

    ```{claims}
    ```

on a theorem's or figure's page shows the poster's claims that are run there, each with its verdict
and a link to its row; with ``:picture:`` it is a tile a claim, with ``:cards:`` a card, with
``:counts:`` one line of how many met which verdict. In a sentence, {result}`F2-double.here` is that
field of that row. All of it comes from ``book/results/claims.json`` (`companion claims --write`).

A Sphinx extension, loaded by ``_config.yml``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

RESULTS = Path(__file__).resolve().parents[1] / "results"
RECORD = RESULTS / "claims.json"
LEDGER = "book/claims"
COPIED = "_records"  # where the site keeps the records and certificates that it links to

# A verdict has a colour (claims.css) and, for those who see none, a shape of its own.
CHECK = '<path d="M7 12.5l3.5 3.5L17 9" fill="none" stroke="#fff" stroke-width="2.4"/>'
SHAPES = {
    "proved": f'<circle cx="12" cy="12" r="10"/>{CHECK}',
    "certified": f'<path d="M2.5 2.5h19v19h-19z"/>{CHECK}',
    "reproduced": '<path d="M12 2l10.5 19h-21z"/>',
    "depends on": '<path d="M12 1.5L22.5 12 12 22.5 1.5 12z" class="line"/>'
    '<path d="M12 1.5v21L1.5 12z"/>',
    "not reproduced": '<path d="M4 4l16 16M20 4L4 20" class="line thick"/>',
    "undecided": '<path d="M6.5 8a5.5 5.5 0 1 1 7.7 5c-1.6.8-2.2 1.6-2.2 3.2" class="line mark"/>'
    '<circle cx="12" cy="20.6" r="2"/>',
    "not tested": '<circle cx="12" cy="12" r="9.5" class="line dashed"/>',
}
MEANS = {
    "proved": "checked by Coq, or by a proof that stands in the row",
    "certified": "proved for the numbers in a file, which anyone can check again",
    "reproduced": "found by the rule",
    "depends on": "holds under a condition that the poster does not state",
    "not reproduced": "contradicted: our numbers say otherwise",
    "undecided": "not reproduced either, but not contradicted: our intervals are too wide",
    "not tested": "not yet, and why",
}
STATUS = {
    "recorded": "this hash stands in the record of the run",
    "changed": "<strong>changed after the run</strong>, whose record holds {old}",
    "not recorded": "the run is older than the ledger, and its record holds no hash",
    "": "needs no run",
}


def shape(row: dict[str, Any]) -> str:
    """The key of a row's shape: its verdict, or "undecided" where nothing contradicts the claim."""
    verdict: str = row["verdict"]
    undecided = verdict == "not reproduced" and "contradicted" not in row["why"]
    return "undecided" if undecided else verdict


def glyph(name: str) -> str:
    """A shape, in its colour."""
    attributes = f'class="verdict {slug(name)}" viewBox="0 0 24 24" role="img"'
    return f'<svg {attributes} aria-label="{name}">{SHAPES[name]}</svg>'


def slug(name: str) -> str:
    """A shape's name as a class."""
    return "v-" + name.replace(" ", "-")


def said(row: dict[str, Any]) -> str:
    """The verdict in words, with what it depends on."""
    why = escape(row["why"])
    if row["verdict"] == "depends on":
        return f"<strong>depends on</strong> {why}"
    return f"<strong>{row['verdict']}</strong>" + (f" ({why})" if why else "")


def lines(text: str) -> str:
    """Text of several lines, broken elsewhere only between numbers."""
    rows = [
        [f"<span>{escape(part)}</span>" for part in row.split("; ")] for row in text.split("\n")
    ]
    return "<br>".join(map("; ".join, rows))


class Claims(SphinxDirective):
    """The ledger, or a page's part of it."""

    has_content = False
    option_spec: ClassVar[dict[str, Any]] = dict.fromkeys(
        ("picture", "cards", "counts"), directives.flag
    )

    def run(self) -> list[nodes.Node]:
        """Build the HTML."""
        self.env.note_dependency(str(RECORD))
        rows = json.loads(RECORD.read_text(encoding="utf-8"))
        self.up = "../" * self.env.docname.count("/")
        if "picture" in self.options:
            text = self.picture(rows)
        elif "counts" in self.options:
            text = self.counts(rows)
        elif "cards" in self.options:
            text = "".join(map(self.card, rows))
        else:
            rows = [row for row in rows if row["page"] == self.env.docname]
            if not rows:
                raise self.error(f"no claim names {self.env.docname} as its page")
            text = self.here(rows)
        return [nodes.raw("", text, format="html")]

    def picture(self, rows: list[dict[str, Any]]) -> str:
        """One tile a claim, by section."""
        count = Counter(map(shape, rows))
        legend = "".join(
            f"<li>{glyph(v)} <strong>{count[v]} {v}</strong>: {MEANS[v]}</li>"
            for v in SHAPES
            if count[v]
        )
        sections = list(dict.fromkeys(row["section"] for row in rows))
        tiles = "".join(
            f'<div class="section"><h3>{escape(section)}</h3><ul>'
            + "".join(
                f'<li><a href="#claim-{row["id"]}" title="{escape(row["says"])} {row["verdict"]}">'
                f"{glyph(shape(row))}<span>{self.short(row['id'])}</span></a></li>"
                for row in rows
                if row["section"] == section
            )
            + "</ul></div>"
            for section in sections
        )
        return (
            f'<figure class="ledger-picture"><div class="tiles">{tiles}</div>'
            f'<figcaption><ul class="legend">{legend}</ul>'
            f"<p>{self.ages(rows)}</p><p>{self.origin(rows)}</p></figcaption></figure>"
        )

    def counts(self, rows: list[dict[str, Any]]) -> str:
        """One line for the landing page."""
        count = Counter(map(shape, rows))
        parts = "; ".join(f"{glyph(v)} {count[v]} {v}" for v in SHAPES if count[v])
        return (
            f'<p class="ledger-counts">Of {len(rows)} claims of the poster: {parts}. '
            f'<a href="{self.up}book/claims.html">Each with its numbers and its rule.</a></p>'
        )

    def origin(self, rows: list[dict[str, Any]]) -> str:
        """What this ledger was judged on, and how to do it again."""
        runs = {name for row in rows for name in row["runs"]}
        digest = hashlib.sha256(RECORD.read_bytes()).hexdigest()[:12]
        return (
            f"Judged on {len(runs)} published runs, certificates and the record of the proofs, by "
            f"<code>companion claims --write</code>; the ledger is {self.file('claims.json')} "
            f"(SHA-256 {digest}). To make it again: <code>companion verify</code>."
        )

    @staticmethod
    def ages(rows: list[dict[str, Any]]) -> str:
        """How many rules can be shown to be older than the run that they were applied to."""
        count = Counter(row["rule_status"] for row in rows if row["rule_status"])
        text = (
            f"Of the {count.total()} rules applied to runs, {count['recorded']} have their hash in "
            f"the record of the run. {count['not recorded']} were applied to runs that are older "
            "than this ledger and record no hash: read those rows as descriptions, not as tests."
        )
        changed = f" {count['changed']} were changed after the run." if count["changed"] else ""
        return text + changed

    @staticmethod
    def short(name: str) -> str:
        """The id without the letter of its section."""
        head, _, rest = name.partition("-")
        return escape(rest or head)

    def link(self, page: str) -> str:
        """A page of this book, as a link where it exists."""
        if page not in self.env.found_docs:
            return f"{escape(page)} (not yet in this book)"
        return f'<a href="{self.up}{page}.html">{escape(page.rpartition("/")[2])}</a>'

    def file(self, path: str) -> str:
        """A record or certificate, copied beside the site."""
        return f'<a href="{self.up}{COPIED}/{path}"><code>{escape(path)}</code></a>'

    def card(self, row: dict[str, Any]) -> str:
        """One row of the ledger."""
        old = ", ".join(f"<code>{h or 'none'}</code>" for h in set(row["records"].values()))
        runs = [f"{name}.json" for name in row["runs"]]
        files = [f.removeprefix("book/results/") for f in row["files"]]
        proofs = ["proofs.json"] if row["here"].startswith("Coq") else []
        evidence = ", ".join(map(self.file, [*runs, *proofs, *files]))
        poster = f"<br>{lines(row['poster'])}" if row["poster"] else ""
        parts = {
            "On the poster": escape(row["where"]) + poster,
            "Here": lines(row["here"]),
            "Run on": self.link(row["page"]) + (f"; record: {evidence}" if evidence else ""),
        }
        rule = escape(row["rule"]) + f" <code>{row['rule_sha256']}</code>: "
        rule += STATUS[row["rule_status"]].format(old=old) + "."
        rule += f" {escape(row['history'])}" if row["history"] else ""
        body = "".join(f"<dt>{k}</dt><dd>{v}</dd>" for k, v in parts.items() if v)
        return (
            f'<article class="claim {slug(shape(row))}" id="claim-{row["id"]}">'
            f'<p class="says">{glyph(shape(row))} {escape(row["says"])} '
            f'<a class="id" href="#claim-{row["id"]}">{row["id"]}</a></p>'
            f"<p>{said(row)}</p><dl>{body}</dl>"
            f'<details><summary>Rule</summary><p class="rule">{rule}</p></details></article>'
        )

    def here(self, rows: list[dict[str, Any]]) -> str:
        """The claims of one page, each with its way to the ledger."""
        items = "".join(
            f"<li>{glyph(shape(row))}<span>{escape(row['says'])} {said(row)}. "
            f'<a href="{self.up}{LEDGER}.html#claim-{row["id"]}">{row["id"]}</a></span></li>'
            for row in rows
        )
        return (
            '<aside class="claims-here" aria-label="The poster\'s claims on this page"><p>What the '
            f"poster claims, and what became of it here:</p><ul>{items}</ul></aside>"
        )


def result(
    role: str,
    raw: str,
    text: str,
    line: int,
    inliner: Any,
    _options: Any = None,
    _content: Any = (),
) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """The field of a row, in a sentence; a row or field that is not there is an error."""
    inliner.document.settings.env.note_dependency(str(RECORD))
    name, _, key = text.partition(".")
    rows = {row["id"]: row for row in json.loads(RECORD.read_text(encoding="utf-8"))}
    value = rows.get(name, {}).get(key)
    if not isinstance(value, str) or not value:
        error = inliner.reporter.error(f"the ledger has no {text!r}", line=line)
        return [inliner.problematic(raw, raw, error)], [error]
    return [nodes.inline(raw, "; ".join(value.splitlines()), classes=["result"])], []


def copy_records(app: Sphinx, failure: Exception | None) -> None:
    """Put what the rows link to beside the site."""
    if failure or app.builder.format != "html":
        return
    for path in RESULTS.rglob("*.json"):
        target = Path(app.outdir, COPIED, path.relative_to(RESULTS))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension; its own text counts as a source of every page that uses it."""
    app.add_directive("claims", Claims)
    app.add_role("result", result)
    app.add_css_file("claims.css")
    app.connect("build-finished", copy_records)
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    return {"version": version, "parallel_read_safe": True, "parallel_write_safe": True}
