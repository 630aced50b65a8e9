"""The directives ``schematic`` and ``live``: drawings made here, in the colours of the theme.

    ```{schematic} matrix silent
    :name: fig-construction
    :alt: What the drawing shows, for readers who do not see it.

    The caption.
    ```

puts the named panels side by side, one below another where there is no room. A panel is SVG in the
page itself, so that its text is text, in the fonts of the formulas, and follows the light and dark
themes. Each panel is a function of this file. ``live`` takes the same options and leaves the
drawing to ``_static/live.js``.

A Sphinx extension, loaded by ``_config.yml``.
"""

from __future__ import annotations

import hashlib
import html
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PANELS: dict[str, Callable[[], str]] = {}


def panel(width: int, height: int) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Register a drawing of this size, in px at full size."""

    def register(draw: Callable[[], str]) -> Callable[[], str]:
        def drawn() -> str:
            return (
                f'<svg viewBox="0 0 {width} {height}" aria-hidden="true" '
                f'style="flex-grow: {width}; max-width: {width}px">{draw()}</svg>'
            )

        PANELS[draw.__name__] = drawn
        return drawn

    return register


def box(x: float, y: float, w: float, h: float, kind: str = "") -> str:
    """A rectangle; the kind is one of the style sheet's fills."""
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="2"/>'


def line(*points: tuple[float, float], kind: str = "") -> str:
    """A line through points; kind "arrow" has a head."""
    places = " ".join(f"{x:g},{y:g}" for x, y in points)
    head = ""
    if "arrow" in kind:
        (ax, ay), (bx, by) = points[-2:]
        length = ((bx - ax) ** 2 + (by - ay) ** 2) ** 0.5
        ux, uy = (bx - ax) / length, (by - ay) / length
        left = (bx - 8 * ux - 4 * uy, by - 8 * uy + 4 * ux)
        right = (bx - 8 * ux + 4 * uy, by - 8 * uy - 4 * ux)
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in (left, (bx, by), right))
        head = f'<polygon class="head" points="{corners}"/>'
    return f'<polyline class="{kind}" points="{places}"/>{head}'


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """Text centred at x; ``_a`` and ``^a`` lower and raise a letter; ``*a*`` is italic."""
    out, shift, italic, rest = "", 0, False, iter(words)
    for letter in rest:
        if letter in "_^":
            size = -5 if letter == "^" else 4
            raised = html.escape(next(rest))
            out += f'<tspan dy="{shift + size}" font-size="75%">{raised}</tspan>'
            shift = -size
            continue
        if letter == "*":
            italic = not italic
            continue
        style = ' class="m"' if italic else ""
        move = f' dy="{shift}"' if shift else ""
        shift = 0
        plain = html.escape(letter)
        out += f"<tspan{style}{move}>{plain}</tspan>" if style or move else plain
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{out}</text>'


CELL = 26


def cells(x: float, y: float, kinds: list[str]) -> str:
    """A row of state cells; a kind may carry an opacity, as in "past:0.4"."""
    out = ""
    for i, kind in enumerate(kinds):
        name, _, opacity = kind.partition(":")
        drawn = box(x + i * CELL + 1, y + 1, CELL - 2, CELL - 2, name)
        outline = box(x + i * CELL + 1, y + 1, CELL - 2, CELL - 2, "cell")
        out += (f'<g opacity="{opacity}">{drawn}</g>' if opacity else drawn) + outline
    return out


def steps(rows: list[list[str]], x: float, top: float = 44) -> str:
    """One row of cells a step, time running down."""
    out = ""
    for k, kinds in enumerate(rows):
        y = top + k * (CELL + 14)
        out += text(16, y + 18, f"*k* = {k}", "start small") + cells(x, y, kinds)
        if k:
            out += line((x + 13, y - 13), (x + 13, y - 1), kind="arrow")
    return out


def piling() -> list[list[str]]:
    """The cells of a network that never forgets: two more for every step."""
    rows = [["past:0.9"] * 2]
    for _ in range(3):
        rows.append(["other", "other", *rows[-1]])
    return rows


def zeros(x: float) -> str:
    """The states of `steps` at x that stay at 0, in the third and fourth cell of each row."""
    return "".join(
        text(x + CELL * at + 13, 44 + k * (CELL + 14) + 18, "0", "small")
        for k in range(4)
        for at in (2, 3)
    )


@panel(220, 216)
def fading() -> str:
    """A contractive network: the first input fades."""
    rows = [[f"past:{0.9 * 0.45**k:.2f}"] * 2 for k in range(4)]
    return text(110, 22, "contractive, *n* states", "title") + steps(rows, 62)


@panel(220, 216)
def parked() -> str:
    """A unitary ReLU network: what is to be forgotten goes to silent states."""
    rows = [[f"past:{0.9 * 0.45**k:.2f}"] * 2 + ["off"] * 2 for k in range(4)]
    return text(110, 22, "unitary, ReLU: 2*n*", "title") + steps(rows, 62) + zeros(62)


@panel(290, 216)
def growing() -> str:
    """A unitary sigmoid network: n more states for every step."""
    return text(145, 22, "unitary, sigmoid: *n* more a step", "title") + steps(piling(), 62)


@panel(350, 236)
def matrix() -> str:
    """W as the leading block of an orthogonal matrix."""
    a, b = 64, 52  # sides of the two blocks
    x, y = 188, 52
    return (
        box(22, y + 24, a, a, "rnn")
        + text(22 + a / 2, y + 24 + a / 2 + 6, "*W*")
        + text(22 + a / 2, y + 24 + a + 22, "‖*W*‖ < 1", "small")
        + text(66, 26, "given: *n* states", "title")
        + line((100, y + 56), (172, y + 56), kind="arrow")
        + text(x + (a + b) / 2, 26, "*U* orthogonal: *n* + *r*", "title")
        + box(x, y, a, a, "rnn")
        + box(x + a, y, b, a, "urnn")
        + box(x, y + a, a, b, "urnn")
        + box(x + a, y + a, b, b, "urnn pale")
        + text(x + a / 2, y + a / 2 + 6, "*W*")
        + text(x + a + b / 2, y + a / 2 + 6, "*P*_r*C*_r")
        + text(x + a / 2, y + a + b / 2 + 6, "*C*_r*Q*_r^T")
        + text(x + a + b / 2, y + a + b / 2 + 6, "−*S*_r")
        + text(175, 206, "Every column has length 1 and is", "small")
        + text(175, 224, "at right angles to every other.", "small")
    )


@panel(330, 236)
def silent() -> str:
    """The two blocks at work: the new one receives, and never speaks."""
    return (
        text(165, 26, "one step of the unitary network", "title")
        + box(20, 54, 70, 56, "rnn")
        + text(55, 88, "*h*")
        + box(20, 148, 70, 44, "off")
        + text(55, 176, "0")
        + line((90, 74), (238, 74), kind="arrow")
        + text(164, 66, "*W h* + *F x* + *b*", "small")
        + box(240, 54, 70, 56, "rnn")
        + text(275, 88, "new *h*")
        + line((90, 100), (132, 148), kind="arrow")
        + text(168, 122, "*C*_r*Q*_r^T*h*", "small")
        + box(104, 150, 112, 40, "urnn")
        + text(160, 175, "minus *M*: ≤ 0", "small")
        + line((216, 170), (238, 170), kind="arrow")
        + text(228, 142, "ReLU", "small")
        + box(240, 148, 70, 44, "off")
        + text(275, 176, "0")
        + line((275, 146), (275, 112), kind="dashed")
        + text(165, 224, "the new block sends back 0, exactly", "small")
    )


def kink(x: float, y: float, at: float, kind: str) -> str:
    """A ReLU's graph with its kink moved by ``at`` px."""
    return line((x - 44, y), (x + at, y), (x + 44, y - (44 - at)), kind=kind)


@panel(330, 250)
def room() -> str:
    """2n states: the past fits beside the present."""
    return (
        text(165, 22, "2*n* states", "title")
        + text(60, 48, "step 0", "small")
        + text(200, 48, "step 1", "small")
        + cells(34, 58, ["past", "past"])
        + cells(34, 122, ["off", "off"])
        + line((90, 78), (170, 134), kind="arrow")
        + text(120, 130, "*U*")
        + cells(174, 58, ["other", "other"])
        + cells(174, 122, ["past", "past"])
        + text(276, 76, "present", "small")
        + text(276, 140, "parked", "small")
        + kink(88, 226, 0, "teacher")
        + kink(88, 226, 0, "student dashed")
        + text(228, 206, "the kink at step 1", "small")
        + text(228, 224, "stays at 0", "small")
    )


@panel(330, 250)
def spill() -> str:
    """2n − 1 states: one direction of the past has no place but the present."""
    return (
        text(165, 22, "2*n* − 1 states", "title")
        + text(60, 48, "step 0", "small")
        + text(200, 48, "step 1", "small")
        + cells(34, 58, ["past", "past"])
        + cells(34, 122, ["off"])
        + line((90, 78), (170, 134), kind="arrow")
        + line((90, 70), (198, 70), kind="arrow bad")
        + text(116, 130, "*U*")
        + cells(174, 58, ["other", "other"])
        + cells(200, 58, ["past:0.6"])
        + cells(174, 122, ["past"])
        + text(276, 76, "spilt on", "small")
        + text(268, 140, "parked", "small")
        + kink(88, 226, 0, "teacher")
        + kink(88, 226, 20, "student dashed")
        + text(228, 206, "a kink moves with", "small")
        + text(228, 224, "the input of step 0", "small")
    )


@panel(330, 236)
def smooth() -> str:
    """Sigmoid: no direction ever dies."""
    return (
        text(165, 22, "sigmoid: φ′ is never 0", "title")
        + steps(piling(), 72)
        + line((70, 212), (126, 212), kind="")
        + text(98, 229, "for *C*", "small")
        + text(206, 229, "hidden from *C*", "small")
        + line((126, 212), (282, 212), kind="dashed")
    )


@panel(330, 236)
def switched() -> str:
    """ReLU: a unit that is off ends a direction."""
    rows = [["past:0.9"] * 2 + ["off"] * 2]
    rows += [["other", "other", "off", "off"] for _ in range(3)]
    return (
        text(165, 22, "ReLU: φ′ = 0 where a unit is off", "title")
        + steps(rows, 72)
        + zeros(72)
        + text(250, 122, "what came here", "small")
        + text(250, 140, "has ended", "small")
        + line((70, 212), (126, 212), kind="")
        + text(98, 229, "for *C*", "small")
    )


class Drawing(SphinxDirective):
    """A numbered figure whose picture is markup in the page itself."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar = {
        "name": directives.unchanged_required,
        "alt": directives.unchanged_required,
    }
    kind: ClassVar[str]
    code: ClassVar[str]  # address of the code that draws, from the site's root

    def markup(self, alt: str) -> str:
        """The picture."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Build the figure."""
        if not self.options.get("alt") or not self.content:
            raise self.error(f"{self.name}: alt and a caption are needed.")
        self.env.note_dependency(__file__)
        alt = html.escape(" ".join(self.options["alt"].split()))
        figure = nodes.figure("", classes=[self.kind])
        figure += nodes.raw("", self.markup(alt), format="html")
        caption = nodes.caption("", "")
        parsed = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        for paragraph in parsed.findall(nodes.paragraph):
            caption += paragraph.children
        address = "../" * self.env.docname.count("/") + self.code
        caption += nodes.Text(" ")
        caption += nodes.reference("", "Code", refuri=address, internal=True, classes=["drawn-by"])
        figure += caption
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure]


class Schematic(Drawing):
    """Panels side by side."""

    kind = "schematic"
    code = "_sources/schematic.py"

    def markup(self, alt: str) -> str:
        """The panels, drawn by the functions of this file."""
        names = self.arguments[0].split()
        if unknown := [name for name in names if name not in PANELS]:
            raise self.error(f"no panel {', '.join(unknown)}; allowed: {', '.join(PANELS)}.")
        drawn = "".join(PANELS[name]() for name in names)
        return f'<div class="panels" role="img" aria-label="{alt}">{drawn}</div>'


class Live(Drawing):
    """A figure that ``_static/live.js`` computes in the reader's browser, by its name there."""

    kind = "live"
    code = "_static/live.js"

    def markup(self, alt: str) -> str:
        """A place for it."""
        return (
            f'<div class="live-drawing" data-drawing="{self.arguments[0]}" data-alt="{alt}">'
            "<noscript>This figure is computed by a script, which is switched off.</noscript></div>"
        )


def ship(app: Sphinx, failure: Exception | None) -> None:
    """Put this file beside the pages' sources: the way back from a drawing to its code."""
    if not failure and app.builder.format == "html":
        target = Path(app.outdir, "_sources")
        target.mkdir(exist_ok=True)
        shutil.copyfile(__file__, target / "schematic.py")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension; its own text counts as a source of every page that uses it."""
    app.add_directive("schematic", Schematic)
    app.add_directive("live", Live)
    app.connect("build-finished", ship)
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    return {"version": version, "parallel_read_safe": True, "parallel_write_safe": True}
