"""The synthetic experiment: what the presets say, and that a draw is what its setting says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from companion.rnn import simulate, spectral_norm
from companion.synthetic import PRESETS, Setting, describe, draw, draw_teacher, optimum, r_squared

SMALL = {"T": 200, "train": 20, "test": 60, "bias_sequences": 50}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_draw_is_what_its_setting_says(preset: str) -> None:
    setting = replace(PRESETS[preset], **SMALL)
    drawn = draw(setting, seed=3)
    found = describe(drawn)
    assert drawn.x_train.shape == (20, 200, 2)
    assert drawn.y_test.shape == (60, 200, 2)
    assert drawn.x_train.dtype == drawn.y_test.dtype == np.float32
    assert found["norm"] < 1
    # 60 sequences of memory about ten steps are some 1200 independent looks at a share of 0.6
    np.testing.assert_allclose(found["on"], 0.6, atol=5 * np.sqrt(0.24 / 1200))
    # the variance is set by train and test together, and measured on the test half
    assert found["snr_db"] == pytest.approx(20, abs=0.5)
    assert found["r2_teacher"] == pytest.approx(optimum(20), abs=2e-3)
    assert found["r2_identity"] < found["r2_teacher"]
    assert bool(drawn.teacher.output_bias.any()) is (preset == "released")


def test_the_presets_differ_in_the_recurrent_matrix_by_its_scale() -> None:
    poster, released = (
        draw_teacher(PRESETS[name], np.random.default_rng(5)).rnn.W for name in PRESETS
    )
    gram = np.eye(4) - released
    np.testing.assert_allclose(
        np.eye(4) - poster, 0.01 * gram / np.linalg.norm(gram, 2), atol=1e-14
    )
    assert np.linalg.norm(np.eye(4) - poster, 2) == pytest.approx(0.01)


def test_without_the_adjustment_units_are_not_on_as_asked() -> None:
    setting = replace(PRESETS["poster"], **SMALL, bias_steps=0)
    assert np.abs(np.array(describe(draw(setting, seed=3))["on"]) - 0.6).max() > 0.1


def test_a_seed_names_one_teacher_and_one_input_at_every_snr() -> None:
    a, b = (draw(replace(PRESETS["poster"], **SMALL, snr_db=s), seed=1) for s in (20.0, 15.0))
    assert np.array_equal(a.teacher.rnn.W, b.teacher.rnn.W)
    assert np.array_equal(a.x_train, b.x_train)
    clean = simulate(a.teacher.rnn, a.x_test)
    ratio = np.std(b.y_test - clean) / np.std(a.y_test - clean)
    assert ratio == pytest.approx(10 ** (5 / 20), rel=1e-5)  # y is stored in float32


def test_large_epsilon_needs_the_division() -> None:
    gaussian = replace(PRESETS["released"], epsilon=1.0, **SMALL)
    with pytest.raises(ValueError, match="smaller epsilon"):
        draw_teacher(gaussian, np.random.default_rng(0))
    teacher = draw_teacher(replace(gaussian, normalised=True), np.random.default_rng(0))
    assert spectral_norm(teacher.rnn) <= 1


@pytest.mark.parametrize(
    "bad",
    [{"hidden_units": 0}, {"on_fraction": 1.0}, {"epsilon": -0.1}, {"snr_db": np.inf}, {"T": 0}],
)
def test_a_bad_setting_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Setting(**bad)  # type: ignore[arg-type]


def test_r_squared_is_not_centred() -> None:
    y = np.array([3.0, 5.0])
    assert r_squared(y, y) == 1
    assert r_squared(y, np.zeros(2)) == 0
    assert r_squared(y, np.full(2, 4.0)) == pytest.approx(1 - 1 / 17)
