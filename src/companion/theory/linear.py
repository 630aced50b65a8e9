"""Linear recurrences: a unitary one pays n + g(T − 1) states for a window of T steps. **Ours.**

The teacher is h⁽ᵏ⁾ = W h⁽ᵏ⁻¹⁾ + x⁽ᵏ⁾, y = h, from h₋₁ = 0, with n states and no activation. g is
the largest number of independent eigenvectors that W has for one eigenvalue. If no eigenvalue of W
has modulus 1, a linear student with an orthogonal recurrent matrix U needs N ≥ n + g(T − 1) states
to repeat the teacher for T steps. `window_student` builds one of that size, and
`find_linear_witness` refutes a smaller one. All arithmetic is exact: floats are taken as the
rationals they are.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from companion.theory.checks import whole_number
from companion.theory.exact import floats, fraction_array, parameters, rational_matrix
from companion.theory.network import RNN, simulate
from companion.theory.theorem2 import NoClaimError, Witness

if TYPE_CHECKING:
    from flint import fmpq_mat

Array = np.ndarray
_TRIES = 8  # draws of B and F; one is enough but for a set of measure zero


def linear_teacher(W: Shaped[Array, "n n"]) -> RNN:
    """Make the teacher h⁽ᵏ⁾ = W h⁽ᵏ⁻¹⁾ + x⁽ᵏ⁾, y = h, h₋₁ = 0, with the exact values of ``W``.

    Parameters
    ----------
    W : array, shape (n, n), of floats, integers or Fractions.

    Examples
    --------
    >>> simulate(linear_teacher(np.array([[0.5]])), np.eye(3, 1, dtype=int)).ravel().tolist()
    [Fraction(1, 1), Fraction(1, 2), Fraction(1, 4)]
    """
    W = np.asarray(W)
    if W.ndim != 2 or W.shape[0] != W.shape[1] or not len(W):
        raise ValueError(f"W has shape {W.shape}; it must be square, of at least one row.")
    eye, zero = np.eye(len(W), dtype=int), np.zeros(len(W), dtype=int)
    return RNN(fraction_array(rational_matrix(W)), eye, zero, eye, zero, "identity")


def krylov_matrix(U: Shaped[Array, "N N"], F: Shaped[Array, "N m"], steps: int) -> fmpq_mat:
    """Stack F, UF, …, Uᵀ⁻¹F side by side, exactly: an N × mT matrix for T = ``steps``."""
    u, block = rational_matrix(np.asarray(U)), rational_matrix(np.asarray(F))
    blocks = []
    for _ in range(steps):
        blocks.append(block)
        block = u * block
    return _beside(blocks)


def _beside(blocks: list[fmpq_mat]) -> fmpq_mat:
    from flint import fmpq_mat

    lists = (block.tolist() for block in blocks)
    return fmpq_mat([list(chain.from_iterable(row)) for row in zip(*lists, strict=True)])


def largest_multiplicity(W: Shaped[Array, "n n"]) -> int:
    """Count g = max dim ker(W − λI) over the eigenvalues λ of ``W``, real or complex.

    It is the least number m of vectors V = (v₁, …, v_m) whose Krylov matrix [V, WV, …, Wⁿ⁻¹V] has
    rank n. V is drawn at random with entries up to 10⁶; the answer is never too small, and too
    large with a probability below n²/10⁶ only.

    Examples
    --------
    >>> [largest_multiplicity(np.diag(d)) for d in ([0.5, 0.25], [0.5, 0.5], [0.0, 0.0, 0.5])]
    [1, 2, 2]
    """
    W, n = linear_teacher(W).W, len(W)
    draw = np.random.default_rng(0).integers(-(10**6), 10**6, size=(n, n)).astype(object)
    return next(m for m in range(1, n + 1) if krylov_matrix(W, draw[:, :m], n).rank() == n)


def window_states(W: Shaped[Array, "n n"], horizon: int) -> int:
    """Return n + g(T − 1), the states of `window_student`, and needed if no |λ(W)| is 1."""
    horizon = whole_number("horizon", horizon, 1)
    return len(W) + largest_multiplicity(W) * (horizon - 1)


def window_student(W: Shaped[Array, "n n"], horizon: int, *, seed: int = 0) -> RNN:
    """Build an orthogonal linear network that repeats the teacher of ``W`` exactly for T steps.

    U turns N/2 planes by the angles of N/2 points z on the unit circle, with rational sine and
    cosine (and keeps one direction, z = 1, if N is odd). With a random n × (n − g) matrix B the row
    of F at z is drawn from the left null space of (zI − W)B, so that Σ UʲF qⱼ = 0 for every
    polynomial q(z) = (zI − W)B p(z), for which Σ Wʲ qⱼ = 0 as well. C solves C UʲF = Wʲ for j < T.

    Parameters
    ----------
    W : array, shape (n, n), of floats, integers or Fractions; any eigenvalues.
    horizon : T ≥ 1.
    seed : of B and of the draws from the null spaces.

    Returns
    -------
    RNN of N = n + g(T − 1) states, with Fractions for entries, UᵀU = I exactly, b = 0 and s₋₁ = 0.

    Raises
    ------
    ArithmeticError : if no draw gives a Krylov matrix of rank N. None is known to do so.

    Examples
    --------
    >>> W = np.array([[0.5, 0.25], [0.0, -0.5]])
    >>> student, x = window_student(W, 3), np.eye(4, 2, dtype=int)
    >>> (simulate(student, x) == simulate(linear_teacher(W), x)).all(axis=1).tolist()
    [True, True, True, False]
    """
    teacher, N = linear_teacher(W), window_states(W, horizon)
    n, g = teacher.n, largest_multiplicity(W)
    rng = np.random.default_rng(seed)
    markov = krylov_matrix(teacher.W, teacher.F, horizon)
    for _ in range(_TRIES):
        B = rng.integers(-3, 4, size=(n, n - g)).astype(object)
        U, F = np.full((N, N), Fraction(0)), np.full((N, n), Fraction(0))
        for k, (c, s) in enumerate(_circle_points(N // 2)):
            at = slice(2 * k, 2 * k + 2)
            U[at, at] = [[c, -s], [s, c]]
            F[at] = _null_row(c * B - teacher.W.dot(B), s * B, rng).reshape(2, n)
        if N % 2:
            U[-1, -1] = Fraction(1)
            F[-1] = _null_row(B - teacher.W.dot(B), None, rng)
        C = _solve_left(krylov_matrix(U, F, horizon), markov)
        if C is not None:
            zero = np.full(N, Fraction(0))
            return RNN(U, F, zero, C, zero, "identity")
    raise ArithmeticError(f"no Krylov matrix of rank {N} in {_TRIES} draws; try another seed.")


def _circle_points(count: int) -> list[tuple[Fraction, Fraction]]:
    """Rational points of the upper half circle, nearly evenly spaced, so that U is well turned."""
    angles = np.pi * (np.arange(count) + 0.5) / max(count, 1)
    tangents = [Fraction(float(np.tan(a / 2))).limit_denominator(4 * count) for a in angles]
    return [((1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)) for t in tangents]


def _null_row(P: Array, Q: Array | None, rng: np.random.Generator) -> Shaped[Array, " k"]:
    """A random row (a, b) with (a + ib)(P + iQ) = 0; for ``Q`` = None a row a with aP = 0."""
    M = P if Q is None else np.block([[P, Q], [-Q, P]])
    size, columns = M.shape
    basis = np.eye(size, dtype=object)
    if columns:
        reduced, rank = rational_matrix(M.T).rref()
        rows = fraction_array(reduced)[:rank]
        pivots = [int(np.flatnonzero(row)[0]) for row in rows]
        free = [i for i in range(size) if i not in pivots]
        basis = np.full((len(free), size), Fraction(0))
        basis[np.arange(len(free)), free] = Fraction(1)
        basis[:, pivots] = -rows[:, free].T
    weights = rng.integers(1, 4, size=len(basis)).astype(object)
    return np.asarray(weights.dot(basis))


def _solve_left(K: fmpq_mat, M: fmpq_mat) -> Array | None:
    """The C with C K = M, exactly; None if K has dependent rows or there is no C."""
    N = K.nrows()
    reduced, rank = _beside([K.transpose(), M.transpose()]).rref()
    solved = fraction_array(reduced)[:N]
    if rank != N or not (np.diag(solved[:, :N]) == 1).all():
        return None
    return np.asarray(solved[:, N:].T)


def find_linear_witness(student: RNN, W: Shaped[Array, "n n"]) -> Witness:
    """Find an input on which ``student`` differs from `linear_teacher` of ``W``, in few steps.

    Equal outputs over T steps are C UʲF = Wʲ for j < T, and 0 for the input 0. They force
    N ≥ n + g(T − 1) if U and W have no eigenvalue in common: for one they fail within
    T = ⌊(N − n)/g⌋ + 2 steps. So the responses to 0 and to one unit input at step 0 are enough; the
    one with the largest difference is returned. Nothing is searched, and nothing rounded.

    Parameters
    ----------
    student : network without activation, m = p = n, of any size N, bias and initial state. Its
        recurrent matrix orthogonal, and no eigenvalue of ``W`` of modulus 1: then none is common.
    W : array, shape (n, n), the recurrent matrix of the teacher.

    Returns
    -------
    Witness of at most ⌊(N − n)/g⌋ + 2 steps. Its outputs follow from its input in exact arithmetic
    (`simulate` of the two networks in Fractions), which is the certificate.

    Raises
    ------
    ValueError : for a student with an activation or of another number of inputs or outputs.
    NoClaimError : if the outputs are equal so long; then U and W share an eigenvalue.

    Examples
    --------
    >>> quarter_turn = RNN([[0.0, -1.0], [1.0, 0.0]], [[1.0], [0.0]], [0.0, 0.0], [[1.0, 0.5]],
    ...                    [0.0, 0.0], "identity")
    >>> witness = find_linear_witness(quarter_turn, np.array([[0.5]]))
    >>> witness.step, witness.input.ravel().tolist(), witness.gap
    (2, [1.0, 0.0, 0.0], Fraction(5, 4))
    """
    teacher = linear_teacher(W)
    n = teacher.n
    if student.activation != "identity" or (student.m, student.p) != (n, n):
        raise ValueError(
            f"the student has activation {student.activation!r}, {student.m} inputs and "
            f"{student.p} outputs; a linear one of {n} inputs and outputs is needed."
        )
    steps = max(student.n - n, -1) // largest_multiplicity(W) + 2
    theta = parameters(student)
    exact = RNN(
        fraction_array(theta.W),
        fraction_array(theta.F),
        fraction_array(theta.b).ravel(),
        fraction_array(theta.C),
        fraction_array(theta.h_init).ravel(),
        "identity",
    )
    best = None
    for coordinate in (None, *range(n)):
        x = np.zeros((max(steps, 1), n), dtype=int)
        if coordinate is not None:
            x[0, coordinate] = 1
        wanted, got = simulate(teacher, x), simulate(exact, x)
        gaps = np.abs(wanted - got)
        k, c = np.unravel_index(int(np.argmax(gaps)), gaps.shape)
        if gaps[k, c] > 0 and (best is None or gaps[k, c] > best[0]):
            best = gaps[k, c], int(k), int(c), x[: k + 1], wanted[: k + 1], got[: k + 1]
    if best is None:
        raise NoClaimError(
            f"equal for {steps} steps: the recurrent matrix of the student and W have an "
            "eigenvalue in common. A difference is promised for an orthogonal recurrent matrix and "
            "a W without eigenvalues of modulus 1."
        )
    gap, step, output, x, wanted, got = best
    shown = x.astype(student.dtype) if student.dtype != object else x.astype(object)
    return Witness(shown, floats(wanted), floats(got), gap, step, output)
