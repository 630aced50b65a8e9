"""Paired differences over systems: intervals, how often they cover, and how many pairs decide.

One value a system; two students of a system are compared by their difference on it. The mean has
Student's interval, which a heavy tail breaks; the median has one from order statistics, which holds
at any tail: the k-th least and k-th greatest of N, with k from the binomial (N, 1/2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from companion.theory.network import Array

Summary = Literal["mean", "median"]
Draws = Float[Array, "*draws"] | float


class Interval(NamedTuple):
    """An estimate over ``pairs`` with its interval; infinite where the pairs are too few for it."""

    estimate: float
    low: float
    high: float
    pairs: int


def _with_ends(
    d: Float[Array, "*draws pairs"], summary: Summary, level: float
) -> tuple[Draws, Draws, Draws]:
    """Compute the mean or the median over the last axis, and the two ends of its interval."""
    n = d.shape[-1]
    if summary == "median":
        k = int(stats.binom.ppf((1 - level) / 2, n, 0.5))  # P(fewer than k below) ≤ (1 − level)/2
        ordered = np.sort(d)
        ends = (ordered[..., k - 1], ordered[..., n - k]) if k else (-np.inf, np.inf)
        return np.median(d, axis=-1), *ends
    mean = d.mean(axis=-1)
    spread = d.std(axis=-1, ddof=1) if n > 1 else np.inf
    half = stats.t.ppf((1 + level) / 2, max(n - 1, 1)) * spread / np.sqrt(n)
    return mean, mean - half, mean + half


def interval(d: Float[Array, " pairs"], summary: Summary, level: float = 0.95) -> Interval:
    """Compute the mean or the median of ``d`` with its interval at ``level``.

    Examples
    --------
    >>> interval(np.arange(30.0), "median")
    Interval(estimate=14.5, low=9.0, high=20.0, pairs=30)
    """
    d = np.asarray(d, dtype=float)
    if d.ndim != 1 or not len(d) or not np.isfinite(d).all():
        raise ValueError(f"d has shape {d.shape}; it must be at least one finite value a pair.")
    estimate, low, high = map(float, _with_ends(d, summary, level))
    return Interval(estimate, low, high, len(d))


def coverage(
    d: Float[Array, " pairs"], summary: Summary, level: float = 0.95, *, others: float = np.inf,
    draws: int = 1000,
) -> float:  # fmt: skip
    """Count how often the interval of N values drawn from ``d`` holds the mean (median) of ``d``.

    With ``others``, how often it holds the mean of as many other values, when it is √(1 + N/others)
    times as wide.

    Examples
    --------
    >>> heavy = np.r_[np.zeros(119), 1.0]  # one system in 120 ends badly
    >>> coverage(heavy, "mean") < 0.8
    True
    """
    d, n, rng = np.asarray(d, dtype=float), len(d), np.random.default_rng(0)
    found, low, high = _with_ends(d[rng.integers(0, n, (draws, n))], summary, level)
    truth, wider = _with_ends(d, summary, level)[0], (1 + n / others) ** 0.5
    if np.isfinite(others):
        truth = _with_ends(d[rng.integers(0, n, (draws, int(others)))], summary, level)[0]
    below, above = wider * (found - low), wider * (high - found)
    return float(np.mean((found - below <= truth + 1e-15) & (truth - 1e-15 <= found + above)))


def pairs_to_narrow(half: float, wanted: float, pairs: int, others: float = np.inf) -> float:
    """Reckon how many pairs it takes for a half-width to fall to ``wanted``, at the present spread.

    It falls as one over the root of the pairs, or, of a difference to the mean of ``others``, as
    √(1/pairs + 1/others). Infinite where no number does.

    Examples
    --------
    >>> pairs_to_narrow(0.02, 0.01, 30), pairs_to_narrow(0.02, 0.01, 30, others=30)
    (120.0, inf)
    """
    room = wanted**2 * (1 / pairs + 1 / others) - half**2 / others
    return half**2 / room if room > 0 else np.inf


def pairs_to_decide(found: Interval, bound: float) -> float:
    """Reckon how many pairs it takes for the interval to leave ``bound``, at the present spread.

    Examples
    --------
    >>> pairs_to_decide(Interval(0.01, -0.01, 0.03, 30), 0.0)
    120
    """
    away = abs(found.estimate - bound)
    half = found.estimate - found.low if found.estimate > bound else found.high - found.estimate
    needed = pairs_to_narrow(half, away, found.pairs)
    return int(np.ceil(round(needed, 6))) if np.isfinite(needed) else np.inf


def mean_tests(d: Float[Array, " pairs"], margin: float) -> tuple[float, float]:
    """Test whether the mean of differences is 0 (its p, by Student), and whether it is not small.

    The second p is that of a mean that is not within ±``margin`` (two one-sided tests, Schuirmann
    1987): below 0.05, the two that differ are equivalent at that margin.

    Examples
    --------
    >>> zero, not_small = mean_tests(np.array([0.1, -0.1, 0.1]), margin=0.5)
    >>> zero > 0.05, not_small < 0.05
    (True, True)
    """
    d = np.asarray(d, dtype=float)
    if len(d) < 2 or not np.isfinite(d).all() or not margin > 0:
        raise ValueError(f"d is {d} and margin {margin}; d must be two finite values or more.")
    if np.ptp(d) == 0:  # the limit of the tests as the spread goes to 0, which divide by it
        return float(d[0] == 0), float(abs(d[0]) >= margin)
    below = stats.ttest_1samp(d, margin, alternative="less").pvalue
    above = stats.ttest_1samp(d, -margin, alternative="greater").pvalue
    return float(stats.ttest_1samp(d, 0).pvalue), float(max(below, above))


def holm(p: Sequence[float] | Float[Array, " tests"]) -> Float[Array, " tests"]:
    """Correct each p for the number of tests, by Holm (1979), so that they stand together.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.02]).tolist()
    [0.03, 0.04, 0.04]
    """
    values, order = np.asarray(p, dtype=float), np.argsort(p)
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return np.asarray(np.minimum(stepped, 1)[np.argsort(order)])
