"""Checks of arguments that several modules share."""

from __future__ import annotations

import operator
import sys
from fractions import Fraction
from typing import Any

import numpy as np


def whole_number(name: str, value: Any, least: int) -> int:
    """Take a whole number from ``least`` on (NumPy's too, but no bool); refuse another.

    Examples
    --------
    >>> whole_number("updates", 3, least=0)
    3
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} is {value!r}; it must be a whole number, at least {least}.")
    return number


def size_of(name: str, value: Any) -> float:
    """Take a finite number of at least 0, such as a norm; an array or tensor of no axes will do."""
    number = value.item() if getattr(value, "ndim", None) == 0 else value
    if isinstance(number, bool) or not isinstance(number, int | float | Fraction | np.number):
        raise TypeError(f"{name} is {value!r}; it must be a number of at least 0.")
    if not 0 <= number <= sys.float_info.max:
        raise ValueError(f"{name} is {number}; it must be finite (below 1.8e308) and at least 0.")
    return float(number)


def exact_size(name: str, value: Any, *, above: bool = False) -> Fraction:
    """Take a finite number of at least 0 (``above``: above 0) as the Fraction that it is."""
    number = value.item() if isinstance(value, np.generic) else value
    known = isinstance(number, int | float | Fraction) and not isinstance(number, bool)
    if not known or not 0 <= number < np.inf or (above and number == 0):
        least = "above 0" if above else "of at least 0"
        raise ValueError(f"{name} is {value!r}; it must be a finite number {least}.")
    return Fraction(number)
