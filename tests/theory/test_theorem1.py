"""Theorem 1, executed: equal outputs, a silent lower block, a sufficient bias; and each hypothesis
dropped in turn (necessity)."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companion import (
    RNN,
    NotContractiveError,
    balance,
    compare,
    is_contractive,
    is_unitary,
    minimal_scaling,
    random_rnn,
    rational_contraction,
    simulate,
    spectral_norm,
    state_bound,
    unit_norm_scaling,
    unitary_equivalent,
)

seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([np.float32, np.float64])


def drawn(seed: int, n: int, norm: float, dtype: type = np.float64, negative: bool = True) -> RNN:
    rng = np.random.default_rng(seed)
    rnn = random_rnn(n, inputs=2, outputs=3, norm=norm, rng=rng, dtype=dtype)
    sign = np.where(rng.random(n) < 0.5, -1, 1) if negative else 1
    return replace(rnn, h_init=(rnn.h_init * sign).astype(dtype))


def inputs(seed: int, bound: float, T: int = 60, batch: int = 8, m: int = 2) -> np.ndarray:
    """Sequences in the ball of radius ``bound``, most of them on its boundary."""
    rng = np.random.default_rng(seed + 1)
    x = rng.standard_normal((batch, T, m))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return x * bound * np.minimum(1, rng.random((batch, T, 1)) * 2) * (1 - 1e-7)


@given(
    seed=seeds, n=st.integers(1, 8), norm=st.sampled_from([0.0, 0.5, 0.99, 0.9999]), dtype=dtypes
)
def test_theorem_1(seed: int, n: int, norm: float, dtype: type) -> None:
    rnn = drawn(seed, n, norm, dtype)
    urnn = unitary_equivalent(rnn, input_bound=2.0)
    x = inputs(seed, 2.0)
    assert is_contractive(rnn)
    assert is_unitary(urnn)
    assert urnn.dtype == dtype
    assert urnn.n == 2 * n
    assert compare(rnn, urnn, x).agree
    # Products summed in one order: not a bit differs, and the new block is exactly 0.
    exact = compare(rnn, urnn, x, summation="ordered")
    assert exact.difference == 0
    assert exact.first_step is None
    _, states = simulate(urnn, x, return_states=True)
    assert (states[..., n:] == 0).all()


@given(seed=seeds, n=st.integers(1, 6), data=st.data())
@settings(max_examples=40)
def test_defect_rank_is_the_cost_and_norm_one_needs_a_horizon(
    seed: int, n: int, data: st.DataObject
) -> None:
    r = data.draw(st.integers(0, n - 1))
    rng = np.random.default_rng(seed)
    P, Q = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
    s = np.ones(n)
    s[:r] = 0.9 * rng.random(r)
    rnn = replace(drawn(seed, n, 0.5), W=(P * s) @ Q)
    urnn = unitary_equivalent(rnn, input_bound=1.0, horizon=60)
    assert urnn.n == n + r
    assert compare(rnn, urnn, inputs(seed, 1.0)).agree
    with pytest.raises(ValueError, match="horizon"):
        unitary_equivalent(rnn, input_bound=1.0)


@given(seed=seeds, n=st.integers(1, 6), norm=st.sampled_from([0.3, 0.99, 1.0, 1.3]), dtype=dtypes)
def test_state_bound_holds(seed: int, n: int, norm: float, dtype: type) -> None:
    rnn = drawn(seed, n, norm, dtype)
    bound = state_bound(rnn, 1.5, horizon=60)
    _, h = simulate(rnn, inputs(seed, 1.5), return_states=True)
    h = np.concatenate([h.reshape(-1, n), rnn.h_init[None]]).astype(np.float64)
    assert (np.linalg.norm(h, axis=1) <= bound.norm).all()
    assert (h <= bound.upper).all()
    assert (h >= bound.lower).all()
    K = np.random.default_rng(seed).standard_normal((3, n))
    assert (h @ K.T <= bound.supremum(K) * (1 + 1e-12) + 1e-12).all()


@given(seed=seeds, n=st.integers(1, 5))
def test_state_bound_covers_every_initial_state_it_is_asked_to(seed: int, n: int) -> None:
    rnn = drawn(seed, n, 0.9)
    bound = state_bound(rnn, 1.0, initial_bound=30.0)
    start = np.random.default_rng(seed).standard_normal(n)
    start *= 30 / np.linalg.norm(start)
    _, h = simulate(replace(rnn, h_init=start), inputs(seed, 1.0), return_states=True)
    assert (np.linalg.norm(h, axis=-1) <= bound.norm).all()
    assert (h <= bound.upper).all()
    assert (start >= bound.lower).all()


def test_state_bound_for_one_unit_by_hand() -> None:
    """h ← ReLU(0.5h + x + 1), |x| ≤ 3: the supremum is (3 + 1)/(1 − 0.5) = 8."""
    one = RNN(W=[[0.5]], F=[[1.0]], b=[1.0], C=[[1.0]], h_init=[0.0])
    bound = state_bound(one, 3.0)
    assert bound.norm == pytest.approx(8, rel=1e-9)
    assert bound.upper[0] == pytest.approx(8, rel=1e-8)
    assert bound.upper[0] >= 8


def test_interval_bound_stays_small_where_the_norm_bound_explodes() -> None:
    nilpotent = RNN(
        W=[[0.0, 5.0], [0.0, 0.0]], F=np.eye(2), b=[0.0, 0.0], C=np.eye(2), h_init=[0.0, 0.0]
    )
    with pytest.raises(ValueError, match="horizon"):
        state_bound(nilpotent, 1.0)
    bound = state_bound(nilpotent, 1.0, horizon=100)
    assert bound.norm > 1e60
    assert bound.upper == pytest.approx([6.0, 1.0], rel=1e-6)


@pytest.mark.parametrize("T", [10, 1000])
def test_exact_arithmetic(T: int) -> None:
    rng = np.random.default_rng(4)
    n = 3 if T == 1000 else 4
    W, U = rational_contraction(n, rng)
    ints = {k: rng.integers(-3, 4, s) for k, s in {"F": (n, 2), "b": (n,), "C": (2, n)}.items()}
    rnn = RNN(W, **ints, h_init=rng.integers(-1, 2, n))
    urnn = unitary_equivalent(rnn, input_bound=np.sqrt(2), dilation=U)
    assert urnn.is_exact
    assert is_unitary(urnn)
    comparison = compare(rnn, urnn, rng.integers(-1, 2, (T, 2)))
    assert comparison.difference == 0
    assert comparison.tolerance == 0
    assert comparison.first_step is None


def test_a_difference_too_small_for_a_float_is_still_seen() -> None:
    one = [[Fraction(1)]]
    a = RNN(one, one, [0], one, [0])
    b = RNN(one, one, [Fraction(1, 10**400)], one, [0])
    comparison = compare(a, b, [[1]])
    assert comparison.difference > 0
    assert comparison.first_step == 0
    assert not comparison.agree


# Necessity: every hypothesis dropped is seen to fail.


def test_a_bias_too_small_breaks_equality() -> None:
    rnn = drawn(0, 4, 0.9)
    urnn = unitary_equivalent(rnn, 2.0)
    b = urnn.b.copy()
    b[4:] = -0.01
    broken = replace(urnn, b=b)
    result = compare(rnn, broken, inputs(0, 2.0))
    assert not result.agree
    assert result.difference > 1e-3


def test_inputs_beyond_the_bound_break_equality() -> None:
    rnn = drawn(1, 4, 0.9)
    urnn = unitary_equivalent(rnn, input_bound=0.01)
    assert compare(rnn, urnn, inputs(1, 0.01)).agree
    assert not compare(rnn, urnn, inputs(1, 1000.0)).agree


def test_initial_states_beyond_the_bound_break_equality() -> None:
    rnn = replace(drawn(1, 4, 0.9), h_init=np.zeros(4))
    far = np.array([1e6, 0, 1e6, 0])
    x = inputs(1, 1.0)
    for bound, agree in ((2e6, True), (0.0, False)):
        urnn = unitary_equivalent(rnn, 1.0, initial_bound=bound)
        moved = replace(urnn, h_init=np.concatenate([far, np.zeros(4)]))
        assert compare(replace(rnn, h_init=far), moved, x).agree is agree


def test_the_horizon_matters() -> None:
    """‖W‖ = 1 and a unit that accumulates, so no bound holds for ever. A chain of 20 units feeds a
    new unit, through 0.6·(its end) − 0.8·(a lone unit), more and more for 20 steps: past the bias
    that suffices for 5."""
    W = np.zeros((23, 23))
    W[0, 0], W[1:21, 1:21] = 1.0, np.eye(20, k=-1)
    W[22, 20], W[22, 21] = 0.8, 0.6
    chain = RNN(W, np.ones((23, 1)), np.ones(23), np.eye(23), np.zeros(23))
    urnn = unitary_equivalent(chain, 1.0, horizon=5)
    x = np.ones((30, 1))
    assert urnn.n == 25
    assert compare(chain, urnn, x[:5]).agree
    assert not compare(chain, urnn, x).agree
    assert compare(chain, unitary_equivalent(chain, 1.0, horizon=30), x).agree


def test_contraction_is_needed() -> None:
    with pytest.raises(NotContractiveError, match="scaling"):
        unitary_equivalent(drawn(0, 4, 1.2), 1.0, horizon=10)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "identity"])
def test_relu_is_needed(activation: str) -> None:
    rnn = drawn(0, 3, 0.9)
    with pytest.raises(ValueError, match=f"relu.*{activation}"):
        unitary_equivalent(replace(rnn, activation=activation), 1.0)
    urnn = unitary_equivalent(rnn, 1.0)
    other = compare(
        replace(rnn, activation=activation),
        replace(urnn, activation=activation),
        inputs(0, 1.0),
    )
    assert not other.agree


@pytest.mark.parametrize(
    ("bound", "error"),
    [
        (None, TypeError),
        ("3", TypeError),
        (True, TypeError),
        (np.ones(2), TypeError),
        (-1.0, ValueError),
        (np.nan, ValueError),
        (np.inf, ValueError),
    ],
)
def test_bad_input_bounds_are_refused(bound: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="input_bound"):
        unitary_equivalent(drawn(0, 2, 0.9), bound)
    with pytest.raises(error, match="input_bound"):
        state_bound(drawn(0, 2, 0.9), bound)


@pytest.mark.wrong_types
@pytest.mark.parametrize("horizon", [0, -1, 2.5, True, "9"])
def test_bad_horizons_are_refused(horizon: object) -> None:
    with pytest.raises(ValueError, match="horizon"):
        unitary_equivalent(drawn(0, 2, 0.9), 1.0, horizon=horizon)


@pytest.mark.wrong_types
def test_bad_dilations_and_scales_are_refused() -> None:
    rnn = drawn(0, 2, 0.9)
    U = unitary_equivalent(rnn, 1.0).W
    for bad, message in (
        (U[:3], "shape"),
        (2 * U, "leading block"),
        (np.where(np.arange(16).reshape(4, 4) == 15, 9.0, U), "not orthogonal"),
    ):
        with pytest.raises(ValueError, match=message):
            unitary_equivalent(rnn, 1.0, dilation=bad)
    with pytest.raises(TypeError, match="dtype"):
        unitary_equivalent(rnn, 1.0, dilation=U.astype(np.float32))
    for scale in (np.ones(3), np.array([1.0, -1.0]), np.array([1.0, np.inf])):
        with pytest.raises(ValueError, match="scale"):
            unitary_equivalent(rnn, 1.0, scale=scale)


def test_compare_refuses_networks_that_cannot_be_compared() -> None:
    a = drawn(0, 2, 0.9)
    with pytest.raises(ValueError, match="outputs"):
        compare(a, replace(a, C=a.C[:1]), inputs(0, 1.0))
    with pytest.raises(TypeError, match="astype"):
        compare(a, a.astype(np.float32), inputs(0, 1.0))


# Scalings (ours).


@given(seed=seeds, n=st.integers(2, 6), norm=st.sampled_from([0.2, 0.9, 0.999]))
@settings(max_examples=40)
def test_one_state_saved_by_scaling(seed: int, n: int, norm: float) -> None:
    rnn = drawn(seed, n, norm)
    urnn = unitary_equivalent(rnn, 1.0, scale=unit_norm_scaling(rnn.W))
    assert urnn.n <= 2 * n - 1
    assert is_unitary(urnn)
    y = simulate(rnn, inputs(seed, 1.0))
    z = simulate(urnn, inputs(seed, 1.0))
    # D⁻¹ in C and D in F amplify rounding by at most the spread of D.
    d = unit_norm_scaling(rnn.W)
    tolerance = compare(rnn, rnn, inputs(seed, 1.0)).tolerance * d.max() / d.min()
    assert np.abs(y - z).max() <= tolerance


@given(seed=seeds)
@settings(max_examples=25)
def test_balance_makes_contractive_what_can_be(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hidden = drawn(seed, 4, 0.8)
    d = np.exp(2 * rng.standard_normal(4))
    rnn = RNN(d[:, None] * hidden.W / d, d[:, None] * hidden.F, d * hidden.b, hidden.C / d,
              d * hidden.h_init)  # fmt: skip
    balanced = balance(rnn)
    assert spectral_norm(balanced) <= min(0.8, spectral_norm(rnn)) + 1e-3
    urnn = unitary_equivalent(balanced, 1.0)
    np.testing.assert_allclose(
        simulate(urnn, inputs(seed, 1.0)), simulate(hidden, inputs(seed, 1.0)), rtol=1e-9, atol=1e-9
    )


def test_balance_refuses() -> None:
    with pytest.raises(NotContractiveError, match="no diagonal scaling helps"):
        balance(drawn(0, 3, 50.0))
    with pytest.raises(ValueError, match="tanh"):
        balance(replace(drawn(0, 3, 0.5), activation="tanh"))
    assert minimal_scaling(np.eye(2)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("dtype", "norm"), [(np.float64, 1.0), (np.float32, 1.0)])
def test_horizon_bound_outweighs_the_rounding_of_a_long_sum(dtype: type, norm: float) -> None:
    """1 + 1e-11 minus 1, as (‖W‖ᵀ − 1)/(‖W‖ − 1) computes it, would lose the margin."""
    one = RNN([[norm]], [[1.0]], [0.0], [[1.0]], [0.0]).astype(dtype)
    for X in (1e-30, 0.7, 0.9):  # in float64 the last two drift upwards, by 4e-14
        h = simulate(one, np.full((2000, 1), X))
        bound = state_bound(one, X, horizon=2000)
        assert h.max() <= bound.norm
        assert h.max() <= bound.upper[0]


@pytest.mark.parametrize("tiny", [1e-170, 1e-300, 1e-308, 1e-320])
def test_bound_of_parameters_whose_squares_underflow(tiny: float) -> None:
    rnn = drawn(5, 3, 0.9)
    rnn = replace(rnn, F=rnn.F * tiny, b=rnn.b * tiny, h_init=rnn.h_init * tiny)
    urnn = unitary_equivalent(rnn, 1.0)
    _, states = simulate(urnn, inputs(5, 1.0), return_states=True)
    assert (states[..., 3:] == 0).all()
    assert (states[..., :3] > 0).any()


def test_what_overflows_is_refused_and_says_so() -> None:
    rnn = drawn(0, 3, 0.5)
    with pytest.raises(ValueError, match=r"the bound exceeds 1\.8e308"):
        state_bound(rnn, 1e308)
    with pytest.raises(ValueError, match=r"the bound exceeds 1\.8e308"):
        state_bound(replace(rnn, W=2 * np.eye(3)), 1.0, horizon=5000)
    with pytest.raises(ValueError, match="input_bound is 1000"):
        state_bound(rnn, 10**400)
    with pytest.raises(ValueError, match="past the range of float32"):
        unitary_equivalent(rnn.astype(np.float32), 1e39)
    one = RNN([[0.5]], [[1.0]], [0.0], [[1.0]], [0.0]).astype(np.float32)
    with pytest.raises(ValueError, match="1 positive numbers within the range of float32"):
        unitary_equivalent(one, 1.0, scale=np.array([1e-50]))
    W, _ = rational_contraction(2, np.random.default_rng(0))
    big = RNN(W, [[1], [1]], [10**400, 0], [[1, 1]], [0, 0])
    with pytest.raises(ValueError, match="exceeds"):
        state_bound(big, 1.0)


def test_exact_network_takes_an_exact_scale() -> None:
    """DWD⁻¹ with rational D has an exact dilation where W is rational: here the shift ½ → 1."""
    half = RNN(
        [[0, Fraction(1, 2)], [0, 0]], F=[[1, 0], [0, 1]], b=[1, -1], C=[[1, 2]], h_init=[0, 3]
    )
    U = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=object)
    urnn = unitary_equivalent(half, 1.0, scale=[Fraction(2), Fraction(1)], dilation=U)
    x = np.random.default_rng(0).integers(-1, 2, (50, 1)) * np.array([[1, 0]])
    assert urnn.is_exact
    assert urnn.n == 3
    assert compare(half, urnn, x).difference == 0


def test_ordered_sums_differ_in_no_bit_not_even_a_sign_of_zero() -> None:
    rnn = RNN(-0.5 * np.eye(2), np.eye(2), [-1.0, -1.0], [[-1.0, -2.0]], [0.0, 0.0])
    x = np.zeros((5, 2))
    y, z = (simulate(a, x, summation="ordered") for a in (rnn, unitary_equivalent(rnn, 1.0)))
    assert y.tobytes() == z.tobytes()


@pytest.mark.parametrize(
    "W",
    [
        [[0.5, 1e8], [0.0, 0.5]],
        [[0.1, 1e100], [1e-101, 0.1]],
        (0.9 * np.eye(6) + 50 * np.eye(6, k=1)).tolist(),
        [[0.0, 0.0], [0.0, 0.0]],
    ],
)
def test_balance_goes_as_far_as_a_matrix_needs(W: list[list[float]]) -> None:
    n = len(W)
    rnn = RNN(W, np.ones((n, 1)), np.zeros(n), np.ones((1, n)), np.zeros(n))
    assert is_contractive(balance(rnn))
