"""Changes of coordinates: networks whose states are T h, and the scalings that keep ReLU's outputs.

    Θ = (W, F, b, C, h₋₁)  ↦  (T W T⁻¹, T F, T b, C T⁻¹, T h₋₁)

G is unchanged when T φ(z) = φ(T z) for every z.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Shaped

from companion.theory.arithmetic import fractions, invertible, solve
from companion.theory.dilation import NotContractiveError, contracting_scaling, scaling_advice
from companion.theory.network import RNN, Array, as_numbers, eps_of, spectral_norm

# Beside the identity, which any T commutes with: the T of one entry a row and column, whose entries
# pass a test. A sign flip would need an output bias with the logistic function.
_COMMUTING: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "relu": ("a permutation times a positive diagonal matrix", lambda entries: entries > 0),
    "tanh": ("a signed permutation", lambda entries: abs(entries) == 1),
    "sigmoid": ("a permutation", lambda entries: entries == 1),
}


def _is_monomial(T: Shaped[Array, "n n"]) -> bool:
    return bool(((T != 0).sum(0) == 1).all() and ((T != 0).sum(1) == 1).all())


def inverse(T: Shaped[Array, "n n"]) -> Shaped[Array, "n n"]:
    """Invert T: by LAPACK, exactly for Fractions, entry by entry for one entry a row and column.

    A singular T is refused (floats: a condition number above 1 / (n·eps)).
    """
    n = T.shape[0]
    if _is_monomial(T):
        out = T.T.copy()
        out[out != 0] = 1 / out[out != 0]
        return out
    if T.dtype == object:
        if invertible(T):
            return solve(T, fractions(np.eye(n, dtype=int)))
    elif np.linalg.cond(T) * n * eps_of(T) < 1:
        return np.asarray(np.linalg.inv(T), dtype=T.dtype)
    raise ValueError(f"T is singular in {T.dtype}; a similarity needs an invertible matrix.")


def similarity(rnn: RNN, T: Shaped[Array, "n n"], *, check: bool = True) -> RNN:
    """Change coordinates: the network (T W T⁻¹, T F, T b, C T⁻¹, T h₋₁), whose states are T h.

    Parameters
    ----------
    rnn : the network.
    T : array, shape (n, n), converted to the dtype of ``rnn``: any invertible one for the identity,
        a permutation times a positive diagonal for ReLU, a signed permutation for tanh, a
        permutation for the logistic function.
    check : False applies the formula to any invertible T, which in general changes G: for showing
        exactly that.

    Raises
    ------
    ValueError : for a singular T, another shape, or one that does not commute with φ.

    References
    ----------
    Emami et al. (2019), "Equivalence of RNNs", for the identity; the classes of T for the other
    activations are this project's remark.
    """
    T = as_numbers("T", T, rnn.dtype)
    if T.shape != rnn.W.shape:
        raise ValueError(f"T has shape {T.shape}; it must be {rnn.W.shape}, as W.")
    if check and rnn.activation in _COMMUTING:
        words, test = _COMMUTING[rnn.activation]
        if not (_is_monomial(T) and test(T[T != 0]).all()):
            raise ValueError(
                f"T does not commute with {rnn.activation}, so G would change; allowed: {words}. "
                "check=False applies the formula all the same."
            )
    T_inv = inverse(T)
    return RNN(
        T @ rnn.W @ T_inv, T @ rnn.F, T @ rnn.b, rnn.C @ T_inv, T @ rnn.h_init, rnn.activation
    )


def rescaled(rnn: RNN, d: Shaped[Array, " n"] | list[Any]) -> RNN:
    """Scale the states by D = diag(d), d > 0: (DWD⁻¹, DF, Db, CD⁻¹, Dh₋₁), equal under ReLU."""
    scale = as_numbers("scale", d, rnn.dtype)
    if scale.shape != (rnn.n,) or not (scale > 0).all():
        raise ValueError(
            f"scale is {np.asarray(d)}; it must be {rnn.n} positive numbers within the range of "
            f"{rnn.dtype}."
        )
    rows = scale[:, None]
    return RNN(rows * rnn.W / scale, rows * rnn.F, scale * rnn.b, rnn.C / scale,
               scale * rnn.h_init, rnn.activation)  # fmt: skip


def balance(rnn: RNN) -> RNN:
    """Scale a network by a diagonal D ≻ 0 that makes it contractive and leaves it equal. **Ours.**

    D makes ‖DWD⁻¹‖₂ as small as `minimal_scaling` can, from spreads as large as W needs.

    Parameters
    ----------
    rnn : ReLU or identity network, floating point.

    Raises
    ------
    NotContractiveError : if no scaling found makes ‖DWD⁻¹‖₂ < 1; with the norm and the spectral
        radius, below which no scaling can go.
    ValueError : for sigmoid or tanh, which no scaling commutes with.

    Examples
    --------
    >>> rnn = RNN(W=[[0.5, 9.0], [0.0, 0.5]], F=[[1.0], [1.0]], b=[0.0, 0.0], C=[[1.0, 1.0]],
    ...           h_init=[0.0, 0.0])
    >>> spectral_norm(rnn) > 9, spectral_norm(balance(rnn)) < 0.51
    (True, True)
    """
    if rnn.activation not in ("relu", "identity"):
        raise ValueError(
            f"activation is {rnn.activation!r}; only relu and identity commute with a scaling."
        )
    balanced = rescaled(rnn, contracting_scaling(rnn.W))
    if spectral_norm(balanced) >= 1:
        raise NotContractiveError(f"‖W‖₂ is {spectral_norm(rnn):.6g}. {scaling_advice(rnn.W)[0]}")
    return balanced
