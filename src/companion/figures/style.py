"""One look for every figure: a model keeps its colour, line and marker across the book.

The colours are chosen for colour-blind readers (after Okabe and Ito, and Tol), stand out from white
by at least 3 : 1, and lie at least 10 apart in lightness, so that a figure survives a grey printer;
line and marker differ as well. Figures have no ground of their own: the page shows through, and in
its dark theme the site turns their lightness over and keeps their hues.
"""

from __future__ import annotations

import base64
import html
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

INK = "#1a1a1a"  # text, axes, reference lines
MUTED = "#6b6b6b"  # secondary marks and text

Line = str | tuple[float, tuple[float, ...]]


@dataclass(frozen=True)
class Look:
    """How one model is drawn, in matplotlib's words."""

    color: str
    linestyle: Line
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
    """Keyword arguments that draw ``model`` its way in any matplotlib call for lines.

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
    chosen = LOOKS[model]
    return {
        "color": chosen.color,
        "linestyle": chosen.linestyle,
        "marker": chosen.marker if marker else None,
    }


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
    mpl.rcParams.update(
        {
            "figure.figsize": (6.4, 3.6),
            "figure.dpi": 100,
            "figure.facecolor": "none",
            "figure.constrained_layout.use": True,
            "savefig.dpi": 200,
            "savefig.facecolor": "none",
            "axes.facecolor": "none",
            "svg.fonttype": "path",  # the same letters where DejaVu Sans is missing
            "svg.hashsalt": "companion",
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.labelsize": 11,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "legend.fontsize": 10,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "text.color": INK,
            "axes.axisbelow": True,
            "axes.grid": True,
            "grid.color": "#e3e3e3",
            "grid.linewidth": 0.8,
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            "errorbar.capsize": 2.5,
            "axes.prop_cycle": cycler(
                color=[LOOKS[m].color for m in ("rnn", "urnn", "contractive", "lstm")]
            ),
        }
    )
    if "ipykernel" in sys.modules:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", metadata={"Date": None})  # type: ignore[no-untyped-call] # untyped upstream


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
        self,
        frames: Sequence[tuple[str, Figure]],
        *,
        name: str,
        alt: str,
        caption: str,
        start: int = 0,
    ) -> None:
        self.labels = [label for label, _ in frames]
        self.name, self.alt, self.caption, self.start = name, alt, caption, start
        self.images = []
        for _, figure in frames:
            file = io.BytesIO()
            figure.savefig(file, format="svg", metadata={"Date": None})
            self.images.append(base64.b64encode(file.getvalue()).decode())
            plt.close(figure)

    def __repr__(self) -> str:
        return f"slider over {self.name}: {', '.join(self.labels)}"

    def _repr_html_(self) -> str:
        images = "".join(
            f'<img alt="{html.escape(f"{self.alt} {self.name}: {label}.")}"'
            f'{"" if i == self.start else " hidden"} src="data:image/svg+xml;base64,{data}">'
            for i, (label, data) in enumerate(zip(self.labels, self.images, strict=True))
        )
        move = (
            "const f=this.closest('.slider'),l=JSON.parse(f.dataset.labels)[this.value];"
            "f.querySelectorAll('img').forEach((e,i)=>e.hidden=i!=this.value);"
            "f.querySelector('output').textContent=l;this.setAttribute('aria-valuetext',l)"
        )
        shown = html.escape(self.labels[self.start])
        return (
            f'<figure class="slider" data-labels="{html.escape(json.dumps(self.labels))}">{images}'
            f'<label>{html.escape(self.name)} <input type="range" min="0" '
            f'max="{len(self.labels) - 1}" value="{self.start}" aria-valuetext="{shown}" '
            f'oninput="{move}"> <output>{shown}</output></label>'
            f"<figcaption>{html.escape(self.caption)}</figcaption></figure>"
        )
