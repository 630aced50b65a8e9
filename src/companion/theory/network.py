"""The recurrent network Θ = (W, F, b, C, h₋₁) and its input-output mapping y = G(x, Θ).

    h⁽ᵏ⁾ = φ(W h⁽ᵏ⁻¹⁾ + F x⁽ᵏ⁾ + b),    y⁽ᵏ⁾ = C h⁽ᵏ⁾,    k = 0, …, T − 1.

NumPy only. One code path serves float32, float64 and exact rationals (object arrays of
`fractions.Fraction`). What enters a network is checked here, once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, overload

import numpy as np
from jaxtyping import Shaped

from companion.theory.arithmetic import Array as Array
from companion.theory.arithmetic import fractions, positive_definite, product
from companion.theory.checks import size_of, whole_number

Inputs = Shaped[Array, "*batch T m"] | list[Any]
Summation = Literal["blas", "ordered"]


def _relu(z: Array) -> Array:
    zero: Any = Fraction(0) if z.dtype == object else 0
    return np.asarray(np.maximum(z, zero))


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
SMOOTH = ("sigmoid", "tanh")  # their derivative is never 0, their values are irrational
SHAPES = {"W": "nn", "F": "nm", "b": "n", "C": "pn", "h_init": "n"}  # of the parameters in Θ
_DTYPES = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(object))


def _as_array(name: str, value: object) -> Array:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is no array: {error}") from None


def as_numbers(name: str, value: object, dtype: np.dtype[Any]) -> Array:
    """Copy real numbers into ``dtype``: finite floats, or Fractions and ints if it is object."""
    a = _as_array(name, value)
    if dtype.kind == "O":
        exact = np.empty(a.shape, dtype=object)
        for i, v in np.ndenumerate(a):
            if isinstance(v, bool) or not isinstance(v, int | np.integer | Fraction):
                raise TypeError(
                    f"{name}{list(i)} is {v!r} ({type(v).__name__}); exact arithmetic takes "
                    "fractions.Fraction or int. Fraction(x) is the exact value of a float x."
                )
            exact[i] = v if isinstance(v, Fraction) else Fraction(int(v))
        return exact
    if a.dtype.kind not in "fiu":
        raise TypeError(f"{name} has dtype {a.dtype}; allowed: real numbers, as {dtype}.")
    with np.errstate(over="ignore"):  # an overflow becomes inf and is reported just below
        out = np.array(a, dtype=dtype)
    if len(wrong := np.argwhere(~np.isfinite(out))):
        at = tuple(wrong[0].tolist())
        raise ValueError(f"{name}{list(at)} is {a[at]}; every entry must be finite, as {dtype}.")
    return out


def _common_dtype(arrays: dict[str, Array]) -> np.dtype[Any]:
    """Find the dtype that all arrays share, integers aside; float64 if there are only integers."""
    kinds = {name: a.dtype for name, a in arrays.items() if a.dtype.kind not in "iu"}
    first, dtype = next(iter(kinds.items()), ("", np.dtype(np.float64)))
    for name, kind in kinds.items():
        if kind not in _DTYPES:
            raise TypeError(f"{name} has dtype {kind}; allowed: float32, float64, exact Fractions.")
        if kind != dtype:
            raise TypeError(f"{first} is {dtype} but {name} is {kind}; cast all to one dtype.")
    return dtype


def _check_shapes(arrays: dict[str, Array]) -> None:
    sizes: dict[str, int] = {}
    for name, letters in SHAPES.items():
        shape = arrays[name].shape
        wanted = ", ".join(str(sizes.get(letter, letter)) for letter in letters)
        fits = len(shape) == len(letters) and 0 not in shape
        pairs = zip(letters, shape, strict=fits)
        if not fits or any(sizes.setdefault(letter, k) != k for letter, k in pairs):
            kind = "square, " if name == "W" else f"with W of shape {arrays['W'].shape} "
            wanted = f"{kind}({wanted}{',' * (len(letters) == 1)}), every size at least 1"
            raise ValueError(f"{name} has shape {shape}; it must be {wanted}.")


@dataclass(frozen=True, eq=False, init=False)
class RNN:
    """Hold a recurrent network Θ = (W, F, b, C, h₋₁, φ): frozen, checked, with read-only arrays.

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

    def __init__(
        self, W: Any, F: Any, b: Any, C: Any, h_init: Any, activation: Any = "relu"
    ) -> None:
        if activation not in tuple(ACTIVATIONS):
            raise ValueError(f"activation is {activation!r}; allowed: {', '.join(ACTIVATIONS)}.")
        arguments = zip(SHAPES, (W, F, b, C, h_init), strict=True)
        given = {name: _as_array(name, value) for name, value in arguments}
        dtype = _common_dtype(given)
        _check_shapes(given)
        if dtype.kind == "O" and activation not in ("identity", "relu"):
            raise TypeError(
                f"activation {activation!r} has irrational values; exact arithmetic allows "
                "identity and relu. Use float64; certificates enclose its outputs in balls."
            )
        for name, a in given.items():
            taken = as_numbers(name, a, dtype)
            taken.flags.writeable = False
            object.__setattr__(self, name, taken)
        object.__setattr__(self, "activation", activation)

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
        """Cast the network to another dtype; a float becomes the Fraction that it is exactly."""
        exact = np.dtype(dtype).kind == "O"
        changes: dict[str, Any] = {}
        try:
            for name in SHAPES:
                a = getattr(self, name)
                changes[name] = fractions(a) if exact else a.astype(dtype)
        except OverflowError:
            raise ValueError(f"an entry of {name} exceeds 1.8e308, the range of float64.") from None
        return replace(self, **changes)


def ordered_matmul(a: Shaped[Array, "... n"], B: Shaped[Array, "n p"]) -> Shaped[Array, "... p"]:
    """Multiply ``a @ B`` with the sum over n taken from first to last, one rounding each.

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
    rnn: RNN, x: Inputs, *, return_states: Literal[False] = False, summation: Summation = "blas"
) -> Array: ...
@overload
def simulate(
    rnn: RNN, x: Inputs, *, return_states: Literal[True], summation: Summation = "blas"
) -> tuple[Array, Array]: ...
def simulate(
    rnn: RNN, x: Inputs, *, return_states: bool = False, summation: Summation = "blas"
) -> Array | tuple[Array, Array]:
    """Run the network: the input-output mapping y = G(x, Θ).

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

    Examples
    --------
    >>> from fractions import Fraction
    >>> third = RNN(W=[[Fraction(1, 3)]], F=[[Fraction(1)]], b=[0], C=[[1]], h_init=[0])
    >>> simulate(third, [[Fraction(1)], [Fraction(1, 2)]])[1, 0]
    Fraction(5, 6)
    """
    if summation not in ("blas", "ordered"):
        raise ValueError(f"summation is {summation!r}; allowed: 'blas', 'ordered'.")
    u = _as_array("x", x)
    if u.ndim not in (2, 3) or u.shape[-1] != rnn.m or u.size == 0:
        raise ValueError(
            f"x has shape {u.shape}; this network takes (T, {rnn.m}) or (batch, T, {rnn.m}), "
            "T and batch at least 1."
        )
    u = as_numbers("x", u, rnn.dtype)
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


def recurrent(rnn: RNN | Array, name: str = "W") -> Array:
    """Take the recurrent matrix of a network, or check a square matrix of real numbers."""
    if isinstance(rnn, RNN):
        return rnn.W
    W = _as_array(name, rnn)
    if W.ndim != 2 or W.shape[0] != W.shape[1] or W.size == 0:
        raise ValueError(f"{name} has shape {W.shape}; it must be square, (n, n), n ≥ 1.")
    return as_numbers(name, W, _common_dtype({name: W}))


def eps_of(a: Array) -> float:
    """Give the rounding unit of a float array (spacing at 1); 0.0 for an exact one."""
    return float(np.finfo(a.dtype).eps) if a.dtype.kind == "f" else 0.0


def spectral_norm(rnn: RNN | Array) -> float:
    """Compute ‖W‖₂, the largest singular value, of a network or a square matrix, in float64."""
    return float(np.linalg.norm(recurrent(rnn).astype(np.float64), 2))


def is_contractive(rnn: RNN | Array) -> bool:
    """Decide whether ‖W‖₂ < 1.

    Floats: ‖W‖₂ < 1 − 10·n·eps, below 1 by more than the rounding in W and in its norm. Exact
    matrices: I − WᵀW ≻ 0, decided over the rationals.
    """
    W = recurrent(rnn)
    if W.dtype == object:
        return positive_definite(np.eye(len(W), dtype=int) - product(W.T, W))
    return spectral_norm(W) < 1 - 10 * len(W) * eps_of(W)


def is_unitary(rnn: RNN | Array) -> bool:
    """Decide whether WᵀW = I: ‖WᵀW − I‖₂ ≤ 10·n·eps of the dtype, as torch judges orthogonality.

    The bound is the rounding of n-term inner products of unit columns, with a margin. Exact
    matrices are decided exactly.
    """
    W = recurrent(rnn)
    if W.dtype == object:
        return not (product(W.T, W) - np.eye(len(W), dtype=int)).any()
    return orthogonality_error(W) <= 10 * len(W) * eps_of(W)


def orthogonality_error(rnn: RNN | Array) -> float:
    """Compute ‖WᵀW − I‖₂, the product formed in float64 (floats) or exactly (Fractions)."""
    W = recurrent(rnn)
    W = W if W.dtype == object else W.astype(np.float64)
    return float(np.linalg.norm((W.T @ W - np.eye(len(W), dtype=int)).astype(np.float64), 2))


def enlarged(rnn: RNN, W: Shaped[Array, "N N"], b: Shaped[Array, " N"], rest: float = 0) -> RNN:
    """Give a network new states, which no input drives and no output reads.

    ``W`` and ``b`` come whole; F and C are continued with zeros, h₋₁ with ``rest``.
    """
    more = len(W) - rnn.n
    F, C = np.pad(rnn.F, ((0, more), (0, 0))), np.pad(rnn.C, ((0, 0), (0, more)))
    h_init = np.pad(rnn.h_init, (0, more), constant_values=rest)
    return RNN(W, F, b, C, h_init, rnn.activation)


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
    """Draw a Gaussian network and scale its recurrent matrix to ‖W‖₂ = ``norm``.

    F, b and C have i.i.d. standard normal entries, h₋₁ their absolute values (a ReLU state is
    non-negative). Drawn in float64 and then cast, so that a seed names one network in any dtype.

    Examples
    --------
    >>> rnn = random_rnn(4, inputs=2, outputs=3, norm=0.9, rng=np.random.default_rng(0))
    >>> rnn.W.shape, round(spectral_norm(rnn), 12)
    ((4, 4), 0.9)
    """
    for name, size in {"n": n, "inputs": inputs, "outputs": outputs}.items():
        whole_number(name, size, least=1)
    size_of("norm", norm)
    W = rng.standard_normal((n, n))
    W *= norm / np.linalg.norm(W, 2)
    F = rng.standard_normal((n, inputs))
    b = rng.standard_normal(n)
    C = rng.standard_normal((outputs, n))
    h_init = np.abs(rng.standard_normal(n))
    return RNN(W, F, b, C, h_init, activation).astype(dtype)
