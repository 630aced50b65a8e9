"""Linear recurrences: n + g(T − 1) states are enough, exactly, and fewer are refuted."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from companion.theory.certificate import certify_witness
from companion.theory.linear import (
    find_linear_witness,
    full_rank,
    krylov_matrix,
    largest_multiplicity,
    linear_teacher,
    window_states,
    window_student,
)
from companion.theory.network import RNN, random_rnn, simulate
from companion.theory.reading import number
from companion.theory.theorem2 import NoClaimError, memoryless_teacher
from companion.theory.theorem3 import delay_chain

SEED = st.integers(0, 2**32 - 1)
STRUCTURES = st.sampled_from(["generic", "multiple", "zero", "defective", "double", "expansive"])


def matrix(structure, n, seed):
    """A W without eigenvalues of modulus 1, and its g."""
    rng = np.random.default_rng(seed)
    if structure == "multiple":
        return np.eye(n) * 0.5, n
    if structure == "zero":
        return np.zeros((n, n)), n
    if structure == "defective":
        return 0.5 * np.eye(n) + np.eye(n, k=1), 1
    if structure == "double":
        S = rng.integers(-2, 3, (n, n)) + 5 * np.eye(n)
        values = np.array([0.5, 0.5, 0.25, -0.25])[:n]
        # a similarity in floats is not exact: its g is that of the rounded matrix
        D = np.array([[Fraction(v) for v in row] for row in np.diag(values).tolist()], dtype=object)
        exact = [[Fraction(int(v)) for v in row] for row in S.tolist()]
        return conjugated(np.array(exact, dtype=object), D), min(n, 2)
    scale = 3.0 if structure == "expansive" else 0.9
    A = rng.standard_normal((n, n))
    return scale * A / np.linalg.norm(A, -2 if structure == "expansive" else 2), 1


def conjugated(S, D):
    """S D S⁻¹ over the rationals."""
    n = len(S)
    both = np.concatenate([S, np.eye(n, dtype=object)], axis=1)
    for i in range(n):
        pivot = next(k for k in range(i, n) if both[k, i])
        both[[i, pivot]] = both[[pivot, i]]
        both[i] = both[i] / Fraction(both[i, i])
        for k in range(n):
            if k != i:
                both[k] = both[k] - both[k, i] * both[i]
    return S.dot(D).dot(both[:, n:])


def orthogonal_student(N, n, rng):
    U = np.linalg.qr(rng.standard_normal((N, N)))[0]
    return RNN(U, rng.standard_normal((N, n)), np.zeros(N), rng.standard_normal((n, N)),
               np.zeros(N), "identity")  # fmt: skip


@given(STRUCTURES, st.integers(1, 4), st.integers(1, 7), SEED)
@settings(max_examples=40)
def test_the_student_is_orthogonal_of_the_size_stated_and_exact_for_t_steps(kind, n, horizon, seed):
    W, g = matrix(kind, n, seed)
    assert largest_multiplicity(W) == g
    student, teacher = window_student(W, horizon, seed=seed % 7), linear_teacher(W)
    assert student.n == window_states(W, horizon) == n + g * (horizon - 1)
    assert (student.W.T.dot(student.W) == np.eye(student.n, dtype=int)).all()
    assert full_rank(krylov_matrix(student.W, student.F, horizon))
    x = np.random.default_rng(seed).integers(-9, 9, (horizon, n))
    assert (simulate(student, x) == simulate(teacher, x)).all()
    # It must deviate at the step T itself: one more step would take g more states.
    witness = find_linear_witness(student, W)
    assert witness.step >= horizon
    assert witness.gap > 0


@given(STRUCTURES, st.integers(1, 4), st.integers(1, 10), SEED, st.booleans())
@settings(max_examples=40)
def test_every_smaller_orthogonal_student_is_refuted_within_the_steps_stated(
    kind, n, N, seed, near
):
    W, g = matrix(kind, n, seed)
    rng = np.random.default_rng(seed)
    student = orthogonal_student(N, n, rng)
    if near and n + g <= N:  # an adversary: exact for as long as its size allows, padded
        best = window_student(W, (N - n) // g + 1).astype(np.float64)
        U, F, C = student.W * 0, student.F * 0, student.C * 0
        U[: best.n, : best.n], F[: best.n], C[:, : best.n] = best.W, best.F, best.C
        U[best.n :, best.n :] = np.eye(N - best.n)
        student = RNN(U, F, np.zeros(N), C, np.zeros(N), "identity")
    witness = find_linear_witness(student, W)
    assert witness.step < max((N - n) // g, -1) + 2
    wanted = simulate(linear_teacher(W), witness.input.astype(int))
    got = simulate(exactly(student), witness.input.astype(int))
    assert abs(wanted - got).max() == witness.gap > 0
    proof = certify_witness(student, witness, W=W)
    assert (proof.body["step"], proof.kind) == (witness.step, "linear difference")
    assert number(proof.body["gap_above"], "gap") >= witness.gap * (1 - Fraction(1, 2**20))


def exactly(rnn):
    parts = (
        np.vectorize(lambda v: Fraction(float(v)), otypes=[object])(a)
        for a in (rnn.W, rnn.F, rnn.b, rnn.C, rnn.h_init)
    )
    return RNN(*parts, "identity")


@given(SEED, st.integers(1, 5))
@settings(max_examples=15)
def test_a_bias_or_an_initial_state_is_refuted_too(seed, N):
    rng = np.random.default_rng(seed)
    student = orthogonal_student(N, 1, rng)
    for b, h in ((rng.standard_normal(N), student.h_init), (student.b, rng.standard_normal(N))):
        changed = RNN(student.W, student.F, b, student.C, h, "identity")
        assert find_linear_witness(changed, np.array([[0.5]])).gap > 0


@pytest.mark.parametrize("horizon", [2, 5])
def test_an_eigenvalue_on_the_circle_breaks_the_bound(horizon):
    """diag(1, 1, ½) has g = 2, and 2 + T < 3 + 2(T − 1) states repeat it for T steps."""
    W = np.diag([1.0, 1.0, 0.5])
    half = window_student(np.array([[0.5]]), horizon)
    N = 2 + half.n
    U, F, C = (np.full(shape, Fraction(0)) for shape in ((N, N), (N, 3), (3, N)))
    U[:2, :2] = F[:2, :2] = C[:2, :2] = np.eye(2, dtype=object)
    U[2:, 2:], F[2:, 2:], C[2:, 2:] = half.W, half.F, half.C
    zero = np.full(N, Fraction(0))
    student = RNN(U, F, zero, C, zero, "identity")
    assert window_states(W, horizon) > N
    x = np.arange(3 * horizon).reshape(horizon, 3)
    assert (simulate(student, x) == simulate(linear_teacher(W), x)).all()


def test_a_student_that_shares_an_eigenvalue_gets_no_claim():
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    with pytest.raises(NoClaimError, match="eigenvalue in common"):
        find_linear_witness(linear_teacher(turn), turn)


def test_egervarys_chain_is_not_smaller():
    """The chain has n + r(T − 1) states, r the defect rank; here r = n > g = 1."""
    rng = np.random.default_rng(3)
    W = rng.standard_normal((3, 3))
    W /= 1.2 * np.linalg.norm(W, 2)
    tanh = random_rnn(3, inputs=1, outputs=1, norm=0.8, rng=rng, activation="tanh")
    for horizon in (2, 4):
        assert delay_chain(tanh, horizon).n == 3 + 3 * (horizon - 1)
        assert window_states(W, horizon) == 3 + horizon - 1


@given(st.integers(1, 4), st.integers(2, 12), SEED)
@example(n=1, horizon=6, seed=0)
@settings(max_examples=20)
def test_one_input_one_output_needs_t_minus_n_plus_one(n, horizon, seed):
    """An orthogonal student of T − n states, its output weights fitted, misses a response."""
    rng = np.random.default_rng(seed)
    W, f, c = 0.8 * np.diag(rng.uniform(-1, 1, n)), np.ones(n), rng.standard_normal(n)
    N = horizon - n
    if N < 1:
        return
    U = np.linalg.qr(rng.standard_normal((N, N)))[0]
    K = np.stack([np.linalg.matrix_power(U, j) @ np.ones(N) for j in range(horizon)])
    m = np.array([c @ np.linalg.matrix_power(W, j) @ f for j in range(horizon)])
    fitted = np.linalg.lstsq(K, m, rcond=None)[0]
    assert np.abs(K @ fitted - m).max() > 1e-9 * np.abs(m).max()


@pytest.mark.wrong_types
def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="square"):
        linear_teacher(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="horizon is 0"):
        window_student(np.eye(1) / 2, 0)
    with pytest.raises(ValueError, match="activation 'relu'"):
        find_linear_witness(memoryless_teacher(2), np.eye(2) / 2)
    with pytest.raises(ValueError, match="1 inputs"):
        find_linear_witness(linear_teacher(np.eye(1) / 2), np.eye(2) / 2)
