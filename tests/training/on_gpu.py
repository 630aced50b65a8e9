"""What a GPU computes, held to float64: run by `test_cuda`, apart from Triton's interpreter."""

from __future__ import annotations

import numpy as np
import torch

from companion.theory.network import orthogonality_error, spectral_norm
from companion.training import Options, Sequences, Student, fit, initial_theta
from companion.training.engines import Backend
from companion.training.engines.cuda import Cuda
from companion.training.engines.newton_schulz import NewtonSchulz
from companion.training.reference import Reference
from companion.training.students import Group, Loss, Model, State

rng = np.random.default_rng(0)
EPS = np.finfo(np.float32).eps


def images(R: int) -> Sequences:
    y = np.eye(10, dtype=np.float32)[rng.integers(0, 10, (R, 200))][:, :, None]
    return Sequences(rng.random((R, 200, 50, 1)).astype(np.float32), y)


def signals(R: int) -> Sequences:
    x, y = rng.standard_normal((2, R, 200, 50, 2)).astype(np.float32)
    return Sequences(x, y)


def held_to_float64(sizes: tuple[int, ...], models: tuple[Model, ...], data: Sequences) -> None:
    students = tuple(
        Student(model, n, data=i % 2, seed=i, learning_rate=1e-3)
        for i, (n, model) in enumerate((n, model) for n in sizes for model in models)
    )
    loss: Loss = "cross-entropy" if data.y.shape[2] == 1 else "mean-square"
    group = Group(students, Options(output_bias=True, loss=loss), data)
    m, p = data.x.shape[-1], data.y.shape[-1]
    start = State.start(group.padded([initial_theta(s, m, p) for s in students]))
    engine, exact = Cuda(group), Reference(group, torch.float64, "cuda")
    batches = np.stack([rng.permutation(200)[:64] for _ in range(6)])
    with engine.aside:
        found = engine.gradient(engine._tensor(start.theta), *engine._batch(data, batches[0]))
        gradient = found[1].cpu().numpy()
    at = exact._tensor(start.theta)
    expected = exact.gradient(at, *exact._batch(data, batches[0]))[1].cpu().numpy()
    for a, b in zip(gradient, expected, strict=True):
        assert np.linalg.norm(a - b) < 1e-5 * np.linalg.norm(b)
    error, atol = engine.evaluate(start.theta, data), 0.011 if loss == "cross-entropy" else 0
    # two images of 200 may lie between two answers
    np.testing.assert_allclose(error, exact.evaluate(start.theta, data), rtol=1e-5, atol=atol)
    replayed, losses = engine.advance(start, batches)
    assert not engine.astray
    with engine.aside:
        _, plain = NewtonSchulz.advance(engine, start, batches)
    np.testing.assert_allclose(losses, plain, rtol=1e-3)
    for theta, s in zip(replayed.theta, students, strict=True):
        W, bound = theta[: s.hidden_units, : s.hidden_units], 10 * s.hidden_units * EPS
        assert s.model != "urnn" or orthogonality_error(W) <= bound
        assert s.model != "contractive" or spectral_norm(W) <= 1 + bound


def side_by_side() -> None:
    """Groups of two sizes, each student with an order of its own, are what the reference makes."""
    data = signals(2)
    students = [Student("urnn", n, data=i, seed=i, order=i) for n in (4, 40) for i in (0, 1)]
    backends: tuple[Backend, ...] = ("cuda", "reference")
    found = [
        fit(students, data, updates=5, batch=10, held_out={"t": data}, backend=backend)
        for backend in backends
    ]
    np.testing.assert_allclose(found[0].r2["t"], found[1].r2["t"], atol=1e-3)


if __name__ == "__main__":
    relu: tuple[Model, ...] = ("rnn", "urnn", "contractive")
    held_to_float64((48, 64), relu, images(2))
    held_to_float64((80, 96), relu, images(2))
    held_to_float64((2, 7, 14), relu[:2], signals(2))
    held_to_float64((4, 14), ("lstm",), signals(2))
    held_to_float64((33, 40), ("lstm",), images(2))
    side_by_side()
