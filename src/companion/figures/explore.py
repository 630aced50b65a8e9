"""A figure of many runs that a reader explores: models, single runs, beside the poster's curves.

The figure carries its data. On the site a script draws it with Observable Plot; where none runs, as
in a notebook, a picture of the first choice stands for it.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from companion.experiments.statistics import paired_difference
from companion.figures.style import LOOKS, look

MARKERS = {"o": "circle", "s": "square", "^": "triangle", "D": "diamond"}
DASHES = {"rnn": "", "urnn": "6 2", "contractive": "6 2 1 2", "lstm": "1 2"}

Choice = tuple[str, ...]  # one value of each choice, in their order


@dataclass(frozen=True)
class Point:
    """One run: what was chosen, the model, the abscissa, the run's number and its value."""

    chosen: Choice
    model: str
    x: float
    run: int
    value: float  # NaN: diverged


@dataclass(frozen=True)
class Read:
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
    models : label of each model, and its key in ``plotting.LOOKS``.
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
        for chosen in {p.chosen for p in given} | self.levels.keys():
            allowed = list(self.choices.values())
            if len(chosen) != len(allowed) or any(
                c not in a for c, a in zip(chosen, allowed, strict=True)
            ):
                raise ValueError(f"a point has the choice {chosen}; allowed: {dict(self.choices)}.")
        for model in {p.model for p in given}:
            if self.models.get(model) not in LOOKS:
                raise ValueError(f"a point has the model {model!r}; allowed: {dict(self.models)}.")

    def data(self) -> dict[str, Any]:
        """What the script draws: for each choice, model and abscissa the runs and their mean."""
        runs = sorted({p.run for p in self.points})
        places = {run: i for i, run in enumerate(runs)}
        values: dict[tuple[Choice, str, float], list[float]] = {}
        for p in self.points:
            group = values.setdefault((p.chosen, p.model, p.x), [math.nan] * len(runs))
            group[places[p.run]] = p.value
        read = {(p.chosen, p.model, p.x): [p.value, p.uncertainty] for p in self.poster}
        groups = []
        for key in sorted(values.keys() | read.keys()):
            group = values.get(key, [])
            known = np.array([v for v in group if math.isfinite(v)])
            mean = [round(float(v), 5) for v in known[:1]]  # of one run there is no interval
            if len(known) > 1:
                found = paired_difference(known, 0 * known, margin=1, level=self.level)
                mean = [round(v, 5) for v in (found.mean, found.low, found.high)]
            groups.append(
                {
                    "chosen": key[0],
                    "model": key[1],
                    "x": key[2],
                    "values": [round(v, 4) if math.isfinite(v) else None for v in group],
                    "mean": mean,
                    "poster": read.get(key, []),
                }
            )
        looks = {
            label: {
                "color": f"var(--{key})",
                "dash": DASHES[key],
                "symbol": MARKERS[LOOKS[key].marker or "o"],
            }
            for label, key in self.models.items()
        }
        return {
            "axes": self.axes,
            "run": self.run,
            "runs": runs,
            "choices": {name: list(allowed) for name, allowed in self.choices.items()},
            "models": looks,
            "groups": groups,
            "levels": [{"chosen": c, "value": round(v, 5)} for c, v in self.levels.items()],
            "level": self.level,
            "alt": self.alt,
        }

    def __repr__(self) -> str:
        return f"explorer of {len(self.points)} points: {', '.join(self.models)}"

    def _still(self, data: dict[str, Any]) -> Figure:
        """The first choice, drawn by matplotlib."""
        first = tuple(allowed[0] for allowed in self.choices.values())
        figure, ax = plt.subplots(figsize=(6.4, 4.0))
        for label, key in self.models.items():
            shown = [g for g in data["groups"] if (g["chosen"], g["model"]) == (first, label)]
            averaged = [g for g in shown if g["mean"]]
            x = [g["x"] for g in averaged]
            mean, low, high = np.array([(g["mean"] * 3)[:3] for g in averaged]).reshape(-1, 3).T
            ax.fill_between(x, low, high, color=look(key)["color"], alpha=0.2, linewidth=0)
            ax.plot(x, mean, **look(key), label=label)
            read = [(g["x"], *g["poster"]) for g in shown if g["poster"]]
            if read:
                at, value, uncertainty = zip(*read, strict=True)
                cross = {"color": look(key)["color"], "markersize": 5, "linewidth": 0.8}
                ax.errorbar(at, value, yerr=uncertainty, fmt="x", **cross)
        if first in self.levels:
            ax.axhline(self.levels[first], **look("optimum"))
        ax.set(xlabel=self.axes[0], ylabel=self.axes[1], title=", ".join(first))
        ax.legend()
        return figure

    def _repr_html_(self) -> str:
        values = self.data()
        still = self._still(values)
        file = io.BytesIO()
        still.savefig(file, format="svg", metadata={"Date": None})
        plt.close(still)
        picture = base64.b64encode(file.getvalue()).decode()
        data = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
        data = data.replace("</", r"<\/")  # would end the script
        return (
            f'<figure class="explore"><div class="drawing"><img alt="{html.escape(self.alt)}" '
            f'src="data:image/svg+xml;base64,{picture}"></div>'
            f"<figcaption>{html.escape(self.caption)}</figcaption>"
            f'<script type="application/json">{data}</script></figure>'
        )
