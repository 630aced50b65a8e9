"""The engines against float64 autograd: gradients, updates, projections, over a grid."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit

from companion.theory.network import orthogonality_error, simulate
from companion.training.engines import cpu, lanes
from companion.training.engines.cpu import Cpu
from companion.training.engines.newton_schulz import NewtonSchulz
from companion.training.reference import Reference, gradients, outputs, project
from companion.training.students import (
    Group,
    Options,
    Sequences,
    State,
    Student,
    as_rnn,
    assemble,
    blocks,
    draw_batches,
    initial_theta,
)

EPS = np.finfo(np.float32).eps
M, P, SEQUENCES = 2, 2, 12
# RMSprop keeps the gradient itself in `mean` (β₁ = 0)
GRADIENT_IN_MEAN = Options(optimiser="rmsprop", output_bias=True)


def a_group(model: str, n: int, T: int, options: Options, k: int = 3, seed: int = 0) -> Group:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, SEQUENCES, T, M)).astype(np.float32)
    y = rng.standard_normal((2, SEQUENCES, T, P)).astype(np.float32)
    students = tuple(Student(model, n, data=i % 2, seed=i) for i in range(k))
    return Group(students, options, Sequences(x, y))


def start(group: Group, dtype: type = np.float32) -> State:
    theta = np.stack([initial_theta(s, M, P) for s in group.students])
    rng = np.random.default_rng(1)
    for part in blocks(theta, group.students[0].hidden_units, P).values():
        part += 0.1 * rng.standard_normal(part.shape)  # biases away from 0, W from orthogonal
    theta = theta.astype(np.float32).astype(dtype)
    return State.start(theta)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """Largest relative distance of two stacks of matrices, each in its Frobenius norm."""
    return float(max(np.linalg.norm(u - v) / np.linalg.norm(v) for u, v in zip(a, b, strict=True)))


def test_the_reference_computes_the_network_of_the_theory() -> None:
    student = Student("rnn", 4, seed=2)
    theta = initial_theta(student, M, P)
    theta[:4, -1] = 0.3
    rnn, c = as_rnn(theta, 4, P)
    x = np.random.default_rng(0).standard_normal((1, 5, 30, M))
    y = outputs(torch.from_numpy(theta[None]), torch.from_numpy(x), P, gates=1)
    np.testing.assert_allclose(y[0].numpy(), simulate(rnn, x[0]) + c, rtol=0, atol=1e-13)


def test_the_reference_lstm_is_that_of_torch() -> None:
    theta = initial_theta(Student("lstm", 3, seed=1), M, P)
    part = blocks(theta, 3, P)
    lstm = torch.nn.LSTM(M, 3, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for name, value in (("weight_ih", "F"), ("weight_hh", "W"), ("bias_ih", "b")):
            getattr(lstm, f"{name}_l0").copy_(torch.from_numpy(part[value]))
        lstm.bias_hh_l0.zero_()
        x = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 20, M)))
        expected = lstm(x)[0] @ torch.from_numpy(part["C"]).T
    y = outputs(torch.from_numpy(theta[None]), x[None], P, gates=4)[0]
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("model", ["rnn", "lstm"])
def test_reference_gradients_are_those_of_finite_differences(model: str) -> None:
    group = a_group(model, 2, 6, Options(), k=1)
    x, y = (torch.from_numpy(a[:1].astype(np.float64)) for a in (group.train.x, group.train.y))
    theta = torch.from_numpy(start(group, np.float64).theta)
    _, g = gradients(theta, x, y, group.sizes[0])
    numeric, step = torch.zeros_like(g), 1e-6
    for index in itertools.product(range(theta.shape[1]), range(theta.shape[2])):
        for sign in (1, -1):
            moved = theta.clone()
            moved[0][index] += sign * step
            numeric[0][index] += sign * gradients(moved, x, y, group.sizes[0])[0][0] / (2 * step)
    # rounding of a loss near 1 over the step, and the third derivative times its square
    torch.testing.assert_close(g, numeric, rtol=0, atol=1e-8)


SIZES = [("rnn", 1), ("rnn", 4), ("rnn", 14), ("lstm", 1), ("lstm", 5)]


@pytest.mark.parametrize(("batch", "T"), [(1, 1), (4, 17), (10, 40), (3, 100)])
@pytest.mark.parametrize(("model", "n"), SIZES)
def test_gradients_agree_with_float64_autograd(model: str, n: int, batch: int, T: int) -> None:
    group = a_group(model, n, T, GRADIENT_IN_MEAN)
    batches = draw_batches(SEQUENCES, batch, 1, np.random.default_rng(2))
    exact, loss = Reference(group, torch.float64).advance(start(group, np.float64), batches)
    found, found_loss = Cpu(group, {}).advance(start(group), batches)
    np.testing.assert_allclose(found_loss, loss, rtol=1e-5)
    assert relative(found.mean, exact.mean) < 1e-5
    error = Cpu(group, {}).evaluate(start(group).theta, group.train)
    expected = Reference(group, torch.float64).evaluate(start(group).theta, group.train)
    np.testing.assert_allclose(error, expected, rtol=1e-5)


@pytest.mark.parametrize(("model", "T"), [("urnn", 1000), ("lstm", 300)])
def test_gradients_agree_through_many_steps(model: str, T: int) -> None:
    group = a_group(model, 4, T, GRADIENT_IN_MEAN)
    theta = np.stack([initial_theta(s, M, P) for s in group.students]).astype(np.float32)
    state = State.start(theta)
    batches = np.arange(10)[None]
    exact, _ = Reference(group, torch.float64).advance(state, batches)
    found, _ = Cpu(group, {}).advance(state, batches)
    assert relative(found.mean, exact.mean) < 1e-5


OPTIONS = [
    Options(),
    Options(convention="torch", output_bias=True),
    Options(optimiser="rmsprop", clip=0.1, projection="svd"),
    Options(optimiser="rmsprop", convention="torch", clip=1e3),
    Options(projection="exponential"),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("model", ["rnn", "urnn", "contractive", "lstm"])
def test_updates_agree_step_by_step(model: str, options: Options) -> None:
    group = a_group(model, 4 if model != "lstm" else 5, 17, options)
    state, batches = start(group), draw_batches(SEQUENCES, 4, 6, np.random.default_rng(3))
    reference, engine = Reference(group, torch.float32), Cpu(group, {})
    for update in range(len(batches)):
        expected, _ = reference.advance(state, batches[update : update + 1])
        found, _ = engine.advance(state, batches[update : update + 1])
        # a step is the rate, 0.01, times a ratio of moments: a thousandth of it is for those that
        # are near 0 and so known to few digits
        np.testing.assert_allclose(found.theta, expected.theta, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.square, expected.square, rtol=1e-3, atol=1e-9)
        assert found.update == expected.update == update + 1
        state = expected
    at_once, _ = engine.advance(start(group), batches)
    np.testing.assert_allclose(at_once.theta, state.theta, rtol=0, atol=5e-5)


@pytest.mark.parametrize("engine", [Cpu, Reference])
def test_clipping_bounds_the_gradient(engine: type) -> None:
    extra: Any = {} if engine is Cpu else torch.float32
    norms = []
    for clip in (None, 0.1):
        group = a_group("rnn", 4, 17, replace(GRADIENT_IN_MEAN, clip=clip))
        state, _ = engine(group, extra).advance(start(group), np.arange(4)[None])
        norms.append(np.linalg.norm(state.mean, axis=(1, 2)))
    assert norms[0].min() > 0.2
    np.testing.assert_allclose(norms[1], 0.1, rtol=1e-5)


@pytest.mark.parametrize("model", ["rnn", "urnn", "lstm"])
def test_fifty_updates_are_reproduced_by_another_engine(model: str) -> None:
    group = a_group(model, 4 if model != "lstm" else 5, 17, Options())
    group = replace(group, students=tuple(replace(s, learning_rate=1e-3) for s in group.students))
    batches = draw_batches(SEQUENCES, 4, 50, np.random.default_rng(3))
    expected, _ = Reference(group, torch.float32).advance(start(group), batches)
    found, _ = Cpu(group, {}).advance(start(group), batches)
    assert relative(found.theta, expected.theta) < 1e-4


@pytest.mark.parametrize("projection", ["newton-schulz", "svd", "exponential"])
@pytest.mark.parametrize("model", ["urnn", "contractive"])
def test_a_trained_student_stays_where_it_is_projected(model: str, projection: str) -> None:
    n = 4
    group = a_group(model, n, 17, Options(projection=projection))
    batches = draw_batches(SEQUENCES, 4, 300, np.random.default_rng(3))
    state, _ = Cpu(group, {}).advance(start(group), batches)
    for W in state.theta[:, :n, :n]:
        assert W.dtype == np.float32
        if model == "urnn":
            assert orthogonality_error(W) <= 10 * n * EPS
        else:
            assert np.linalg.norm(W, 2) <= 1 + 10 * n * EPS
    unconstrained = replace(group, students=tuple(replace(s, model="rnn") for s in group.students))
    free, _ = Cpu(unconstrained, {}).advance(start(group), batches)
    assert max(np.linalg.norm(W, 2) for W in free.theta[:, :n, :n]) > 1 + 1e-3


def test_a_rotation_descends_along_the_group() -> None:
    """One small step of W exp(−K) lowers the loss by what the gradient along the group promises."""
    group = a_group("urnn", 4, 17, Options(optimiser="rmsprop", projection="exponential"), k=1)
    rate = 1e-6
    group = replace(group, students=(replace(group.students[0], learning_rate=rate),))
    theta = initial_theta(group.students[0], M, P)[None]
    state = State.start(theta)
    engine, batches = Reference(group, torch.float64), np.arange(SEQUENCES)[None]
    after, loss = engine.advance(state, batches)
    # the optimiser's step is rate g/(√(0.1 g²) + ε) and `mean` is g, of W twice counted as ±K
    g = after.mean[0]
    promised = rate * (g * g / (np.sqrt(0.1) * np.abs(g) + 1e-7))
    promised[:4, :4] /= 2
    fell = loss[0, 0] - engine.evaluate(after.theta, group.train)[0]
    assert fell == pytest.approx(promised.sum(), rel=1e-3)


def test_newton_schulz_falls_back_on_the_svd_where_it_does_not_converge() -> None:
    group = a_group("urnn", 4, 17, Options())
    state = start(group)
    state.theta[0, :4, :4] = np.diag([3.0, 1.0, 0.01, 1.0])  # beyond √3 it diverges
    batches = np.arange(4)[None]
    expected, _ = Reference(group, torch.float64).advance(state, batches)
    found, _ = Cpu(group, {}).advance(state, batches)
    for W in found.theta[:, :4, :4]:
        assert orthogonality_error(W) <= 40 * EPS
    # near a singular value 0.01, the nearest orthogonal matrix is known a hundred times less well
    np.testing.assert_allclose(found.theta, expected.theta, rtol=0, atol=1e-4)


@pytest.mark.parametrize("factor", [1.3, 1.5, 1.8, 2.2, 5.0, 8.0])
def test_newton_schulz_takes_no_matrix_to_another_orthogonal_one(factor: float) -> None:
    """From singular values beyond √3 it would converge, but with a sign changed, or overflow."""
    options = Options(optimiser="rmsprop")
    group = a_group("urnn", 8, 17, options, k=6)
    students = tuple(replace(s, learning_rate=1e-9) for s in group.students)
    group, state = replace(group, students=students), start(group)
    for theta in state.theta:
        U, _, Vt = np.linalg.svd(theta[:8, :8])
        theta[:8, :8] = U @ np.diag(np.linspace(0.9, factor, 8)) @ Vt
    theta = torch.from_numpy(state.theta.astype(np.float64))
    expected = project(theta, "urnn", 8)[:, :8, :8].numpy()
    found, _ = Cpu(group, {}).advance(state, np.arange(4)[None])
    assert (found.diverged == -1).all()
    np.testing.assert_allclose(found.theta[:, :8, :8], expected, rtol=0, atol=1e-5)
    torch_found = NewtonSchulz(group).projected(theta.float(), 8)[:, :8, :8]
    np.testing.assert_allclose(torch_found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rate", [1e-3, 0.3, 1.0, 30.0])
def test_rotations_of_any_size_are_those_of_the_matrix_exponential(rate: float) -> None:
    group = a_group("urnn", 14, 17, Options(projection="exponential"), k=4)
    students = tuple(replace(s, learning_rate=rate) for s in group.students)
    group = replace(group, students=students)
    theta = np.stack([initial_theta(s, M, P) for s in students])
    batches = np.arange(4)[None]
    found = []
    for engine, kind in ((Reference(group, torch.float64), float), (Cpu(group, {}), np.float32)):
        at = theta.astype(kind)
        state, _ = engine.advance(State.start(at), batches)
        found.append(state.theta[:, :14, :14])
    # ‖K‖ is up to 14 rates, and a rotation by it is known to ‖K‖ roundings
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-5 + 200 * rate * EPS)
    assert max(map(orthogonality_error, found[1])) <= 140 * EPS


def test_projections_are_the_nearest_allowed_matrices() -> None:
    rng = np.random.default_rng(0)
    theta = torch.from_numpy(rng.standard_normal((5, 4 + P, 4 + M + 1)))
    W = theta[:, :4, :4]
    nearest = project(theta, "urnn", 4)[:, :4, :4]
    Q = torch.linalg.qr(torch.from_numpy(rng.standard_normal((50, 5, 4, 4))))[0]
    assert (
        torch.linalg.norm(W - nearest, dim=(1, 2)) <= torch.linalg.norm(W - Q, dim=(2, 3))
    ).all()
    cut = project(theta, "contractive", 4)[:, :4, :4]
    assert torch.linalg.matrix_norm(cut, 2).max() <= 1 + 1e-14
    torch.testing.assert_close(project(theta * 0.01, "contractive", 4), theta * 0.01)
    assert torch.equal(project(theta, "rnn", 4), theta)


@pytest.mark.parametrize(("model", "n"), [("rnn", 4), ("lstm", 5)])
def test_the_cpu_engine_without_the_instructions_of_this_processor(
    model: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Multiply and add instead of fused, and blocks of sums that fit a small register file."""
    group = a_group(model, n, 17, GRADIENT_IN_MEAN)
    batches = np.arange(4)[None]
    exact, _ = Reference(group, torch.float64).advance(start(group, np.float64), batches)
    monkeypatch.setattr(lanes, "HAS_FMA", False)
    monkeypatch.setattr(lanes, "REGISTERS", 8)
    cpu.kernel.cache_clear()
    try:
        found, _ = Cpu(group, {}).advance(start(group), batches)
    finally:
        cpu.kernel.cache_clear()
    assert relative(found.mean, exact.mean) < 1e-5


def test_students_in_other_lanes_make_no_difference() -> None:
    options = Options(output_bias=True)
    group = a_group("urnn", 4, 17, options, k=16)
    batches = draw_batches(SEQUENCES, 4, 5, np.random.default_rng(3))
    together, _ = Cpu(group, {}).advance(start(group), batches)
    alone = Group(group.students[5:6], options, group.train)
    state = start(group)
    state = State(*(a[5:6] for a in (state.theta, state.mean, state.square, state.diverged)))
    apart, _ = Cpu(alone, {}).advance(state, batches)
    assert np.array_equal(apart.theta[0], together.theta[5])


@njit
def _map(z, out):
    for i in range(len(z) // 16):
        lanes.store(out, 2 * i, lanes.sigmoid(lanes.load(z, i)))
        lanes.store(out, 2 * i + 1, lanes.tanh(lanes.load(z, i)))


def test_sigmoid_and_tanh() -> None:
    z = np.concatenate([np.linspace(-100, 100, 4080), [np.inf, -np.inf, 1e30, -1e30, 88, -88] * 2])
    z = np.concatenate([z, np.zeros(4)]).astype(np.float32)
    out = np.empty(2 * len(z), dtype=np.float32)
    _map(z, out)
    found = out.reshape(-1, 2, 16)
    exact = torch.from_numpy(z.astype(np.float64)).reshape(-1, 16)
    # a few roundings of numbers near 1
    np.testing.assert_allclose(found[:, 0], torch.sigmoid(exact), rtol=0, atol=3 * EPS)
    np.testing.assert_allclose(found[:, 1], torch.tanh(exact), rtol=0, atol=6 * EPS)
    nan = np.full(16, np.nan, dtype=np.float32)
    _map(nan, out)
    assert np.isnan(out[:32]).all()


def test_assemble_is_the_inverse_of_parameters() -> None:
    theta = initial_theta(Student("lstm", 3), M, P)
    assert np.array_equal(assemble(blocks(theta, 3, P)), theta)


@pytest.mark.parametrize("n", [2, 14])
def test_initial_weights(n: int) -> None:
    part = blocks(initial_theta(Student("urnn", n, seed=1), M, P), n, P)
    assert orthogonality_error(part["W"]) < 10 * n * np.finfo(float).eps
    assert np.abs(part["F"]).max() <= np.sqrt(6 / (n + M))
    assert not part["b"].any()
    assert not part["c"].any()
    same = blocks(initial_theta(Student("urnn", n, initialisation="identity"), M, P), n, P)
    assert np.array_equal(same["W"], np.eye(n))
    lstm = blocks(initial_theta(Student("lstm", n), M, P), n, P)
    assert lstm["W"].shape == (4 * n, n)
    assert lstm["b"].tolist() == [0] * n + [1] * n + [0] * 2 * n
