"""Theorem 1: a contractive ReLU network becomes an equal unitary one with at most 2n states.

With U an orthogonal dilation of W and K its lower left block, the unitary network is

    W_u = U,  F_u = [F; 0],  b_u = [b; −M],  C_u = [C, 0],  h₋₁ᵤ = [h₋₁; 0],

with M ≥ K h for every reachable state h: the new block's pre-activation K h − M is never positive,
so the new block stays 0 and the first n states run the original recursion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np
from jaxtyping import Float, Shaped

from companion.theory.arithmetic import fractions
from companion.theory.checks import size_of, whole_number
from companion.theory.dilation import orthogonal_dilation
from companion.theory.network import (
    RNN,
    Array,
    Inputs,
    Summation,
    enlarged,
    eps_of,
    is_unitary,
    recurrent,
    simulate,
    spectral_norm,
)
from companion.theory.similarity import rescaled

_REFINEMENTS = 50  # interval steps; the box shrinks by about ‖W‖ each, and any stop is valid
_LONGEST_INTERVAL_RUN = 100_000  # steps; past it only the norm bound is used


@dataclass(frozen=True)
class StateBound:
    """Hold a ball and a box around every reachable state, h₋₁ among them."""

    norm: float  # R with ‖h⁽ᵏ⁾‖₂ ≤ R; inf where only the box is finite
    lower: Float[Array, " n"]  # float64, lower ≤ h⁽ᵏ⁾ ≤ upper entrywise
    upper: Float[Array, " n"]  # at most R

    def supremum(self, K: Float[Array, "r n"]) -> Float[Array, " r"]:
        """Bound (K h)ᵢ over the states h from above: the lesser of the ball's and the box's."""
        box = np.maximum(K, 0) @ self.upper - np.maximum(-K, 0) @ self.lower
        ball = np.linalg.norm(K, axis=1) * self.norm if np.isfinite(self.norm) else np.inf
        return np.asarray(np.minimum(box, ball))


def _rounding(rnn: RNN) -> tuple[float, float]:
    """Give what bounds must outweigh: eps, and tiny for underflow."""
    info = np.finfo(np.float64 if rnn.is_exact else rnn.dtype)
    return float(info.eps), 0.0 if rnn.is_exact else float(info.tiny)


def _silencing_bias(rnn: RNN, K: Float[Array, "r n"], bound: StateBound) -> Array:
    """Bound K h from above, with twice its rounding: the computed pre-activation is ≤ 0 as well."""
    eps, tiny = _rounding(rnn)
    margin = 10 * rnn.n * eps * np.abs(K) @ np.maximum(bound.upper, -bound.lower)
    M = np.maximum(bound.supremum(K), 0) * (1 + 10 * rnn.n * eps) + margin + tiny
    if rnn.is_exact:
        return fractions(M)
    if M.max(initial=0) > np.finfo(rnn.dtype).max:
        reached = f"{M.max():.3g}, past the range of {rnn.dtype}"
        raise ValueError(f"the bias M reaches {reached}: lower input_bound, or use float64.")
    return np.asarray(M.astype(rnn.dtype))


def require_relu(rnn: RNN) -> None:
    """Refuse another activation than ReLU, which switches the new states off."""
    if rnn.activation != "relu":
        smooth = " By theorem 3 some equal no finite unitary one; approximate_unitary is close."
        raise ValueError(
            f"theorem 1 needs activation 'relu'; this network has {rnn.activation!r}."
            + smooth * (rnn.activation != "identity")
        )


def _ball(gain: float, push: float, start: float, horizon: int | None) -> float:
    """Bound ‖h⁽ᵏ⁾‖ under ‖h⁽ᵏ⁾‖ ≤ gain·‖h⁽ᵏ⁻¹⁾‖ + push, from ‖h₋₁‖ ≤ start; maybe by inf."""
    if gain < 1:
        return max(start, push / (1 - gain))
    if horizon is None:
        return np.inf
    # expm1: 1 + 1e-11 minus 1 would lose the very digits by which the bound outweighs rounding.
    growth = np.expm1(horizon * np.log1p(gain - 1))
    steps = growth / (gain - 1) if gain > 1 else horizon
    radius = float((growth + 1) * start + push * steps)
    return radius if np.isfinite(radius) else np.inf


def _box(up: Array, drive: Array, start: Array, horizon: int | None) -> Float[Array, " n"]:
    """Find u ≥ start with u ≥ max(up·u + drive, 0), over the horizon; inf if not found."""
    n = up.shape[0]
    if np.abs(np.linalg.eigvals(up)).max() < 1:
        # (I − up)⁻¹ ≥ 0, so a larger right-hand side gives a larger solution.
        system = np.eye(n) - up
        u = np.linalg.solve(system, np.maximum.reduce([drive, system @ start, np.zeros(n)]))
        u = np.maximum(u * (1 + 1e-9), start)
        if (np.maximum(up @ u + drive, 0) <= u).all():  # rounding checked, not assumed
            return np.asarray(u)
    u, steps = start, min(horizon or 0, _LONGEST_INTERVAL_RUN)
    for _ in range(steps):
        grown = np.maximum(u, up @ u + drive)
        if not np.isfinite(grown).all():
            return np.full(n, np.inf)
        if (grown == u).all():
            return u
        u = grown
    return u if steps == horizon else np.full(n, np.inf)


@np.errstate(over="ignore", invalid="ignore")  # what overflows is refused, not warned of
def state_bound(
    rnn: RNN, input_bound: SupportsFloat, *, horizon: SupportsIndex | None = None,
    initial_bound: SupportsFloat = 0.0,
) -> StateBound:  # fmt: skip
    """Bound the states of a ReLU network while ‖x⁽ᵏ⁾‖₂ ≤ ``input_bound``.

    The entrywise lesser of two bounds, tightened by interval propagation:

    * norm: ‖h‖ ≤ max(‖h₋₁‖, c / (1 − ‖W‖)), c = ‖F‖X + ‖b‖, if ‖W‖₂ < 1; over T steps the sum
      ‖W‖ᵀ‖h₋₁‖ + c (1 + ‖W‖ + … + ‖W‖ᵀ⁻¹);
    * interval: h ≤ u wherever u ≥ W⁺u + g, g the largest input and bias, which has a solution if
      ρ(W⁺) < 1 (W⁺ the positive part); over T steps the recursion itself. It may diverge where
      the norm bound does not, and the other way round.

    Each is raised by more than rounding adds along a trajectory; both hold for h₋₁ and T steps.

    Parameters
    ----------
    rnn : ReLU network.
    input_bound : X ≥ 0, Euclidean, at every step.
    horizon : number T of steps; required unless ‖W‖₂ < 1 beyond rounding (`is_contractive`).
    initial_bound : cover every initial state with ‖h₋₁‖₂ up to this, besides ``rnn.h_init``.

    Examples
    --------
    >>> rnn = RNN(W=[[0.5]], F=[[1.0]], b=[0.0], C=[[1.0]], h_init=[0.0])
    >>> round(state_bound(rnn, input_bound=3.0).norm, 6)
    6.0
    """
    require_relu(rnn)
    X, r0 = size_of("input_bound", input_bound), size_of("initial_bound", initial_bound)
    T = None if horizon is None else whole_number("horizon", horizon, least=1)
    theta = rnn.astype(np.float64)
    W, F, b, h_init = theta.W, theta.F, theta.b, theta.h_init
    eps, tiny = _rounding(rnn)
    norm, slack = spectral_norm(W), 1 + 10 * (rnn.n + rnn.m) * eps
    gain = norm + 10 * rnn.n * eps
    if gain >= 1 and T is None:
        raise ValueError(
            f"‖W‖₂ is {norm:.6g}, not below 1 beyond rounding, so states may grow for ever. Give "
            "horizon=T, the number of steps for which the equality must hold."
        )
    # hypot: squares of entries below 1e-162 are 0, and a bound made of them would be too.
    push = float(np.linalg.norm(F, 2) * X + np.hypot.reduce(b)) * slack + rnn.n * tiny
    radius = _ball(gain, push, max(float(np.hypot.reduce(h_init)), r0), T) * slack
    lower = np.minimum(np.minimum(h_init, -r0 * slack), 0)
    highest = np.maximum(np.maximum(h_init, r0 * slack), 0)
    # States after the first are ≥ 0, so W⁻ pushes up only where h₋₁ is negative.
    up, down = np.maximum(W, 0) * slack, np.maximum(-W, 0) * slack
    row = np.hypot.reduce(F, axis=1) * X
    drive = tiny + b + row + (np.abs(b) + row) * (slack - 1) - down @ lower
    upper = np.minimum(_box(up, drive, highest, T), radius)
    if not np.isfinite(upper).all():
        raise ValueError(
            f"‖W‖₂ is {norm:.6g}, and the bound exceeds 1.8e308: lower input_bound or horizon."
        )
    # One step maps a valid box into a valid box, so their intersection is valid.
    for _ in range(_REFINEMENTS):
        upper = np.minimum(upper, np.maximum(up @ upper + drive, highest))
    return StateBound(radius, lower, upper)


def unitary_equivalent(
    rnn: RNN,
    input_bound: SupportsFloat,
    *,
    horizon: SupportsIndex | None = None,
    initial_bound: SupportsFloat = 0.0,
    scale: Shaped[Array, " n"] | list[Any] | None = None,
    dilation: Shaped[Array, "N N"] | None = None,
) -> RNN:
    """Construct theorem 1's unitary network: equal outputs while ‖x⁽ᵏ⁾‖₂ ≤ ``input_bound``.

    Parameters
    ----------
    rnn : ReLU network with ‖W‖₂ ≤ 1; a larger norm raises `NotContractiveError`.
    input_bound, horizon : as for `state_bound`; a horizon is needed where ‖W‖₂ = 1.
    initial_bound : keep the equality for every initial state [h₋₁; 0] with ‖h₋₁‖₂ up to this.
    scale : positive diagonal d: dilate DWD⁻¹, with the states bounded before scaling. **Ours**:
        `unit_norm_scaling` gives 2n − 1 states. An exact network takes Fractions.
    dilation : orthogonal matrix with (D)W(D⁻¹) as its leading block; `orthogonal_dilation` by
        default. Exact networks need an exact one, from `rational_contraction`.

    Returns
    -------
    RNN of the same dtype with n + r states, r = rank(I − WᵀW) by default; its recurrent matrix is
    orthogonal, its first n states are those of ``rnn`` (times d), the others stay exactly 0.

    References
    ----------
    Emami et al. (2019), theorem 1; the proof and the finite M are this project's.

    Examples
    --------
    >>> rnn = RNN(W=[[0.6]], F=[[1.0]], b=[0.1], C=[[1.0]], h_init=[0.0])
    >>> urnn = unitary_equivalent(rnn, input_bound=3.0)
    >>> x = np.linspace(-3, 3, 50)[:, None]
    >>> urnn.n, is_unitary(urnn), float(abs(simulate(rnn, x) - simulate(urnn, x)).max()) < 1e-14
    (2, True, True)
    """
    require_relu(rnn)
    scaled = rnn if scale is None else rescaled(rnn, scale)
    d = np.ones(rnn.n) if scale is None else np.asarray(scale, dtype=np.float64)
    U = orthogonal_dilation(scaled.W) if dilation is None else _checked_dilation(dilation, scaled)
    bound = state_bound(rnn, input_bound, horizon=horizon, initial_bound=initial_bound)
    M = _silencing_bias(rnn, U[rnn.n :, : rnn.n].astype(np.float64) * d, bound)
    return enlarged(scaled, U, np.concatenate([scaled.b, -M]))


def _checked_dilation(dilation: Any, rnn: RNN) -> Array:
    U, n = recurrent(dilation, "dilation"), rnn.n
    if U.dtype != rnn.dtype:
        raise TypeError(f"dilation is {U.dtype}, the network {rnn.dtype}; use one dtype.")
    if not np.array_equal(U[:n, :n], rnn.W):
        raise ValueError("dilation does not hold W as its leading block.")
    if not is_unitary(U):
        raise ValueError("dilation is not orthogonal.")
    return U


@dataclass(frozen=True)
class Comparison:
    """Say how far two networks' outputs are apart on one input.

    The tolerance is what rounding alone can account for where one of the two has ‖W‖₂ ≤ 1. Each
    state carries at most (n + m + 3)·eps·S of new error a step, S bounding the terms summed; W
    passes old errors on, at most min(T, 1/(1 − ‖W‖)) steps' worth; ‖C‖ carries them to the output.
    """

    difference: float  # largest |y_a − y_b|; exactly 0.0 only if no output differs
    scale: float  # largest |y_a|
    first_step: int | None  # first step k with a difference
    tolerance: float  # zero for exact networks

    @property
    def agree(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.difference <= self.tolerance


def compare(rnn_a: RNN, rnn_b: RNN, x: Inputs, *, summation: Summation = "blas") -> Comparison:
    """Run two networks on one input and measure the difference of their outputs.

    Parameters
    ----------
    rnn_a, rnn_b : networks with the same numbers of inputs and outputs and one dtype.
    x : array, shape (T, m) or (batch, T, m).
    summation : as for `simulate`; "ordered" makes theorem 1's difference 0 bit for bit.
    """
    if (rnn_a.m, rnn_a.p) != (rnn_b.m, rnn_b.p):
        sizes = f"{rnn_a.m} and {rnn_b.m} inputs, {rnn_a.p} and {rnn_b.p} outputs"
        raise ValueError(f"the networks have {sizes}; they must agree.")
    if rnn_a.dtype != rnn_b.dtype:
        raise TypeError(f"the networks are {rnn_a.dtype} and {rnn_b.dtype}; use astype first.")
    y_a, h_a = simulate(rnn_a, x, return_states=True, summation=summation)
    gap = abs(y_a - simulate(rnn_b, x, summation=summation))
    differs = np.argwhere((gap != 0).any(axis=-1))
    theta = rnn_a.astype(np.float64)
    largest_x = np.hypot.reduce(np.asarray(x, dtype=np.float64), axis=-1).max()
    largest_h = np.hypot.reduce(h_a.astype(np.float64), axis=-1).max()
    terms = np.linalg.norm(theta.W) * max(largest_h, np.linalg.norm(theta.h_init))
    terms += np.linalg.norm(theta.F) * largest_x + np.linalg.norm(theta.b)
    slack = 1 - min(spectral_norm(rnn_a), spectral_norm(rnn_b))
    steps = min(gap.shape[-2], 1 / slack) if slack > 0 else gap.shape[-2]
    readout = np.linalg.norm(theta.C, 2)
    rounding = 2 * eps_of(rnn_a.W) * (rnn_a.n + rnn_a.m + 3)
    return Comparison(
        difference=float(gap.max()) or float(bool(differs.size) and np.finfo(float).tiny),
        scale=float(abs(y_a).max()),
        first_step=int(differs[:, -1].min()) if differs.size else None,
        tolerance=float(rounding * terms * steps * readout),
    )
