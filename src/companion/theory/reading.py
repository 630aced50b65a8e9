"""Numbers and networks to and from JSON that may come from anywhere.

A reader takes a value and its path in the file, and refuses in words what it does not take. Sizes
are bounded before anything is computed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from companion.theory.arithmetic import float_below, fractions
from companion.theory.network import ACTIVATIONS, RNN, SHAPES, SMOOTH, Array

Reader = Callable[[Any, str], Any]

MAX_STATES, MAX_STEPS, MAX_DIGITS = 512, 4096, 4000
_NUMBER = re.compile(r"-?0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4}|-?[0-9]+(/[1-9][0-9]*)?")


class CertificateError(ValueError):
    """The certificate is malformed, was altered, or claims what does not hold."""


def write(value: Any) -> Any:
    """Write a network, an array or a Fraction for JSON, exactly; leave what JSON has as it is.

    A number is hexadecimal where float64 holds it, "p/q" elsewhere.
    """
    if isinstance(value, RNN):
        return {"activation": value.activation} | {n: write(getattr(value, n)) for n in SHAPES}
    if isinstance(value, np.ndarray | tuple):
        try:
            exact = fractions(value)
        except (TypeError, OverflowError, ValueError) as error:
            raise CertificateError(f"an array holds what is no finite number: {error}") from error
        return [write(v) for v in exact]
    if not isinstance(value, Fraction):
        return value
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 3.32 * MAX_DIGITS:
        raise CertificateError(f"a number has more than {MAX_DIGITS} digits.")
    low = float_below(value)
    return low.hex() if abs(low) < np.inf and Fraction(low) == value else str(value)


def refused(path: str, value: Any, allowed: str) -> CertificateError:
    """Word a refusal; texts appear as Python writes them, so none can drive a terminal."""
    shown = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    shown = shown if len(shown) < 60 else f"{shown[:50]}…"
    return CertificateError(f"{path} is {shown}; it must be {allowed}.")


def entries(value: Any, path: str, **readers: Reader) -> dict[str, Any]:
    """Read an object that has exactly the entries for which readers are given."""
    if not isinstance(value, dict) or set(value) != set(readers):
        raise refused(path, value, f"an object with exactly the entries {', '.join(readers)}")
    return {key: read(value[key], f"{path}.{key}") for key, read in readers.items()}


def such(passes: Callable[[Any], bool], allowed: str) -> Reader:
    """Make a reader of what passes a test."""

    def read(value: Any, path: str) -> Any:
        if not passes(value):
            raise refused(path, value, allowed)
        return value

    return read


def one_of(*allowed: str | int) -> Reader:
    """Make a reader of certain texts or numbers."""
    return such(
        lambda v: any((type(v), v) == (type(one), one) for one in allowed),
        " or ".join(map(repr, allowed)),
    )


def whole(least: int, most: int) -> Reader:
    """Make a reader of whole numbers."""
    allowed = f"a whole number from {least} to {most}"
    return such(lambda v: type(v) is int and least <= v <= most, allowed)


text = such(lambda v: isinstance(v, str), "a text")


def number(value: Any, path: str) -> Fraction:
    """Read a number within the range of float64, exactly."""
    if not isinstance(value, str) or len(value) > MAX_DIGITS or not _NUMBER.fullmatch(value):
        raise refused(path, value, 'a text: a hexadecimal float, or "p/q"')
    try:
        q = Fraction(float.fromhex(value)) if "x" in value else Fraction(value)
        float(q)
    except OverflowError:
        raise refused(path, value, "below 1.8e308 in modulus") from None
    return q


def number_or_null(value: Any, path: str) -> Fraction | None:
    """Read a number that may be left out."""
    return None if value is None else number(value, path)


def vector(value: Any, path: str) -> Array:
    """Read a list of numbers as an object array of Fractions."""
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_STATES:
        raise refused(path, value, f"a list of 1 to {MAX_STATES} numbers")
    return np.array([number(v, f"{path}[{i}]") for i, v in enumerate(value)], dtype=object)


def interval(value: Any, path: str) -> tuple[Fraction, Fraction]:
    """Read two numbers, the lower first."""
    ends = vector(value, path).tolist()
    if len(ends) != 2 or ends[0] > ends[1]:
        raise refused(path, value, "two numbers, the lower first")
    return ends[0], ends[1]


def matrix(value: Any, path: str) -> Array:
    """Read lists of equally many numbers as an object array of Fractions."""
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_STEPS:
        raise refused(path, value, f"a list of 1 to {MAX_STEPS} rows")
    rows = [vector(row, f"{path}[{i}]") for i, row in enumerate(value)]
    if len({len(row) for row in rows}) > 1:
        raise CertificateError(f"{path} has rows of different lengths.")
    return np.array(rows)


def network(value: Any, path: str) -> RNN:
    """Read a network: exact for relu and identity, of float64 for the smooth activations."""
    readers = {name: vector if len(shape) == 1 else matrix for name, shape in SHAPES.items()}
    at = entries(value, path, activation=one_of(*ACTIVATIONS), **readers)
    activation = at.pop("activation")
    arrays = {n: a.astype(float) for n, a in at.items()} if activation in SMOOTH else at
    if arrays is not at and any((fractions(arrays[name]) != at[name]).any() for name in at):
        raise CertificateError(f"{path} is {activation}: its parameters must be float64.")
    try:
        return RNN(**arrays, activation=activation)
    except (TypeError, ValueError) as error:
        raise CertificateError(f"{path} is not a network: {error}") from error
