"""The directive ``ledger``: how many of the poster's claims met which verdict, with the way there.

It reads ``book/results/claims.json``, the record behind the page of claims, and shows nothing while
there is none.

A Sphinx extension, loaded by ``_config.yml``.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

RECORD = Path(__file__).resolve().parents[1] / "results" / "claims.json"


class Ledger(SphinxDirective):
    """One line of counts."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        """Build the line."""
        page = next((d for d in sorted(self.env.found_docs) if d.endswith("/claims")), None)
        if not RECORD.is_file() or page is None:
            return []
        self.env.note_dependency(str(RECORD))
        rows = json.loads(RECORD.read_text(encoding="utf-8"))
        counts = Counter(row["verdict"] for row in rows)
        line = nodes.paragraph("", f"Of the poster's {len(rows)} claims, ", classes=["ledger"])
        for i, (verdict, count) in enumerate(counts.most_common()):
            line += nodes.Text("; " if i else "")
            line += nodes.strong("", str(count))
            line += nodes.Text(f" {verdict}")
        line += nodes.Text(". ")
        link = addnodes.pending_xref(
            "", refdomain="std", reftype="doc", reftarget=f"/{page}", refexplicit=True, refwarn=True
        )
        link += nodes.inline("", "Each with its numbers and the rule that decided it.")
        line += link
        return [line]


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension; its own text counts as a source of every page that uses it."""
    app.add_directive("ledger", Ledger)
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    return {"version": version, "parallel_read_safe": True, "parallel_write_safe": True}
