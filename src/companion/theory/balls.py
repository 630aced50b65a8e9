"""Balls: intervals m ± r that hold a real number, and what is computed from them holds the result.

They are flint's `arb` where python-flint is installed, and `Ball`, in plain Python, where it is
not. Arrays of balls are NumPy arrays of objects.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from fractions import Fraction
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from math import isqrt
from typing import Any

from jaxtyping import Shaped

from companion.theory.arithmetic import Array, floor_log2, objects


class Ball:
    """The numbers within r·2^e of m·2^e, m, r and e integers; what arb does, without flint.

    Every result is rounded to `bits` bits of m and holds the exact one: what a rounding moves is
    added to r. The names are flint's. `a < b` is True if it holds for all numbers in the two.

    Examples
    --------
    >>> with precision(64):
    ...     third = Ball(1) / Ball(3)
    >>> ends(third)[0] < Fraction(1, 3) < ends(third)[1]
    True
    """

    __slots__ = ("e", "m", "r")
    bits = 53

    def __init__(self, m: int, r: int = 0, e: int = 0) -> None:
        self.m, self.r, self.e = m, r, e

    def __add__(self, other: Any) -> Ball:
        other = _as_ball(other)
        a, b = (self, other) if self.e >= other.e else (other, self)
        size = max(b.m.bit_length(), b.r.bit_length())
        room = max(Ball.bits - a.m.bit_length(), 0)
        if not size or not (a.m or a.r):
            a = b if size else a
            return _rounded(a.m, a.r, a.e)
        if b.e + size < a.e - room:  # |b| is below the last place of a
            return _rounded(a.m << room, (a.r << room) + 1, a.e - room)
        up = a.e - b.e
        return _rounded((a.m << up) + b.m, (a.r << up) + b.r, b.e)

    def __mul__(self, other: Any) -> Ball:
        other = _as_ball(other)
        r = abs(self.m) * other.r + self.r * (abs(other.m) + other.r)
        return _rounded(self.m * other.m, r, self.e + other.e)

    def __truediv__(self, other: Any) -> Ball:
        b = _as_ball(other)
        size = abs(b.m)
        if size <= b.r:
            raise ZeroDivisionError("a ball that holds 0 cannot be divided by.")
        up = max(Ball.bits + 2 + size.bit_length() - self.m.bit_length(), 0)
        m, lost = divmod((self.m << up) * (1 if b.m > 0 else -1), size)
        r = -(-((abs(self.m) * b.r + size * self.r) << up) // (size * (size - b.r)))
        return _rounded(m, r + (lost != 0), self.e - b.e - up)

    def __neg__(self) -> Ball:
        return _rounded(-self.m, self.r, self.e)

    def __sub__(self, other: Any) -> Ball:
        return self + -_as_ball(other)

    def __rsub__(self, other: Any) -> Ball:
        return _as_ball(other) - self

    def __rtruediv__(self, other: Any) -> Ball:
        return _as_ball(other) / self

    __radd__, __rmul__ = __add__, __mul__

    def __lt__(self, other: Any) -> bool:
        d: Ball = self - other
        return d.m + d.r < 0

    def __gt__(self, other: Any) -> bool:
        d: Ball = self - other
        return d.m - d.r > 0

    def __abs__(self) -> Ball:
        if abs(self.m) >= self.r:
            return _rounded(abs(self.m), self.r, self.e)
        return _rounded(abs(self.m) + self.r, abs(self.m) + self.r, self.e - 1)

    def lower(self) -> Ball:
        """Give the lower end, a ball of radius 0."""
        return Ball(self.m - self.r, 0, self.e)

    def upper(self) -> Ball:
        """Give the upper end."""
        return Ball(self.m + self.r, 0, self.e)

    def mid(self) -> Ball:
        """Give the midpoint."""
        return Ball(self.m, 0, self.e)

    def abs_lower(self) -> Ball:
        """Give the least modulus in the ball."""
        return Ball(max(abs(self.m) - self.r, 0), 0, self.e)

    def contains_interior(self, other: Ball) -> bool:
        """Say whether the other ball lies inside this one, its ends off the ends."""
        return other.lower() > self.lower() and other.upper() < self.upper()

    def man_exp(self) -> tuple[int, int]:
        """Give m and e of the midpoint m·2^e."""
        return self.m, self.e

    def exp(self) -> Ball:
        """Enclose e^x: Taylor's series at x/2^j, its remainder in the radius, squared j times."""
        if self.r:  # e^(m ± r) = e^m (1 ± 2r) for r ≤ 1
            if Ball(self.r, 0, self.e) > 1:
                low, high = self.lower().exp(), self.upper().exp()
                return (low + high + _UNIT * (high - low)) * Fraction(1, 2)
            return self.mid().exp() * (1 + 2 * _UNIT * Ball(self.r, 0, self.e))
        if not self.m:
            return Ball(1)
        size = self.m.bit_length() + self.e  # |x| < 2^size
        if size > 64:
            if self.m > 0:
                raise OverflowError("e^x of an x above 2^63 is not computed.")
            return _rounded(1, 1, -(2**63))
        # Taylor at t = x/2^j, |t| < 1/4, in units of 2^-w. A floor costs a unit, so each term is
        # off by less than 3, as is all that follows the last. Then squared j times.
        j = max(size + isqrt(Ball.bits) // 2 + 2, 0)
        w = Ball.bits + j + 16
        up = w + self.e - j
        t = self.m << up if up >= 0 else self.m >> -up
        total = term = 1 << w
        k = 0
        while term:
            k += 1
            term = (term * t >> w) // k
            total += term
        with precision(w):
            y = _rounded(total, 3 * k + 3, -w)
            for _ in range(j):
                y = y * y
        return _rounded(y.m, y.r, y.e)

    def tanh(self) -> Ball:
        """Enclose tanh, whose slope is at most 1; small numbers to the full relative precision."""
        size, x = self.m.bit_length() + self.e, self.mid()
        if 2 * size < -Ball.bits or not self.m:  # |tanh x − x| ≤ |x|³
            y = x + _UNIT * (x * x * x)
        else:
            with precision(Ball.bits + max(-size, 0) + 8):
                small = (-2 * abs(x)).exp()
                y = (1 - small) / (1 + small) * (1 if self.m > 0 else -1)
        return y + _UNIT * Ball(self.r, 0, self.e)


def _rounded(m: int, r: int, e: int) -> Ball:
    """Round m to the working precision, and r to 64 bits if it is longer."""
    drop = max(m.bit_length() - Ball.bits, r.bit_length() - 64)
    if drop <= 0:
        return Ball(m, r, e)
    cut = m >> drop
    return Ball(cut, -(-r >> drop) + (cut << drop != m), e + drop)


def _as_ball(value: Any) -> Ball:
    """Enclose a number: a dyadic one as it is, others to one bit more than is worked with."""
    if isinstance(value, Ball) or type(value) is int:
        return value if isinstance(value, Ball) else Ball(value)
    p, d = Fraction(value).as_integer_ratio()
    up = d.bit_length() - 1 if d & (d - 1) == 0 else Ball.bits - floor_log2(Fraction(abs(p), d))
    m, lost = divmod(p << up, d) if up >= 0 else divmod(p, d << -up)
    return Ball(m, int(lost != 0), -up)


_UNIT = Ball(0, 1)  # 0 ± 1


@cache
def _flint() -> Any:
    return import_module("flint") if find_spec("flint") else None


def balls_are() -> str:
    """Say what balls are made of here: "flint" or "python", which COMPANION_BALLS can ask for."""
    asked = os.environ.get("COMPANION_BALLS") == "python"
    return "python" if asked or not _flint() else "flint"


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Compute with balls of ``bits`` bits inside the block."""
    before, Ball.bits = Ball.bits, bits
    try:
        with _flint().ctx.workprec(bits) if balls_are() == "flint" else nullcontext():
            yield
    finally:
        Ball.bits = before


def ball(value: float | Fraction, radius: float = 0) -> Any:
    """Enclose a number, to the working precision, or an interval around it."""
    if balls_are() == "python":
        exact = _as_ball(value)
        return exact + _UNIT * radius if radius else exact
    q, flint = Fraction(value), _flint()
    exact = flint.arb(flint.fmpq(q.numerator, q.denominator))
    return exact + flint.arb(0, radius) if radius else exact


def balls(a: Shaped[Array, ...]) -> Array:
    """Enclose every entry of an array of floats or Fractions."""
    return objects(map(ball, a.ravel().tolist()), a.shape)


def ends(value: Any) -> tuple[Fraction, Fraction]:
    """Give the ends of a ball as Fractions, rounded outwards to multiples of 2^−13 000.

    Raises
    ------
    OverflowError : if an end is beyond 2^100 000, too long to write out.
    """
    return _floor(value.lower()), -_floor(-value.upper())


def _floor(end: Any) -> Fraction:
    m, e = (int(v) for v in end.man_exp())
    if m and m.bit_length() + e > 100_000:
        raise OverflowError(f"the number is about 2^{m.bit_length() + e}; allowed: 2^100000.")
    if (drop := -13_000 - e) > 0:  # an arb's exponent may be too large to shift by
        m, e = m >> min(drop, m.bit_length() + 1), -13_000
    return Fraction(m) * Fraction(2) ** e


def moduli(value: Any) -> tuple[Fraction, Fraction]:
    """Bound the modulus of what is in a ball, from below and above."""
    low, high = ends(value)
    return max(low, -high, Fraction(0)), max(high, -low)
