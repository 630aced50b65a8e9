"""The model: validation, arithmetic in three dtypes, similarity and what breaks it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion import RNN, is_contractive, is_unitary, random_rnn, similarity, simulate
from companion.theory.network import ACTIVATIONS, ordered_matmul, orthogonality_error, spectral_norm

seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, n: int = 3, **options: object) -> RNN:
    settings = {"inputs": 2, "outputs": 2, "norm": 0.9, **options}
    return random_rnn(n, rng=np.random.default_rng(seed), **settings)


def scalar(**changes: object) -> dict[str, object]:
    return {"W": [[0.5]], "F": [[1.0]], "b": [0.0], "C": [[1.0]], "h_init": [0.0], **changes}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"W": [[0.5, 1.0]]}, ValueError, "W has shape"),
        ({"W": [0.5]}, ValueError, "square"),
        ({"F": [1.0]}, ValueError, "F has shape"),
        ({"F": [[1.0], [1.0]]}, ValueError, "F has shape"),
        ({"b": [0.0, 1.0]}, ValueError, "b has shape"),
        ({"C": [[1.0, 2.0]]}, ValueError, "C has shape"),
        ({"h_init": [[0.0]]}, ValueError, "h_init has shape"),
        ({"F": np.zeros((1, 0))}, ValueError, "at least 1"),
        ({"W": [[np.nan]]}, ValueError, "finite"),
        ({"b": [np.inf]}, ValueError, "finite"),
        ({"W": [[1j]]}, TypeError, "dtype"),
        ({"W": np.float16([[1]])}, TypeError, "dtype"),
        ({"b": np.float32([0])}, TypeError, "one dtype"),
        ({"W": [["a"]]}, TypeError, "dtype"),
        ({"activation": "swish"}, ValueError, "swish"),
        ({"W": np.array([[Fraction(1, 2)]])}, TypeError, "one dtype"),
    ],
)
def test_bad_parameters_are_refused(
    changes: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        RNN(**scalar(**changes))


def test_exact_refuses_floats_and_irrational_activations() -> None:
    exact = {k: np.array(v, dtype=object) for k, v in scalar().items()}
    with pytest.raises(TypeError, match="Fraction"):
        RNN(**exact)
    ones = {k: np.array(np.ones_like(v, dtype=int), dtype=object) for k, v in scalar().items()}
    with pytest.raises(TypeError, match="irrational"):
        RNN(**ones, activation="tanh")
    with pytest.raises(TypeError, match="Fraction"):
        simulate(RNN(**ones), [[0.5]])


def test_frozen() -> None:
    W = np.array([[0.5]])
    rnn = RNN(**scalar(W=W))
    W[0, 0] = 7.0
    assert rnn.W[0, 0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        rnn.W[0, 0] = 1.0
    with pytest.raises(AttributeError):
        rnn.W = W


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_simulate_is_the_recursion(activation: str) -> None:
    rnn = drawn(0, activation=activation)
    x = np.random.default_rng(1).standard_normal((7, 2))
    phi = {
        "identity": lambda z: z,
        "relu": lambda z: max(z, 0.0),
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
        "tanh": np.tanh,
    }[activation]
    h = list(rnn.h_init)
    for k in range(7):
        h = [
            phi(
                sum(rnn.W[i, j] * h[j] for j in range(3))
                + sum(rnn.F[i, j] * x[k, j] for j in range(2))
                + rnn.b[i]
            )
            for i in range(3)
        ]
        y, states = simulate(rnn, x, return_states=True)
        np.testing.assert_allclose(states[k], h, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(y[k], rnn.C @ h, rtol=1e-13, atol=1e-13)


@given(seed=seeds, dtype=st.sampled_from([np.float32, np.float64]))
def test_batch_equals_one_by_one_in_fixed_order(seed: int, dtype: type) -> None:
    rnn = drawn(seed, dtype=dtype)
    x = np.random.default_rng(seed).standard_normal((3, 5, 2))
    y = simulate(rnn, x, summation="ordered")
    assert y.dtype == dtype
    assert y.shape == (3, 5, 2)
    for i in range(3):
        assert (simulate(rnn, x[i], summation="ordered") == y[i]).all()


@given(seed=seeds)
def test_float_arithmetic_follows_exact_arithmetic(seed: int) -> None:
    rnn = drawn(seed)
    x = np.random.default_rng(seed).integers(-3, 4, (6, 2))
    exact = simulate(rnn.astype(object), x)
    assert all(isinstance(v, Fraction) for v in exact.flat)
    np.testing.assert_allclose(simulate(rnn, x), exact.astype(float), rtol=1e-12, atol=1e-12)


@pytest.mark.wrong_types
@pytest.mark.parametrize("shape", [(5,), (5, 3), (0, 2), (1, 2, 5, 2)])
def test_simulate_refuses_wrong_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="x has shape"):
        simulate(drawn(0), np.zeros(shape))


@pytest.mark.wrong_types
def test_simulate_refuses_bad_values() -> None:
    with pytest.raises(ValueError, match="finite"):
        simulate(drawn(0), [[0.0, np.nan]])
    with pytest.raises(ValueError, match="summation"):
        simulate(drawn(0), [[0.0, 0.0]], summation="fast")


def test_sigmoid_keeps_relative_accuracy_in_its_tail() -> None:
    z = np.array([-745.0, -700.0, -40.0, 0.0, 40.0, 800.0])
    value = ACTIVATIONS["sigmoid"](z)
    np.testing.assert_allclose(value[:3], np.exp(z[:3]), rtol=1e-15)
    assert value[3] == 0.5
    assert value[5] == 1.0


@given(seed=seeds)
def test_ordered_sum_ignores_appended_zeros(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, B = rng.standard_normal((4, 5)).astype(np.float32), rng.standard_normal((5, 3))
    more = np.concatenate([a, np.zeros((4, 2), dtype=np.float32)], axis=1)
    B_more = np.concatenate([B, rng.standard_normal((2, 3))])
    assert (ordered_matmul(a, B) == ordered_matmul(more, B_more)).all()


# Similarity: the T that commute with φ leave G alone; the necessity tests show that others do not.


def commuting(activation: str, rng: np.random.Generator, n: int = 3) -> np.ndarray:
    P = np.eye(n)[rng.permutation(n)]
    return {
        "identity": np.linalg.qr(rng.standard_normal((n, n)))[0] @ np.diag(rng.uniform(0.5, 2, n)),
        "relu": P * rng.uniform(0.5, 2, n),
        "tanh": P * rng.choice([-1.0, 1.0], n),
        "sigmoid": P,
    }[activation]


@given(seed=seeds, activation=st.sampled_from(sorted(ACTIVATIONS)))
def test_similarity_keeps_the_mapping(seed: int, activation: str) -> None:
    rng = np.random.default_rng(seed)
    rnn = drawn(seed, activation=activation)
    other = similarity(rnn, commuting(activation, rng))
    x = rng.standard_normal((20, 2))
    scale = np.abs(simulate(rnn, x)).max() + 1
    np.testing.assert_allclose(simulate(other, x), simulate(rnn, x), atol=1e-12 * scale)


@pytest.mark.parametrize(
    ("activation", "T"),
    [
        ("relu", [[1, 1, 0], [0, 1, 0], [0, 0, 1]]),
        ("relu", [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        ("tanh", [[2, 0, 0], [0, 1, 0], [0, 0, 1]]),
        ("sigmoid", [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    ],
)
def test_similarity_that_does_not_commute_changes_the_mapping(
    activation: str, T: list[list[int]]
) -> None:
    rnn = drawn(3, activation=activation)
    with pytest.raises(ValueError, match="commute"):
        similarity(rnn, np.array(T))
    x = np.random.default_rng(0).standard_normal((20, 2))
    other = similarity(rnn, np.array(T), check=False)
    assert np.abs(simulate(other, x) - simulate(rnn, x)).max() > 1e-3


def test_similarity_exact() -> None:
    rng = np.random.default_rng(5)
    rnn = drawn(5, activation="identity").astype(object)
    T = rng.integers(-3, 4, (3, 3)) + 10 * np.eye(3, dtype=int)
    x = rng.integers(-3, 4, (6, 2))
    assert (simulate(similarity(rnn, T), x) == simulate(rnn, x)).all()
    with pytest.raises(ValueError, match="singular"):
        similarity(rnn, np.zeros((3, 3), dtype=int))


def test_similarity_refuses_singular_and_misshapen() -> None:
    rnn = drawn(0, activation="identity")
    with pytest.raises(ValueError, match="singular"):
        similarity(rnn, np.ones((3, 3)))
    with pytest.raises(ValueError, match="shape"):
        similarity(rnn, np.eye(2))


# Norms.


@given(seed=seeds, n=st.integers(1, 8), norm=st.sampled_from([0.0, 0.3, 0.999999]))
def test_contractive_in_floats_and_exactly(seed: int, n: int, norm: float) -> None:
    rnn = drawn(seed, n, norm=norm)
    assert spectral_norm(rnn) == pytest.approx(norm, abs=1e-14)
    assert is_contractive(rnn)
    assert is_contractive(rnn.astype(object))
    assert not is_unitary(rnn)
    assert not is_contractive(drawn(seed, n, norm=1.001))
    assert not is_contractive(drawn(seed, n, norm=1.001).astype(object))


def test_exact_norm_decides_what_floats_cannot() -> None:
    almost = np.array([[1 - Fraction(1, 10**30)]], dtype=object)
    assert is_contractive(almost)
    assert not is_contractive(almost.astype(float))
    assert not is_unitary(almost)
    rotation = np.array([[Fraction(3, 5), Fraction(4, 5)], [Fraction(-4, 5), Fraction(3, 5)]])
    assert is_unitary(rotation)
    assert not is_contractive(rotation)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 10, 300])
def test_unitary_at_the_precision_of_the_dtype(n: int, dtype: type) -> None:
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0].astype(dtype)
    assert is_unitary(Q)
    Q[0, 0] += 100 * n * np.finfo(dtype).eps
    assert not is_unitary(Q)
    assert orthogonality_error(Q) > 10 * n * np.finfo(dtype).eps


def test_random_rnn_is_the_seed_s_in_every_dtype() -> None:
    a, b = drawn(7), drawn(7, dtype=np.float32)
    assert (a.W.astype(np.float32) == b.W).all()
    assert (a.astype(object).W.astype(float) == a.W).all()
    with pytest.raises(ValueError, match="norm"):
        drawn(0, norm=-1.0)


def test_integers_take_the_dtype_of_the_others() -> None:
    half = np.float32([[0.5]])
    assert RNN(half, [[1]], [0], [[1]], [0]).dtype == np.float32
    assert RNN([[0]], half, [0], [[1]], [0]).dtype == np.float32
    assert RNN([[0]], [[1]], [0], [[1]], [0]).dtype == np.float64
    assert RNN([[0]], [[Fraction(1, 2)]], [0], [[1]], [0]).is_exact


def test_refusals_name_what_was_given() -> None:
    good: dict[str, object] = {
        "W": [[0.5]],
        "F": [[1.0]],
        "b": [0.0],
        "C": [[1.0]],
        "h_init": [0.0],
    }
    with pytest.raises(ValueError, match="W is no array"):
        RNN(**(good | {"W": [[1.0, 2.0], [3.0]]}))
    with pytest.raises(ValueError, match=r"activation is \['relu'\]"):
        RNN(**(good | {"activation": ["relu"]}))
    rnn = RNN(**good).astype(np.float32)
    with pytest.raises(ValueError, match=r"x\[0, 0\] is 1e\+300"):
        simulate(rnn, [[1e300]])
    with pytest.raises(ValueError, match="batch at least 1"):
        simulate(rnn, np.zeros((0, 3, 1)))
    with pytest.raises(ValueError, match="must be finite"):
        spectral_norm(np.array([[np.nan]]))
    with pytest.raises(ValueError, match="n is 0"):
        random_rnn(0, inputs=1, outputs=1, norm=0.5, rng=np.random.default_rng(0))


def test_exact_states_are_fractions_and_exact_checks_do_not_underflow() -> None:
    exact = RNN([[Fraction(1, 2)]], [[1]], [0], [[1]], [0])
    _, h = simulate(exact, [[-1], [2]], return_states=True)
    assert all(isinstance(v, Fraction) for v in h.flat)
    assert not is_unitary(np.array([[1 + Fraction(1, 10**400)]], dtype=object))


def test_similarity_by_a_diagonal_of_any_scale() -> None:
    rnn = random_rnn(3, inputs=1, outputs=1, norm=0.9, rng=np.random.default_rng(0))
    scaled = similarity(rnn, np.diag([1e100, 1.0, 1e-100])[[1, 2, 0]])
    x = np.random.default_rng(1).standard_normal((50, 1))
    np.testing.assert_allclose(simulate(scaled, x), simulate(rnn, x), rtol=1e-10, atol=1e-12)
