"""The directive ``checked``: a machine-checked statement beside the prose, and its status.

    ```{checked} theorem1
    ```

shows the region ``(* begin theorem1 *) … (* end theorem1 *)`` of a file ``proofs/Statements*.v``,
and for each statement in it what ``make proofs`` recorded: by which file it is proved, on which
axioms, with which versions. A record that is not of the present sources is a warning, and so fails
the strict build.

A Sphinx extension, loaded by ``_config.yml``.
"""

from __future__ import annotations

import hashlib
import json
import re
import runpy
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PROOFS = Path(__file__).resolve().parents[2] / "proofs"


def region(name: str) -> tuple[Path, str]:
    """The file and the text between ``(* begin NAME *)`` and ``(* end NAME *)``."""
    for path in sorted(PROOFS.glob("Statements*.v")):
        found = re.search(
            rf"^\(\* begin {name} \*\)\n(.*?)^\(\* end {name} \*\)",
            path.read_text(encoding="utf-8"),
            re.MULTILINE | re.DOTALL,
        )
        if found:
            return path, found[1].rstrip()
    raise ValueError(f"no region {name!r} in proofs/Statements*.v")


class Checked(SphinxDirective):
    """One region of the statements with its status."""

    required_arguments = 1
    has_content = False

    def _link(self, text: str, module: str) -> nodes.reference:
        up = "../" * self.env.docname.count("/")
        address = f"{up}_static/proofs/Proofs.{module.removesuffix('.v')}.html"
        return nodes.reference("", "", nodes.literal("", text), refuri=address, internal=True)

    def _status(self, theorem: dict[str, Any], versions: dict[str, str]) -> nodes.paragraph:
        axioms = theorem["axioms"]
        line = nodes.paragraph("", "", nodes.literal("", theorem["statement"]))
        line += nodes.Text(f": {theorem['label']}. Proved in ")
        line += self._link(theorem["proof"], theorem["proof"])
        line += nodes.Text(
            (" on the axioms " + ", ".join(axioms) if axioms else ", resting on no axiom")
            + f"; Coq {versions['coq']}, "
            + ", ".join(
                f"{name} {v.split('-')[0]}"
                for name, v in versions.items()
                if name != "coq" and (axioms or "analysis" not in name)
            )
            + ("; coqchk agrees." if theorem["coqchk"] else ".")
        )
        return line

    def run(self) -> list[nodes.Node]:
        """Build the nodes."""
        script = runpy.run_path(str(PROOFS / "check.py"))
        for path in [*PROOFS.glob("*.v"), script["RECORD"]]:
            self.env.note_dependency(str(path))
        if (reason := script["stale"]()) is not None:
            self.state.document.reporter.warning(reason, line=self.lineno)
        record = json.loads(script["RECORD"].read_text(encoding="utf-8"))
        path, text = region(self.arguments[0])
        names = re.findall(r"^Definition (\w+) : Prop", text, re.MULTILINE)
        listed = {t["statement"]: t for t in record["theorems"] if t["checked"]}
        missing = [name for name in names if name not in listed]
        if missing:
            raise self.error(f"not checked by `make proofs`: {', '.join(missing)}")
        title = nodes.title("", f"{'Checked by Coq: stated' if names else 'Defined'} in ")
        title += self._link(path.name, path.name)
        code = nodes.literal_block(text, text, language="coq")
        box = nodes.admonition("", title, code, classes=["checked"])
        box += [self._status(listed[name], record["versions"]) for name in names]
        box["ids"].append(f"checked-{self.arguments[0].replace('_', '-')}")
        return [box]


class ProofMap(SphinxDirective):
    """Every statement with what it rests on, as ``make proofs`` has drawn it from its record."""

    def run(self) -> list[nodes.Node]:
        """Put the drawing and its list into the page."""
        path = PROOFS.parent / "book" / "_static" / "proofs" / "map.htm"
        self.env.note_dependency(str(path))
        return [nodes.raw("", path.read_text(encoding="utf-8"), format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension; its own text counts as a source of every page that uses it."""
    app.add_directive("checked", Checked)
    app.add_directive("proof-map", ProofMap)
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    return {"version": version, "parallel_read_safe": True, "parallel_write_safe": True}
