"""The task and what is computed from its fits, on random images."""

from __future__ import annotations

import numpy as np
import pytest

from companion.experiments import permuted_mnist as task
from companion.experiments.mnist import Digits
from companion.training import Options, Sequences, Student, fit, initial_theta
from companion.training.reference import first_non_finite


@pytest.fixture(scope="module")
def digits() -> Digits:
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        images[:, 0, 0] = np.arange(count) % 256  # tells them apart
        return images, rng.integers(0, 10, count, dtype=np.uint8)

    return Digits(*draw(task.VALIDATION + 200), *draw(30))


def test_sequences_hold_each_pixel_once_in_the_order(digits: Digits) -> None:
    data = task.sequences(digits.test_images, digits.test_labels)
    assert data.x.shape == (1, 30, 784, 1)
    assert data.x.dtype == np.float32
    order, image = task.permutation(), digits.test_images[4].ravel()
    np.testing.assert_array_equal(data.x[0, 4, :, 0], image[order] / np.float32(255))
    np.testing.assert_array_equal(data.y[0, :, 0].argmax(-1), digits.test_labels)
    assert data.y.shape[2] == 1


def test_the_split_holds_validation_images_out(digits: Digits) -> None:
    parts = task.split(digits, 200, [3])
    assert {k: p.x.shape[1] for k, p in parts.items()} == {
        "validation": task.VALIDATION,
        "train": 200,
        "test": 30,
    }
    seen = [p.x[0].tobytes() for k, p in parts.items() if k != "test"]
    rows = {r.tobytes() for k in ("validation", "train") for r in parts[k].x[0]}
    assert len(rows) == task.VALIDATION + 200  # none is in both
    again = task.split(digits, 200, [3])
    assert [again[k].x[0].tobytes() for k in ("validation", "train")] == seen
    fewer = task.split(digits, 100, [3])
    np.testing.assert_array_equal(fewer["train"].x, parts["train"].x[:, :100])
    np.testing.assert_array_equal(fewer["validation"].x, parts["validation"].x)
    both = task.split(digits, 200, [8, 3])  # a realisation each
    for name, part in both.items():
        np.testing.assert_array_equal(part.x[1], parts[name].x[0])
        np.testing.assert_array_equal(part.y[1], parts[name].y[0])
    assert not np.array_equal(both["train"].x[0], both["train"].x[1])
    for count in (63, 201):
        with pytest.raises(ValueError, match=f"train_images is {count}"):
            task.split(digits, count)


def test_curves_of_one_size_start_alike() -> None:
    names = ["urnn", "contractive", "rnn/10", "rnn"]
    students = task.curves(names, [4, 6], 1e-3, [5])
    assert [task.curve(s, 1e-3) for s in students] == [n for n in names for _ in (4, 6)]
    assert students[4].learning_rate == pytest.approx(1e-4)
    starts = [initial_theta(s, 1, 10) for s in students]
    np.testing.assert_array_equal(starts[0], starts[6])
    other = task.curves(names, [4], 1e-3, [5, 6])[4]
    assert (other.data, other.order) == (1, 6)
    assert not np.array_equal(starts[0], initial_theta(other, 1, 10))


@pytest.mark.wrong_types
def test_a_curve_of_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match="model is 'gru'"):
        task.curves(["gru"], [4], 1e-3, [0])


@pytest.mark.parametrize("model", ["rnn", "lstm"])
def test_gradient_norms_are_those_of_finite_differences(model: str) -> None:
    """An input that adds to the state alone moves the loss by the gradient in the state."""
    rng, T, n = np.random.default_rng(0), 5, 2
    y = np.eye(10, dtype=np.float32)[[3, 7]][None, :, None]
    data = Sequences(rng.random((1, 2, T, 1)).astype(np.float32), y)
    theta = initial_theta(Student(model, n, seed=1), 1, 10)  # type: ignore[arg-type]
    [norms] = task.gradient_norms(theta[None], data)
    assert norms.shape == (T,)
    W, F, b = theta[:-10, :n], theta[:-10, n], theta[:-10, -1]

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-z))

    def loss(s: int, at: int, moved: np.ndarray) -> float:
        h, cell = np.zeros(n), np.zeros(n)
        for t in range(T):
            z = W @ h + F * float(data.x[0, s, t, 0]) + b
            if model == "rnn":
                h = np.maximum(z, 0)
            else:
                i, f, g, o = z.reshape(4, n)
                cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(cell)
            h = h + moved * (t == at)
        answer = theta[-10:, :n] @ h + theta[-10:, -1]
        return float(np.log(np.exp(answer).sum()) - answer @ y[0, s, 0])

    step = 1e-6
    for t in range(T):
        found = [
            [
                (loss(s, t, d) - loss(s, t, -d)) / (2 * step)
                for d in step * np.eye(n)
            ]
            for s in (0, 1)
        ]  # fmt: skip
        np.testing.assert_allclose(norms[t], np.linalg.norm(found, axis=1).mean(), atol=1e-8)


def test_tables_of_a_fit(digits: Digits) -> None:
    parts = task.split(digits, 128)
    small = {k: Sequences(p.x[:, :30, :9], p.y[:, :30]) for k, p in parts.items()}
    students = task.curves(["urnn", "rnn", "lstm"], [3], 1e-3, [2])
    result = fit(
        students,
        small["train"],
        updates=9,
        batch=10,
        options=Options(optimiser="rmsprop", output_bias=True, loss="cross-entropy"),
        held_out={k: small[k] for k in ("validation", "test")},
        backend="reference",
        keep_history=True,
    )
    stops = task.stopped(result)
    best = result.accuracy["validation"].max(1)
    np.testing.assert_array_equal(result.accuracy["validation"][range(3), stops], best)
    rows = task.epochs(result, seed=2).to_dict("records")
    assert len(rows) == 3 * 3 * 2
    for row in rows:
        if row["model"] == "urnn":
            assert row["singular_least"] == pytest.approx(1, abs=1e-5)
        assert row["singular_least"] <= row["singular_median"] <= row["singular_largest"]
        assert row["fit_seed"] == 2
    own = task.singular_values(result.history[1])[-1]
    last = next(r for r in rows[::-1] if r["model"] == "rnn")
    assert last["singular_largest"] == pytest.approx(own[0])
    steps = task.gradients(result, small["validation"], seed=2).to_dict("records")
    assert len(steps) == 3 * 2 * 9
    where = [r for r in steps if (r["student"], r["when"]) == (1, "stop")]
    [expected] = task.gradient_norms(result.history[1][stops[1]][None], small["validation"])
    np.testing.assert_allclose([r["log10_norm"] for r in where], np.log10(expected), rtol=1e-5)
    assert first_non_finite(
        np.full_like(result.theta[1], np.nan),
        small["train"].x[0, :2],
        small["train"].y[0, :2],
        1,
        "cross-entropy",
    )
