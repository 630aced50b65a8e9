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

Array = np.ndarray
Summary = Literal["mean", "median"]


class Interval(NamedTuple):
    """An estimate over ``pairs`` with its interval; infinite where the pairs are too few for it."""

    estimate: float
    low: float
    high: float
    pairs: int


def interval(d: Float[Array, " pairs"], summary: Summary, level: float = 0.95) -> Interval:
    """The mean or the median of ``d`` with its interval at ``level``.

    Examples
    --------
    >>> interval(np.arange(30.0), "median")
    Interval(estimate=14.5, low=9.0, high=20.0, pairs=30)
    """
    from scipy import stats

    d = np.asarray(d, dtype=float)
    if d.ndim != 1 or not len(d) or not np.isfinite(d).all():
        raise ValueError(f"d has shape {d.shape}; it must be at least one finite value a pair.")
    n = len(d)
    if summary == "median":
        k = int(stats.binom.ppf((1 - level) / 2, n, 0.5))  # P(fewer than k below) ≤ (1 − level)/2
        ends = np.sort(d)[[k - 1, n - k]] if k else (-np.inf, np.inf)
        return Interval(float(np.median(d)), float(ends[0]), float(ends[1]), n)
    half = np.inf if n < 2 else stats.t.ppf((1 + level) / 2, n - 1) * d.std(ddof=1) / np.sqrt(n)
    return Interval(float(d.mean()), float(d.mean() - half), float(d.mean() + half), n)


def coverage(
    d: Float[Array, " pairs"], summary: Summary, level: float = 0.95, draws: int = 1000
) -> float:
    """How often the interval of N values drawn from ``d`` holds the mean or median of ``d``.

    Examples
    --------
    >>> heavy = np.r_[np.zeros(119), 1.0]  # one system in 120 ends badly
    >>> coverage(heavy, "mean") < 0.8
    True
    """
    from scipy import stats

    d, n = np.asarray(d, dtype=float), len(d)
    sample = d[np.random.default_rng(0).integers(0, n, (draws, n))]
    if summary == "median":
        k, truth = int(stats.binom.ppf((1 - level) / 2, n, 0.5)), np.median(d)
        if not k:
            return 1.0
        ends = np.sort(sample, axis=1)[:, [k - 1, n - k]]
        return float(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])))
    half = stats.t.ppf((1 + level) / 2, n - 1) * sample.std(axis=1, ddof=1) / np.sqrt(n)
    return float(np.mean(np.abs(sample.mean(axis=1) - d.mean()) <= half + 1e-15))


def pairs_to_decide(found: Interval, bound: float, most: int = 10_000) -> int | None:
    """About how many pairs it takes for the interval to leave ``bound``, at the present spread.

    The half-width falls as one over the square root of the pairs. None: more than ``most``, or the
    interval is infinite.

    Examples
    --------
    >>> pairs_to_decide(Interval(0.01, -0.01, 0.03, 30), 0.0)
    120
    """
    away = abs(found.estimate - bound)
    half = found.estimate - found.low if found.estimate > bound else found.high - found.estimate
    needed = found.pairs * (half / away) ** 2 if away else np.inf
    return int(np.ceil(round(needed, 6))) if needed <= most else None


class Difference(NamedTuple):
    """A mean of paired differences: its interval, its number of pairs, and the two tests' p."""

    mean: float
    low: float
    high: float
    pairs: int
    p_zero: float
    p_equivalent: float


def paired_difference(
    a: Float[Array, " pairs"], b: Float[Array, " pairs"], *, margin: float, level: float = 0.95
) -> Difference:
    """Mean of a − b over pairs, with Student's interval at ``level``.

    ``p_zero`` tests that the mean is 0; ``p_equivalent`` that it is not within ±``margin`` (two
    one-sided tests, Schuirmann 1987): below 0.05, the two are equivalent at that margin.

    Examples
    --------
    >>> found = paired_difference(np.array([1.0, 2.0, 3.0]), np.array([0.9, 2.1, 2.9]), margin=0.5)
    >>> round(found.mean, 4), found.pairs, found.p_equivalent < 0.05
    (0.0333, 3, True)
    """
    from scipy import stats

    d = np.asarray(a) - np.asarray(b)
    if d.ndim != 1 or len(d) < 2 or not np.isfinite(d).all() or not margin > 0:
        raise ValueError(
            f"a − b has shape {d.shape} and margin is {margin}; there must be at least two finite "
            "pairs and a positive margin."
        )
    if np.ptp(d) == 0:  # the limit of the tests as the spread goes to 0, which divide by it
        m = float(d[0])
        return Difference(m, m, m, len(d), float(m == 0), float(abs(m) >= margin))
    low, high = stats.ttest_1samp(d, 0).confidence_interval(level)
    below = stats.ttest_1samp(d, margin, alternative="less").pvalue
    above = stats.ttest_1samp(d, -margin, alternative="greater").pvalue
    p_zero = stats.ttest_1samp(d, 0).pvalue
    return Difference(
        float(d.mean()), float(low), float(high), len(d), float(p_zero), float(max(below, above))
    )


def holm(p: Sequence[float]) -> Float[Array, " tests"]:
    """Each p corrected for the number of tests, by Holm (1979), so that they stand together.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.02]).tolist()
    [0.03, 0.04, 0.04]
    """
    values = np.asarray(p, dtype=float)
    order = np.argsort(values)
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(stepped, 1)
    return corrected
