"""A figure of many runs that a reader explores: models, single runs, beside the poster's curves.

The figure carries its data. On the site a script draws it with Observable Plot; where none runs, as
in a notebook, a picture of the first choice stands for it.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from math import isfinite, nan
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from companion.experiments.statistics import interval
from companion.figures.style import LOOKS, look, picture

MARKERS: dict[str | None, str] = {"o": "circle", "s": "square", "^": "triangle", "D": "diamond"}
DASHES = {"rnn": "", "urnn": "6 2", "contractive": "6 2 1 2", "lstm": "1 2"}

Choice = tuple[str, ...]  # one value of each choice, in their order


class Point(NamedTuple):
    """One run: what was chosen, the model, the abscissa, the run's number and its value."""

    chosen: Choice
    model: str
    x: float
    run: int
    value: float  # NaN: diverged


class Read(NamedTuple):
    """One point read off a published figure, with the uncertainty of reading it."""

    chosen: Choice
    model: str
    x: float
    value: float
    uncertainty: float


@dataclass(frozen=True)
class Explorer:
    """Values of runs against an abscissa, for each choice and model; an HTML figure.

    Parameters
    ----------
    points : the runs. Each choice, model and abscissa has every run at most once.
    choices : what a reader chooses, and among which values, the first one shown first.
    models : label of each model, and its key in ``companion.figures.style.LOOKS``.
    axes : labels of abscissa and ordinate. run : what one run is called.
    caption, alt : of the figure.
    poster : points read off a published figure. levels : a reference line for each choice.
    level : confidence of the interval of the mean over runs (Student's), between 0 and 1.

    Raises
    ------
    ValueError : if a point has a choice or a model that is not listed.

    Examples
    --------
    >>> points = [Point(("a",), "RNN", 2, run, 0.9 + run / 100) for run in range(3)]
    >>> explorer = Explorer(points, choices={"system": ["a", "b"]}, models={"RNN": "rnn"},
    ...                     axes=("units", "R²"), run="seed", caption="Three runs.", alt="A dot.")
    >>> explorer
    explorer of 3 points: RNN
    >>> explorer.data()["groups"][0]["values"], explorer.data()["groups"][0]["mean"]
    ([0.9, 0.91, 0.92], [0.91, 0.88516, 0.93484])
    """

    points: Sequence[Point]
    choices: Mapping[str, Sequence[str]]
    models: Mapping[str, str]
    axes: tuple[str, str]
    run: str
    caption: str
    alt: str
    poster: Sequence[Read] = ()
    levels: Mapping[Choice, float] = field(default_factory=dict)
    level: float = 0.95

    def __post_init__(self) -> None:
        given: list[Point | Read] = [*self.points, *self.poster]
        allowed = set(itertools.product(*self.choices.values()))
        if other := ({p.chosen for p in given} | self.levels.keys()) - allowed:
            raise ValueError(f"a point has the choice {other}; allowed: {dict(self.choices)}.")
        if unknown := {p.model for p in given if self.models.get(p.model) not in LOOKS}:
            raise ValueError(f"a point has the model {unknown}; allowed: {dict(self.models)}.")

    def data(self) -> dict[str, Any]:
        """Return what the script draws: by choice, model and abscissa the runs and their mean."""
        runs = sorted({p.run for p in self.points})
        values: dict[tuple[Choice, str, float], dict[int, float]] = defaultdict(dict)
        for p in self.points:
            values[p[:3]][p.run] = p.value
        read = {p[:3]: [p.value, p.uncertainty] for p in self.poster}
        groups = []
        for key in sorted(values.keys() | read.keys()):
            of = [values[key].get(run, nan) for run in runs] if key in values else []
            shown = [round(v, 4) if isfinite(v) else None for v in of]
            known, mean = [v for v in of if isfinite(v)], []
            if known:  # of one run there is no interval
                ends = interval(np.array(known), "mean", self.level)[:3]
                mean = [round(v, 5) for v in ends if isfinite(v)]
            group = {"values": shown, "mean": mean, "poster": read.get(key, [])}
            groups.append(dict(zip(("chosen", "model", "x"), key, strict=True)) | group)
        looks = {}
        for label, model in self.models.items():
            symbol = MARKERS[LOOKS[model].marker]
            looks[label] = {"color": f"var(--{model})", "dash": DASHES[model], "symbol": symbol}
        levels = [{"chosen": c, "value": round(v, 5)} for c, v in self.levels.items()]
        same = {name: getattr(self, name) for name in ("axes", "run", "choices", "level", "alt")}
        return same | {"runs": runs, "models": looks, "groups": groups, "levels": levels}

    def __repr__(self) -> str:
        return f"explorer of {len(self.points)} points: {', '.join(self.models)}"

    def _still(self, data: dict[str, Any]) -> Figure:
        """Draw the first choice by matplotlib."""
        first = tuple(allowed[0] for allowed in self.choices.values())
        figure, ax = plt.subplots(figsize=(6.4, 4.0))
        for label, key in self.models.items():
            shown = [g for g in data["groups"] if (g["chosen"], g["model"]) == (first, label)]
            color = look(key)["color"]
            means = [(g["x"], *(g["mean"] * 3)[:3]) for g in shown if g["mean"]]
            x, mean, low, high = np.array(means).reshape(-1, 4).T
            ax.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
            ax.plot(x, mean, **look(key), label=label)
            if read := [(g["x"], *g["poster"]) for g in shown if g["poster"]]:
                at, value, error = np.array(read).T
                cross = {"color": color, "markersize": 5, "linewidth": 0.8}
                ax.errorbar(at, value, yerr=error, fmt="x", **cross)
        if first in self.levels:
            ax.axhline(self.levels[first], **look("optimum"))
        ax.set(xlabel=self.axes[0], ylabel=self.axes[1], title=", ".join(first))
        ax.legend()
        return figure

    def _repr_html_(self) -> str:
        values = self.data()
        data = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
        data = data.replace("</", r"<\/")  # would end the script
        return (
            f'<figure class="explore"><div class="drawing"><img alt="{escape(self.alt)}" '
            f'src="{picture(self._still(values))}"></div>'
            f"<figcaption>{escape(self.caption)}</figcaption>"
            f'<script type="application/json">{data}</script></figure>'
        )
