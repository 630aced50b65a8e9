"""Newton's method over the sequence: right, and as quick for equal networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.theory.network import RNN, random_rnn, simulate
from companion.theory.parallel import largest_exponent, newton_states, prefix_solve
from companion.theory.theorem1 import state_bound, unitary_equivalent

SEED = st.integers(0, 2**32 - 1)


def inputs(steps, rng):
    x = rng.standard_normal((steps, 2))
    return x / np.maximum(1, np.linalg.norm(x, axis=1, keepdims=True))


def with_ball_bias(rnn, unitary):
    """The unitary network with M ≥ R in every new state, as the proof takes it."""
    b = unitary.b.copy()
    b[rnn.n :] = -1.001 * state_bound(rnn, 1.0).norm
    return replace(unitary, b=b)


@given(st.integers(1, 6), st.integers(1, 70), SEED)
def test_the_prefix_sum_solves_the_recurrence(n, steps, seed):
    rng = np.random.default_rng(seed)
    A, c = rng.uniform(-1, 1, (steps, n, n)) / n, rng.standard_normal((steps, n))
    h, wanted = np.zeros(n), []
    for M, v in zip(A, c, strict=True):
        h = M @ h + v
        wanted.append(h)
    assert np.allclose(prefix_solve(A, c), wanted, rtol=0, atol=1e-13 * steps)


@given(st.integers(1, 6), st.floats(0.1, 0.999), st.integers(1, 300), SEED)
@settings(max_examples=30)
def test_equal_networks_take_equally_many_steps(n, norm, steps, seed):
    rng = np.random.default_rng(seed)
    rnn = random_rnn(n, inputs=2, outputs=2, norm=norm, rng=rng)
    unitary = with_ball_bias(rnn, unitary_equivalent(rnn, 1.0))
    x = inputs(steps, rng)
    h, count = newton_states(rnn, x)
    s, same = newton_states(unitary, x)
    wanted = simulate(rnn, x, return_states=True)[1][-steps:]
    scale = 1e-12 * max(np.abs(wanted).max(), 1e-300)
    assert count == same
    assert np.abs(h - wanted).max() <= scale
    assert np.abs(s[:, :n] - wanted).max() <= scale
    assert (s[:, n:] == 0).all()
    # The products of Jacobians differ by one factor of norm 1, the first.
    a, b = largest_exponent(rnn, h), largest_exponent(unitary, s)
    assert b >= a - 1e-9 or not np.isfinite(a)


def test_the_exponents_approach_each_other_like_one_over_t():
    rng = np.random.default_rng(5)
    A = rng.standard_normal((5, 5))  # slow and with all units on: no product of Jacobians vanishes
    rnn = RNN(np.eye(5) - 0.1 * A.T @ A / np.linalg.norm(A, 2) ** 2, 0.1 * np.ones((5, 2)),
              np.ones(5), np.eye(2, 5), np.zeros(5))  # fmt: skip
    unitary, x = unitary_equivalent(rnn, 1.0), inputs(2000, rng)
    for steps in (200, 2000):
        h, s = newton_states(rnn, x[:steps])[0], newton_states(unitary, x[:steps])[0]
        gap = abs(largest_exponent(rnn, h) - largest_exponent(unitary, s))
        assert gap <= 5 / steps


def test_new_states_that_switch_on_break_it():
    """With M = 0 the new units take part in the guesses, which are others then."""
    rng = np.random.default_rng(0)
    rnn = random_rnn(6, inputs=2, outputs=2, norm=0.9, rng=rng)
    unitary = unitary_equivalent(rnn, 1.0)
    awake = replace(unitary, b=np.concatenate([rnn.b, np.zeros(unitary.n - rnn.n)]))
    x = inputs(200, rng)
    assert np.abs(newton_states(awake, x)[0][:, :6] - newton_states(rnn, x)[0]).max() > 1e-3


def test_what_it_refuses():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="activation 'tanh'"):
        newton_states(
            random_rnn(2, inputs=2, outputs=1, norm=0.5, rng=rng, activation="tanh"),
            np.zeros((3, 2)),
        )
    doubling = RNN([[2.0]], [[1.0]], [1.0], [[1.0]], [1.0])
    with pytest.raises(ArithmeticError, match="overflows"):
        newton_states(doubling, np.ones((2000, 1)))
    with pytest.raises(ArithmeticError, match="within 1 Newton"):
        newton_states(
            random_rnn(4, inputs=2, outputs=1, norm=0.9, rng=rng), np.ones((50, 2)), most=1
        )
