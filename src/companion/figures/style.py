"""One look for every figure: a model keeps its colour, line and marker across the book.

The colours are chosen for colour-blind readers (after Okabe and Ito, and Tol), stand out from white
by at least 3 : 1, and lie at least 10 apart in lightness, so that a figure survives a grey printer;
line and marker differ as well. Figures have no ground of their own: the page shows through, and in
its dark theme the site turns their lightness over and keeps their hues.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

INK = "#1a1a1a"  # text, axes, reference lines
MUTED = "#6b6b6b"  # secondary marks and text


class Look(NamedTuple):
    """How one model is drawn, in matplotlib's words."""

    color: str
    linestyle: str | tuple[float, tuple[float, ...]]
    marker: str | None


LOOKS: dict[str, Look] = {
    "rnn": Look("#0072b2", "-", "o"),
    "urnn": Look("#e66100", (0, (5, 1.5)), "s"),
    "contractive": Look("#8c2557", (0, (5, 1.5, 1, 1.5)), "^"),
    "lstm": Look("#332288", (0, (1, 1.2)), "D"),
    "optimum": Look(INK, (0, (1, 2)), None),  # a level, not a model
    "poster": Look(MUTED, "none", "x"),  # points read off the poster's figures
}


def look(model: str, *, marker: bool = True) -> dict[str, Any]:
    """Return what draws ``model`` its way, for any matplotlib call that draws lines.

    Parameters
    ----------
    model : a key of ``LOOKS``: "rnn", "urnn", "contractive", "lstm", "optimum" or "poster".
    marker : False for trajectories, where a mark at each of a thousand steps hides the line.

    Returns
    -------
    dict with ``color``, ``linestyle`` and ``marker``.

    Raises
    ------
    ValueError : for another name.

    Examples
    --------
    >>> look("rnn", marker=False)
    {'color': '#0072b2', 'linestyle': '-', 'marker': None}
    """
    if model not in LOOKS:
        raise ValueError(f"model is {model!r}; allowed: {', '.join(LOOKS)}.")
    return LOOKS[model]._asdict() | ({} if marker else {"marker": None})


def use_style() -> None:
    """Set the book's figure style, and vector figures where a notebook runs.

    Type is 10 to 11 points at 6.4 inches, the width of the text column, so that a figure can shrink
    by a third before its labels do not read. SVG output repeats byte for byte: its identifiers are
    salted by a constant and it carries no date. Draw lines of more than some thousand points with
    ``rasterized=True``, which keeps the file small.

    Examples
    --------
    >>> with mpl.rc_context():
    ...     use_style()
    ...     mpl.rcParams["figure.figsize"]
    [6.4, 3.6]
    """
    mpl.rc("figure", figsize=(6.4, 3.6), dpi=100, facecolor="none")
    mpl.rc("figure.constrained_layout", use=True)
    mpl.rc("savefig", dpi=200, facecolor="none")
    # the same letters where DejaVu Sans is missing
    mpl.rc("svg", fonttype="path", hashsalt="companion")
    mpl.rc("font", size=11)
    mpl.rc("text", color=INK)
    mpl.rc("axes", titlesize=11, labelsize=11, edgecolor=INK, labelcolor=INK, facecolor="none")
    colors = [LOOKS[m].color for m in ("rnn", "urnn", "contractive", "lstm")]
    mpl.rc("axes", axisbelow=True, grid=True, prop_cycle=cycler(color=colors))
    mpl.rc("axes.spines", top=False, right=False)
    mpl.rc("xtick", labelsize=10, color=INK)
    mpl.rc("ytick", labelsize=10, color=INK)
    mpl.rc("legend", fontsize=10, frameon=False)
    mpl.rc("grid", color="#e3e3e3", linewidth=0.8)
    mpl.rc("lines", linewidth=1.8, markersize=5)
    mpl.rc("errorbar", capsize=2.5)
    if "ipykernel" in sys.modules:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", metadata={"Date": None})  # type: ignore[no-untyped-call] # untyped upstream


def picture(figure: Figure) -> str:
    """Close a figure, and give the address of an SVG picture of it that an ``img`` can hold."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    plt.close(figure)
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"


class Slider:
    """Figures that a slider steps through, in one piece of HTML: no server, no library.

    Without scripts, and in print, the chosen first frame stands as a figure. The keyboard's arrows
    move the slider.

    Parameters
    ----------
    frames : label of each position, and its figure; the figures are closed.
    name : what the slider changes.
    alt : what the figures show, for readers who do not see them.
    caption : what stands below them.
    start : the position shown first.
    """

    def __init__(
        self, frames: Sequence[tuple[str, Figure]], *, name: str, alt: str, caption: str,
        start: int = 0,
    ) -> None:  # fmt: skip
        self.name, self.alt, self.caption, self.start = name, alt, caption, start
        self.frames = [(label, picture(figure)) for label, figure in frames]

    def __repr__(self) -> str:
        return f"slider over {self.name}: {', '.join(label for label, _ in self.frames)}"

    def _repr_html_(self) -> str:
        images = "".join(
            f'<img alt="{escape(f"{self.alt} {self.name}: {label}.")}"'
            f'{"" if i == self.start else " hidden"} src="{source}">'
            for i, (label, source) in enumerate(self.frames)
        )
        move = (
            "const f=this.closest('.slider'),l=JSON.parse(f.dataset.labels)[this.value];"
            "f.querySelectorAll('img').forEach((e,i)=>e.hidden=i!=this.value);"
            "f.querySelector('output').textContent=l;this.setAttribute('aria-valuetext',l)"
        )
        labels = [label for label, _ in self.frames]
        shown = escape(labels[self.start])
        return (
            f'<figure class="slider" data-labels="{escape(json.dumps(labels))}">{images}'
            f'<label>{escape(self.name)} <input type="range" min="0" '
            f'max="{len(labels) - 1}" value="{self.start}" aria-valuetext="{shown}" '
            f'oninput="{move}"> <output>{shown}</output></label>'
            f"<figcaption>{escape(self.caption)}</figcaption></figure>"
        )
