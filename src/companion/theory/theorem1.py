"""Theorem 1: a contractive ReLU network becomes an equal unitary one with at most 2n states.

With U an orthogonal dilation of W and K its lower left block, the unitary network is

    W_u = U,  F_u = [F; 0],  b_u = [b; −M],  C_u = [C, 0],  h₋₁ᵤ = [h₋₁; 0],

with M ≥ K h for every reachable state h: the new block's pre-activation K h − M is never positive,
so the new block stays 0 and the first n states run the original recursion.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Shaped

from companion.theory.dilation import (
    NotContractiveError,
    contracting_scaling,
    orthogonal_dilation,
    scaling_advice,
    unit_norm_scaling,
)
from companion.theory.network import (
    RNN,
    Array,
    Summation,
    as_array,
    as_exact,
    as_float,
    is_unitary,
    simulate,
    spectral_norm,
)

_REFINEMENTS = 50  # interval steps; the box shrinks by about ‖W‖ each, and any stop is valid
_LONGEST_INTERVAL_RUN = 100_000  # steps; past it only the norm bound is used


@dataclass(frozen=True)
class StateBound:
    """A ball and a box that hold every reachable state, h₋₁ among them.

    Attributes
    ----------
    norm : R with ‖h⁽ᵏ⁾‖₂ ≤ R; inf where only the box is finite.
    lower, upper : float64 arrays, shape (n,), lower ≤ h⁽ᵏ⁾ ≤ upper entrywise; upper ≤ R.
    """

    norm: float
    lower: Float[Array, " n"]
    upper: Float[Array, " n"]

    def supremum(self, K: Float[Array, "r n"]) -> Float[Array, " r"]:
        """Upper bounds of (K h)ᵢ over the states h: the lesser of the ball's and the box's."""
        box = np.maximum(K, 0) @ self.upper - np.maximum(-K, 0) @ self.lower
        ball = np.linalg.norm(K, axis=1) * self.norm if np.isfinite(self.norm) else np.inf
        return np.asarray(np.minimum(box, ball))


def _float_parameters(rnn: RNN) -> tuple[Array, Array, Array, Array, float, float]:
    """(W, F, b, h₋₁) in float64, and what the bounds must outweigh: eps, and tiny for underflow."""
    info = np.finfo(np.float64 if rnn.is_exact else rnn.dtype)
    eps, tiny = float(info.eps), 0.0 if rnn.is_exact else float(info.tiny)
    try:
        W, F, b, h = (np.asarray(a, dtype=np.float64) for a in (rnn.W, rnn.F, rnn.b, rnn.h_init))
    except OverflowError:
        raise ValueError("a parameter exceeds 1.8e308, past which no bound is computed.") from None
    return W, F, b, h, eps, tiny


def _checked_bound(name: str, bound: float) -> float:
    if isinstance(bound, bool) or not isinstance(
        bound, int | float | Fraction | np.integer | np.floating
    ):
        raise TypeError(
            f"{name} is {bound!r}; it must be a number, the largest Euclidean norm. "
            "Without a bound no finite bias keeps the new states at 0."
        )
    if not 0 <= bound <= sys.float_info.max:
        raise ValueError(f"{name} is {bound}; it must be finite (below 1.8e308) and at least 0.")
    return float(bound)


def _checked_horizon(horizon: int | None) -> int | None:
    if horizon is None:
        return None
    if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 1:
        raise ValueError(f"horizon is {horizon!r}; it must be a whole number of steps, at least 1.")
    return int(horizon)


def _require_relu(rnn: RNN, what: str) -> None:
    if rnn.activation != "relu":
        reason = {
            "identity": "nothing switches the new states off",
            "sigmoid": "by theorem 3 no finite unitary network is equal: see approximate_unitary",
            "tanh": "by theorem 3 no finite unitary network is equal: see approximate_unitary",
        }[rnn.activation]
        raise ValueError(
            f"{what} needs activation 'relu'; this network has {rnn.activation!r} ({reason})."
        )


def _ball(gain: float, push: float, start: float, horizon: int | None) -> float:
    """The largest ‖h⁽ᵏ⁾‖ under ‖h⁽ᵏ⁾‖ ≤ gain·‖h⁽ᵏ⁻¹⁾‖ + push, from ‖h₋₁‖ ≤ start; inf if none."""
    if gain < 1:
        return max(start, push / (1 - gain))
    if horizon is None:
        return np.inf
    # expm1: 1 + 1e-11 minus 1 would lose the very digits by which the bound outweighs rounding.
    growth = np.expm1(horizon * np.log1p(gain - 1))
    steps = growth / (gain - 1) if gain > 1 else horizon
    radius = float((growth + 1) * start + push * steps)
    return radius if np.isfinite(radius) else np.inf


def _box(
    up: Float[Array, "n n"],
    drive: Float[Array, " n"],
    start: Float[Array, " n"],
    horizon: int | None,
) -> Float[Array, " n"]:
    """Some u ≥ start with u ≥ max(up·u + drive, 0), over the horizon; inf if none is found."""
    n = up.shape[0]
    if np.abs(np.linalg.eigvals(up)).max() < 1:
        # (I − up)⁻¹ ≥ 0, so a larger right-hand side gives a larger solution.
        system = np.eye(n) - up
        u = np.linalg.solve(system, np.maximum.reduce([drive, system @ start, np.zeros(n)]))
        u = np.maximum(u * (1 + 1e-9), start)
        if (np.maximum(up @ u + drive, 0) <= u).all():  # rounding checked, not assumed
            return np.asarray(u)
    u = start
    for _ in range(min(horizon or 0, _LONGEST_INTERVAL_RUN)):
        grown = np.maximum(u, up @ u + drive)
        if not (np.isfinite(grown).all() and (grown > u).any()):
            return np.asarray(grown if np.isfinite(grown).all() else np.full(n, np.inf))
        u = grown
    return u if horizon is not None and horizon <= _LONGEST_INTERVAL_RUN else np.full(n, np.inf)


def state_bound(
    rnn: RNN, input_bound: float, *, horizon: int | None = None, initial_bound: float = 0.0
) -> StateBound:
    """Where the states of a ReLU network stay while ‖x⁽ᵏ⁾‖₂ ≤ ``input_bound``.

    Two bounds, and the entrywise lesser of them, tightened by interval propagation:

    * norm: ‖h‖ ≤ max(‖h₋₁‖, c / (1 − ‖W‖)), c = ‖F‖X + ‖b‖, if ‖W‖₂ < 1; over T steps the sum
      ‖W‖ᵀ‖h₋₁‖ + c (1 + ‖W‖ + … + ‖W‖ᵀ⁻¹);
    * interval: h ≤ u wherever u ≥ W⁺u + g, g the largest input and bias, which has a solution if
      ρ(W⁺) < 1 (W⁺ the positive part); over T steps the recursion itself. It may diverge where
      the norm bound does not, and the other way round.

    Each is raised by more than the rounding of the dtype can add along a trajectory.

    Parameters
    ----------
    rnn : ReLU network.
    input_bound : X ≥ 0, Euclidean, at every step.
    horizon : number T of steps; required unless ‖W‖₂ < 1 beyond rounding (`is_contractive`).
    initial_bound : cover every initial state with ‖h₋₁‖₂ up to this, besides ``rnn.h_init``.

    Returns
    -------
    StateBound, valid for k = −1, 0, …, T − 1 (every k without a horizon).

    Raises
    ------
    ValueError : for another activation, a bad bound or horizon, or when no bound is finite.

    Examples
    --------
    >>> rnn = RNN(W=[[0.5]], F=[[1.0]], b=[0.0], C=[[1.0]], h_init=[0.0])
    >>> round(state_bound(rnn, input_bound=3.0).norm, 6)
    6.0
    """
    _require_relu(rnn, "state_bound")
    X, T = _checked_bound("input_bound", input_bound), _checked_horizon(horizon)
    r0 = _checked_bound("initial_bound", initial_bound)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused, not warned of
        return _state_bound(rnn, X, T, r0)


def _state_bound(rnn: RNN, X: float, T: int | None, r0: float) -> StateBound:
    W, F, b, h_init, eps, tiny = _float_parameters(rnn)
    slack = 1 + 10 * (rnn.n + rnn.m) * eps
    lowest, highest = np.minimum(h_init, -r0 * slack), np.maximum(h_init, r0 * slack)

    gain = spectral_norm(W) + 10 * rnn.n * eps
    if gain >= 1 and T is None:
        raise ValueError(
            f"‖W‖₂ is {spectral_norm(W):.6g}, not below 1 beyond rounding, so states may grow for "
            "ever. Give horizon=T, the number of steps for which the equality must hold, or "
            "balance(rnn) first."
        )
    # hypot: squares of entries below 1e-162 are 0, and a bound made of them would be too.
    push = float(np.linalg.norm(F, 2) * X + np.hypot.reduce(b)) * slack + rnn.n * tiny
    radius = _ball(gain, push, max(float(np.hypot.reduce(h_init)), r0), T) * slack

    # States after the first are ≥ 0, so W⁻ pushes up only where h₋₁ is negative.
    up, down = np.maximum(W, 0) * slack, np.maximum(-W, 0) * slack
    row = np.hypot.reduce(F, axis=1) * X
    drive = tiny + b + row + (np.abs(b) + row) * (slack - 1) + down @ -np.minimum(lowest, 0)
    upper = np.minimum(_box(up, drive, np.maximum(highest, 0), T), radius)
    if not np.isfinite(upper).all():
        raise ValueError(
            f"‖W‖₂ is {spectral_norm(W):.6g}, and the bound exceeds 1.8e308: lower input_bound or "
            "horizon."
        )
    # One step maps a valid box into a valid box, so their intersection is valid.
    for _ in range(_REFINEMENTS):
        upper = np.minimum(upper, np.maximum.reduce([up @ upper + drive, highest, np.zeros(rnn.n)]))
    return StateBound(radius, np.minimum(lowest, 0), upper)


def rescaled(rnn: RNN, d: Shaped[Array, " n"]) -> RNN:
    """The network (DWD⁻¹, DF, Db, CD⁻¹, Dh₋₁), D = diag(d): equal, for d > 0, under ReLU."""
    d = _checked_scale(d, rnn)
    return RNN(
        d[:, None] * rnn.W / d,
        d[:, None] * rnn.F,
        d * rnn.b,
        rnn.C / d,
        d * rnn.h_init,
        rnn.activation,
    )


def _checked_scale(d: object, rnn: RNN) -> Array:
    """Positive entries of the network's dtype, one a state; Fractions for an exact network."""
    a = as_array("scale", d)
    with np.errstate(over="ignore"):
        a = as_exact("scale", a) if rnn.is_exact else as_float("scale", a, rnn.dtype)
    if a.shape != (rnn.n,) or not (a > 0).all():
        raise ValueError(
            f"scale is {np.asarray(d)}; it must be {rnn.n} positive numbers within the range of "
            f"{rnn.dtype}."
        )
    return a


def balance(rnn: RNN, *, norm: float | None = None) -> RNN:
    """The equal network (DWD⁻¹, DF, Db, CD⁻¹, Dh₋₁) for a well-chosen diagonal D ≻ 0. **Ours.**

    Parameters
    ----------
    rnn : ReLU or identity network, floating point.
    norm : None: D makes ‖DWD⁻¹‖₂ as small as it finds (`contracting_scaling`), and the result is
        contractive. 1: D makes ‖DWD⁻¹‖₂ = 1 (`unit_norm_scaling`), for the 2n − 1 construction;
        the result needs a horizon, or the state bound of ``rnn`` (`unitary_equivalent`'s scale).

    Raises
    ------
    NotContractiveError : if no scaling found makes ‖DWD⁻¹‖₂ < 1; with the norm and the spectral
        radius, below which no scaling can go.
    ValueError : for sigmoid or tanh, which no scaling commutes with; another ``norm``; a
        diagonal W with norm=1.

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
    if norm not in (None, 1):
        raise ValueError(f"norm is {norm!r}; allowed: None (as small as possible) or 1.")
    if norm == 1:
        return rescaled(rnn, unit_norm_scaling(rnn.W))
    balanced = rescaled(rnn, contracting_scaling(rnn.W))
    if spectral_norm(balanced) >= 1:
        raise NotContractiveError(f"‖W‖₂ is {spectral_norm(rnn):.6g}. {scaling_advice(rnn.W)}")
    return balanced


def unitary_equivalent(
    rnn: RNN,
    input_bound: float,
    *,
    horizon: int | None = None,
    initial_bound: float = 0.0,
    scale: Float[Array, " n"] | None = None,
    dilation: Shaped[Array, "N N"] | None = None,
) -> RNN:
    """Theorem 1: the unitary network with the same outputs while ‖x⁽ᵏ⁾‖₂ ≤ ``input_bound``.

    Parameters
    ----------
    rnn : ReLU network with ‖W‖₂ ≤ 1.
    input_bound : X ≥ 0, Euclidean, at every step.
    horizon : number of steps, where the states have no bound without one (‖W‖₂ = 1).
    initial_bound : keep the equality for every initial state [h₋₁; 0] with ‖h₋₁‖₂ up to this.
    scale : positive diagonal d (Fractions for an exact network); the dilation is then that of
        DWD⁻¹, with the states bounded before scaling. **Ours**: `unit_norm_scaling` gives 2n − 1
        states.
    dilation : orthogonal matrix with (D)W(D⁻¹) as its leading block; `orthogonal_dilation` by
        default. Exact networks need an exact one, from `rational_contraction`.

    Returns
    -------
    RNN of the same dtype with n + r states, r = rank(I − WᵀW) by default; its recurrent matrix is
    orthogonal, its first n states are those of ``rnn`` (times d), the others stay exactly 0.

    Raises
    ------
    NotContractiveError : if ‖W‖₂ > 1; with the norm, and whether a scaling helps.
    ValueError : for another activation, a bad bound, horizon, scale or dilation, or when the
        states have no finite bound.

    References
    ----------
    Emami et al. (2019), theorem 1; the proof and the finite M are this project's.

    Examples
    --------
    >>> rnn = RNN(W=[[0.6]], F=[[1.0]], b=[0.1], C=[[1.0]], h_init=[0.0])
    >>> urnn = unitary_equivalent(rnn, input_bound=3.0)
    >>> urnn.n, is_unitary(urnn)
    (2, True)
    >>> x = np.linspace(-3, 3, 50)[:, None]
    >>> float(abs(simulate(rnn, x) - simulate(urnn, x)).max()) < 1e-14
    True
    """
    _require_relu(rnn, "theorem 1")
    scaled = rnn
    d = np.ones(rnn.n)
    if scale is not None:
        d = _checked_scale(scale, rnn)
        scaled, d = rescaled(rnn, d), d.astype(np.float64)
    U = orthogonal_dilation(scaled.W) if dilation is None else _checked_dilation(dilation, scaled)
    N, n = U.shape[0], rnn.n
    K = U[n:, :n]
    bound = state_bound(rnn, input_bound, horizon=horizon, initial_bound=initial_bound)
    reach = bound.supremum(K.astype(np.float64) * d)
    # Twice the rounding of K h itself, so that the computed pre-activation is ≤ 0 as well.
    eps, tiny = _float_parameters(rnn)[-2:]
    margin = (
        10 * n * eps * (np.abs(K.astype(np.float64)) * d) @ np.maximum(bound.upper, -bound.lower)
    )
    M = np.maximum(reach, 0) * (1 + 10 * n * eps) + margin + tiny
    if not rnn.is_exact and M.max(initial=0) > np.finfo(rnn.dtype).max:
        raise ValueError(
            f"the bias M reaches {M.max():.3g}, past the range of {rnn.dtype}: lower input_bound "
            f"({input_bound}), or use float64."
        )
    b_new = (
        np.array([Fraction(float(v)) for v in M], dtype=object)
        if rnn.is_exact
        else M.astype(rnn.dtype)
    )
    zeros = np.zeros((N - n, max(rnn.m, rnn.p)), dtype=np.int64 if rnn.is_exact else rnn.dtype)
    return RNN(
        U,
        np.concatenate([scaled.F, zeros[:, : rnn.m]]),
        np.concatenate([scaled.b, -b_new]),
        np.concatenate([scaled.C, zeros[:, : rnn.p].T], axis=1),
        np.concatenate([scaled.h_init, zeros[:, 0]]),
        "relu",
    )


def _checked_dilation(U: Array, rnn: RNN) -> Array:
    U, n = np.asarray(U), rnn.n
    if U.ndim != 2 or U.shape[0] != U.shape[1] or U.shape[0] < n:
        raise ValueError(f"dilation has shape {U.shape}; it must be (N, N) with N ≥ {n}.")
    if U.dtype != rnn.dtype:
        raise TypeError(f"dilation is {U.dtype}, the network {rnn.dtype}; use one dtype.")
    if not (U[:n, :n] == rnn.W).all():
        raise ValueError("dilation does not hold W as its leading block.")
    if not is_unitary(U):
        raise ValueError("dilation is not orthogonal.")
    return U


@dataclass(frozen=True)
class Comparison:
    """How far two networks' outputs are apart on one input.

    Attributes
    ----------
    difference : largest |y_a − y_b|; exactly 0.0 only if no output differs.
    scale : largest |y_a|.
    first_step : first step k with a difference, or None.
    tolerance : what rounding alone can account for. Each state carries at most
        (n + m + 3)·eps·S of new error a step, S bounding the terms summed, and ‖W‖₂ ≤ 1 passes old
        errors on, at most min(T, 1/(1 − ‖W‖)) steps' worth; ‖C‖ carries it to the output. Zero for
        exact networks. Meaningful when one of the two has ‖W‖₂ ≤ 1.
    """

    difference: float
    scale: float
    first_step: int | None
    tolerance: float

    @property
    def agree(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.difference <= self.tolerance


def compare(
    rnn_a: RNN, rnn_b: RNN, x: Shaped[Array, "*batch T m"], *, summation: Summation = "blas"
) -> Comparison:
    """Run two networks on one input and measure the difference of their outputs.

    Parameters
    ----------
    rnn_a, rnn_b : networks with the same numbers of inputs and outputs and one dtype.
    x : array, shape (T, m) or (batch, T, m).
    summation : as for `simulate`; "ordered" makes theorem 1's difference 0 bit for bit.

    Raises
    ------
    ValueError, TypeError : if the networks cannot be compared, or as `simulate`.
    """
    if (rnn_a.m, rnn_a.p) != (rnn_b.m, rnn_b.p):
        raise ValueError(
            f"the networks have {rnn_a.m} and {rnn_b.m} inputs, {rnn_a.p} and {rnn_b.p} outputs; "
            "they must agree."
        )
    if rnn_a.dtype != rnn_b.dtype:
        raise TypeError(f"the networks are {rnn_a.dtype} and {rnn_b.dtype}; use astype first.")
    y_a, h_a = simulate(rnn_a, x, return_states=True, summation=summation)
    y_b = simulate(rnn_b, x, summation=summation)
    gap = abs(y_a - y_b)
    differs = np.argwhere((gap != 0).any(axis=-1))
    eps = 0.0 if rnn_a.is_exact else float(np.finfo(rnn_a.dtype).eps)
    largest_x = np.hypot.reduce(np.asarray(x, dtype=np.float64), axis=-1).max()
    largest_h = np.hypot.reduce(h_a.astype(np.float64), axis=-1).max()
    W, F, b, h_init, _, _ = _float_parameters(rnn_a)
    terms = np.linalg.norm(W) * max(largest_h, np.linalg.norm(h_init))
    terms += np.linalg.norm(F) * largest_x + np.linalg.norm(b)
    slack = 1 - min(spectral_norm(rnn_a), spectral_norm(rnn_b))
    steps = min(gap.shape[-2], 1 / slack) if slack > 0 else gap.shape[-2]
    readout = np.linalg.norm(rnn_a.C.astype(np.float64), 2)
    return Comparison(
        difference=float(gap.max()) or float(bool(differs.size) and np.finfo(float).tiny),
        scale=float(abs(y_a).max()),
        first_step=int(differs[:, -1].min()) if differs.size else None,
        tolerance=float(2 * eps * (rnn_a.n + rnn_a.m + 3) * terms * steps * readout),
    )
