"""Arithmetic that loses nothing: Fractions, the elimination of their matrices, safe rounding.

Arrays are NumPy arrays of objects; the elimination serves balls (`companion.theory.balls`) as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from math import ceil, isqrt, lcm
from typing import Any

import numpy as np
from jaxtyping import Shaped

Array = np.ndarray


def fractions(a: Any) -> Array:
    """Turn floats, ints or Fractions into an object array of the Fractions that they are."""
    a = np.asarray(a)
    return objects((Fraction(v) for v in a.ravel().tolist()), a.shape)


def objects(values: Iterable[Any], shape: tuple[int, ...]) -> Array:
    """Gather values in an array of objects."""
    return np.fromiter(values, dtype=object).reshape(shape)


def floats(a: Shaped[Array, ...]) -> Array:
    """Round Fractions to float64; leave them where one lies beyond its range."""
    try:
        return a.astype(np.float64)
    except OverflowError:
        return a


def integers(a: Shaped[Array, ...]) -> tuple[Array, int]:
    """Write Fractions over one denominator: an array N of ints and d > 0 with a = N / d."""
    d = lcm(*{v.denominator for v in a.flat})
    return objects((v.numerator * (d // v.denominator) for v in a.flat), a.shape), d


def over(N: Shaped[Array, ...], d: int) -> Array:
    """Divide an array of ints by an int: an array of Fractions."""
    return objects((Fraction(v, d) for v in N.flat), N.shape)


def product(A: Shaped[Array, "n k"], B: Shaped[Array, ...]) -> Array:
    """Multiply matrices of Fractions, each entry reduced once instead of after every sum."""
    (M, c), (N, d) = integers(A), integers(B)
    return over(M @ N, c * d)


def floor_log2(value: Fraction) -> int:
    """Find the largest e with 2^e ≤ value, for a value above 0."""
    e = value.numerator.bit_length() - value.denominator.bit_length()
    return e if Fraction(2) ** e <= value else e - 1


def root_above(value: Fraction) -> Fraction:
    """Bound a square root from above, within 2⁻¹⁰⁰ relatively; exact for 0."""
    if not value:
        return Fraction(0)
    unit = Fraction(2) ** (floor_log2(value) // 2 - 102)
    return (isqrt(ceil(value / unit**2) - 1) + 1) * unit


def float_below(value: Fraction) -> float:
    """Find the largest float64 that is not above ``value``."""
    try:
        nearest = float(value)
    except OverflowError:
        nearest = np.inf if value > 0 else -np.inf
    return nearest if nearest <= value else float(np.nextafter(nearest, -np.inf))


def float_above(value: Fraction) -> float:
    """Find the least float64 that is not below ``value``."""
    return -float_below(-value)


def decimal(q: Fraction, digits: int, *, up: bool) -> str:
    """Print a number exactly where 17 digits are enough for that, else rounded down or up."""
    for precision in (17, digits):
        rounding = ROUND_CEILING if up else ROUND_FLOOR
        context = Context(prec=precision, rounding=rounding, Emin=-(10**6), Emax=10**6)
        shown = context.divide(Decimal(q.numerator), Decimal(q.denominator)).normalize(context)
        if Fraction(shown) == q:
            break
    return f"{shown:f}" if -7 < shown.adjusted() < 17 else f"{shown:e}"


def at_least(value: float | Fraction, digits: int = 6) -> str:
    """Print a number that is proved to be reached: rounded down, so that the text is proved too.

    Exact where 17 digits are enough for that; 2^-e where float64 would read 0.

    Examples
    --------
    >>> at_least(0.19999996), at_least(0.75), at_least(Fraction(2, 3)), at_most(Fraction(2, 3))
    ('0.199999', '0.75', '0.666666', '0.666667')
    """
    q = Fraction(value)
    return f"2^{floor_log2(q)}" if 0 < q < Fraction(5e-324) else decimal(q, digits, up=False)


def at_most(value: float | Fraction, digits: int = 6) -> str:
    """Print a number that is proved not to be passed: rounded up; exact as in `at_least`."""
    return decimal(Fraction(value), digits, up=True)


# --- elimination


def _eliminate(M: Shaped[Array, "n k"], *, exchange: bool) -> tuple[Array, list[Any]]:
    """Bring M = [A B] to [det(A)·I, det(A)·A⁻¹B]; the leading minors of A as they are met.

    Bareiss' fraction-free form: on ints every division is exact. On balls it is as good as any.
    It stops after a minor that is 0, or a ball that may be. With ``exchange`` rows are swapped, one
    of the two negated, to avoid that.
    """
    M, minors, previous = M.copy(), [], 1
    whole = isinstance(M.flat[0], int)
    for k in range(len(M)):
        if exchange:
            sizes = [abs(v) if whole else v.abs_lower() for v in M[k:, k]]
            best = k + max(range(len(sizes)), key=lambda i: sizes[i])
            if best != k:
                M[k], M[best] = -M[best], M[k].copy()
        pivot = M[k, k]
        minors.append(pivot)
        if not (pivot > 0 or pivot < 0):
            break
        rest = np.arange(len(M)) != k
        rows = M[rest] * pivot - M[rest, k : k + 1] * M[k]
        M[rest] = rows // previous if whole else rows / previous
        previous = pivot
    return M, minors


def positive_definite(A: Shaped[Array, "n n"]) -> bool:
    """Decide whether a symmetric matrix of Fractions is positive definite; for balls: prove it.

    Examples
    --------
    >>> [positive_definite(fractions([[a, 1], [1, 2]])) for a in (2, 0)]
    [True, False]
    """
    N = integers(A)[0] if isinstance(A.flat[0], Fraction | int) else A
    minors = _eliminate(N, exchange=False)[1]
    return len(minors) == len(A) and all(v > 0 for v in minors)


def length_above(v: Shaped[Array, " n"]) -> Fraction:
    """Bound ‖v‖₂ of Fractions from above, within 2⁻¹⁰⁰ relatively."""
    return root_above(sum((a * a for a in v), Fraction(0)))


def norm_above(A: Shaped[Array, "n k"]) -> Fraction:
    """Bound ‖A‖₂ of Fractions from above: by LAPACK and a margin, then c²I − AAᵀ ≻ 0 is proved."""
    largest = max(abs(v) for v in A.flat)
    if not largest:
        return Fraction(0)
    unit = Fraction(2) ** floor_log2(largest)  # so that no float overflows
    scaled = A / unit if A.shape[0] <= A.shape[1] else A.T / unit
    # Half the margin of `state_bound`, whose ball is to be confirmed.
    eps = 5 * sum(A.shape) * float(np.finfo(float).eps)
    c = Fraction(float(np.linalg.norm(scaled.astype(float), 2)) * (1 + eps))
    if not positive_definite(np.diag([c * c] * len(scaled)) - product(scaled, scaled.T)):
        raise ArithmeticError("the norm of a matrix could not be bounded.")
    return c * unit


def solve(A: Shaped[Array, "n n"], B: Shaped[Array, "n k"]) -> Array:
    """Compute A⁻¹B exactly for Fractions, enclosed for balls.

    Raises
    ------
    ZeroDivisionError : if A is singular, or, of balls, may be.

    Examples
    --------
    >>> solve(fractions([[0, 2], [1, 0]]), fractions([[1], [1]])).ravel().tolist()
    [Fraction(1, 1), Fraction(1, 2)]
    """
    M, n = np.concatenate([A, B], axis=1), len(A)
    if rational := isinstance(M.flat[0], Fraction | int):
        columns, d = zip(*map(integers, M.T), strict=True)  # one d for all makes them far longer
        M, scale = np.stack(columns, axis=1), objects(d, (len(d),))
    M, minors = _eliminate(M, exchange=True)
    if not (minors[-1] > 0 or minors[-1] < 0):
        raise ZeroDivisionError("the matrix is singular, or too close to it for its balls.")
    X, det = M[:, n:], minors[-1]
    return np.asarray(over(X * scale[:n, None], det) / scale[n:] if rational else X / det)


def determinant(A: Shaped[Array, "n n"]) -> Fraction:
    """Compute a determinant of Fractions exactly."""
    N, d = integers(A)
    return Fraction(_eliminate(N, exchange=True)[1][-1], d ** len(A))


def invertible(A: Shaped[Array, "n n"]) -> bool:
    """Decide exactly whether det A ≠ 0, for a matrix of Fractions.

    A determinant that is not 0 modulo a prime is not 0; one in 2³¹ is 0 there all the same, and
    then the elimination over the integers decides.
    """
    p, N = 2**31 - 1, integers(A)[0]
    M = (N % p).astype(np.int64)
    for k in range(len(M)):
        at = np.flatnonzero(M[k:, k])
        if not at.size:
            return determinant(A) != 0
        M[[k, k + at[0]]] = M[[k + at[0], k]]
        factors = M[k + 1 :, k] * pow(int(M[k, k]), -1, p) % p
        M[k + 1 :] = (M[k + 1 :] - factors[:, None] * M[k]) % p
    return True
