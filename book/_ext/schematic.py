"""The directives ``schematic`` and ``live``: drawings in the page itself, in the theme's colours.

    ```{schematic} matrix silent
    :name: fig-construction
    :alt: What the drawing shows, for readers who do not see it.

    The caption.
    ```

puts ``_static/schematics/matrix.svg`` and ``silent.svg`` side by side, one below another where
there is no room. They become part of the page, so that their text is text, in the fonts of the
formulas, and follows the light and dark themes. With ``:motion:`` a switch holds what moves.
``live`` takes the same options and leaves the drawing to ``_static/live.js``.
"""

from __future__ import annotations

import hashlib
import html
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PANELS = Path(__file__).resolve().parents[1] / "_static" / "schematics"
SWITCH = '<label class="hold"><input type="checkbox"> Hold still</label>'


class Schematic(SphinxDirective):
    """A numbered figure whose picture is markup in the page."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "name": directives.unchanged_required,
        "alt": directives.unchanged_required,
        "motion": directives.flag,
    }

    def markup(self, alt: str) -> tuple[str, list[str]]:
        """Give the picture, and the addresses of what draws it."""
        paths = [PANELS / f"{name}.svg" for name in self.arguments[0].split()]
        if missing := [path.stem for path in paths if not path.is_file()]:
            raise self.error(f"no drawing {', '.join(missing)} in _static/schematics.")
        for path in paths:
            self.env.note_dependency(str(path))
        drawn = "".join(path.read_text("utf-8") for path in paths)
        hold = SWITCH if "motion" in self.options else ""
        picture = f'{hold}<div class="panels" role="img" aria-label="{alt}">{drawn}</div>'
        return picture, [f"_static/schematics/{path.name}" for path in paths]

    def run(self) -> list[nodes.Node]:
        """Build the figure."""
        if not self.options.get("alt") or not self.content:
            raise self.error(f"{self.name}: alt and a caption are needed.")
        picture, sources = self.markup(html.escape(" ".join(self.options["alt"].split())))
        figure = nodes.figure("", nodes.raw("", picture, format="html"), classes=[self.name])
        parsed = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        caption = nodes.caption("", "")
        for paragraph in parsed.findall(nodes.paragraph):
            caption += paragraph.children
        for source in sources:
            address = "../" * self.env.docname.count("/") + source
            word = "Code" if len(sources) == 1 else Path(source).stem
            link = nodes.reference("", word, refuri=address, internal=True, classes=["drawn-by"])
            caption += [nodes.Text(" "), link]
        figure += caption
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure]


class Live(Schematic):
    """A figure that ``_static/live.js`` computes in the reader's browser, by its name there."""

    def markup(self, alt: str) -> tuple[str, list[str]]:
        """Give a place for it."""
        name = self.arguments[0]
        place = f'<div class="live-drawing" data-drawing="{name}" data-alt="{alt}">'
        absent = "<noscript>This figure is computed by a script, which is switched off.</noscript>"
        return f"{place}{absent}</div>", ["_static/live.js"]


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension; its own text counts as a source of every page that uses it."""
    app.add_directive("schematic", Schematic)
    app.add_directive("live", Live)
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    return {"version": version, "parallel_read_safe": True, "parallel_write_safe": True}
