"""Theorem 2, the converse for ReLU: 2n states are needed, and an input that proves it.

The teacher is memoryless, y = ReLU(x) on n coordinates. A student with fewer than 2n states and an
invertible recurrent matrix differs from it within two steps; `find_witness` runs the proof on a
given student and returns the input on which the two differ. Arithmetic is exact throughout. Weights
are real: complex unitary networks are excluded, and do with n states (`complex_unitary`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from companion.theory.arithmetic import (
    float_below,
    floats,
    floor_log2,
    fractions,
    invertible,
    product,
)
from companion.theory.checks import exact_size, whole_number
from companion.theory.network import ACTIVATIONS, RNN, Array, simulate


class NoClaimError(ValueError):
    """The student is large enough for the theorem to promise nothing about it."""


@dataclass(frozen=True, eq=False)
class Witness:
    """Hold an input sequence on which a student provably differs from its teacher.

    Parameters
    ----------
    input : array, shape (T, n): the sequence. In the dtype of the student where that holds it
        exactly, else object, of Fractions: never rounded.
    teacher_output, student_output : arrays, shape (T, n): the exact outputs, rounded to float64
        (Fractions for an exact student).
    gap : the largest entry of |teacher_output − student_output| before that rounding, or a lower
        bound of it, rounded down and positive; a Fraction for an exact student and wherever
        float64 would give 0.
    step : the time step k at which the proof fails for the student (0-based, so T = step + 1).
    coordinate : the output coordinate on which it fails there (0-based).
    """

    input: Shaped[Array, "T n"]
    teacher_output: Shaped[Array, "T n"]
    student_output: Shaped[Array, "T n"]
    gap: float | Fraction
    step: int
    coordinate: int

    def __post_init__(self) -> None:
        for a in (self.input, self.teacher_output, self.student_output):
            a.flags.writeable = False


def memoryless_teacher(n: int, activation: str = "relu", dtype: type | str = np.float64) -> RNN:
    """Build the teacher of theorems 2 and 3: y⁽ᵏ⁾ = φ(x⁽ᵏ⁾), W = 0, F = C = I, b = h₋₁ = 0.

    Examples
    --------
    >>> from companion.theory.network import simulate
    >>> simulate(memoryless_teacher(2), [[1.0, -1.0], [-2.0, 3.0]]).tolist()
    [[1.0, 0.0], [0.0, 3.0]]
    """
    n = whole_number("n", n, least=1)
    # Integers take the dtype of W, and no rounding can reach 0 and 1.
    eye, zero, W = np.eye(n, dtype=int), np.zeros(n, dtype=int), np.zeros((n, n), dtype=dtype)
    return RNN(W, eye, zero, eye, zero, activation)


def near_miss(
    n: int, epsilon: float | Fraction, input_bound: float | Fraction, dtype: type | str = np.float64
) -> RNN:
    """Build a unitary network of n + 1 states within O(ε) of the memoryless teacher on [−X, X]ⁿ.

    The contraction W = εJ, J the shift, is the memoryless teacher up to ε. The diagonal scaling
    D = diag(1, ε, ε², …) turns it into J, whose defect rank is 1 and whose dilation is a cyclic
    permutation of n + 1 states. Output weights grow like ε^−(n−1): theorem 2 is about exactness.

    Parameters
    ----------
    n : number of inputs and outputs, at least 2.
    epsilon : 0 < ε < 1; the error is at most ε X / (1 − ε) in every output.
    input_bound : X, a positive bound of every input entry.
    dtype : of the result; object gives the exact network of the given ε.

    References
    ----------
    This project's.
    """
    e, X = Fraction(epsilon), exact_size("input_bound", input_bound, above=True)
    if n < 2 or not 0 < e < 1:
        raise ValueError(f"n is {n} and epsilon {epsilon}; allowed: n ≥ 2 and 0 < epsilon < 1.")
    d, zero = np.array([e**i for i in range(n)], dtype=object), np.zeros(n + 1, dtype=int)
    U = np.roll(np.eye(n + 1, dtype=int), 1, axis=1).astype(object)
    F, C = np.pad(np.diag(d), ((0, 1), (0, 0))), np.pad(np.diag(1 / d), ((0, 0), (0, 1)))
    b = zero.astype(object)
    b[n] = -X / (1 - e) * (1 + Fraction(1, 2**20))  # room for the rounding of a cast
    return RNN(U, F, b, C, zero).astype(dtype)


def find_witness(student: RNN, input_bound: float | Fraction) -> Witness:
    """Find an input of at most two steps on which ``student`` differs from the memoryless teacher.

    The teacher has a kink across each hyperplane xᵢ = 0 at every step. *(i)* At step 0 the second
    difference of the outputs across xᵢ = 0, at a generic point and so near that no other kink of
    the student interferes, must be δeᵢ. *(ii)* If it is for every i, some x⁽⁰⁾ activates n units
    with independent gradients v_l. At step 1 the units with a kink on xᵢ = 0 around that x⁽⁰⁾ have
    (U v_l)ⱼ = 0 for all l, and U is injective, so there are at most N − n < n of them: for some i
    the student's second difference is 0. Where it fails, one of the three inputs is a witness.

    No search and no training: linear algebra over the rationals, on the exact values of Θ. Beside
    the proof's δ a coarse one is evaluated, and the input with the largest gap is returned. If step
    (i) fails by less than 2⁻²⁰ of the bound, step (ii) is tried too.

    Parameters
    ----------
    student : ReLU network with m = p = n, N < 2n states and an invertible recurrent matrix;
        float32, float64 or exact; any initial state.
    input_bound : X > 0; every entry of the witness is at most X in modulus.

    Returns
    -------
    Witness. No uniform lower bound of its gap exists (`near_miss`).

    Raises
    ------
    NoClaimError : if N ≥ 2n.
    ValueError : for another activation, m ≠ p, a singular recurrent matrix, or a bad bound.

    References
    ----------
    Theorem 2 of Emami et al. (2019); the proof and the algorithm are this project's.

    Examples
    --------
    >>> eye, zero = np.eye(2), np.zeros(2)
    >>> w = find_witness(RNN([[0.0, 1.0], [-1.0, 0.0]], eye, zero, eye, zero), input_bound=1.0)
    >>> w.input.shape, w.step, w.gap > 0.2
    ((2, 2), 1, True)
    """
    bound = exact_size("input_bound", input_bound, above=True)
    if student.activation != "relu":
        raise ValueError(
            f"activation is {student.activation!r}; theorem 2 is about 'relu' "
            "(find_sigmoid_witness takes 'sigmoid' and 'tanh')."
        )
    check_student(student)
    if student.n >= 2 * student.m:
        raise NoClaimError(
            f"the student has N = {student.n} states for n = {student.m} inputs; theorem 2 claims "
            f"a difference only below 2n = {2 * student.m}, and unitary_equivalent attains 2n."
        )
    theta = student.astype(object)
    # of powers of two, here and below, points are built that have few bits
    if (found := _refute(theta, Fraction(2) ** floor_log2(bound))) is None:
        raise AssertionError("no witness although N < 2n and U is invertible; please report this.")
    return _witness(student, theta, found)


def check_student(student: RNN) -> None:
    """Refuse a student that has m ≠ p or a singular recurrent matrix, which is decided exactly."""
    if student.m != student.p:
        raise ValueError(
            f"the student has {student.m} inputs and {student.p} outputs; the memoryless teacher "
            "has as many outputs as inputs."
        )
    if not invertible(fractions(student.W)):
        raise ValueError(
            "the recurrent matrix W is singular; the converse needs an invertible one (with a "
            "singular one n states are enough: W = 0 is the teacher itself)."
        )


class _Failure(NamedTuple):
    """A failure of the proof: the gap, the input sequence, and the coordinate."""

    gap: Fraction
    inputs: list[Array]
    coordinate: int


def _after(theta: RNN, s: Array, X: Shaped[Array, "K m"]) -> Shaped[Array, "K N"]:
    """Step from the state ``s`` under each of the inputs."""
    return ACTIVATIONS["relu"](product(X, theta.F.T) + (product(theta.W, s) + theta.b))


def _refute(theta: RNN, radius: Fraction) -> _Failure | None:
    """Run the proof as an algorithm. None, impossible for N < 2n, if no step fails."""
    first = _kink_test(theta, theta.h_init, radius)
    if first and first.gap * 2**20 >= radius:
        return first
    x0 = _generic_start(theta, radius)
    s0 = _after(theta, theta.h_init, x0[None])
    found = [first] if first and first.gap else []
    if second := _kink_test(theta, s0[0], radius):
        gap = max(second.gap, _gaps(theta, s0, x0[None])[0])
        found.append(_Failure(gap, [x0, *second.inputs], second.coordinate))
    return max(found, key=lambda one: one.gap, default=None)


def _gaps(theta: RNN, states: Shaped[Array, "K N"], X: Shaped[Array, "K n"]) -> Shaped[Array, " K"]:
    """Compute the largest |C s − ReLU(x)| for each state and input."""
    return np.asarray(abs(product(states, theta.C.T) - ACTIVATIONS["relu"](X)).max(axis=1))


def _kink_test(theta: RNN, s: Array, radius: Fraction) -> _Failure | None:
    """Take second differences across every xᵢ = 0 after the state ``s``.

    Of the coordinates that fail, the one whose inputs show it most clearly, with that input.
    """
    n, g = theta.m, product(theta.W, s) + theta.b
    zero, deltas, inputs = Fraction(0), [], []
    for i in range(n):
        off = theta.F.copy()
        off[:, i] = zero
        p = _generic_point(off, g, np.full(n, zero), radius, skip=i)
        at_p = product(theta.F, p) + g
        # The units left out have their kink on xᵢ = 0 itself: p is generic.
        near = [j for j in range(theta.n) if theta.F[j, i] and at_p[j]]
        reach = [abs(at_p[j] / theta.F[j, i]) / 2 for j in near]
        delta = Fraction(2) ** floor_log2(min([*reach, radius]))
        deltas.append(delta)
        for t in (-delta, zero, delta, -radius, radius):
            p[i] = t
            inputs.append(p.copy())
    X = np.array(inputs)
    after = _after(theta, s, X)
    Y, gaps = product(after, theta.C.T), _gaps(theta, after, X)
    best: _Failure | None = None
    for i, delta in enumerate(deltas):
        at = range(5 * i, 5 * i + 5)
        kink = Y[at[0]] - 2 * Y[at[1]] + Y[at[2]]
        if kink.tolist() != [delta if k == i else 0 for k in range(n)]:
            c = max(at, key=lambda column: gaps[column])
            if best is None or gaps[c] > best.gap:
                best = _Failure(gaps[c], [X[c]], i)
    return best


def _generic_start(theta: RNN, radius: Fraction) -> Shaped[Array, " n"]:
    """Choose x⁽⁰⁾ ∈ Ω of step (ii).

    In the orthant of the units with a kink on xᵢ = 0 (any orthant where there is none), off every
    other kink at step 0, and off the zero sets of those kinks of step 1 that move with x⁽⁰⁾.
    """
    F, g = theta.F, product(theta.W, theta.h_init) + theta.b
    sign = np.full(theta.m, Fraction(1))
    for row, offset in zip(F, g, strict=True):
        support = np.flatnonzero(row)
        if offset == 0 and len(support) == 1:
            sign[support[0]] = Fraction(1 if row[support[0]] > 0 else -1)
    x = _generic_point(F, g, sign * (radius / 2), radius / 2)
    z = product(F, x) + g
    active = np.array([int(v > 0) for v in z], dtype=object)
    moving = product(theta.W, active[:, None] * F)
    rest = product(theta.W, active * g) + theta.b
    moves = (moving != 0).any(axis=1)
    if (moves & (product(moving, x) + rest == 0)).any():
        # Move x within the region where no unit changes its activity, and keep the signs.
        reach = [abs(z[j]) / abs(row).sum() for j, row in enumerate(F) if row.any()]
        reach += [min(abs(v), radius - abs(v)) for v in x]
        x = _generic_point(moving, rest, x, Fraction(2) ** floor_log2(min(reach) / 2))
    return x


def _generic_point(
    A: Shaped[Array, "N n"], c: Array, centre: Array, radius: Fraction, skip: int = -1
) -> Shaped[Array, " n"]:
    """Find a point with A_j x + c_j ≠ 0 for every row A_j ≠ 0, strictly within ``radius``.

    Coordinates are centre + radius·(odd number)/2^k, fixed one after the other. A row rules out one
    value of its last coordinate, given the ones before; there are more values than rows, and the
    one farthest from those ruled out is taken. Coordinate ``skip`` stays at its centre.
    """
    bits = max(7, (2 * len(A) + 1).bit_length())
    grid = np.arange(1 - 2**bits, 2**bits, 2)
    grid = np.random.default_rng(0).permutation(grid)  # a fixed order without structure
    last: dict[int, list[int]] = {}
    for j, row in enumerate(A):
        if row.any():
            last.setdefault(int(np.flatnonzero(row)[-1]), []).append(j)
    x, unit = centre.copy(), radius / 2**bits
    for k in range(len(x)):
        if k == skip:
            continue
        # The multiples of ``unit`` that are ruled out: x[k] is still at its centre.
        rows = last.get(k, [])
        values = product(A[rows], x) + c[rows]
        out = [-v / (A[j, k] * unit) for j, v in zip(rows, values, strict=True)]
        # Clipped beyond the grid, which keeps the floats finite.
        near = np.array([float(min(max(v, -(2**20)), 2**20)) for v in out] or [0.0])
        distance = np.abs(grid[:, None] - near[None, :]).min(1)
        order = [grid[k % len(grid)]] if not rows else grid[np.argsort(-distance, kind="stable")]
        m = next(int(v) for v in order if int(v) not in set(out))
        x[k] = centre[k] + unit * m
    return x


def _witness(student: RNN, theta: RNN, found: _Failure) -> Witness:
    x = np.array(found.inputs)
    wanted, y, k = ACTIVATIONS["relu"](x), simulate(theta, x), len(x) - 1
    gap: float | Fraction = found.gap
    if not student.is_exact:
        x, wanted, y = _in_dtype(x, student.dtype), floats(wanted), floats(y)
        gap = float_below(found.gap) or gap
    return Witness(x, wanted, y, gap, k, found.coordinate)


def _in_dtype(x: Array, dtype: np.dtype[Any]) -> Array:
    """Give ``x`` in ``dtype`` if that holds every entry exactly, otherwise ``x``."""
    with np.errstate(over="ignore", under="ignore"):
        rounded = floats(x).astype(dtype)
    finite = rounded.dtype != object and np.isfinite(rounded).all()
    return rounded if finite and (fractions(rounded) == x).all() else x
