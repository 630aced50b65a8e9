"""Theorem 3: witnesses for every student, the chain that attains nT, the approximation's bound."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.theory.certificate import CertificateError, certify_witness, recheck
from companion.theory.dilation import NotContractiveError, defect_rank
from companion.theory.exact import output_gap
from companion.theory.network import RNN, is_unitary, random_rnn, simulate
from companion.theory.theorem1 import unitary_equivalent
from companion.theory.theorem2 import memoryless_teacher
from companion.theory.theorem3 import (
    approximate_unitary,
    delay_chain,
    derivative_spans,
    find_sigmoid_witness,
    identity_from_powers,
    linearise,
)

SMOOTH = st.sampled_from(["sigmoid", "tanh"])
SEED = st.integers(0, 2**32 - 1)


def random_teacher(n, activation, seed, norm=0.8, m=2, p=2):
    rng = np.random.default_rng(seed)
    return random_rnn(n, inputs=m, outputs=p, norm=norm, rng=rng, activation=activation)


def gaussian(n, N, activation, rng):
    return random_rnn(N, inputs=n, outputs=n, norm=1.0, rng=rng, activation=activation)


def chain(n, N, activation, rng):
    """At full size N = nT for some T; the remaining N mod n states do nothing."""
    T = max(1, N // n)
    student = delay_chain(memoryless_teacher(n, activation), T)
    extra = N - student.n
    if extra <= 0:
        return student
    W = np.eye(N)
    W[: student.n, : student.n] = student.W
    pad = np.zeros((extra, n))
    return RNN(
        W, np.vstack([student.F, pad]), np.r_[student.b, np.zeros(extra)],
        np.hstack([student.C, pad.T]), np.r_[student.h_init, np.zeros(extra)], activation,
    )  # fmt: skip


def imitation(n, N, activation, rng):
    s = chain(n, N, activation, rng)
    noise = 10.0 ** -rng.integers(1, 14)
    arrays = (a + noise * rng.standard_normal(a.shape) for a in (s.W, s.F, s.b, s.C, s.h_init))
    return RNN(*arrays, activation)


def approximation(n, N, activation, rng):
    return approximate_unitary(memoryless_teacher(n, activation), float(rng.integers(5, 60)))[0]


def zero_rows(n, N, activation, rng):
    s = gaussian(n, N, activation, rng)
    return replace(s, F=s.F * (rng.random((N, 1)) < 0.4), C=s.C * (rng.random(N) < 0.4))


def huge(n, N, activation, rng):
    s = gaussian(n, N, activation, rng)
    return replace(s, F=s.F * 1e6, b=s.b * 1e6, C=s.C * 1e-6)


def tiny(n, N, activation, rng):
    s = gaussian(n, N, activation, rng)
    return RNN(s.W * 1e-12, s.F * 1e-12, s.b * 1e-12, s.C * 1e-12, s.h_init, activation)


KINDS = (gaussian, chain, imitation, approximation, zero_rows, huge, tiny)


def check_witness(student, w, tmp_path=None):
    n = student.m
    steps = student.n // n + 1
    assert w.input.shape == w.student_output.shape == w.teacher_output.shape == (w.step + 1, n)
    assert w.step < steps
    assert 0 <= w.coordinate < n
    assert w.gap > 0
    # Proved a second time, by another function and at a higher precision.
    certificate = certify_witness(student, w)
    assert Fraction(w.gap) <= Fraction(_number(certificate.body["gap_above"])) * (
        1 + Fraction(1, 10**5)
    )
    if tmp_path is not None:
        certificate.save(tmp_path / "c.json")
        assert str(recheck(tmp_path / "c.json")) == str(certificate)


def _number(text):
    return Fraction(float.fromhex(text)) if "x" in text else Fraction(text)


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 4),
    N=st.integers(1, 10),
    activation=SMOOTH,
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=SEED,
)
def test_every_sigmoid_student_gets_a_witness(kind, n, N, activation, dtype, seed):
    student = kind(n, N, activation, np.random.default_rng(seed)).astype(dtype)
    check_witness(student, find_sigmoid_witness(student))


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
@pytest.mark.parametrize(("n", "T"), [(1, 1), (1, 2), (1, 12), (2, 6), (3, 4), (4, 1)])
def test_chains_at_full_size_fail_at_the_last_step_only(tmp_path, activation, n, T):
    student = delay_chain(memoryless_teacher(n, activation), T)
    assert student.n == n * T
    w = find_sigmoid_witness(student)
    check_witness(student, w, tmp_path)
    assert w.step == T  # not one step earlier: the chain is exact there, in floats even


def test_a_gap_no_float_can_see():
    # Equal but for a unit that is on by e^-1000.
    student = approximate_unitary(memoryless_teacher(1, "sigmoid"), 1000.0)[0]
    w = find_sigmoid_witness(student)
    assert (w.student_output == w.teacher_output).all()
    assert 0 < w.gap < Fraction(1, 10**400)
    certificate = certify_witness(student, w)
    assert "2^-" in str(certificate)


def test_a_64_state_student():
    rng = np.random.default_rng(0)
    student = gaussian(2, 64, "tanh", rng)
    student = replace(student, W=np.linalg.qr(student.W)[0])
    check_witness(student, find_sigmoid_witness(student))


def test_invertible_is_needed():
    teacher = memoryless_teacher(2, "sigmoid")
    with pytest.raises(ValueError, match="singular"):
        find_sigmoid_witness(teacher)
    # and rightly so: with a singular matrix there is nothing to find
    x = np.random.default_rng(0).standard_normal((5, 2))
    assert output_gap(teacher, teacher, x)[0] == 0
    with pytest.raises(CertificateError, match="no difference"):
        certify_witness(
            teacher, find_sigmoid_witness(gaussian(2, 2, "sigmoid", np.random.default_rng(0)))
        )


def test_other_activations_are_refused():
    with pytest.raises(ValueError, match="'sigmoid' or 'tanh'"):
        find_sigmoid_witness(memoryless_teacher(2))
    with pytest.raises(ValueError, match="'sigmoid' or 'tanh'"):
        delay_chain(memoryless_teacher(2), 3)
    with pytest.raises(ValueError, match="'sigmoid' or 'tanh'"):
        approximate_unitary(memoryless_teacher(2), 3.0)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 4), T=st.integers(1, 9), activation=SMOOTH, seed=SEED,
       norm=st.sampled_from([0.0, 0.5, 0.99, 1.0]))  # fmt: skip
def test_the_delay_chain_is_exact_below_T_and_not_at_T(n, T, activation, seed, norm):
    teacher = random_teacher(n, activation, seed, norm)
    student = delay_chain(teacher, T)
    r = defect_rank(teacher.W)
    assert student.n == n + r * (T - 1) <= n * T
    assert is_unitary(student)
    x = np.random.default_rng(seed).standard_normal((T + 1, 2))
    _, high = output_gap(teacher, student, x[:T])
    # One rounding of each bias a step, passed on by ‖W‖ ≤ 1 and read out by C.
    scale = 1 + np.abs(teacher.b).max() + np.linalg.norm(teacher.h_init) + n
    assert high <= 20 * T * student.n * np.finfo(float).eps * scale * np.linalg.norm(teacher.C)
    if r == n:
        beyond, _ = output_gap(teacher, student, x)
        assert beyond > 0
        # one step on, the difference is of another order than rounding
        assert beyond > 2 * high or T > 6


def test_the_chain_deviates_visibly_at_T():
    for activation in ("sigmoid", "tanh"):
        teacher = random_teacher(3, activation, 5, 0.7)
        for T in (1, 2, 3, 4):
            student = delay_chain(teacher, T)
            x = np.random.default_rng(1).standard_normal((T + 1, 2))
            gap = abs(simulate(teacher, x) - simulate(student, x)).max(axis=1)
            assert gap[:T].max() < 1e-14
            assert gap[T] > 1e-6


@pytest.mark.wrong_types
@pytest.mark.parametrize("horizon", [0, -1, 1.5, True, "3"])
def test_bad_horizons_are_refused(horizon):
    with pytest.raises(ValueError, match="horizon"):
        delay_chain(memoryless_teacher(1, "tanh"), horizon)


def test_expansions_are_refused():
    wide = random_teacher(2, "sigmoid", 0, 1.5)
    for build in (lambda: delay_chain(wide, 2), lambda: approximate_unitary(wide, 5.0)):
        with pytest.raises(NotContractiveError):
            build()


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 4), activation=SMOOTH, seed=SEED, norm=st.sampled_from([0.0, 0.5, 0.95]),
       M=st.floats(0.0, 60.0), dtype=st.sampled_from([np.float32, np.float64]))  # fmt: skip
def test_the_measured_error_is_below_the_bound(n, activation, seed, norm, M, dtype):
    teacher = random_teacher(n, activation, seed, norm).astype(dtype)
    student, bound = approximate_unitary(teacher, M)
    assert student.n == 2 * n
    assert is_unitary(student)
    x = np.random.default_rng(seed).standard_normal((30, 2)) * 3
    low, high = output_gap(teacher, student, x, bits=400)
    assert 0 < low <= high <= bound


def test_the_error_is_exponentially_small_far_past_float64():
    teacher = random_teacher(3, "sigmoid", 1, 0.7)
    x = np.random.default_rng(0).standard_normal((20, 2))
    M = np.array([10.0, 50.0, 100.0, 300.0])
    pairs = [approximate_unitary(teacher, m) for m in M]
    error = np.array([output_gap(teacher, s, x, bits=1000)[1] for s, _ in pairs])
    bound = np.array([b for _, b in pairs])
    assert (error <= bound).all()
    slopes = np.diff(np.log(error)) / np.diff(M)
    np.testing.assert_allclose(slopes, -1.0, atol=0.02)
    np.testing.assert_allclose(np.diff(np.log(bound)) / np.diff(M), -1.0, atol=0.02)
    assert error[-1] < 1e-120
    assert approximate_unitary(teacher, 1e4)[1] == 5e-324  # never 0: the two are not equal


def test_the_bound_needs_its_hypotheses():
    teacher = random_teacher(2, "tanh", 0, 1.0)
    with pytest.raises(ValueError, match="tanh"):
        approximate_unitary(replace(teacher, W=np.diag([1.0, 0.5])), 5.0)
    orthogonal = replace(teacher, W=np.eye(2))
    assert approximate_unitary(orthogonal, 5.0) == (orthogonal, 0.0)
    with pytest.raises(ValueError, match="finite"):
        approximate_unitary(teacher, np.inf)
    # with the new block left off its rest at −1 the tanh construction is far from its bound
    teacher = random_teacher(2, "tanh", 0, 0.5)
    student, bound = approximate_unitary(teacher, 20.0)
    wrong = replace(student, h_init=np.r_[teacher.h_init, np.zeros(2)])
    assert output_gap(teacher, wrong, np.zeros((3, 2)))[0] > 1e6 * bound


def test_spans_grow_by_n_for_smooth_students_and_need_not_for_relu():
    x = np.random.default_rng(0).uniform(0.1, 1.0, (6, 2))
    for activation in ("sigmoid", "tanh"):
        student = delay_chain(memoryless_teacher(2, activation), 4)
        assert derivative_spans(student, x) == (2, 4, 6, 8, 8, 8)
    assert derivative_spans(unitary_equivalent(memoryless_teacher(2), 2.0), x) == (2,) * 6
    # dropping "invertible": the teacher itself keeps dimension n
    assert derivative_spans(memoryless_teacher(2, "tanh"), x) == (2,) * 6


@pytest.mark.wrong_types
def test_the_fixed_point_argument():
    student = delay_chain(memoryless_teacher(1, "sigmoid"), 4)
    near = linearise(student, [0.3])
    markov = near.markov_parameters(6).ravel()
    # The fixed point of the chain is not the teacher's: they are equal for four steps only.
    slope = np.exp(-0.3) / (1 + np.exp(-0.3)) ** 2
    assert 1e-5 < abs(markov[0] - slope) < 1e-2
    assert (markov[1:4] == 0).all()
    assert markov[4] != 0  # the chain returns at lag T
    c = identity_from_powers(near.A)
    powers = [np.linalg.matrix_power(near.A, j) for j in range(1, student.n + 1)]
    np.testing.assert_allclose(
        sum(a * P for a, P in zip(c, powers, strict=True)), np.eye(4), atol=1e-9
    )
    # so C D F is that combination of the later ones, and cannot vanish with them
    later = near.markov_parameters(5).ravel()[1:]
    assert c @ later == pytest.approx(markov[0])
    with pytest.raises(ValueError, match="singular"):
        identity_from_powers(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="settle"):
        linearise(RNN([[-9.0]], [[1.0]], [4.5], [[1.0]], [0.2], "sigmoid"), [0.0])


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_derivatives_agree_with_differences(activation):
    # The slope behind the spans and the linearisation, against a central difference.
    teacher = random_teacher(3, activation, 2, 0.5)
    near = linearise(teacher, np.array([0.2, -0.4]))
    h = 1e-6
    steps = [
        simulate(replace(teacher, h_init=near.state), [[0.2 + s * h, -0.4]])[0] for s in (1, -1)
    ]
    np.testing.assert_allclose(
        (steps[0] - steps[1]) / (2 * h), near.markov_parameters(1)[0][:, 0], rtol=1e-7
    )
