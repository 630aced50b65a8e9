"""The recurrent network Θ = (W, F, b, C, h₋₁) and its input-output mapping y = G(x, Θ).

    h⁽ᵏ⁾ = φ(W h⁽ᵏ⁻¹⁾ + F x⁽ᵏ⁾ + b),    y⁽ᵏ⁾ = C h⁽ᵏ⁾,    k = 0, …, T − 1.

NumPy only. One code path serves float32, float64 and exact rationals (object arrays of
`fractions.Fraction`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, Literal, overload

import numpy as np
from jaxtyping import Bool, Float, Shaped

Array = np.ndarray
Summation = Literal["blas", "ordered"]


def _relu(z: Array) -> Array:
    zero = Fraction(0) if z.dtype == object else 0
    return np.asarray(np.maximum(z, np.full(1, zero, dtype=z.dtype)))


def _sigmoid(z: Array) -> Array:
    # exp(-|z|) never overflows and keeps full relative accuracy in the tail e^z of z → −∞.
    e = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1 / (1 + e), e / (1 + e)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda z: z,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
}
EXACT_ACTIVATIONS = ("identity", "relu")  # those that map rationals to rationals


def as_exact(name: str, a: Array) -> Array:
    """Object array of Fractions from an array of Fractions and integers; floats are refused."""
    out = np.empty(a.shape, dtype=object)
    for i, v in np.ndenumerate(a):
        if isinstance(v, bool) or not isinstance(v, int | np.integer | Fraction):
            raise TypeError(
                f"{name}{list(i)} is {v!r} ({type(v).__name__}); exact arithmetic takes "
                "fractions.Fraction or int. Fraction(x) is the exact value of a float x."
            )
        out[i] = Fraction(int(v)) if isinstance(v, np.integer) else Fraction(v)
    return out


def as_array(name: str, a: object) -> Array:
    """An array of whatever dtype; the error for rows of different lengths names the parameter."""
    try:
        return np.asarray(a)
    except ValueError as error:
        raise ValueError(f"{name} is no array: {error}") from None


def as_float(name: str, a: Array, dtype: np.dtype[Any]) -> Array:
    """A copy of an array of real numbers in a float dtype, every entry finite in it."""
    if a.dtype.kind not in "fiu":
        raise TypeError(f"{name} has dtype {a.dtype}; allowed: real numbers, as {dtype}.")
    with np.errstate(over="ignore"):  # an overflow becomes inf and is reported just below
        out = np.array(a, dtype=dtype)
    if not np.isfinite(out).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(out))[0])
        raise ValueError(
            f"{name}{list(where)} is {a[where]}; every entry must be finite, as {dtype}."
        )
    return out


@dataclass(frozen=True, eq=False)
class RNN:
    """A recurrent network Θ = (W, F, b, C, h₋₁, φ): frozen, validated, with read-only arrays.

    Parameters
    ----------
    W : array, shape (n, n), recurrent matrix.
    F : array, shape (n, m), input matrix.
    b : array, shape (n,), bias.
    C : array, shape (p, n), output matrix.
    h_init : array, shape (n,), the state h₋₁ before the first input.
    activation : "identity", "relu", "sigmoid" (logistic) or "tanh", applied entrywise.

    All arrays share one dtype: float32, float64, or object, when each entry is a
    `fractions.Fraction` or an int and the arithmetic is exact. Arrays of integers take the dtype of
    the others, float64 if there is none.

    Raises
    ------
    ValueError : for a wrong shape, a size of 0, a non-finite entry or an unknown activation.
    TypeError : for another dtype, mixed dtypes, or an activation that has no exact values.

    References
    ----------
    Emami et al. (2019), "Background".

    Examples
    --------
    >>> rnn = RNN(W=[[0.5]], F=[[1.0]], b=[0.0], C=[[2.0]], h_init=[0.0])
    >>> simulate(rnn, [[1.0], [0.0], [-4.0]]).ravel().tolist()
    [2.0, 1.0, 0.0]
    """

    W: Shaped[Array, "n n"]
    F: Shaped[Array, "n m"]
    b: Shaped[Array, " n"]
    C: Shaped[Array, "p n"]
    h_init: Shaped[Array, " n"]
    activation: str = "relu"

    def __post_init__(self) -> None:
        if self.activation not in tuple(ACTIVATIONS):
            raise ValueError(
                f"activation is {self.activation!r}; allowed: {', '.join(ACTIVATIONS)}."
            )
        given = {f.name: as_array(f.name, getattr(self, f.name)) for f in fields(self)[:-1]}
        kinds = {name: a.dtype for name, a in given.items() if a.dtype.kind not in "iu"}
        first, dtype = next(iter(kinds.items()), ("W", np.dtype(np.float64)))
        exact = dtype.kind == "O"
        for name, kind in kinds.items():
            if kind not in (np.dtype(np.float32), np.dtype(np.float64), np.dtype(object)):
                raise TypeError(
                    f"{name} has dtype {kind}; allowed: float32, float64, or exact Fractions."
                )
            if kind != dtype:
                raise TypeError(
                    f"{first} is {dtype} but {name} is {kind}; cast all parameters to one dtype."
                )
        for name, a in given.items():
            given[name] = as_exact(name, a) if exact else as_float(name, a, dtype)
        if given["W"].ndim != 2 or given["W"].shape[0] != given["W"].shape[1]:
            raise ValueError(f"W has shape {given['W'].shape}; it must be square, (n, n).")
        n = given["W"].shape[0]
        expected = {"F": (n, "m"), "b": (n,), "C": ("p", n), "h_init": (n,)}
        for name, shape in expected.items():
            a = given[name]
            if a.ndim != len(shape) or any(
                isinstance(want, int) and got != want
                for got, want in zip(a.shape, shape, strict=True)
            ):
                raise ValueError(
                    f"{name} has shape {a.shape}; with W of shape ({n}, {n}) it must be "
                    f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})."
                )
        for name, a in given.items():
            if 0 in a.shape:
                raise ValueError(f"{name} has shape {a.shape}; every size must be at least 1.")
        if exact and self.activation not in EXACT_ACTIVATIONS:
            raise TypeError(
                f"activation {self.activation!r} has irrational values; exact arithmetic allows "
                f"{' and '.join(EXACT_ACTIVATIONS)}. Use float64, or companion.theory.certificate "
                "for balls."
            )
        for name, a in given.items():
            a.flags.writeable = False
            object.__setattr__(self, name, a)

    @property
    def n(self) -> int:
        """Number of states."""
        return int(self.W.shape[0])

    @property
    def m(self) -> int:
        """Number of inputs."""
        return int(self.F.shape[1])

    @property
    def p(self) -> int:
        """Number of outputs."""
        return int(self.C.shape[0])

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32, float64 or object (exact)."""
        return self.W.dtype

    @property
    def is_exact(self) -> bool:
        """Whether the arithmetic is over the rationals."""
        return bool(self.dtype == object)

    def astype(self, dtype: type | np.dtype[Any] | str) -> RNN:
        """The same network in another dtype; a float becomes the Fraction that it is exactly."""
        target = np.dtype(dtype)

        def cast(a: Array) -> Array:
            if target.kind == "O" and a.dtype.kind != "O":
                return np.array([Fraction(float(v)) for v in a.flat], dtype=object).reshape(a.shape)
            return np.asarray(a.astype(target))

        arrays = {f.name: cast(getattr(self, f.name)) for f in fields(self)[:-1]}
        return RNN(**arrays, activation=self.activation)


def ordered_matmul(a: Shaped[Array, "... n"], B: Shaped[Array, "n p"]) -> Shaped[Array, "... p"]:
    """``a @ B`` summed over n from first to last, one product at a time, one rounding each.

    BLAS chooses its own order, which depends on the shape, so appending zeros can change the last
    bits of ``a @ B``. Here it cannot: that is what "equal bit for bit" is measured with. It starts
    from +0, so that no sum is −0, which an appended +0 would turn into +0.
    """
    out: Array = 0 + a[..., :1] * B[0]
    for j in range(1, B.shape[0]):
        out = out + a[..., j : j + 1] * B[j]
    return out


@overload
def simulate(
    rnn: RNN,
    x: Shaped[Array, "*batch T m"] | list[Any],
    *,
    return_states: Literal[False] = False,
    summation: Summation = "blas",
) -> Shaped[Array, "*batch T p"]: ...
@overload
def simulate(
    rnn: RNN,
    x: Shaped[Array, "*batch T m"] | list[Any],
    *,
    return_states: Literal[True],
    summation: Summation = "blas",
) -> tuple[Shaped[Array, "*batch T p"], Shaped[Array, "*batch T n"]]: ...
def simulate(
    rnn: RNN,
    x: Shaped[Array, "*batch T m"] | list[Any],
    *,
    return_states: bool = False,
    summation: Summation = "blas",
) -> Array | tuple[Array, Array]:
    """The input-output mapping y = G(x, Θ).

    Parameters
    ----------
    rnn : the network Θ.
    x : array, shape (T, m) or (batch, T, m), T ≥ 1; converted to the dtype of ``rnn``. An exact
        network takes Fractions and ints only.
    return_states : also return h⁽⁰⁾, …, h⁽ᵀ⁻¹⁾.
    summation : "blas", fast; or "ordered", products summed from first to last (`ordered_matmul`).

    Returns
    -------
    y : array of the dtype of ``rnn``, shape (T, p) or (batch, T, p).
    h : only with ``return_states``: array, shape (T, n) or (batch, T, n).

    Raises
    ------
    ValueError : for a wrong shape, a non-finite entry or an unknown summation.
    TypeError : for an input that cannot be taken into the arithmetic of ``rnn``.

    Examples
    --------
    >>> from fractions import Fraction
    >>> third = RNN(W=[[Fraction(1, 3)]], F=[[Fraction(1)]], b=[0], C=[[1]], h_init=[0])
    >>> simulate(third, [[Fraction(1)], [Fraction(1, 2)]])[1, 0]
    Fraction(5, 6)
    """
    if summation not in ("blas", "ordered"):
        raise ValueError(f"summation is {summation!r}; allowed: 'blas', 'ordered'.")
    u = as_array("x", x)
    if u.ndim not in (2, 3) or u.shape[-1] != rnn.m or u.size == 0:
        raise ValueError(
            f"x has shape {u.shape}; this network takes (T, {rnn.m}) or (batch, T, {rnn.m}), "
            "T and batch at least 1."
        )
    u = as_exact("x", u) if rnn.is_exact else as_float("x", u, rnn.dtype)
    matmul = np.matmul if summation == "blas" else ordered_matmul
    phi = ACTIVATIONS[rnn.activation]
    W_t = np.ascontiguousarray(rnn.W.T)
    drive = matmul(u, rnn.F.T)
    h = np.broadcast_to(rnn.h_init, (*u.shape[:-2], rnn.n))
    states = np.empty((*u.shape[:-1], rnn.n), dtype=rnn.dtype)
    for k in range(u.shape[-2]):
        h = phi(matmul(h, W_t) + drive[..., k, :] + rnn.b)
        states[..., k, :] = h
    y = matmul(states, rnn.C.T)
    return (y, states) if return_states else y


def _recurrent(rnn_or_W: RNN | Array) -> Array:
    W: Array = rnn_or_W.W if isinstance(rnn_or_W, RNN) else as_array("W", rnn_or_W)
    if W.ndim != 2 or W.shape[0] != W.shape[1] or W.shape[0] == 0:
        raise ValueError(f"W has shape {W.shape}; it must be square, (n, n), n ≥ 1.")
    if W.dtype.kind not in "fiuO":
        raise TypeError(f"W has dtype {W.dtype}; allowed: real numbers.")
    if W.dtype != object and not np.isfinite(W).all():
        raise ValueError("W has entries that are not finite.")
    return W


def eps_of(a: Array) -> float:
    """Rounding unit (spacing at 1) of a float array; 0.0 for an exact one, which never rounds."""
    return float(np.finfo(a.dtype).eps) if a.dtype.kind == "f" else 0.0


def spectral_norm(rnn: RNN | Array) -> float:
    """‖W‖₂, the largest singular value, of a network or a square matrix, in float64."""
    return float(np.linalg.norm(_recurrent(rnn).astype(np.float64), 2))


def is_contractive(rnn: RNN | Array) -> bool:
    """Whether ‖W‖₂ < 1.

    Floats: ‖W‖₂ < 1 − 10·n·eps, below 1 by more than the rounding in W and in its norm. Exact
    matrices: I − WᵀW ≻ 0 decided over the rationals, by the pivots of its elimination.
    """
    W = _recurrent(rnn)
    if W.dtype != object:
        return spectral_norm(W) < 1 - 10 * int(W.shape[0]) * eps_of(W)
    A: Array = np.eye(W.shape[0], dtype=int) - W.T @ W
    for k in range(A.shape[0]):
        if A[k, k] <= 0:
            return False
        A[k + 1 :, k:] = A[k + 1 :, k:] - np.outer(A[k + 1 :, k] / A[k, k], A[k, k:])
    return True


def is_unitary(rnn: RNN | Array) -> bool:
    """Whether WᵀW = I: ‖WᵀW − I‖₂ ≤ 10·n·eps of the dtype; exactly, for exact matrices.

    The bound is the rounding of n-term inner products of unit columns, with a margin, as
    `torch.nn.utils.parametrizations.orthogonal` takes it.
    """
    W = _recurrent(rnn)
    if W.dtype == object:
        return not (W.T @ W - np.eye(W.shape[0], dtype=int)).any()
    return orthogonality_error(W) <= 10 * int(W.shape[0]) * eps_of(W)


def orthogonality_error(rnn: RNN | Array) -> float:
    """‖WᵀW − I‖₂, with the product formed in float64 (float input) or exactly (exact input)."""
    W = _recurrent(rnn)
    W = W if W.dtype == object else W.astype(np.float64)
    return float(np.linalg.norm((W.T @ W - np.eye(W.shape[0], dtype=int)).astype(np.float64), 2))


def _is_monomial(T: Shaped[Array, "n n"]) -> bool:
    """Whether T has just one entry other than 0 in each row and column."""
    nonzero: Bool[Array, "n n"] = T != 0
    return bool((nonzero.sum(0) == 1).all() and (nonzero.sum(1) == 1).all())


def commutes_with(activation: str, T: Shaped[Array, "n n"]) -> bool:
    """Whether T φ(z) = φ(T z) for every z, so that T carries states of one network to another's.

    identity: any T. relu: T = PD, P a permutation, D a positive diagonal. tanh: signed
    permutations. sigmoid: permutations (a sign flip would need an output bias).
    """
    monomial, values = _is_monomial(T), T[T != 0]
    return {
        "identity": True,
        "relu": monomial and bool((values > 0).all()),
        "tanh": monomial and bool((abs(values) == 1).all()),
        "sigmoid": monomial and bool((values == 1).all()),
    }[activation]


def inverse(T: Shaped[Array, "n n"]) -> Shaped[Array, "n n"]:
    """T⁻¹, by LAPACK for floats and exactly for Fractions; entry by entry for PD, D of any scale.

    Raises
    ------
    ValueError : if T is singular (floats: if its condition number exceeds 1 / (n·eps)).
    """
    n = T.shape[0]
    if _is_monomial(T):
        out = T.T.copy()
        out[out != 0] = 1 / out[out != 0]
        return out
    if T.dtype == object:
        from flint import fmpq, fmpq_mat  # exact linear algebra; not needed by float readers

        A = fmpq_mat(n, n, [fmpq(v.numerator, v.denominator) for v in T.flat])
        if A.det() == 0:
            raise ValueError("T is singular; a similarity needs an invertible matrix.")
        entries = [Fraction(int(q.p), int(q.q)) for q in A.inv().entries()]
        return np.array(entries, dtype=object).reshape(n, n)
    if not np.linalg.cond(T) * n * eps_of(T) < 1:
        raise ValueError(
            f"T has condition number {np.linalg.cond(T):.3g}, singular to {T.dtype} precision; "
            "a similarity needs an invertible matrix."
        )
    return np.asarray(np.linalg.inv(T), dtype=T.dtype)


def similarity(rnn: RNN, T: Shaped[Array, "n n"], *, check: bool = True) -> RNN:
    """The equivalent network (T W T⁻¹, T F, T b, C T⁻¹, T h₋₁), whose states are T h.

    G is unchanged when T commutes with φ (`commutes_with`): any invertible T for the identity,
    T = PD for ReLU, signed permutations for tanh, permutations for the logistic function.

    Parameters
    ----------
    rnn : the network.
    T : array, shape (n, n), invertible, converted to the dtype of ``rnn``.
    check : refuse a T that does not commute with φ. With False the formula is applied all the
        same, which in general changes G: for showing exactly that.

    Returns
    -------
    The transformed network, same dtype and activation.

    Raises
    ------
    ValueError : for a wrong shape, a singular T, or (``check``) a T that does not commute with φ.

    References
    ----------
    Emami et al. (2019), "Equivalence of RNNs", for the identity; the classes of T for the other
    activations are this project's remark.
    """
    T = as_array("T", T)
    if T.shape != rnn.W.shape:
        raise ValueError(f"T has shape {T.shape}; it must be {rnn.W.shape}, as W.")
    T = as_exact("T", T) if rnn.is_exact else as_float("T", T, rnn.dtype)
    if check and not commutes_with(rnn.activation, T):
        raise ValueError(
            f"T does not commute with {rnn.activation}, so G would change; allowed: "
            + {
                "relu": "a permutation times a positive diagonal matrix",
                "tanh": "a signed permutation",
                "sigmoid": "a permutation",
            }[rnn.activation]
            + ". check=False applies the formula all the same."
        )
    T_inv = inverse(T)
    return RNN(
        T @ rnn.W @ T_inv, T @ rnn.F, T @ rnn.b, rnn.C @ T_inv, T @ rnn.h_init, rnn.activation
    )


def random_rnn(
    n: int,
    *,
    inputs: int,
    outputs: int,
    norm: float,
    rng: np.random.Generator,
    activation: str = "relu",
    dtype: type | str = np.float64,
) -> RNN:
    """A Gaussian network whose recurrent matrix is scaled to ‖W‖₂ = ``norm``.

    F, b and C have i.i.d. standard normal entries, h₋₁ their absolute values (a ReLU state is
    non-negative). Drawn in float64 and then cast, so that a seed names one network in any dtype.

    Examples
    --------
    >>> rnn = random_rnn(4, inputs=2, outputs=3, norm=0.9, rng=np.random.default_rng(0))
    >>> rnn.W.shape, round(spectral_norm(rnn), 12)
    ((4, 4), 0.9)
    """
    for name, size in {"n": n, "inputs": inputs, "outputs": outputs}.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be at least 1.")
    if not 0 <= norm < np.inf:
        raise ValueError(f"norm is {norm}; it must be finite and at least 0.")
    W: Float[Array, "n n"] = rng.standard_normal((n, n))
    W *= norm / np.linalg.norm(W, 2)
    F = rng.standard_normal((n, inputs))
    b = rng.standard_normal(n)
    C = rng.standard_normal((outputs, n))
    h_init = np.abs(rng.standard_normal(n))
    return RNN(W, F, b, C, h_init, activation).astype(dtype)
