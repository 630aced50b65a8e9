"""Checks of arguments that several modules share."""

from __future__ import annotations

import operator
from typing import Any


def whole_number(name: str, value: Any, least: int) -> int:
    """``value`` as an int, if it is a whole number from ``least`` on (NumPy's too, but no bool).

    Raises
    ------
    ValueError : otherwise; names the argument and what is allowed.

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
