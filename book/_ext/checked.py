"""The directive ``checked``: a machine-checked statement beside the prose, and its status.

    ```{checked} theorem1
    ```

shows the region ``(* begin theorem1 *) … (* end theorem1 *)`` of a file ``proofs/Statements*.v``,
and for each statement in it what ``make proofs`` recorded: by which file it is proved, on which
axioms, with which versions. A record that is not of the present sources is a warning, and so fails
the strict build.
"""

from __future__ import annotations

import json
import re
import runpy
from typing import Any

from docutils import nodes
from executed import BOOK
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PROOFS = BOOK.parent / "proofs"


def region(name: str) -> tuple[str, str]:
    """Find the file that has ``(* begin NAME *)`` and ``(* end NAME *)``, and the text between."""
    marked = rf"^\(\* begin {name} \*\)\n(.*?)^\(\* end {name} \*\)"
    for path in sorted(PROOFS.glob("Statements*.v")):
        if found := re.search(marked, path.read_text("utf-8"), re.MULTILINE | re.DOTALL):
            return path.name, found[1].rstrip()
    raise ValueError(f"no region {name!r} in proofs/Statements*.v")


class Checked(SphinxDirective):
    """One region of the statements with its status."""

    required_arguments = 1

    def _link(self, module: str) -> nodes.reference:
        up = "../" * self.env.docname.count("/")
        address = f"{up}_static/proofs/Proofs.{module.removesuffix('.v')}.html"
        return nodes.reference("", "", nodes.literal("", module), refuri=address, internal=True)

    def _status(self, theorem: dict[str, Any], versions: dict[str, str]) -> nodes.paragraph:
        axioms = theorem["axioms"]
        rests = " on the axioms " + ", ".join(axioms) if axioms else ", resting on no axiom"
        used = [  # the library of analysis is named where its axioms are used
            f"{name} {version.split('-')[0]}"
            for name, version in versions.items()
            if name != "coq" and (axioms or "analysis" not in name)
        ]
        agrees = "; coqchk agrees." if theorem["coqchk"] else "."
        return nodes.paragraph(
            "",
            "",
            nodes.literal("", theorem["statement"]),
            nodes.Text(f": {theorem['label']}. Proved in "),
            self._link(theorem["proof"]),
            nodes.Text(f"{rests}; Coq {versions['coq']}, {', '.join(used)}{agrees}"),
        )

    def run(self) -> list[nodes.Node]:
        """Build the nodes."""
        script = runpy.run_path(str(PROOFS / "check.py"))
        if (reason := script["stale"]()) is not None:
            self.state.document.reporter.warning(reason, line=self.lineno)
        record = json.loads(script["RECORD"].read_text("utf-8"))
        file, text = region(self.arguments[0])
        names = re.findall(r"^Definition (\w+) : Prop", text, re.MULTILINE)
        listed = {t["statement"]: t for t in record["theorems"] if t["checked"]}
        if missing := [name for name in names if name not in listed]:
            raise self.error(f"not checked by `make proofs`: {', '.join(missing)}")
        title = nodes.title("", f"{'Checked by Coq: stated' if names else 'Defined'} in ")
        title += self._link(file)
        code = nodes.literal_block(text, text, language="coq")
        box = nodes.admonition("", title, code, classes=["checked"])
        box += [self._status(listed[name], record["versions"]) for name in names]
        box["ids"].append(f"checked-{self.arguments[0].replace('_', '-')}")
        return [box]


class ProofMap(SphinxDirective):
    """Every statement with what it rests on, as ``make proofs`` has drawn it from its record."""

    def run(self) -> list[nodes.Node]:
        """Put the drawing and its list into the page."""
        drawn = (BOOK / "_static/proofs/map.htm").read_text("utf-8")
        return [nodes.raw("", drawn, format="html")]


def setup(app: Sphinx) -> None:
    """Connect the extension."""
    app.add_directive("checked", Checked)
    app.add_directive("proof-map", ProofMap)
