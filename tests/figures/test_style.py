"""Figures: models must be told apart by colour, in grey, and on white."""

from __future__ import annotations

import io
from itertools import combinations

import matplotlib as mpl
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from companion.figures.style import LOOKS, Slider, look, use_style

MODELS = ("rnn", "urnn", "contractive", "lstm")


def luminance(color: str) -> float:
    """Relative luminance of WCAG 2.2, between 0 and 1."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), channels, strict=True))


def test_models_differ_in_grey() -> None:
    lightness = {m: 116 * luminance(LOOKS[m].color) ** (1 / 3) - 16 for m in MODELS}
    for a, b in combinations(MODELS, 2):
        assert abs(lightness[a] - lightness[b]) >= 10, (a, b)
        assert LOOKS[a].linestyle != LOOKS[b].linestyle
        assert LOOKS[a].marker != LOOKS[b].marker


@pytest.mark.parametrize("model", LOOKS)
def test_colours_stand_out_from_white(model: str) -> None:
    assert 1.05 / (luminance(LOOKS[model].color) + 0.05) >= 3  # WCAG 1.4.11, graphics


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'gru'.*rnn, urnn"):
        look("gru")


def test_svg_repeats_byte_for_byte() -> None:
    def drawn() -> bytes:
        with mpl.rc_context():
            use_style()
            figure = Figure()
            figure.add_subplot().plot([0, 1, 3], **look("urnn"))
            out = io.BytesIO()
            figure.savefig(out, format="svg", metadata={"Date": None})
            return out.getvalue()

    assert drawn() == drawn()


def test_slider_has_caption_text_and_one_picture_at_first() -> None:
    slider = Slider(
        [(f"{n} < 3", Figure()) for n in range(3)],
        name="size",
        alt="Nothing.",
        caption="None & none.",
        start=1,
    )
    markup = slider._repr_html_()
    assert markup.count("<img ") == 3
    assert markup.count(" hidden") == 2
    assert 'alt="Nothing. size: 1 &lt; 3." src' in markup  # the one that is shown
    assert "<figcaption>None &amp; none.</figcaption>" in markup
