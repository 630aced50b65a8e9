"""The directives ``schematic`` and ``live``: drawings in the page itself, in the theme's colours.

    ```{schematic} matrix silent
    :name: fig-construction
    :alt: What the drawing shows, for readers who do not see it.

    The caption.
    ```

puts ``_static/schematics/matrix.svg`` and ``silent.svg`` side by side, one below another where
there is no room. They become part of the page, so that their text is text, in the fonts of the
formulas, and follows the light and dark themes. With ``:motion:`` a switch holds what moves.
``live`` takes the same options and leaves the drawing to ``_static/live.js``, by its name there.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from executed import BOOK, fill
from sphinx.application import Sphinx
from sphinx.directives.patches import Figure
from sphinx.util.docutils import SphinxDirective


class Schematic(Figure, SphinxDirective):
    """A numbered figure whose picture is markup in the page."""

    final_argument_whitespace = True
    option_spec = Figure.option_spec | {"motion": directives.flag}

    def run(self) -> list[nodes.Node]:
        """Let docutils make the figure and its caption, and put the drawing where the image is."""
        if not self.options.get("alt") or not self.content:
            raise self.error(f"{self.name}: alt and a caption are needed.")
        names = self.arguments[0].split()
        files = [f"_static/schematics/{name}.svg" for name in names]
        if self.name == "live":
            files = ["_static/live.js"]
        if missing := [file for file in files if not (BOOK / file).is_file()]:
            raise self.error(f"{self.name}: {', '.join(missing)} is not there.")
        alt = " ".join(self.options["alt"].split())
        drawn = [(BOOK / file).read_text("utf-8") for file in files if file.endswith(".svg")]
        self.options["figclass"] = [self.name]
        motion = "motion" in self.options
        [figure] = super().run()
        figure[0] = fill("schematic.html", names=names, alt=alt, drawn=drawn, motion=motion)
        for file in files:
            word = "Code" if len(files) == 1 else Path(file).stem
            address = "../" * self.env.docname.count("/") + file
            link = nodes.reference("", word, refuri=address, internal=True, classes=["drawn-by"])
            figure[1] += [nodes.Text(" "), link]
        return [figure]


def setup(app: Sphinx) -> None:
    """Connect the extension."""
    app.add_directive("schematic", Schematic)
    app.add_directive("live", Schematic)
