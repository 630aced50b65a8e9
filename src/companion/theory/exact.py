"""Outputs without rounding: a network's parameters are taken as the very numbers they are.

A float is a rational number, so a ReLU network of floats has exact outputs; those of a logistic or
tanh network are enclosed in balls of any wanted precision (`companion.theory.balls`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from companion.theory.arithmetic import float_above, float_below, floor_log2, integers, product
from companion.theory.balls import ball, balls, moduli, precision
from companion.theory.network import RNN, Array


def _logistic(z: Any) -> Any:
    # ½(1 + tanh(z/2)) would cancel for z → −∞; e^z/(1 + e^z) does not.
    if z < 0:
        return z.exp() / (1 + z.exp())
    wide = not z > 0 and not abs(z) < 1  # then e^−z may be beyond all bounds
    return ball(0.5, 0.5) if wide else 1 / (1 + (-z).exp())


def _logistic_slope(z: Any) -> Any:
    e = (-abs(z)).exp()
    return e / ((1 + e) * (1 + e))


_PHI: dict[str, Callable[[Any], Any]] = {
    "identity": lambda z: z,
    "relu": lambda z: z if z > 0 else ball(0) if z < 0 else (z + abs(z)) / 2,
    "sigmoid": _logistic,
    "tanh": lambda z: z.tanh(),
}
_SLOPE: dict[str, Callable[[Any], Any]] = {
    "sigmoid": _logistic_slope,
    "tanh": lambda z: 4 * _logistic_slope(2 * z),
}


def activation_balls(activation: str) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Give φ, and φ′ of a smooth activation, on arrays of balls."""
    phi, slope = _PHI[activation], _SLOPE.get(activation, _PHI["identity"])
    return np.frompyfunc(phi, 1, 1), np.frompyfunc(slope, 1, 1)


def ball_outputs(rnn: RNN, x: Shaped[Array, "T m"], bits: int) -> Shaped[Array, "T p"]:
    """Enclose the outputs y = G(x, Θ) of any network in balls of ``bits`` bits.

    Θ and x, of floats or Fractions, are taken as the exact numbers they are, so each ball provably
    holds the true output.
    """
    phi, _ = activation_balls(rnn.activation)
    with precision(bits):
        W, F, b, C, h = (balls(a) for a in (rnn.W, rnn.F, rnn.b, rnn.C, rnn.h_init))
        outputs = []
        for u in balls(np.asarray(x)):
            h = phi(W @ h + F @ u + b)
            outputs.append(C @ h)
        return np.array(outputs, dtype=object).reshape(-1, rnn.p)


def integer_outputs(rnn: RNN, x: Shaped[Array, "T m"]) -> Iterator[tuple[Array, int]]:
    """Run an exact ReLU network on integers: C h⁽ᵏ⁾ as ints over a common denominator, for each k.

    No fraction is reduced on the way, which makes a thousand steps a matter of a second.
    """
    (W, w), (C, c) = integers(rnn.W), integers(rnn.C)
    drive, d = integers(product(x, rnn.F.T) + rnn.b)
    h, scale = integers(rnn.h_init)
    h, scale = h * d, scale * d
    for row in drive:
        scale *= w
        h = np.maximum(W @ h + row * (scale // d), 0)
        yield C @ h, scale * c


class Trial(NamedTuple):
    """A student and its teacher on one input; without a teacher it is the memoryless y = φ(x)."""

    student: RNN
    x: Shaped[Array, "T n"]
    teacher: RNN | None = None

    def outputs(self, bits: int) -> tuple[Shaped[Array, "T n"], Shaped[Array, "T n"]]:
        """Enclose the outputs of the teacher, and those of the student."""
        y = ball_outputs(self.student, self.x, bits)
        if self.teacher is not None:
            return ball_outputs(self.teacher, self.x, bits), y
        with precision(bits):
            return activation_balls(self.student.activation)[0](balls(np.asarray(self.x))), y


def clearest_gap(
    trial: Trial, bits: int, before: Callable[[Trial, int], None] | None = None
) -> tuple[tuple[int, int], Fraction, int] | None:
    """Find where a student differs most clearly from its teacher.

    None if ``bits`` bits don't show a gap to a factor of 2. What is returned depends on the gap
    alone, not on the last bits of an enclosure: every kind of balls gives the same.

    Returns
    -------
    Step and output; the gap, rounded down by at most 2⁻⁴⁰ of it; and the precision, at which it is
    known far better. ``before`` is called before each attempt, with the precision.
    """
    sharp = False
    while True:
        if before:
            before(trial, bits)
        wanted, y = trial.outputs(bits)
        with precision(bits):
            k, c = clearest(y - wanted)
            low, high = moduli(y[k, c] - wanted[k, c])
        if low <= high / 2:
            return None
        e = floor_log2(low)
        if sharp and low > high * (1 - Fraction(1, 2**60)):
            unit = Fraction(2) ** (e - 40)
            return (k, c), low // unit * unit, bits
        bits = 2 * bits if sharp else max(bits, 128 << max(0, (99 - e) // 128).bit_length())
        sharp = True


def clearest(values: Shaped[Array, ...]) -> tuple[int, ...]:
    """Find the ball whose modulus has the largest lower bound; of near ties the first.

    The tolerance of 2⁻²⁰ keeps the choice from resting on the last bits of an enclosure.
    """
    lower = [v.abs_lower() for v in values.flat]
    best = max(lower)
    at = next(i for i, v in enumerate(lower) if not v * ball(1 + 2**-20) < best)
    return tuple(int(i) for i in np.unravel_index(at, values.shape))


def output_gap(a: RNN, b: RNN, x: Shaped[Array, "T m"], *, bits: int = 256) -> tuple[float, float]:
    """Bound max |G(x, Θ_a) − G(x, Θ_b)| over steps and outputs, from below and above; proved.

    Rounded outwards to float64; an error of 1e-200 is as visible as one of 1e-2.

    Examples
    --------
    >>> half = RNN([[0.5]], [[1.0]], [0.0], [[1.0]], [0.0], "tanh")
    >>> tilted = RNN([[0.5]], [[1.0]], [1e-30], [[1.0]], [0.0], "tanh")
    >>> low, high = output_gap(half, tilted, np.zeros((1, 1)))
    >>> low <= 1e-30 <= high < 1.0001 * low
    True
    """
    ya, yb = ball_outputs(a, x, bits), ball_outputs(b, x, bits)
    with precision(bits):
        lows, highs = zip(*map(moduli, (ya - yb).flat), strict=True)
    return float_below(max(lows)), float_above(max(highs))
