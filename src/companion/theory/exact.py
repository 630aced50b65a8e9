"""Exact rationals and balls: a network's parameters taken as the very numbers they are.

A float is a rational number, so a ReLU network of floats has exact outputs (`fmpq_mat`); with a
logistic or tanh network the outputs are enclosed in balls (`arb_mat`) of any wanted precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from companion.theory.network import RNN

if TYPE_CHECKING:
    from flint import arb, arb_mat, fmpq, fmpq_mat

Array = np.ndarray


def rational(value: Any) -> fmpq:
    """The exact value of a float, an int or a Fraction."""
    from flint import fmpq

    if isinstance(value, Fraction):
        return fmpq(value.numerator, value.denominator)
    return (
        fmpq(*float(value).as_integer_ratio())
        if isinstance(value, float | np.floating)
        else fmpq(int(value))
    )


def fraction(value: fmpq) -> Fraction:
    """The same number as a `fractions.Fraction`."""
    return Fraction(int(value.p), int(value.q))


def rational_matrix(a: Array) -> fmpq_mat:
    """An array of floats or Fractions as an exact matrix; a vector becomes one column."""
    from flint import fmpq_mat

    rows, columns = (a.shape[0], 1) if a.ndim == 1 else a.shape
    return fmpq_mat(rows, columns, [rational(v) for v in a.ravel().tolist()])


def floats(a: Array) -> Array:
    """Fractions rounded to float64; unchanged where one lies beyond the range of float64."""
    try:
        return a.astype(np.float64)
    except OverflowError:
        return a


def fraction_array(A: fmpq_mat) -> Shaped[Array, "n m"]:
    """Object array of the Fractions in ``A``."""
    out = np.empty(A.nrows() * A.ncols(), dtype=object)
    out[:] = [fraction(v) for v in A.entries()]
    return out.reshape(A.nrows(), A.ncols())


@dataclass(frozen=True)
class Parameters:
    """W, F, b, C, h₋₁ of a network as exact matrices, vectors as columns."""

    W: fmpq_mat
    F: fmpq_mat
    b: fmpq_mat
    C: fmpq_mat
    h_init: fmpq_mat

    def step(self, h: fmpq_mat, x: fmpq_mat) -> fmpq_mat:
        """ReLU(W h + F x + b), column by column; one column of ``h`` serves all of ``x``."""
        from flint import fmpq, fmpq_mat

        columns = max(h.ncols(), x.ncols())
        Z = _spread(self.W * h + self.b * _ones(h), columns) + self.F * x
        return fmpq_mat(Z.nrows(), columns, [v if v > 0 else fmpq(0) for v in Z.entries()])


def _ones(like: fmpq_mat) -> fmpq_mat:
    from flint import fmpq_mat

    return fmpq_mat(1, like.ncols(), [1] * like.ncols())


def _spread(column: fmpq_mat, columns: int) -> fmpq_mat:
    from flint import fmpq_mat

    return column if column.ncols() == columns else column * fmpq_mat(1, columns, [1] * columns)


def parameters(rnn: RNN) -> Parameters:
    """The exact values of Θ."""
    return Parameters(*(rational_matrix(a) for a in (rnn.W, rnn.F, rnn.b, rnn.C, rnn.h_init)))


def _balls(values: Iterable[fmpq | arb], rows: int, columns: int) -> arb_mat:
    from flint import arb, arb_mat

    return arb_mat(rows, columns, [arb(v) for v in values])


_PHI: dict[str, Callable[[arb], arb]] = {
    "identity": lambda z: z,
    "relu": lambda z: z.max(type(z)(0)),
    # σ(z) = ½(1 + tanh(z/2)) would cancel for z → −∞; e^z/(1 + e^z) does not.
    "sigmoid": lambda z: z.exp() / (1 + z.exp()) if z < 0 else 1 / (1 + (-z).exp()),
    "tanh": lambda z: z.tanh(),
}


_SLOPE: dict[str, Callable[[arb], arb]] = {
    "sigmoid": lambda z: _PHI["sigmoid"](z) * _PHI["sigmoid"](-z),
    "tanh": lambda z: z.sech() ** 2,
}


def activation_balls(activation: str) -> tuple[Callable[[arb], arb], Callable[[arb], arb]]:
    """φ and φ′ on balls, for the smooth activations."""
    return _PHI[activation], _SLOPE[activation]


def ball_outputs(rnn: RNN, x: Shaped[Array, "T m"], bits: int) -> list[list[arb]]:
    """Enclosures of the outputs y = G(x, Θ), one list of p balls a step.

    Θ and x are taken as exact numbers, so each ball provably contains the true output.

    Parameters
    ----------
    rnn : network of any activation and dtype.
    x : array, shape (T, m), of floats or Fractions.
    bits : working precision.
    """
    from flint import arb_mat, ctx

    theta = parameters(rnn)
    phi = _PHI[rnn.activation]
    with ctx.workprec(bits):
        W, F, b, C, h = (
            _balls(A.entries(), A.nrows(), A.ncols())
            for A in (theta.W, theta.F, theta.b, theta.C, theta.h_init)
        )
        outputs = []
        for row in np.asarray(x):
            u = _balls(map(rational, row.tolist()), rnn.m, 1)
            h = arb_mat(rnn.n, 1, [phi(z) for z in (W * h + F * u + b).entries()])
            outputs.append((C * h).entries())
        return outputs


def output_gap(a: RNN, b: RNN, x: Shaped[Array, "T m"], *, bits: int = 256) -> tuple[float, float]:
    """Lower and upper bound, proved, of max |G(x, Θ_a) − G(x, Θ_b)| over steps and outputs.

    Rounded outwards to float64; an error of 1e-200 is as visible as one of 1e-2.

    Examples
    --------
    >>> from companion.theory.network import RNN
    >>> half = RNN([[0.5]], [[1.0]], [0.0], [[1.0]], [0.0], "tanh")
    >>> tilted = RNN([[0.5]], [[1.0]], [1e-30], [[1.0]], [0.0], "tanh")
    >>> low, high = output_gap(half, tilted, np.zeros((1, 1)))
    >>> low <= 1e-30 <= high < 1.0001 * low
    True
    """
    from flint import ctx

    ya, yb = ball_outputs(a, x, bits), ball_outputs(b, x, bits)
    with ctx.workprec(bits):
        gaps = [
            abs(u - v) for ra, rb in zip(ya, yb, strict=True) for u, v in zip(ra, rb, strict=True)
        ]
        low = max(g.abs_lower() for g in gaps)
        high = max(g.abs_upper() for g in gaps)
    return float_below(low), -float_below(-high)


def float_below(value: arb | fmpq) -> float:
    """The largest float64 not above ``value`` (of a ball: not above its lower end)."""
    from flint import arb

    if isinstance(value, arb):
        end = value.lower()
        mantissa, exponent = (int(v) for v in end.man_exp())
        size = exponent + mantissa.bit_length()  # 2^size > |end| ≥ 2^(size − 1)
        if (
            size < -1100 or size > 1100
        ):  # an arb's exponent may be too large to write the number out
            return (
                (0.0 if end >= 0 else -5e-324)
                if size < 0
                else (1.7976931348623157e308 if end > 0 else -np.inf)
            )
    exact = dyadic(end) if isinstance(value, arb) else fraction(value)
    try:
        nearest = float(exact)
    except OverflowError:
        nearest = np.inf if exact > 0 else -np.inf
    return nearest if nearest <= exact else float(np.nextafter(nearest, -np.inf))


def dyadic(value: arb) -> Fraction:
    """The exact value of a ball of radius 0, such as an end point.

    Raises
    ------
    ValueError : if the number lies outside 2^±100 000, too long to write out.
    """
    mantissa, exponent = (int(v) for v in value.man_exp())
    if abs(exponent) > 100_000:
        raise ValueError(f"the number is about 2^{exponent}; allowed exponents: ±100000.")
    return Fraction(mantissa) * Fraction(2) ** exponent
