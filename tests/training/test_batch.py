"""Classification after the last step: the CPU and GPU engines against float64 autograd."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from companion.theory.network import orthogonality_error
from companion.training import Options, Sequences, Student, blocks, fit, initial_theta
from companion.training.engines.batch import Batch
from companion.training.reference import Reference, gradients, losses, outputs
from companion.training.students import Group, State, draw_batches

CLASSES, IMAGES = 10, 80
OPTIONS = Options(optimiser="rmsprop", output_bias=True, loss="cross-entropy")


def some_images(T: int, count: int = IMAGES, seed: int = 0) -> Sequences:
    """Grey levels whose class is the tenth of the range that their mean over time lies in."""
    rng = np.random.default_rng(seed)
    level = rng.random(count)
    x = np.clip(level[:, None] + 0.1 * rng.standard_normal((count, T)), 0, 1)
    y = np.eye(CLASSES)[(CLASSES * level).astype(int)]
    return Sequences(x.astype(np.float32)[None, ..., None], y.astype(np.float32)[None, :, None])


def a_group(model: Any, n: int, T: int, options: Options = OPTIONS) -> tuple[Group, State]:
    """A student whose biases are not 0 and whose W is not orthogonal."""
    student = Student(model, n, learning_rate=1e-3, seed=3)
    theta = initial_theta(student, 1, CLASSES)[None]
    rng = np.random.default_rng(1)
    for name, part in blocks(theta, n, CLASSES).items():
        part += (0.02 if name == "W" else 0.1) * rng.standard_normal(part.shape)
    theta = theta.astype(np.float32)
    state = State.start(theta)
    return Group((student,), options, some_images(T)), state


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_reference_gradients_are_those_of_finite_differences() -> None:
    group, state = a_group("rnn", 3, 6)
    x, y = (torch.from_numpy(a[:, :9].astype(np.float64)) for a in (group.train.x, group.train.y))
    theta = torch.from_numpy(state.theta.astype(np.float64))
    loss, g = gradients(theta, x, y, 1, "cross-entropy")
    numeric, step = torch.zeros_like(g), 1e-6
    for i in np.ndindex(*theta.shape):
        for sign in (1, -1):
            moved = theta.clone()
            moved[i] += sign * step
            at, _ = losses(moved, x, y, 1, "cross-entropy")
            numeric[i] += sign * at[0] / (2 * step)
    numeric[:, 3:, 3] = g[:, 3:, 3] = 0  # under F are no parameters
    torch.testing.assert_close(g, numeric, rtol=0, atol=1e-8)
    answer = outputs(theta, x, CLASSES, 1)[:, :, -1]
    expected = torch.nn.functional.cross_entropy(answer[0], y[0, :, 0].argmax(-1))
    torch.testing.assert_close(loss[0], expected)


# every remainder of the tiles, vectors that are not full, more than one pass, several chunks
CASES = [("rnn", 1, 1, 3), ("rnn", 7, 17, 64), ("urnn", 16, 40, 70), ("contractive", 33, 16, 20)]
CASES += [("rnn", 96, 40, 64), ("rnn", 32, 784, 64), ("lstm", 5, 33, 20), ("lstm", 16, 100, 64)]


@pytest.mark.parametrize(("model", "n", "T", "batch"), CASES)
def test_gradients_agree_with_float64_autograd(model: str, n: int, T: int, batch: int) -> None:
    group, state = a_group(model, n, T)
    batches = draw_batches(IMAGES, batch, 1, np.random.default_rng(2))
    exact, loss = Reference(group, torch.float64).advance(state, batches)
    engine = Batch(group)
    found, found_loss = engine.advance(state, batches)
    np.testing.assert_allclose(found_loss, loss, rtol=1e-5)
    assert relative(found.mean, exact.mean) < 1e-5  # RMSprop keeps the gradient itself there
    expected = Reference(group, torch.float64).evaluate(state.theta, group.train)
    np.testing.assert_allclose(engine.evaluate(state.theta, group.train), expected, rtol=1e-6)
    again, _ = engine.advance(state, batches)  # nothing is left from evaluating other sizes
    np.testing.assert_array_equal(again.mean, found.mean)


@pytest.mark.parametrize("projection", ["newton-schulz", "svd", "exponential"])
@pytest.mark.parametrize("model", ["urnn", "contractive", "lstm"])
def test_updates_agree_step_by_step(model: str, projection: Any) -> None:
    options = Options(
        optimiser="rmsprop", loss="cross-entropy", output_bias=True, projection=projection, clip=1.0
    )
    group, state = a_group(model, 6, 20, options)
    batches = draw_batches(IMAGES, 16, 4, np.random.default_rng(3))
    exact, _ = Reference(group, torch.float64).advance(state, batches)
    found, _ = Batch(group).advance(state, batches)
    np.testing.assert_allclose(found.theta, exact.theta, rtol=0, atol=1e-5)
    if model == "urnn":
        assert orthogonality_error(found.theta[0, :6, :6]) < 60 * np.finfo(np.float32).eps


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_fit_learns_and_a_longer_one_goes_on_from_it(tmp_path: Path, backend: Any) -> None:
    students = [Student("urnn", 8, learning_rate=0.01), Student("rnn", 8, learning_rate=0.01)]
    train, test = some_images(12, 320), some_images(12, 100, seed=1)
    arguments: dict[str, Any] = {
        "batch": 32,
        "options": OPTIONS,
        "held_out": {"test": test},
        "backend": backend,
        "keep_history": True,
    }
    whole = fit(students, train, updates=120, **arguments)
    assert (whole.accuracy["test"].max(1) > 0.3).all()  # a guess is right one time in ten
    assert (whole.train_loss[:, -1] < 0.7 * whole.train_loss[:, 0]).all()
    with pytest.raises(AttributeError, match="has accuracy"):
        whole.r2  # noqa: B018
    assert {"accuracy", "accuracy_best"} <= set(whole.table().columns)
    fit(students, train, updates=30, **arguments, checkpoint=tmp_path)
    longer = fit(students, train, updates=120, **arguments, checkpoint=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    np.testing.assert_array_equal(longer.accuracy["test"], whole.accuracy["test"])
    for a, b in zip(longer.history, whole.history, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(whole.history[0][-1], whole.theta[0])
    shorter = fit(students, train, updates=30, **arguments, checkpoint=tmp_path)
    np.testing.assert_array_equal(shorter.train_loss, whole.train_loss[:, :3])


def test_a_student_that_overflows_is_frozen_and_said_so() -> None:
    students = [Student("rnn", 4)]
    theta = initial_theta(students[0], 1, CLASSES).astype(np.float32)
    theta[:4, :4], theta[:4, 4] = 1e3 * np.eye(4), 1.0
    result = fit(
        students, some_images(30), updates=3, batch=8, options=OPTIONS, initial=[theta],
        backend="cpu",
    )  # fmt: skip
    assert result.diverged.tolist() == [0]
    assert result.where[0]
    np.testing.assert_array_equal(result.theta[0], theta)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_answers_that_are_not_finite_are_wrong(backend: Any) -> None:
    """What an update of a large rate leaves may be found by no further update."""
    theta = initial_theta(Student("rnn", 4), 1, CLASSES).astype(np.float32)
    theta[:4, :4], theta[:4, 4] = 1e3 * np.eye(4), 1.0
    images = some_images(30)
    result = fit(
        [Student("rnn", 4)], images, updates=0, batch=8, options=OPTIONS, initial=[theta],
        held_out={"test": images}, backend=backend,
    )  # fmt: skip
    assert result.accuracy["test"].tolist() == [[0.0]]


@pytest.mark.parametrize("model", ["contractive", "urnn"])
def test_a_student_frozen_at_once_keeps_its_weights(model: Any) -> None:
    options = Options(loss="cross-entropy", output_bias=True, projection="svd")
    student, data = Student(model, 4), some_images(20)
    theta = initial_theta(student, 1, data.y.shape[-1]).astype(np.float32)
    theta[:4, :4] *= 1e4  # float32 overflows within 20 steps
    for backend in ("cpu", "reference"):
        found = fit([student], data, updates=3, batch=4, initial=[theta], options=options,
                    backend=backend)  # fmt: skip
        assert found.diverged.tolist() == [0]
        np.testing.assert_array_equal(found.theta[0], theta)
        assert found.where[0].startswith("output at step")


@pytest.mark.wrong_types
def test_targets_that_do_not_fit_the_loss_are_refused() -> None:
    images, steps = some_images(5), np.zeros((1, IMAGES, 5, CLASSES), dtype=np.float32)
    students = [Student("rnn", 3)]
    with pytest.raises(ValueError, match="a single 1 among zeros"):
        fit(students, Sequences(images.x, images.y * 2), updates=1, options=OPTIONS)
    with pytest.raises(ValueError, match="a single 1 among zeros"):
        fit(students, Sequences(images.x, steps), updates=1, options=OPTIONS)
    with pytest.raises(ValueError, match="all 5 steps"):
        fit(students, images, updates=1)
    with pytest.raises(ValueError, match="at the last step"):
        fit(
            students, images, updates=1, options=OPTIONS,
            held_out={"test": Sequences(images.x, steps)},
        )  # fmt: skip
    with pytest.raises(ValueError, match="loss is 'hinge'"):
        Options(loss="hinge")  # type: ignore[arg-type]


gpu_kernel = pytest.mark.skipif(sys.platform != "linux", reason="triton is built for Linux alone")


@gpu_kernel
@pytest.mark.parametrize("n", [1, 17, 96])
def test_the_gpu_kernel_agrees_in_the_interpreter(n: int) -> None:
    from companion.training.engines.cuda import Cuda

    students = (
        Student("rnn", n, seed=1),
        Student("urnn", max(1, n - 3)),
        Student("contractive", n, seed=2),
    )
    group = Group(students, OPTIONS, some_images(7, 20))
    theta = group.padded([initial_theta(s, 1, CLASSES) for s in students])
    theta[[0, 2], :, -1] += 0.1
    state = State.start(theta)
    batches = np.arange(20)[None]
    found, loss = Cuda(group, "cpu").advance(state, batches)
    error = Cuda(group, "cpu").evaluate(theta, group.train)
    for i, (s, inside) in enumerate(zip(students, group.places, strict=True)):
        own = theta[i][inside][None]
        alone = Group((s,), OPTIONS, group.train)
        start = State.start(own)
        expected, expected_loss = Reference(alone, torch.float64).advance(start, batches)
        np.testing.assert_allclose(loss[i], expected_loss[0], rtol=1e-5)
        assert relative(found.mean[i][inside], expected.mean[0]) < 1e-5
        outside = found.theta[i].copy()
        outside[inside] = 0
        assert not outside.any()
        exact = Reference(alone, torch.float64).evaluate(own, group.train)
        np.testing.assert_allclose(error[i], exact[0], rtol=1e-6)
