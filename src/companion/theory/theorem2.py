"""Theorem 2, the converse for ReLU: 2n states are needed, and an input that proves it.

The teacher is memoryless, y = ReLU(x) on n coordinates. A student with fewer than 2n states and an
invertible recurrent matrix differs from it within two steps; `find_witness` runs the proof on a
given student and returns the input on which the two differ. Arithmetic is exact throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from companion.theory.exact import (
    Parameters,
    float_below,
    floats,
    fraction,
    fraction_array,
    parameters,
    rational,
    rational_matrix,
)
from companion.theory.network import ACTIVATIONS, RNN

if TYPE_CHECKING:
    from flint import fmpq, fmpq_mat

Array = np.ndarray


class NoClaimError(ValueError):
    """The student is large enough for the theorem to promise nothing about it."""


@dataclass(frozen=True, eq=False)
class Witness:
    """An input sequence on which a student provably differs from the memoryless teacher.

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
    """The teacher of theorems 2 and 3: y⁽ᵏ⁾ = φ(x⁽ᵏ⁾), that is W = 0, F = C = I, b = h₋₁ = 0.

    Examples
    --------
    >>> from companion.theory.network import simulate
    >>> simulate(memoryless_teacher(2), [[1.0, -1.0], [-2.0, 3.0]]).tolist()
    [[1.0, 0.0], [0.0, 3.0]]
    """
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1.")
    eye, zero = np.eye(n, dtype=int), np.zeros(n, dtype=int)
    exact = RNN(np.zeros((n, n), dtype=int).astype(object), eye, zero, eye, zero)
    return (
        exact if np.dtype(dtype) == object else replace(exact.astype(dtype), activation=activation)
    )


def near_miss(
    n: int, epsilon: float | Fraction, input_bound: float | Fraction, dtype: type | str = np.float64
) -> RNN:
    """A unitary network of n + 1 states within O(ε) of the memoryless teacher on [−X, X]ⁿ.

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
    e, X = Fraction(epsilon), _positive(input_bound)
    if n < 2 or not 0 < e < 1:
        raise ValueError(f"n is {n} and epsilon {epsilon}; allowed: n ≥ 2 and 0 < epsilon < 1.")
    d = [e**i for i in range(n)]
    zero = Fraction(0)
    U = [[Fraction(int(j == (i + 1) % (n + 1))) for j in range(n + 1)] for i in range(n + 1)]
    F = [[d[i] if i == j else zero for j in range(n)] for i in range(n)] + [[zero] * n]
    C = [[1 / d[i] if i == j else zero for j in range(n + 1)] for i in range(n)]
    b = [zero] * n + [-X / (1 - e) * Fraction(1 + 2**-20)]  # room for the rounding of a cast
    U_, F_, b_, C_, h_ = (np.array(a, dtype=object) for a in (U, F, b, C, [zero] * (n + 1)))
    return RNN(U_, F_, b_, C_, h_).astype(dtype)


def find_witness(student: RNN, input_bound: float | Fraction) -> Witness:
    """An input of at most two steps on which ``student`` differs from `memoryless_teacher`.

    The teacher has a kink across each hyperplane xᵢ = 0 at every step. *(i)* At step 0 the second
    difference of the outputs across xᵢ = 0, at a generic point and so near that no other kink of
    the student interferes, must be δeᵢ. *(ii)* If it is for every i, some x⁽⁰⁾ activates n units
    with independent gradients v_l. At step 1 the units with a kink on xᵢ = 0 around that x⁽⁰⁾ have
    (U v_l)ⱼ = 0 for all l, and U is injective, so there are at most N − n < n of them: for some i
    the student's second difference is 0. Where it fails, one of the three inputs is a witness.

    No search and no training: linear algebra over the rationals, on the exact binary values of Θ,
    of cost polynomial in N. Beside the proof's δ a coarse one is evaluated, exactly as well, and
    the input with the largest gap is returned. If step (i) fails by less than 2⁻²⁰ of the bound,
    step (ii) is tried too and the clearer witness returned.

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
    ValueError : if the activation is not ReLU, m ≠ p, the recurrent matrix is singular, or the
        bound is not a positive finite number.

    References
    ----------
    Theorem 2 of Emami et al. (2019); the proof and the algorithm are this project's.

    Examples
    --------
    >>> turn = RNN(W=[[0.0, 1.0], [-1.0, 0.0]], F=[[1.0, 0.0], [0.0, 1.0]], b=[0.0, 0.0],
    ...            C=[[1.0, 0.0], [0.0, 1.0]], h_init=[0.0, 0.0])
    >>> w = find_witness(turn, input_bound=1.0)
    >>> w.input.shape, w.step, w.gap > 0.2
    ((2, 2), 1, True)
    """
    bound = _positive(input_bound)
    if student.activation != "relu":
        raise ValueError(
            f"activation is {student.activation!r}; theorem 2 is about 'relu' "
            "(find_sigmoid_witness takes 'sigmoid' and 'tanh')."
        )
    _require_square(student)
    if student.n >= 2 * student.m:
        raise NoClaimError(
            f"the student has N = {student.n} states for n = {student.m} inputs; theorem 2 claims "
            f"a difference only below 2n = {2 * student.m}, and unitary_equivalent attains 2n."
        )
    theta = check_student(student)
    found = _refute(theta, _power_of_two(bound))
    if found is None:
        raise AssertionError("no witness although N < 2n and U is invertible; please report this.")
    return _witness(student, *found)


def _require_square(student: RNN) -> None:
    if student.m != student.p:
        raise ValueError(
            f"the student has {student.m} inputs and {student.p} outputs; the memoryless teacher "
            "has as many outputs as inputs."
        )


def check_student(student: RNN) -> Parameters:
    """Θ in exact numbers, after checking m = p and that the recurrent matrix is invertible."""
    _require_square(student)
    theta = parameters(student)
    if theta.W.numer_denom()[0].rank() < student.n:
        raise ValueError(
            "the recurrent matrix W is singular; the converse needs an invertible one (with a "
            "singular one n states are enough: W = 0 is the teacher itself)."
        )
    return theta


def _positive(bound: Any) -> Fraction:
    number = isinstance(bound, int | float | Fraction | np.floating | np.integer)
    if isinstance(bound, bool) or not number or not 0 < bound < np.inf:
        raise ValueError(f"input_bound is {bound!r}; it must be a positive finite number.")
    return fraction(rational(bound))


def _power_of_two(q: Fraction | fmpq) -> fmpq:
    """The largest power of two at most q > 0: points built on it have few bits."""
    from flint import fmpq

    p, d = int(q.numerator), int(q.denominator)
    power = fmpq(2) ** (p.bit_length() - d.bit_length())
    return power if power <= fmpq(p, d) else power / 2


Found = tuple["fmpq", list[list["fmpq"]], int]  # gap, input sequence, coordinate


def _refute(theta: Parameters, radius: fmpq) -> Found | None:
    """The proof as an algorithm. None, which theorem 2 excludes for N < 2n, if no step fails."""
    from flint import fmpq_mat

    first = _kink_test(theta, theta.h_init, radius)
    if first and first[0] * 2**20 >= radius:
        return first[0], [first[1]], first[2]
    x0, s0 = _generic_start(theta, radius)
    second = _kink_test(theta, s0, radius)
    start_gap = _gap(theta, s0, fmpq_mat(len(x0), 1, x0))[0]
    candidates = [(g, [x], i) for g, x, i in [first] if g] if first else []
    if second:
        candidates.append((max(second[0], start_gap), [x0, second[1]], second[2]))
    return max(candidates, key=lambda found: found[0], default=None)


def _gap(theta: Parameters, s: fmpq_mat, X: fmpq_mat) -> list[fmpq]:
    """Largest |C s − ReLU(x)| for each column."""
    from flint import fmpq

    Y = (theta.C * s).tolist()
    return [
        max(abs(y[c] - max(x[c], fmpq(0))) for y, x in zip(Y, X.tolist(), strict=True))
        for c in range(X.ncols())
    ]


def _kink_test(theta: Parameters, s: fmpq_mat, radius: fmpq) -> tuple[fmpq, list[fmpq], int] | None:
    """Second differences across every xᵢ = 0 after the state ``s``.

    Returns the gap, the last input and i of the clearest input of a coordinate that fails.
    """
    from flint import fmpq, fmpq_mat

    n, N = theta.F.ncols(), theta.F.nrows()
    F = theta.F.tolist()
    g = (theta.W * s + theta.b).entries()
    columns, deltas = [], []
    for i in range(n):
        off = [[v if k != i else fmpq(0) for k, v in enumerate(row)] for row in F]
        p = _generic_point(off, g, [fmpq(0)] * n, radius, skip=i)
        at_p = [v + c for v, c in zip((theta.F * fmpq_mat(n, 1, p)).entries(), g, strict=True)]
        # The units left out have their kink on xᵢ = 0 itself: p is generic.
        room = [abs(at_p[j] / F[j][i]) / 2 for j in range(N) if F[j][i] != 0 and at_p[j] != 0]
        delta = _power_of_two(min([*room, radius]))
        deltas.append(delta)
        columns += [[*p[:i], t, *p[i + 1 :]] for t in (-delta, fmpq(0), delta, -radius, radius)]
    X = fmpq_mat(len(columns), n, [v for column in columns for v in column]).transpose()
    after = theta.step(s, X)
    gaps, Y = _gap(theta, after, X), (theta.C * after).tolist()
    best: tuple[fmpq, list[fmpq], int] | None = None
    for i, delta in enumerate(deltas):
        at = range(5 * i, 5 * i + 5)
        kink = [y[at[0]] - 2 * y[at[1]] + y[at[2]] for y in Y]
        if kink != [delta if k == i else 0 for k in range(n)]:
            c = max(at, key=lambda column: gaps[column])
            if best is None or gaps[c] > best[0]:
                best = gaps[c], columns[c], i
    return best


def _generic_start(theta: Parameters, radius: fmpq) -> tuple[list[fmpq], fmpq_mat]:
    """x⁽⁰⁾ ∈ Ω of step (ii) and the state after it.

    In the orthant of the units with a kink on xᵢ = 0 (any orthant where there is none), off every
    other kink at step 0, and off the zero sets of those kinks of step 1 that move with x⁽⁰⁾.
    """
    from flint import fmpq, fmpq_mat

    n, F = theta.F.ncols(), theta.F.tolist()
    g = (theta.W * theta.h_init + theta.b).entries()
    sign = [fmpq(1)] * n
    for row, offset in zip(F, g, strict=True):
        support = [k for k, v in enumerate(row) if v != 0]
        if offset == 0 and len(support) == 1:
            sign[support[0]] = fmpq(1 if row[support[0]] > 0 else -1)
    x = _generic_point(F, g, [v * radius / 2 for v in sign], radius / 2)
    z = [v + c for v, c in zip((theta.F * fmpq_mat(n, 1, x)).entries(), g, strict=True)]
    V = fmpq_mat(len(F), n, [v if z[j] > 0 else 0 for j, row in enumerate(F) for v in row])
    constant = fmpq_mat(len(F), 1, [c if z[j] > 0 else 0 for j, c in enumerate(g)])
    moving = (theta.W * V).tolist()
    rest = (theta.W * constant + theta.b).entries()
    level = (theta.W * (V * fmpq_mat(n, 1, x)) + fmpq_mat(len(F), 1, rest)).entries()
    if any(level[j] == 0 and any(row) for j, row in enumerate(moving)):
        # Move x within the region where no unit changes its activity, and keep the signs.
        reach = [abs(z[j]) / sum(map(abs, row), fmpq(0)) for j, row in enumerate(F) if any(row)]
        room = _power_of_two(min([*reach, *(abs(v) for v in x), *(radius - abs(v) for v in x)]) / 2)
        x = _generic_point(moving, rest, x, room)
    return x, theta.step(theta.h_init, fmpq_mat(n, 1, x))


def _generic_point(
    A: list[list[fmpq]], c: list[fmpq], centre: list[fmpq], radius: fmpq, skip: int = -1
) -> list[fmpq]:
    """A point with A_j x + c_j ≠ 0 for every row A_j ≠ 0, strictly within ``radius`` of ``centre``.

    Coordinates are centre + radius·(odd number)/2^k, fixed one after the other. A row rules out one
    value of its last coordinate, given the ones before; there are more values than rows, and the
    one farthest from those ruled out is taken. Coordinate ``skip`` stays at its centre.
    """
    from flint import fmpq

    bits = max(7, (2 * len(A) + 1).bit_length())
    grid = np.arange(1 - 2**bits, 2**bits, 2)
    grid = np.random.default_rng(0).permutation(grid)  # a fixed order without structure
    last: dict[int, list[int]] = {}
    for j, row in enumerate(A):
        support = [k for k, v in enumerate(row) if v != 0]
        if support:
            last.setdefault(support[-1], []).append(j)
    x = list(centre)
    unit = radius / 2**bits
    far = fmpq(-(2**20)), fmpq(2**20)  # beyond the grid; keeps the floats below finite
    for k in range(len(x)):
        if k == skip:
            continue
        out = []  # the multiples of ``unit`` that are ruled out, exactly
        for j in last.get(k, ()):
            partial = sum((a * v for a, v in zip(A[j], x, strict=True) if a != 0), c[j])
            out.append(-partial / (A[j][k] * unit))
            # x[k] is still at its centre, so ``partial`` + A_jk·unit·m is the value at multiple m
        excluded = set(out)
        near = np.array([float(fraction(min(max(v, far[0]), far[1]))) for v in out] or [0.0])
        distance = np.abs(grid[:, None] - near[None, :]).min(1)
        order = [grid[k % len(grid)]] if not out else grid[np.argsort(-distance, kind="stable")]
        m = next(int(v) for v in order if fmpq(int(v)) not in excluded)
        x[k] = centre[k] + unit * m
    return x


def _witness(student: RNN, gap: fmpq, inputs: list[list[fmpq]], coordinate: int) -> Witness:
    from flint import fmpq_mat

    theta = parameters(student)
    s, outputs = theta.h_init, []
    for column in inputs:
        s = theta.step(s, fmpq_mat(student.m, 1, column))
        outputs += (theta.C * s).entries()
    x = fraction_array(fmpq_mat(len(inputs), student.m, [v for column in inputs for v in column]))
    y = fraction_array(fmpq_mat(len(inputs), student.m, outputs))
    teacher_y = ACTIVATIONS["relu"](x)
    step = len(inputs) - 1
    if student.is_exact:
        return Witness(x, teacher_y, y, fraction(gap), step, coordinate)
    return Witness(
        _in_dtype(x, student.dtype),
        floats(teacher_y),
        floats(y),
        float_below(gap) or fraction(gap),
        step,
        coordinate,
    )


def _in_dtype(x: Array, dtype: np.dtype[Any]) -> Array:
    """``x`` in ``dtype`` if that holds every entry exactly, otherwise ``x``."""
    with np.errstate(over="ignore", under="ignore"):
        rounded = floats(x).astype(dtype)
    finite = rounded.dtype != object and np.isfinite(rounded).all()
    return rounded if finite and rational_matrix(rounded) == rational_matrix(x) else x
