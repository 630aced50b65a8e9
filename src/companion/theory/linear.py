"""Linear recurrences: a unitary one pays n + g(T − 1) states for a window of T steps. **Ours.**

The teacher is h⁽ᵏ⁾ = W h⁽ᵏ⁻¹⁾ + x⁽ᵏ⁾, y = h, from h₋₁ = 0, with n states and no activation. g is
the largest number of independent eigenvectors that W has for one eigenvalue. If no eigenvalue of W
has modulus 1, a linear student with an orthogonal (or complex unitary) recurrent matrix U needs
N ≥ n + g(T − 1) states to repeat the teacher for T steps. `window_student` builds one of that size,
and `find_linear_witness` refutes a smaller one. All arithmetic is exact: floats are taken as the
rationals they are.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from jaxtyping import Shaped

from companion.theory.arithmetic import floats, fractions, invertible, product, solve
from companion.theory.checks import whole_number
from companion.theory.network import RNN, Array, recurrent, simulate
from companion.theory.theorem2 import NoClaimError, Witness

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
    W = recurrent(fractions(W))
    eye, zero = np.eye(len(W), dtype=int), np.zeros(len(W), dtype=int)
    return RNN(W, eye, zero, eye, zero, "identity")


def krylov_matrix(
    U: Shaped[Array, "N N"], F: Shaped[Array, "N m"], steps: int
) -> Shaped[Array, "N k"]:
    """Stack F, UF, …, Uᵀ⁻¹F side by side, exactly: N × mT Fractions for T = ``steps``."""
    blocks = [fractions(F)]
    for _ in range(steps - 1):
        blocks.append(product(fractions(U), blocks[-1]))
    return np.concatenate(blocks, axis=1)


def full_rank(K: Shaped[Array, "N k"]) -> bool:
    """Decide exactly whether the rows of Fractions are independent: K Kᵀ is invertible then."""
    return invertible(product(K, K.T))


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
    draw = np.random.default_rng(0).integers(-(10**6), 10**6, size=(n, n))
    # With the identity the rank is n whatever was drawn.
    return next((m for m in range(1, n) if full_rank(krylov_matrix(W, draw[:, :m], n))), n)


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
    n, g, rng = teacher.n, largest_multiplicity(W), np.random.default_rng(seed)
    markov = krylov_matrix(teacher.W, teacher.F, horizon)
    # All of F, and of each further block the columns that the relations do not give.
    chosen = [j for j in range(n * horizon) if j < n or j % n < g]
    for _ in range(_TRIES):
        B = fractions(rng.integers(1, 10, size=(n, n - g)))
        try:
            U, F = _turning(N, product(teacher.W, B), B, rng)
            K = krylov_matrix(U, F, horizon)
            C = solve(K[:, chosen].T, markov[:, chosen].T).T
        except ZeroDivisionError:
            continue  # an unlucky draw
        if (product(C, K) == markov).all():
            zero = np.full(N, Fraction(0))
            return RNN(U, F, zero, C, zero, "identity")
    raise ArithmeticError(f"no Krylov matrix of rank {N} in {_TRIES} draws; try another seed.")


def _turning(N: int, WB: Array, B: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Make U, and F, whose rows (a + ib) at a point z of the circle annihilate (zI − W)B."""
    n, planes = len(B), N // 2
    U, F = np.full((N, N), Fraction(0)), np.full((N, n), Fraction(0))
    # Nearly evenly spaced, so that the powers of U are well apart; distinct for this denominator.
    angles = np.pi * (np.arange(planes) + 0.5) / max(planes, 1)
    for k, angle in enumerate(angles):
        t = Fraction(float(np.tan(angle / 2))).limit_denominator(4 * planes)
        c, s = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
        at = slice(2 * k, 2 * k + 2)
        U[at, at] = [[c, -s], [s, c]]
        P, Q = c * B - WB, s * B  # aP = bQ and aQ = −bP; the rows of a and b take turns
        both = np.stack([np.hstack([P, Q]), np.hstack([-Q, P])], axis=1)
        F[at] = _null_row(both.reshape(2 * n, -1), rng).reshape(n, 2).T
    if N % 2:
        U[-1, -1] = Fraction(1)
        F[-1] = _null_row(B - WB, rng)
    return U, F


def _null_row(M: Array, rng: np.random.Generator) -> Shaped[Array, " k"]:
    """Find a row a with aM = 0: its last entries are drawn, the first solved for."""
    rows, columns = M.shape
    last = fractions(rng.integers(1, 10, size=rows - columns))
    if not columns:
        return last
    first = solve(M[:columns].T, -product(last[None], M[columns:]).T)[:, 0]
    return np.concatenate([first, last])


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
    Witness of at most ⌊(N − n)/g⌋ + 2 steps; `certify_witness` with this ``W`` makes a certificate
    of it.

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
    steps = max(max(student.n - n, -1) // largest_multiplicity(W) + 2, 1)
    x = np.zeros((n + 1, steps, n), dtype=int)
    x[range(n), 0, range(n)] = 1  # the last input is 0 throughout
    wanted, got = simulate(teacher, x), simulate(student.astype(object), x)
    gaps = np.abs(wanted - got)
    i, k, c = map(int, np.unravel_index(gaps.argmax(), gaps.shape))
    if not gaps[i, k, c]:
        raise NoClaimError(
            f"equal for {steps} steps: the recurrent matrix of the student and W have an "
            "eigenvalue in common. A difference is promised for an orthogonal recurrent matrix and "
            "a W without eigenvalues of modulus 1."
        )
    shown, y, z = x[i, : k + 1].astype(student.dtype), wanted[i, : k + 1], got[i, : k + 1]
    return Witness(shown, floats(y), floats(z), gaps[i, k, c], k, c)
