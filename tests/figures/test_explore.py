"""A figure of runs: what it carries is what it was given, and nothing ends its data early."""

from __future__ import annotations

import json
import math
import re

import matplotlib as mpl
import pytest
from scipy import stats

from companion.figures.explore import Explorer, Point, Read


def explorer(points: list[Point], **more: object) -> Explorer:
    return Explorer(
        points,
        choices={"noise": ["20 dB", "15 dB"]},
        models={"RNN": "rnn", "URNN": "urnn"},
        axes=("units", "R²"),
        run="system",
        caption="Ends </script> nothing.",
        alt="Points.",
        **more,  # type: ignore[arg-type]
    )


def test_groups_keep_runs_apart_and_average_what_did_not_diverge() -> None:
    values = [0.5, math.nan, 0.7, 0.9]
    points = [Point(("20 dB",), "RNN", 4, 10 + i, v) for i, v in enumerate(values)]
    points.append(Point(("20 dB",), "URNN", 8, 11, 0.4))
    read = Read(("15 dB",), "RNN", 4, 0.97, 0.005)
    data = explorer(points, poster=[read]).data()
    assert data["runs"] == [10, 11, 12, 13]
    groups = {(g["chosen"], g["model"], g["x"]): g for g in data["groups"]}
    rnn = groups[("20 dB",), "RNN", 4]
    assert rnn["values"] == [0.5, None, 0.7, 0.9]
    low, high = stats.ttest_1samp([0.5, 0.7, 0.9], 0).confidence_interval(0.95)
    assert rnn["mean"] == pytest.approx([0.7, low, high], abs=1e-5)
    alone = groups[("20 dB",), "URNN", 8]
    assert alone["values"] == [None, 0.4, None, None]
    assert alone["mean"] == [0.4]  # and no interval
    assert groups[("15 dB",), "RNN", 4]["poster"] == [0.97, 0.005]


def test_markup_holds_a_picture_and_the_data() -> None:
    points = [Point(("20 dB",), "RNN", n, i, 0.9 + i / 100) for n in (2, 4) for i in range(3)]
    with mpl.rc_context():
        made = explorer(points, levels={("20 dB",): 0.99})
        markup = made._repr_html_()
    assert markup.count("</script>") == 1
    assert "Ends &lt;/script&gt; nothing." in markup
    found = re.search(r'<script type="application/json">(.*)</script>', markup)
    assert found
    assert json.loads(found[1]) == json.loads(json.dumps(made.data()))
    assert re.search(r'<img alt="Points\." src="data:image/svg\+xml;base64,[^"]{1000}', markup)


@pytest.mark.parametrize(
    ("point", "complaint"),
    [
        (Point(("10 dB",), "RNN", 2, 0, 0.9), "10 dB"),
        (Point((), "RNN", 2, 0, 0.9), "choice"),
        (Point(("20 dB",), "GRU", 2, 0, 0.9), "GRU"),
    ],
)
def test_what_is_not_listed_is_refused(point: Point, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        explorer([point])
