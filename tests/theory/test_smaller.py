"""Smaller unitary networks: every size claimed is a network that runs, every bound holds."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.theory.dilation import NotContractiveError
from companion.theory.network import RNN, is_unitary, random_rnn, simulate
from companion.theory.similarity import rescaled
from companion.theory.smaller import (
    complex_unitary,
    fewest_below_one,
    nonnegative_factor,
    prove_unit_values,
    smallest_unitary,
    states_needed,
    unbounded_unitary,
    unit_singular_values,
)
from companion.theory.theorem1 import compare, unitary_equivalent


def teacher(W, seed=0, m=2):
    rng, n = np.random.default_rng(seed), len(W)
    return RNN(
        W, rng.standard_normal((n, m)), rng.standard_normal(n),
        rng.standard_normal((2, n)), np.zeros(n),
    )  # fmt: skip


def poster(n, seed):
    """The poster's W = I − 0.01 AᵀA/‖A‖²."""
    A = np.random.default_rng(seed).standard_normal((n, n))
    return teacher(np.eye(n) - 0.01 * A.T @ A / np.linalg.norm(A, 2) ** 2, seed)


def bounded_inputs(bound, steps=60, m=2):
    x = np.random.default_rng(1).standard_normal((steps, m))
    return bound * x / np.maximum(1, np.linalg.norm(x, axis=1, keepdims=True))


def assert_equal_on_bounded_inputs(rnn, unitary, bound):
    assert is_unitary(unitary)
    result = compare(rnn, unitary, bounded_inputs(bound))
    # The scaling's condition number multiplies the rounding of each step.
    assert result.difference <= 100 * result.tolerance


def test_a_poster_teacher_of_4_needs_6_states_only():
    rnn = poster(4, 0)
    found = smallest_unitary(rnn, 3.0)
    assert found.unitary.n == 6 == 2 * rnn.n - found.unit_values
    assert found.proved
    assert found.residual < 1e-14
    assert found.lower_bound == 5
    assert_equal_on_bounded_inputs(rnn, found.unitary, 3.0)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 6), seed=st.integers(0, 2**32 - 1), norm=st.sampled_from([0.3, 0.9, 1.0]))
def test_the_network_found_is_equal_and_between_the_bounds(n, seed, norm):
    rng = np.random.default_rng(seed)
    rnn = random_rnn(n, inputs=2, outputs=2, norm=norm, rng=rng)
    # ‖W‖ = 1 leaves the states bounded over a horizon only, which smallest_unitary does not take
    rnn = replace(rnn, W=rnn.W * 0.999)
    found = smallest_unitary(rnn, 2.0, starts=5)
    assert found.lower_bound <= found.unitary.n == 2 * n - found.unit_values <= 2 * n
    if n > 1:
        assert found.unit_values >= 1
    assert_equal_on_bounded_inputs(rnn, found.unitary, 2.0)


def test_diagonal_contractions_need_all_of_2n():
    W = np.diag([0.5, -0.3, 0.9])
    found = smallest_unitary(teacher(W), 1.0)
    assert found.unitary.n == found.lower_bound == 6
    assert fewest_below_one(W, starts=200)[0] == 3


def test_an_expansion_with_a_contractive_scaling():
    W = np.array([[0.5, 30.0], [0.001, 0.5]])
    rnn = teacher(W)
    found = smallest_unitary(rnn, 1.0)
    assert found.unitary.n == 3
    assert_equal_on_bounded_inputs(rnn, found.unitary, 1.0)
    with pytest.raises(NotContractiveError):
        smallest_unitary(teacher(np.array([[1.5, 0.0], [0.0, 0.2]])), 1.0)


def test_lower_bounds():
    assert states_needed(np.eye(3)) == 3  # orthogonal: nothing is forgotten
    assert states_needed(0.5 * np.eye(3)) == 6
    block = np.array([[0.5, 0.4], [0.1, 0.6]])
    assert states_needed(block) == 3
    assert states_needed(np.kron(np.eye(2), block)) == 6
    shift = 0.5 * np.eye(4, k=1)
    assert states_needed(shift) == 5
    count, d = fewest_below_one(shift)
    assert count >= 1
    assert (np.linalg.svd(d[:, None] * shift / d, compute_uv=False) < 1).sum() == count


def test_the_lower_bound_is_that_of_the_very_numbers():
    """The sign of 1 − |det| of a rounded rotation is that of its rounding, in exact arithmetic."""
    for seed in range(20):
        Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]
        rows = [[Fraction(float(v)) for v in row] for row in Q]
        (a, b, c), (d, e, f), (g, h, i) = rows
        det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
        assert states_needed(Q) == 3 + (abs(det) < 1)
    assert states_needed(np.diag([1.0, 1 - 2**-53])) == 3
    assert (
        states_needed(
            np.array([[Fraction(3, 5), Fraction(4, 5)], [Fraction(-4, 5), Fraction(3, 5)]])
        )
        == 2
    )


def test_a_size_from_rounding_alone_is_not_called_proved():
    Q = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0] * (1 - 1e-15)
    rnn = replace(teacher(0.5 * np.eye(3)), W=Q)
    with pytest.raises(ValueError, match="horizon"):  # its states have no bound
        smallest_unitary(rnn, 1.0)
    assert smallest_unitary(rnn, 1.0, horizon=9, starts=1).unitary.n == 3
    assert not prove_unit_values(Q, np.ones(3), 3)


def test_the_proof_refuses_what_is_not_there():
    W = poster(4, 0).W
    d = unit_singular_values(W, 2, rng=np.random.default_rng(0))
    assert d is not None
    assert prove_unit_values(W, d, 2)
    assert not prove_unit_values(1.001 * W, d, 2)
    assert not prove_unit_values(W, d * [1, 1, 1, 1.01], 2)  # no solution within 1e-9
    assert not prove_unit_values(W, np.ones(4), 2)
    assert unit_singular_values(np.diag([0.5, 0.2]), 1, rng=np.random.default_rng(0)) is None


def test_nonnegative_factors():
    assert nonnegative_factor(np.array([[0.5, 0.3], [0.0, 0.5]]))[0] == "impossible"
    for W, rows in (
        (np.diag([0.5, 0.2]), 2),
        (np.array([[0.5, 0.3], [0.0, -0.5]]) @ np.diag([1.0, -1.0]), None),
        (np.array([[0.6, -0.3], [0.1, 0.5]]), None),
    ):
        verdict, K = nonnegative_factor(W)
        if verdict == "found":
            assert (K >= 0).all()
            np.testing.assert_allclose(K.T @ K, np.eye(2) - W.T @ W, atol=1e-14)
            assert rows is None or len(K) == rows
    assert nonnegative_factor(np.array([[0.6, -0.3], [0.1, 0.5]]))[0] == "found"


def test_no_input_bound_where_a_factor_is_found():
    rng = np.random.default_rng(0)
    x = 1e6 * rng.standard_normal((100, 2))
    hidden = 0
    for seed in range(12):
        Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]
        core = np.full((3, 3), 0.15) + 0.3 * np.eye(3)
        w, V = np.linalg.eigh(np.eye(3) - core)
        rnn = teacher(Q @ (V * np.sqrt(w)) @ V.T, seed)  # I − WᵀW = core ≥ 0
        verdict, unitary = unbounded_unitary(rnn)
        assert verdict == "found"
        assert is_unitary(unitary)
        assert (unitary.b[3:] == 0).all()
        result = compare(rnn, unitary, x)
        assert result.difference <= result.tolerance
        hidden = max(hidden, unitary.n)
    assert hidden > 3
    assert unbounded_unitary(replace(rnn, h_init=-np.ones(3)))[0] == "unknown"
    assert unbounded_unitary(teacher(np.array([[0.5, 0.3], [0.0, 0.5]])))[1] is None


@pytest.mark.parametrize("n", range(2, 7))
def test_a_factor_found_is_sharp_enough_for_an_orthogonal_matrix(n):
    # I − WᵀW is about 0.02 here: a residual small beside 1 is not small beside it.
    for seed in range(3):
        A = np.abs(np.random.default_rng([seed, n]).standard_normal((n, n)))
        rnn = teacher(np.eye(n) - 0.01 * A.T @ A / np.linalg.norm(A, 2) ** 2, seed)
        verdict, unitary = unbounded_unitary(rnn)
        assert verdict == "found"
        assert is_unitary(unitary)
        result = compare(rnn, unitary, 1e6 * np.random.default_rng(seed).standard_normal((50, 2)))
        assert result.difference <= result.tolerance


def test_a_factor_is_unknown_where_none_exists_that_no_entry_forbids():
    # I − WᵀW ∝ Horn's example: positive semidefinite, entrywise ≥ 0, and not completely positive.
    # (its product with Horn's copositive matrix is negative, and that with any KᵀK is not)
    H = np.array([[1, -1, 1, 1, -1], [-1, 1, -1, 1, 1], [1, -1, 1, -1, 1],
                  [1, 1, -1, 1, -1], [-1, 1, 1, -1, 1]])  # fmt: skip
    c = (np.sqrt(5) - 1) / 2
    P = np.where(H > 0, 0.0, c) + np.eye(5)
    assert np.linalg.eigvalsh(P).min() > -1e-12
    assert (P * H).sum() < -0.1
    w, V = np.linalg.eigh(np.eye(5) - P / 4)
    W = (V * np.sqrt(w)) @ V.T
    assert nonnegative_factor(W, starts=1)[0] == "unknown"
    assert unbounded_unitary(teacher(W))[1] is None


def test_the_lower_bound_is_attained_for_inputs_of_any_size():
    for r in range(1, 6):
        place = np.concatenate([np.arange(len(block)) for block in np.array_split(range(5), r)])
        W = 0.5 * np.eye(5, k=1)
        W[np.arange(4), np.arange(1, 5)] *= place[1:] > 0
        rnn = teacher(W)
        verdict, unitary = unbounded_unitary(rescaled(rnn, 0.5**place))
        assert verdict == "found"
        assert states_needed(W) == unitary.n == 5 + r
        result = compare(rnn, unitary, 1e6 * np.random.default_rng(r).standard_normal((50, 2)))
        assert result.agree


def test_no_more_singular_values_than_the_count_allows():
    # q(q + 1)/2 ≤ n − 1 is necessary for almost every W
    for n, most in ((3, 2), (4, 3), (5, 3)):
        G = np.random.default_rng(n).standard_normal((n, n))
        rnn = teacher(0.9 * G / np.linalg.norm(G, 2))
        assert smallest_unitary(rnn, 1.0, starts=5, most=most).unit_values < most


def test_a_bound_is_needed_where_no_factor_exists():
    # The same dilation with M = 0 but a K of mixed signs is not equal: K ≥ 0 is what does it.
    rnn = teacher(np.array([[0.5, 0.3], [0.0, 0.5]]))
    unitary = unitary_equivalent(rnn, 1.0)
    without_bias = replace(unitary, b=np.r_[rnn.b, 0.0, 0.0])
    assert compare(rnn, without_bias, bounded_inputs(1.0)).difference > 1e-3


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_n_complex_states_suffice(n, seed):
    rng = np.random.default_rng(seed)
    rnn = random_rnn(n, inputs=2, outputs=2, norm=0.9, rng=rng)
    network = complex_unitary(rnn, 2.0)
    U = network.U
    assert np.linalg.norm(U.conj().T @ U - np.eye(n), 2) <= 10 * n * np.finfo(float).eps
    x = bounded_inputs(2.0)
    y = network.simulate(x)
    assert (y.imag == 0).all()
    np.testing.assert_allclose(y.real, simulate(rnn, x), atol=1e-12 * (1 + abs(y).max()))
    # necessity: without the bias on the imaginary parts they come on
    loose = replace(network, b=network.b.real + 1j).simulate(x)
    assert abs(loose - y).max() > 1e-6
