"""The synthetic experiment: what the presets say, and that a draw is what its setting says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from companion.experiments.synthetic import (
    PRESETS,
    Realisation,
    Setting,
    Teacher,
    describe,
    draw,
    draw_teacher,
    experiment,
    optimum,
    outcomes,
    r_squared,
    restart,
)
from companion.theory.network import RNN, simulate, spectral_norm
from companion.training import Options, fit

FOLDER = Path(__file__).parents[2] / "book/results/synthetic"
# of the plan's blocks, which differ by their seed alone, the first of each panel
RECORDS = [p for p in sorted(FOLDER.glob("*.json")) if not re.match(r"plan-.*(?<!-3001)$", p.stem)]
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


def test_biases_are_moved_by_the_rule_to_the_bit() -> None:
    setting = replace(PRESETS["poster"], T=40, bias_sequences=7, bias_steps=30)
    teacher, rng = draw_teacher(setting, np.random.default_rng(2)).rnn, np.random.default_rng(2)
    rng.standard_normal((4, 4)), rng.standard_normal((4, 2)), rng.standard_normal((2, 4))
    b, _, x = rng.standard_normal(4), rng.standard_normal(2), rng.standard_normal((40, 7, 2))
    for _ in range(30):
        on, h = np.zeros(4), np.zeros((7, 4))
        for u in x @ teacher.F.T + b:
            h = np.maximum(h @ teacher.W.T + u, 0)
            on += (h > setting.on_threshold).mean(0)
        b -= setting.bias_rate * (on / setting.T - setting.on_fraction)
    assert np.array_equal(teacher.b, b)


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
        Setting(**bad)


def test_r_squared_is_not_centred() -> None:
    y = np.array([3.0, 5.0])
    assert r_squared(y, y) == 1
    assert r_squared(y, np.zeros(2)) == 0
    assert r_squared(y, np.full(2, 4.0)) == pytest.approx(1 - 1 / 17)


def test_an_experiment_pairs_its_students() -> None:
    setting = replace(PRESETS["poster"], T=5, train=3, test=2, bias_sequences=2, bias_steps=1)
    arguments = {"realisations": 3, "models": ["rnn", "urnn"], "hidden_units": [2, 4]}
    drawn, students, train, test = experiment(setting, **arguments, seed=1, learning_rate=0.5)
    assert train.x.shape == (3, 3, 5, 2)
    assert test.y.shape == (3, 2, 5, 2)
    assert np.array_equal(train.y[2], drawn[2].y_train)
    assert len(students) == 12
    assert {s.learning_rate for s in students} == {0.5}
    seeds: dict[tuple[int, int], set[int]] = {}
    for s in students:
        seeds.setdefault((s.data, s.hidden_units), set()).add(s.seed)
    assert all(len(of_pair) == 1 for of_pair in seeds.values())
    assert len(set.union(*seeds.values())) == 6
    other, *_ = experiment(setting, **arguments, seed=2)
    assert not np.array_equal(other[0].x_train, drawn[0].x_train)
    with pytest.raises(ValueError, match="realisations is 0"):
        experiment(setting, realisations=0, models=["rnn"], hidden_units=[2], seed=1)


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: str(path.stem))
def test_recorded_seeds_reproduce_fifty_updates_on_another_back_end(record: Path) -> None:
    """With shorter sequences: through 1000 steps, rounding grows past this where ‖W‖ > 1.

    Both are in float32. Adam divides by the root of the second moment, so that a difference of one
    rounding, 6e-8, grows with the updates while gradients are small: by 3000 at most, in the
    records here, hence 1e-3 for what is off by less than 2e-4 in the worst of them. A student is
    compared until its loss leaps: from there on rounding grows with its gradients.
    """
    asked = json.loads(record.read_text(encoding="utf-8"))["parameters"]
    setting = replace(PRESETS[asked["preset"]], snr_db=asked["snr_db"], T=100, train=50, test=10)
    _, students, train, test = experiment(
        setting,
        realisations=2,
        models=asked["models"].split(),
        hidden_units=[4],
        seed=asked["seed"],
        learning_rate=asked["learning_rate"],
        initialisation=asked["initialisation"],
    )
    options = Options(
        clip=asked.get("clip") or None,
        output_bias=setting.output_bias,
        projection=asked["projection"],
    )
    backends: tuple[Any, ...] = ("cpu", "reference")
    found, expected = (
        fit(
            students,
            train,
            updates=50,
            options=options,
            held_out={"test": test},
            seed=asked["seed"],
            backend=backend,
        )
        for backend in backends
    )
    loss = expected.train_loss
    calm = np.logical_and.accumulate(loss < 2 * np.minimum.accumulate(loss, axis=1), axis=1)
    assert calm[:, : loss.shape[1] // 2].all()
    assert calm.mean() > 0.9
    np.testing.assert_allclose(found.train_loss[calm], loss[calm], rtol=1e-3)
    error, exact = 1 - found.r2["test"], 1 - expected.r2["test"]
    np.testing.assert_allclose(error[calm[:, -1]], exact[calm[:, -1]], rtol=1e-3)


def test_a_validation_split_leaves_the_other_draws_as_they_are() -> None:
    small = replace(PRESETS["released"], T=20, train=5, test=3, bias_sequences=2, bias_steps=2)
    without, with_ = draw(small, 1), draw(replace(small, validation=4), 1)
    for name in ("x_train", "y_train", "x_test", "y_test"):
        assert np.array_equal(getattr(without, name), getattr(with_, name))
    assert without.y_validation.shape == (0, 20, 2)
    assert with_.y_validation.shape == (4, 20, 2)
    noise = with_.y_validation - with_.teacher(with_.x_validation)
    signal = with_.teacher(np.concatenate([with_.x_train, with_.x_test]))
    assert 10 * np.log10(np.mean(signal**2) / np.mean(noise**2)) == pytest.approx(20, abs=2)


def test_a_restarted_teacher_forgets_as_its_slowest_mode() -> None:
    """One unit, always on: the difference is w^k of the state, so that its share is known."""
    w = 0.9
    rnn = RNN([[w]], [[1.0]], [50.0], [[1.0]], [0.0])

    def of(T: int) -> Realisation:
        preset = replace(PRESETS["poster"], hidden_units=1, inputs=1, outputs=1, T=T)
        x, empty = (np.zeros((count, T, 1), dtype=np.float32) for count in (3, 0))
        return Realisation(preset, Teacher(rnn, np.zeros(1)), empty, empty, x, x, empty, empty)

    # state 500 (1 − w^(k+1)) after a restart, 500 throughout: (w^(k+1))² ≤ 0.01
    assert restart(of(200)) == int(np.ceil(np.log(0.1) / np.log(w))) - 1
    assert restart(of(1)) == 0


@pytest.mark.wrong_types  # a fit of what is asked of it alone
def test_outcomes_choose_by_validation_and_not_by_test() -> None:
    from types import SimpleNamespace

    test = np.array([[0.5, 0.7, 0.6], [-1e60, -1e60, -1e60], [0.1, np.nan, np.nan]])
    validation = np.array([[0.7, 0.6, 0.7], [-1e60, -1e60, -1e60], [np.nan, 0.2, np.nan]])
    students = [SimpleNamespace(model="rnn", hidden_units=n, data=0) for n in (2, 3, 4)]
    fit: Any = SimpleNamespace(
        students=students,
        r2={"test": test, "validation": validation},
        updates=np.array([70, 140, 210]),
        diverged=np.array([-1, 5, 80]),
    )
    table = outcomes(fit)
    assert table["chosen"].tolist() == [70, 70, 140]
    assert table["r2"].tolist()[0] == pytest.approx(0.6)
    assert table["r2_chosen"].tolist()[0] == pytest.approx(0.5)  # not the best on test
    assert table["r2_best"].tolist()[0] == pytest.approx(0.7)
    assert np.isfinite(table["r2"][1])  # below what float32 holds, kept as its least
    assert np.isnan(table["r2_chosen"][2])
    assert {str(table[name].dtype) for name in ("r2", "r2_chosen", "r2_best")} == {"float32"}
