"""Dilations: orthogonal, minimal, at every norm up to exactly 1; scalings; what fails without."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from companion import (
    NotContractiveError,
    defect_rank,
    halmos_dilation,
    is_unitary,
    minimal_scaling,
    orthogonal_dilation,
    rational_contraction,
    spectral_norm,
    unit_norm_scaling,
)
from companion.theory.dilation import scaling_advice
from companion.theory.network import orthogonality_error

seeds = st.integers(0, 2**32 - 1)


def orthogonal(n: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def contraction(n: int, defect: int, top: float, rng: np.random.Generator) -> np.ndarray:
    """n − defect singular values at 1, the rest in [0, top]."""
    s = np.ones(n)
    s[:defect] = top * rng.random(defect)
    return (orthogonal(n, rng) * s) @ orthogonal(n, rng)


@given(
    seed=seeds,
    n=st.integers(1, 12),
    data=st.data(),
    top=st.sampled_from([0.0, 0.5, 0.99, 0.999]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_dilation_is_orthogonal_minimal_and_holds_W(
    seed: int, n: int, data: st.DataObject, top: float, dtype: type
) -> None:
    r = data.draw(st.integers(0, n))
    W = contraction(n, r, top, np.random.default_rng(seed)).astype(dtype)
    U = orthogonal_dilation(W)
    assert U.dtype == dtype
    assert U.shape == (n + r, n + r)
    assert defect_rank(W) == r
    assert (U[:n, :n] == W).all()
    assert is_unitary(U)
    H = halmos_dilation(W)
    assert H.shape == (2 * n, 2 * n)
    assert (H[:n, :n] == W).all()
    assert is_unitary(H)


@given(
    seed=seeds,
    n=st.integers(1, 30),
    exponent=st.integers(1, 17),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_orthogonality_survives_norms_next_to_one(
    seed: int, n: int, exponent: int, dtype: type
) -> None:
    W = np.random.default_rng(seed).standard_normal((n, n))
    W = (W * ((1 - 10.0**-exponent) / np.linalg.norm(W, 2))).astype(dtype)
    assert is_unitary(orthogonal_dilation(W))


def test_a_thousand_states_at_norm_one() -> None:
    rng = np.random.default_rng(0)
    W = rng.standard_normal((1000, 1000))
    for dtype in (np.float32, np.float64):
        assert is_unitary(orthogonal_dilation((W / np.linalg.norm(W, 2)).astype(dtype)))


def test_why_not_a_matrix_square_root() -> None:
    """At the same W the textbook formula with sqrtm of I − WᵀW loses half the digits."""
    W = contraction(8, 4, 0.5, np.random.default_rng(1))
    root = scipy.linalg.sqrtm(np.eye(8) - W.T @ W).real
    other = scipy.linalg.sqrtm(np.eye(8) - W @ W.T).real
    textbook = np.block([[W, other], [root, -W.T]])
    assert orthogonality_error(textbook) > 1e5 * orthogonality_error(halmos_dilation(W))


def test_smaller_than_minimal_is_impossible() -> None:
    """Interlacing: an orthogonal matrix of size N has a leading n × n block with 2n − N ones."""
    rng = np.random.default_rng(2)
    for n, N in ((4, 5), (4, 7), (6, 9)):
        assert defect_rank(orthogonal(N, rng)[:n, :n]) == N - n


def test_not_a_contraction_is_refused_with_advice() -> None:
    with pytest.raises(NotContractiveError, match=r"‖W‖₂ is 1\.5.*no diagonal scaling helps"):
        orthogonal_dilation(1.5 * np.eye(2))
    with pytest.raises(NotContractiveError, match=r"brings it down to 0\.5"):
        orthogonal_dilation(np.array([[0.5, 3.0], [0.0, 0.5]]))
    rotation = np.array([[0.8, 0.8], [-0.8, 0.8]])  # ρ = 1.13; and one where ρ < 1 < every norm
    assert "no diagonal scaling helps" in scaling_advice(rotation)[0]
    signs = 0.75 * np.array([[1.0, 1.0], [-1.0, 0.0]])
    assert "leaves" in scaling_advice(signs)[0]


def test_just_above_one_counts_as_one() -> None:
    Q = orthogonal(16, np.random.default_rng(3))
    assert orthogonal_dilation(Q * (1 + 1e-15)).shape == (16, 16)
    with pytest.raises(NotContractiveError):
        orthogonal_dilation(Q * (1 + 1e-13))


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("W", "error", "message"),
    [
        (np.zeros((2, 3)), ValueError, "square"),
        (np.zeros((0, 0)), ValueError, "square"),
        (np.array([[np.nan]]), ValueError, "finite"),
        (np.array([[1j]]), TypeError, "complex"),
        (np.array([[1]], dtype=object), TypeError, "rational_contraction"),
        (np.float16([[0.5]]), TypeError, "float16"),
    ],
)
def test_bad_matrices_are_refused(W: np.ndarray, error: type[Exception], message: str) -> None:
    for function in (orthogonal_dilation, halmos_dilation, defect_rank):
        with pytest.raises(error, match=message):
            function(W)


@given(seed=seeds, n=st.integers(1, 7), data=st.data())
@settings(max_examples=50)
def test_rational_contraction_is_exact(seed: int, n: int, data: st.DataObject) -> None:
    r = data.draw(st.integers(0, n))
    W, U = rational_contraction(n, np.random.default_rng(seed), defect=r)
    assert is_unitary(U)
    assert (U[:n, :n] == W).all()
    assert defect_rank(W.astype(float)) == r
    again, _ = rational_contraction(n, np.random.default_rng(seed), defect=r)
    assert (again == W).all()


def test_rational_contraction_refuses() -> None:
    for n, defect, message in ((0, None, "n is 0"), (3, 4, "defect is 4"), (3, -1, "defect is")):
        with pytest.raises(ValueError, match=message):
            rational_contraction(n, np.random.default_rng(0), defect=defect)


# Scalings (ours).


@given(seed=seeds, n=st.integers(1, 6))
@settings(max_examples=30)
def test_minimal_scaling_reaches_the_perron_root_of_positive_matrices(seed: int, n: int) -> None:
    W = np.random.default_rng(seed).uniform(0.1, 1.0, (n, n))
    d = minimal_scaling(W)
    radius = np.abs(np.linalg.eigvals(W)).max()
    assert spectral_norm(d[:, None] * W / d) == pytest.approx(radius, rel=1e-6)


@given(seed=seeds, n=st.integers(2, 5))
@settings(max_examples=20)
def test_minimal_scaling_is_a_minimum(seed: int, n: int) -> None:
    """No random move improves it by more than the smoothing leaves, log(n)/8192."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((n, n))
    d = minimal_scaling(W)
    least = spectral_norm(d[:, None] * W / d)
    assert least <= spectral_norm(W)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        e = d * np.exp(size * rng.standard_normal(n))
        assert spectral_norm(e[:, None] * W / e) > least * (1 - np.log(n) / 8192)


@given(seed=seeds, n=st.integers(2, 8), norm=st.sampled_from([0.1, 0.9, 0.9999]))
def test_unit_norm_scaling_saves_a_state(seed: int, n: int, norm: float) -> None:
    W = np.random.default_rng(seed).standard_normal((n, n))
    W *= norm / np.linalg.norm(W, 2)
    d = unit_norm_scaling(W)
    scaled = d[:, None] * W / d
    assert spectral_norm(scaled) == pytest.approx(1, abs=4 * n * np.finfo(float).eps)
    assert defect_rank(scaled) <= n - 1


def test_unit_norm_scaling_needs_an_off_diagonal_entry() -> None:
    with pytest.raises(ValueError, match="diagonal"):
        unit_norm_scaling(np.diag([0.5, 0.9]))
    with pytest.raises(NotContractiveError):
        unit_norm_scaling(np.array([[0.5, 3.0], [0.0, 0.5]]))
    assert unit_norm_scaling(np.eye(2)).tolist() == [1.0, 1.0]
    W = np.random.default_rng(3).standard_normal((3, 3))
    W = (W / np.linalg.norm(W, 2)).astype(np.float32)  # of norm 1, as far as float32 can tell
    assert unit_norm_scaling(W).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("small", [1e-9, 1e-30, 1e-200])
def test_unit_norm_scaling_of_a_nearly_diagonal_matrix(small: float) -> None:
    W = np.array([[0.5, small], [0.0, 0.3]])
    d = unit_norm_scaling(W)
    assert defect_rank(d[:, None] * W / d) == 1


def test_minimal_scaling_at_the_ends_of_the_range() -> None:
    W = np.array([[0.0, 4.0], [1.0, 0.0]])
    for factor in (5e-324, 1e-200, 1e200, 1e305):
        assert np.isfinite(minimal_scaling(factor * W)).all()
    np.testing.assert_allclose(minimal_scaling(1e200 * W), minimal_scaling(W))
    np.testing.assert_array_equal(minimal_scaling(np.zeros((3, 3))), np.ones(3))
    with pytest.raises(ValueError, match=r"spread is 0\.5"):
        minimal_scaling(W, spread=0.5)
