"""Theorem 2: a witness comes back for every student, and each hypothesis is needed."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.theory.exact import output_gap
from companion.theory.network import RNN, is_unitary, simulate
from companion.theory.similarity import inverse
from companion.theory.theorem2 import (
    NoClaimError,
    Witness,
    _generic_start,
    _kink_test,
    _refute,
    find_witness,
    memoryless_teacher,
    near_miss,
)


def orthogonal(n, rng):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def swap_network(n, bound):
    """The 2n-state network of theorem 1 for the memoryless teacher: U swaps the two blocks."""
    eye, zero = np.eye(n), np.zeros((n, n))
    return RNN(
        np.block([[zero, eye], [eye, zero]]),
        np.vstack([eye, zero]),
        np.r_[np.zeros(n), np.full(n, -bound)],
        np.hstack([eye, zero]),
        np.zeros(2 * n),
    )


def without_unit(rnn, j, rng):
    """Leave unit j out and repair U to the nearest orthogonal matrix of what is left."""
    keep = [i for i in range(rnn.n) if i != j]
    P, _, Qt = np.linalg.svd(
        rnn.W[np.ix_(keep, keep)] + 1e-3 * rng.standard_normal((rnn.n - 1,) * 2)
    )
    return RNN(P @ Qt, rnn.F[keep], rnn.b[keep], rnn.C[:, keep], rnn.h_init[keep])


def gaussian(n, N, X, rng):
    return RNN(
        orthogonal(N, rng),
        rng.standard_normal((N, n)),
        rng.standard_normal(N),
        rng.standard_normal((n, N)),
        rng.standard_normal(N),
    )


def axis_aligned(n, N, X, rng):
    F = np.zeros((N, n))
    F[np.arange(N), rng.integers(n, size=N)] = rng.choice([-2, -1, 1, 2], size=N)
    U = np.eye(N)[rng.permutation(N)] * rng.choice([-1.0, 1.0], size=N)
    C = rng.integers(-1, 2, size=(n, N)).astype(float)
    return RNN(U, F, np.zeros(N), C, np.zeros(N))


def perfect_first_step(n, N, X, rng):
    F = np.vstack([np.eye(n), np.zeros((N - n, n))]) if n <= N else np.eye(n)[:N]
    return RNN(orthogonal(N, rng), F, np.zeros(N), F.T.copy(), np.zeros(N))


def permuted(n, N, X, rng):
    return replace(perfect_first_step(n, N, X, rng), W=np.eye(N)[rng.permutation(N)])


def coincident(n, N, X, rng):
    s = gaussian(n, N, X, rng)
    return replace(s, F=s.F[np.arange(N) // 2], b=s.b[np.arange(N) // 2])


def cancelling(n, N, X, rng):
    """Units in pairs ReLU(z) − ReLU(−z) = z: kinks that are there and cannot be seen."""
    s = axis_aligned(n, N, X, rng)
    F, C = s.F.copy(), s.C.copy()
    for j in range(0, N - 1, 2):
        F[j + 1], C[:, j + 1] = -F[j], -C[:, j]
    return replace(s, F=F, C=C)


def dead_inputs(n, N, X, rng):
    s = gaussian(n, N, X, rng)
    return replace(s, F=s.F * (rng.random((N, 1)) < 0.5))


def constant(n, N, X, rng):
    s = perfect_first_step(n, N, X, rng)
    return replace(s, b=rng.choice([0.0, 0.0, 1e3, -1e3], size=N), F=0 * s.F)


def blind(n, N, X, rng):
    s = gaussian(n, N, X, rng)
    return replace(s, C=s.C * (rng.random(N) < 0.5))


def tiny(n, N, X, rng):
    s = gaussian(n, N, X, rng)
    return RNN(s.W * 1e-12, s.F * 1e-12, s.b * 1e-12, s.C * 1e-12, s.h_init * 1e-12)


def huge(n, N, X, rng):
    s = gaussian(n, N, X, rng)
    return RNN(s.W * 1e12, s.F * 1e12, s.b * 1e12, s.C * 1e12, s.h_init * 1e12)


def mixed_scales(n, N, X, rng):
    s = gaussian(n, N, X, rng)
    scale = 10.0 ** rng.integers(-12, 13, size=N)
    return replace(s, F=s.F * scale[:, None], b=s.b * scale[::-1])


def imitation(n, N, X, rng):
    """As training leaves a student: nearly the 2n-state network, with noise on every weight."""
    s = perfect_first_step(n, N, X, rng)
    noise = 10.0 ** -rng.integers(1, 12)
    arrays = (a + noise * rng.standard_normal(a.shape) for a in (s.W, s.F, s.b, s.C, s.h_init))
    return RNN(*arrays)


def amputated(n, N, X, rng):
    s = swap_network(n, X)
    while s.n > N:
        s = without_unit(s, int(rng.integers(s.n)), rng)
    return s


def outside_the_box(n, N, X, rng):
    s = axis_aligned(n, N, X, rng)
    return replace(s, b=-np.abs(s.F).sum(1) * X * (1 + 2.0**-40))


def nearly(n, N, X, rng):
    return near_miss(n, 2.0**-10, X) if n + 1 < 2 * n and n >= 2 else gaussian(n, N, X, rng)


KINDS = (
    gaussian, axis_aligned, perfect_first_step, permuted, coincident, cancelling, dead_inputs,
    constant, blind, tiny, huge, mixed_scales, imitation, amputated, outside_the_box, nearly,
)  # fmt: skip
DTYPES = (np.float64, np.float32, object)


def exact_gap(student, w):
    """The gap recomputed in Python's Fractions from the stored input alone."""
    x = np.array(
        [Fraction(v) if isinstance(v, Fraction) else Fraction(float(v)) for v in w.input.flat]
    )
    x = x.reshape(w.input.shape)
    y = simulate(student.astype(object), x)
    return max(abs(a - max(b, Fraction(0))) for a, b in zip(y.flat, x.flat, strict=True))


def check_witness(student, w, bound):
    n = student.m
    assert isinstance(w, Witness)
    assert w.input.shape == w.teacher_output.shape == w.student_output.shape == (w.step + 1, n)
    assert w.step in (0, 1)
    assert 0 <= w.coordinate < n
    assert all(abs(Fraction(v)) <= Fraction(bound) for v in w.input.ravel().tolist())
    true_gap = exact_gap(student, w)
    assert true_gap >= Fraction(w.gap) > 0
    # Not merely positive: the gap itself, rounded down in float64 (whose range may end before it).
    rounding = true_gap / 2**52 + Fraction(5e-324)
    assert true_gap - Fraction(w.gap) <= rounding or w.gap == np.finfo(float).max


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 6),
    missing=st.integers(1, 12),
    dtype=st.sampled_from(DTYPES),
    initial=st.sampled_from(["own", "negative", "zero"]),
    bound=st.sampled_from([1.0, 0.3, 2.0**-40, 1e6, 5]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_student_below_2n_gets_a_witness(kind, n, missing, dtype, initial, bound, seed):
    rng = np.random.default_rng(seed)
    student = kind(n, max(1, 2 * n - missing), bound, rng).astype(dtype)
    if initial != "own":
        h = np.abs(student.h_init) * (-1 if initial == "negative" else 0)
        student = replace(student, h_init=h)
    check_witness(student, find_witness(student, bound), bound)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_just_below_2n_in_float64_shows_in_float64(kind):
    rng = np.random.default_rng(7)
    student = kind(4, 7, 1.0, rng)
    w = find_witness(student, 1.0)
    check_witness(student, w, 1.0)
    assert w.input.dtype == np.float64
    measured = abs(simulate(student, w.input) - simulate(memoryless_teacher(4), w.input)).max()
    assert measured == pytest.approx(w.gap, rel=1e-9)


def test_64_inputs():
    rng = np.random.default_rng(0)
    for kind in (gaussian, permuted):
        student = kind(64, 127, 1.0, rng)
        check_witness(student, find_witness(student, 1.0), 1.0)


def test_a_hair_of_bias_still_gives_a_clear_gap():
    # Kinks 1e-300 from where they should be: the proof's own δ would give a gap of 1e-301.
    student = replace(perfect_first_step(3, 5, 1.0, np.random.default_rng(1)), b=np.full(5, 1e-300))
    w = find_witness(student, 1.0)
    check_witness(student, w, 1.0)
    assert w.gap > 1e-3


def test_a_student_built_against_the_fixed_generic_point():
    # Its kinks at step 1 pass through the very x⁽⁰⁾ that the algorithm tries first.
    rng = np.random.default_rng(3)
    n, N = 3, 5
    base = perfect_first_step(n, N, 1.0, rng).astype(object)
    x0 = _generic_start(base, Fraction(1))
    b = -(base.W @ simulate(base, x0[None], return_states=True)[1][0])
    student = replace(base, b=b, h_init=-(inverse(base.W) @ b))
    assert (
        _generic_start(student, Fraction(1)) != x0
    ).any()  # the trap was set where it was meant to be
    check_witness(student, find_witness(student, Fraction(1)), Fraction(1))


def test_the_true_network_of_2n_states_has_no_witness_and_no_claim():
    for n in (1, 2, 5):
        full = swap_network(n, 1.0)
        assert is_unitary(full)
        assert _refute(full.astype(object), Fraction(1)) is None
        with pytest.raises(NoClaimError, match=f"2n = {2 * n}"):
            find_witness(full, 1.0)
        for j in range(2 * n):
            student = without_unit(full, j, np.random.default_rng(j))
            check_witness(student, find_witness(student, 1.0), 1.0)


def test_two_steps_are_needed():
    # One step alone cannot tell: a unitary network of n states is the teacher at k = 0.
    theta = perfect_first_step(3, 3, 1.0, np.random.default_rng(0)).astype(object)
    assert _kink_test(theta, theta.h_init, Fraction(1)) is None


def test_an_invertible_matrix_is_needed():
    teacher = memoryless_teacher(3)
    assert _refute(teacher.astype(object), Fraction(1)) is None
    with pytest.raises(ValueError, match="singular"):
        find_witness(teacher, 1.0)


def test_singular_is_decided_exactly():
    rng = np.random.default_rng(0)
    student = gaussian(3, 4, 1.0, rng)
    W = student.W.copy()
    W[3] = W[0] * 2
    with pytest.raises(ValueError, match="singular"):
        find_witness(replace(student, W=W), 1.0)
    W[3, 3] = np.nextafter(W[3, 3], 2)  # invertible, though no float method could tell
    student = replace(student, W=W)
    check_witness(student, find_witness(student, 1.0), 1.0)


def test_exactness_only_near_misses_come_as_close_as_one_likes():
    n, X = 4, 1.0
    rng = np.random.default_rng(0)
    x = np.sign(rng.standard_normal((6, n))) * X
    for k in (4, 8, 12):
        student = near_miss(n, 2.0**-k, X)
        assert student.n == n + 1 < 2 * n
        assert is_unitary(student)
        low, high = output_gap(student, memoryless_teacher(n), x)
        assert 0 < low <= high <= 2.0**-k * X / (1 - 2.0**-k)
        assert abs(student.C).max() == 2.0 ** (k * (n - 1))
        w = find_witness(student, X)
        check_witness(student, w, X)


@pytest.mark.wrong_types
@pytest.mark.parametrize("bound", [0, -1.0, np.inf, np.nan, True, "1", None])
def test_bad_bounds_are_refused(bound):
    with pytest.raises(ValueError, match="input_bound"):
        find_witness(gaussian(2, 3, 1.0, np.random.default_rng(0)), bound)


def test_bad_students_are_refused():
    rng = np.random.default_rng(0)
    s = gaussian(2, 3, 1.0, rng)
    with pytest.raises(ValueError, match="find_sigmoid_witness"):
        find_witness(replace(s, activation="tanh"), 1.0)
    with pytest.raises(ValueError, match="2 inputs and 1 outputs"):
        find_witness(replace(s, C=s.C[:1]), 1.0)
    with pytest.raises(ValueError, match="n is 0"):
        memoryless_teacher(0)
    with pytest.raises(ValueError, match="epsilon"):
        near_miss(3, 1.5, 1.0)


def test_bounds_at_the_edge_of_float64():
    rng = np.random.default_rng(0)
    for bound in (1e308, 5e-324, Fraction(1, 3)):
        for kind in (gaussian, permuted):
            student = kind(2, 3, float(bound), rng)
            check_witness(student, find_witness(student, bound), bound)


def test_memoryless_teacher_in_every_dtype_and_activation():
    for activation in ("relu", "sigmoid", "tanh"):
        teacher = memoryless_teacher(2, activation, np.float32)
        assert (teacher.dtype, teacher.activation) == (np.float32, activation)
    assert memoryless_teacher(2, dtype=object).is_exact
