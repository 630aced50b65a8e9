"""Every kind of interval, simulated: does it hold the truth as often as it says?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import quantile_test, ttest_1samp

from companion.experiments.statistics import (
    Interval,
    coverage,
    holm,
    interval,
    mean_tests,
    pairs_to_decide,
)

DRAWS: dict[str, tuple[Callable[..., Any], float, float]] = {  # draw, its mean, its median
    "normal": (lambda rng, n: rng.normal(0.5, 1, n), 0.5, 0.5),
    "skewed": (lambda rng, n: rng.exponential(1, n), 1.0, np.log(2)),
    # as unclipped RNNs: most near one value, a few lost
    "heavy": (lambda rng, n: rng.normal(0, 0.01, n) - (rng.random(n) < 0.02), -0.02, -0.000254),
}


def covered(kind: str, summary: Any, n: int, level: float, times: int = 1000) -> float:
    rng = np.random.default_rng(0)
    draw, mean, median = DRAWS[kind]
    truth = mean if summary == "mean" else median
    found = [interval(draw(rng, n), summary, level) for _ in range(times)]
    return float(np.mean([f.low <= truth <= f.high for f in found]))


@pytest.mark.parametrize("level", [0.95, 0.975])
@pytest.mark.parametrize("n", [32, 64])
@pytest.mark.parametrize("kind", DRAWS)
def test_the_medians_interval_holds_at_any_tail(kind: str, n: int, level: float) -> None:
    # 1000 draws: five deviations of a binomial below its level
    assert covered(kind, "median", n, level) > level - 5 * np.sqrt(level * (1 - level) / 1000)


def test_the_means_interval_holds_where_the_tail_is_light_and_not_where_it_is_heavy() -> None:
    assert abs(covered("normal", "mean", 32, 0.95) - 0.95) < 0.035
    assert covered("heavy", "mean", 32, 0.95) < 0.85


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("summary", ["mean", "median"])
def test_coverage_by_resampling_tells_the_fit_from_the_unfit(kind: str, summary: Any) -> None:
    rng = np.random.default_rng(3)
    d = DRAWS[kind][0](rng, 64)
    if kind == "heavy":
        d = np.r_[d[d > -0.5], -1.0]
    found = coverage(d, summary)
    assert (found >= 0.92) == (summary == "median" or kind == "normal" or found >= 0.92)
    assert (found < 0.75) == (kind == "heavy" and summary == "mean")


def test_coverage_against_other_systems_is_that_of_the_wider_interval() -> None:
    d = DRAWS["normal"][0](np.random.default_rng(3), 64)
    for others in (8, 30, 1000):
        assert abs(coverage(d, "mean", others=others, draws=4000) - 0.95) < 0.015
    heavy = np.r_[np.zeros(319), 1.0]
    assert coverage(heavy, "mean") < 0.7 < 0.85 < coverage(heavy, "mean", others=30)


def test_intervals_are_those_of_scipy() -> None:
    d = np.random.default_rng(0).normal(0, 1, 31)
    ends = quantile_test(d, p=0.5).confidence_interval(0.95)
    assert interval(d, "median")[1:3] == (ends.low, ends.high)
    ends = ttest_1samp(d, 0).confidence_interval(0.95)
    assert interval(d, "mean")[1:3] == pytest.approx((ends.low, ends.high), rel=1e-12)


def test_too_few_pairs_have_an_infinite_interval() -> None:
    assert interval(np.arange(4.0), "median") == Interval(1.5, -np.inf, np.inf, 4)
    assert interval(np.array([1.0]), "mean") == Interval(1.0, -np.inf, np.inf, 1)


@pytest.mark.wrong_types
def test_an_interval_of_no_values_is_refused() -> None:
    for bad in ([], [np.nan], [[1.0]]):
        with pytest.raises(ValueError, match="one finite value a pair"):
            interval(np.array(bad), "mean")


def test_the_pairs_that_decide_do_decide() -> None:
    rng = np.random.default_rng(0)
    found = interval(rng.normal(0.1, 1, 30), "mean")
    needed = pairs_to_decide(found, -0.2)
    half = (found.high - found.low) / 2 * np.sqrt(30 / needed)
    assert found.estimate - half == pytest.approx(-0.2, abs=0.01)
    assert pairs_to_decide(found, found.estimate) == np.inf
    assert 1e9 < pairs_to_decide(found, found.estimate + 1e-6) < np.inf
    assert pairs_to_decide(Interval(0.0, -np.inf, np.inf, 4), -1.0) == np.inf


def test_holm_keeps_the_error_of_the_family() -> None:
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(1000):
        wrong += bool((holm(rng.random(8)) < 0.05).any())
    assert wrong < 50 + 5 * np.sqrt(50)


def test_equivalence_is_shown_as_seldom_as_it_should_be() -> None:
    rng = np.random.default_rng(0)
    draws = [rng.normal(0.5, 1, 30) for _ in range(1000)]
    # binomial of 1000, at the true mean, which lies on the margin; five deviations
    equivalent = sum(mean_tests(d, margin=0.5)[1] < 0.05 for d in draws)
    assert equivalent <= 50 + 5 * np.sqrt(50 * 0.95)
    assert mean_tests(np.full(3, 0.2), margin=0.1) == (0, 1)  # no spread
    assert mean_tests(draws[0], margin=1)[0] == ttest_1samp(draws[0], 0).pvalue
    for bad, margin in (([1.0, np.nan], 0.1), ([1.0], 0.1), ([1.0, 2.0], 0.0)):
        with pytest.raises(ValueError, match="finite"):
            mean_tests(np.array(bad), margin=margin)
