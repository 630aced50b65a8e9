"""Measures on planted numbers, where the answer is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.ledger import measures
from companion.ledger.evidence import NotTested
from companion.ledger.measures import CHECKS


class Planted:
    """Evidence of which only the scores are known."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def scores(self, given: Any, reading: Any, model: str, n: int) -> Any:
        return pd.Series(self.values[f"{model}{n}"])

    def accuracies(self, given: Any, curve: str, units: int) -> Any:
        if f"{curve}{units}" not in self.values:
            raise NotTested(f"no {curve} of {units}")
        return pd.Series(self.values[f"{curve}{units}"]), curve in self.values.get("frozen", ())

    def drawn(self, figure: int, model: str, rate: float = 0.01) -> Any:
        return self.values[model]

    def run(self, kind: str, wanted: Any, least: Any) -> Any:
        return self.values["run"]


READING = {"experiment": "released", "training": "as described", "summary": "mean",
           "lost": "left out", "record": "last update"}  # fmt: skip
rng = np.random.default_rng(0)
BASE = rng.normal(0.9, 0.05, 30)
NOISE = rng.normal(0, 0.001, 30)


def contrast(
    kind: str, *differences: Any, margin: float = 0.005, summary: str = "mean", **more: Any
) -> Any:
    values = {"rnn4": BASE} | {f"urnn{i}": BASE + d for i, d in enumerate(differences)}
    pairs = [[["urnn", i], ["rnn", 4]] for i in range(len(differences))]
    rule = {"pairs": pairs, "is": kind, "margin": margin, "alpha": 0.05, "snr_db": 20.0} | more
    e: Any = Planted(**values)
    return measures.contrast(e, rule, READING | {"summary": summary})


@pytest.mark.parametrize("summary", ["mean", "median"])
@pytest.mark.parametrize(
    ("kind", "difference", "expected"),
    [
        ("equivalent", NOISE, "yes"),
        ("equivalent", NOISE + 0.02, "no"),
        ("equivalent", 20 * NOISE, "open"),
        ("not below", NOISE, "yes"),
        ("not below", NOISE + 0.02, "yes"),  # ahead is not worse
        ("not below", NOISE - 0.02, "no"),
        ("not below", NOISE - 0.005, "open"),
        ("below", NOISE - 0.02, "yes"),
        ("below", NOISE - 0.002, "no"),  # below 0, not below −margin
        ("below", NOISE - 0.005, "open"),
    ],
)
def test_a_contrast_is_decided_by_its_interval(
    kind: str, difference: Any, expected: str, summary: str
) -> None:
    assert contrast(kind, difference, summary=summary)[1] == expected


def test_yes_needs_every_pair_and_no_needs_one() -> None:
    assert contrast("below", NOISE - 0.1, NOISE - 0.1, margin=0.0)[1] == "yes"
    assert contrast("below", NOISE - 0.1, 20 * NOISE, margin=0.0)[1] == "open"
    assert contrast("below", NOISE - 0.1, NOISE + 0.1, margin=0.0)[1] == "no"
    # at 95% for one pair this is above 0, but not when the error is shared among three
    d = NOISE - NOISE.mean()
    d = d + 2.2 * d.std(ddof=1) / np.sqrt(30)
    assert contrast("below", d, margin=0.0)[1] == "no"
    assert contrast("below", d, NOISE - 0.1, NOISE - 0.1, margin=0.0)[1] == "open"


def test_a_reading_of_means_whose_interval_covers_too_seldom_is_unfit() -> None:
    heavy = NOISE + 0.02
    heavy[0] -= 0.5  # one system that ends badly
    assert contrast("not below", heavy, coverage=0.03)[1] == "unfit"
    assert contrast("not below", heavy, coverage=0.03, summary="median")[1] == "yes"
    assert contrast("not below", NOISE, coverage=0.03)[1] == "yes"
    numbers, found = contrast("below", heavy + 0.1, coverage=0.03)
    assert found == "unfit"
    assert numbers["short"][0] > 0
    # one size is enough for a no, if its own interval is fit, and not for a yes
    assert contrast("below", NOISE + 0.1, heavy, coverage=0.03)[1] == "no"
    assert contrast("not below", NOISE + 0.1, heavy, coverage=0.03)[1] == "unfit"


def test_what_would_decide_is_counted_in_systems() -> None:
    d = (NOISE - NOISE.mean()) / NOISE.std(ddof=1) * 0.01  # mean 0, spread 0.01
    numbers, found = contrast("not below", d - 0.004)
    assert found == "open"
    # half-width 0.01 · 2.045/√30 at 30 pairs must fall to 0.001
    assert numbers["needed"] == [np.ceil(30 * (0.01 * 2.0452296 / 30**0.5 / 0.001) ** 2)]
    on_the_margin = contrast("not below", d - 0.005)[0]["needed"][0]
    assert on_the_margin > 1e20  # but for rounding infinite
    assert "needed" not in contrast("not below", d + 0.02)[0]


def deciding(kind: str, *differences: Any) -> float:
    """How many systems the measure asks for, after a check that about as many do decide."""
    (needed,) = contrast(kind, *differences, margin=0.0)[0]["needed"]
    for factor, decided in ((0.8, False), (1.3, True)):
        # the same values again and again have the same spread
        more = [np.resize(d, 30 * round(factor * needed / 30)) for d in differences]
        base = np.resize(BASE, len(more[0]))
        e: Any = Planted(rnn4=base, **{f"urnn{i}": base + d for i, d in enumerate(more)})
        pairs = [[["urnn", i], ["rnn", 4]] for i in range(len(more))]
        rule = {"pairs": pairs, "is": kind, "margin": 0.0, "alpha": 0.05, "snr_db": 20.0}
        assert (measures.contrast(e, rule, READING)[1] != "open") == decided
    return float(needed)


def test_what_would_decide_takes_the_shorter_way_of_yes_and_no() -> None:
    """A yes takes what its slowest size takes, a no what its fastest does, at its share."""
    d = NOISE - NOISE.mean()
    slow, fast = d / d.std() * 10 - 0.5, d / d.std() * 10 - 1
    assert deciding("below", slow, fast) == deciding("below", slow) > deciding("below", fast)
    with_no = deciding("below", slow, -slow)
    assert deciding("below", slow) < with_no < 2 * deciding("below", slow)
    assert deciding("below", slow, -slow, -fast) < with_no


def test_lost_students_leave_the_pairs_and_pairs_are_counted() -> None:
    lost = BASE.copy()
    lost[:3] = np.nan
    rule = {"pairs": [[["urnn", 8], ["rnn", 4]]], "is": "equivalent", "margin": 0.005,
            "alpha": 0.05, "snr_db": 20.0}  # fmt: skip
    e: Any = Planted(urnn8=BASE + NOISE, rnn4=lost)
    numbers, found = measures.contrast(e, rule, READING)
    assert numbers["systems"] == [27.0]
    assert found == "yes"
    with pytest.raises(NotTested, match="27 pairs of urnn 8 and rnn 4; 30 are needed"):
        measures.contrast(e, rule | {"systems": 30}, READING)


def test_the_optimum_is_a_constant() -> None:
    rule = {"pairs": [[["rnn", 14], ["optimum", 0]]], "is": "not below", "margin": 0.005,
            "alpha": 0.05, "snr_db": 20.0}  # fmt: skip
    best = np.full(30, 1 / 1.01) + NOISE
    for values, expected in ((best, "yes"), (best - 0.02, "no")):
        e: Any = Planted(rnn14=values)
        assert measures.contrast(e, rule, READING)[1] == expected


@pytest.mark.parametrize(
    ("shift", "spread", "expected"),
    [(0.0, 0.005, "yes"), (0.05, 0.005, "no"), (0.0, 0.2, "open")],
)
def test_a_curve_agrees_where_narrow_intervals_meet_it(
    shift: float, spread: float, expected: str
) -> None:
    v = (NOISE - NOISE.mean()) / NOISE.std() * spread + 0.9 + shift
    e: Any = Planted(RNN={2: (0.9, 0.005), 4: (0.9, 0.002)}, rnn2=v, rnn4=v)
    rule = {"figure": 2, "model": "rnn", "alpha": 0.05, "resolution": 0.02}
    numbers, found = measures.curve(e, rule, READING)
    assert found == expected
    assert ("needed" in numbers) == (expected == "open")


def test_a_curve_agrees_at_the_full_error_and_is_contradicted_at_its_share() -> None:
    v = (NOISE - NOISE.mean()) / NOISE.std(ddof=1) * 0.01 + 0.9
    rule = {"figure": 2, "model": "rnn", "alpha": 0.05, "resolution": 0.02}
    for away, expected in ((1.9, "yes"), (2.2, "open"), (2.6, "no")):  # in standard errors
        drawn = dict.fromkeys((2, 3), (0.9 + away * 0.01 / 30**0.5, 0.0))
        e: Any = Planted(RNN=drawn, rnn2=v, rnn3=v)
        assert measures.curve(e, rule, READING)[1] == expected  # t(29): 2.05 at 5%, 2.36 at half


@pytest.mark.parametrize("others", [{}, {"poster_systems": 300}])
def test_the_systems_that_decide_a_curve_do(others: Any) -> None:
    rule = {"figure": 2, "model": "rnn", "alpha": 0.05, "resolution": 0.02} | others
    v = (NOISE - NOISE.mean()) / NOISE.std() * 0.1 + 0.9
    for value in (0.9, 0.925):
        points = {2: (value, 0.001)}
        first: Any = Planted(RNN=points, rnn2=v)
        (needed,) = measures.curve(first, rule, READING)[0]["needed"]
        assert 40 < needed < 400
        for factor, decided in ((0.6, False), (1.3, True)):
            e: Any = Planted(RNN=points, rnn2=np.resize(v, 30 * round(factor * needed / 30)))
            found = measures.curve(e, rule, READING)[1]
            assert found == ({0.9: "yes", 0.925: "no"}[value] if decided else "open")


def test_a_curve_allows_for_the_posters_own_systems() -> None:
    """In many repetitions the mean of thirty others lies in the interval as often as it says."""
    draws, inside = np.random.default_rng(1), 0
    rule = {"figure": 2, "model": "rnn", "alpha": 0.1, "resolution": 9.0, "poster_systems": 30}
    for _ in range(400):
        ours, theirs = draws.normal(0.9, 0.1, 60), draws.normal(0.9, 0.1, 30).mean()
        e: Any = Planted(RNN={2: (theirs, 0.0)}, rnn2=ours)
        inside += measures.curve(e, rule, READING)[1] == "yes"
    assert abs(inside - 360) < 5 * np.sqrt(400 * 0.1 * 0.9)


@given(st.integers(0, 30), st.integers(0, 30))
def test_fewer_lost_is_decided_by_the_systems_that_differ(a: int, b: int) -> None:
    urnn = np.where(np.arange(60) < a, np.nan, 1.0)
    rnn = np.where(np.arange(60) >= 60 - b, np.nan, 1.0)
    e: Any = Planted(urnn2=urnn, rnn2=rnn, urnn4=urnn, rnn4=rnn)
    rule = {"sizes": [2], "models": ["urnn", "rnn"], "alpha": 0.05}
    numbers, found = measures.divergence(e, rule, READING)
    assert numbers == {"lost": [a, b], "of": [60.0]}
    if found == "yes":
        assert a < b
    if found == "no":
        assert a > b
    if a == 0:
        assert (found == "yes") == (b >= 6)  # 2 · 2⁻⁶ < 0.05 < 2 · 2⁻⁵
    # the sizes of a system are no further systems
    assert measures.divergence(e, rule | {"sizes": [2, 4]}, READING)[1] == found
    # nor is a system that lacks one of the two models or sizes
    e = Planted(urnn2=urnn, rnn2=rnn, urnn4=np.r_[urnn, [np.nan] * 9], rnn4=rnn)
    assert measures.divergence(e, rule | {"sizes": [2, 4]}, READING)[0]["of"] == [120.0]


def test_a_median_is_within_when_its_interval_is() -> None:
    rows = pd.DataFrame(
        [{"system": i, "on": 0.6 + d} for i in range(30) for d in (NOISE[i], -NOISE[i])]
    )

    def answer(**changed: Any) -> str:
        rule = {"column": "on", "low": 0.58, "high": 0.62, "of": "mean", "alpha": 0.05,
                "systems": 30, "seed": 1, "snr_db": 20.0}  # fmt: skip
        e: Any = Planted(run=SimpleNamespace(rows=rows))
        return measures.within(e, rule | changed, READING)[1]

    assert answer() == "yes"
    assert answer(low=0.61, high=0.7) == "no"
    assert answer(of="max", low=0.6, high=float(0.6 + np.abs(NOISE).mean())) == "open"
    assert answer(every=True) == "yes"
    assert answer(every=True, of="max", low=0.6, high=0.6 + np.abs(NOISE).max() / 2) == "no"
    assert answer(T=0.36) == "yes"


ABOVE = {"pairs": [[["urnn", 32], ["rnn", 32]]], "is": "above", "margin": 0.01, "alpha": 0.05}


def accuracy(rule: Any, **values: Any) -> Any:
    e: Any = Planted(**values)
    return measures.accuracy(e, rule, READING)


def test_accuracies_of_seeds_have_welchs_interval() -> None:
    from scipy.stats import ttest_ind

    a, b = [0.8, 0.82, 0.81], [0.7, 0.76, 0.73]
    numbers, found = accuracy(ABOVE, urnn32=a, rnn32=b)
    interval = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert numbers["low"] == pytest.approx([interval.low])
    assert numbers["high"] == pytest.approx([interval.high])
    assert found == "yes"
    assert accuracy(ABOVE, urnn32=[0.7, 0.9, 0.8], rnn32=b)[1] == "open"
    assert accuracy(ABOVE, urnn32=b, rnn32=a)[1] == "no"


@pytest.mark.parametrize(("mean", "decided"), [(0.02, "yes"), (-0.02, "no")])
def test_as_many_seeds_as_are_asked_for_decide(mean: float, decided: str) -> None:
    def seeds(n: int, mean: float) -> list[float]:  # of this mean and a spread of 0.03
        v = np.random.default_rng(n).standard_normal(n)
        return list(0.8 + mean + 0.03 * (v - v.mean()) / v.std(ddof=1))

    first, found = accuracy(ABOVE, urnn32=seeds(3, mean), rnn32=seeds(3, 0.0))
    needed = int(first["needed"][0])
    assert (found, 3 < needed < 30) == ("open", True)
    for n, expected in ((needed - 1, "open"), (needed, decided)):
        assert accuracy(ABOVE, urnn32=seeds(n, mean), rnn32=seeds(n, 0.0))[1] == expected


def test_accuracies_with_one_seed_have_the_error_of_the_images() -> None:
    numbers, found = accuracy(ABOVE, urnn32=[0.8], rnn32=[0.7])
    error = 1.959964 * np.sqrt(0.8 * 0.2 / 10_000 + 0.7 * 0.3 / 10_000)
    assert numbers["low"] == pytest.approx([0.1 - error], rel=1e-5)
    assert found == "yes"
    assert accuracy(ABOVE, urnn32=[0.8], rnn32=[0.799])[1] == "open"


def test_an_accuracy_of_frozen_networks_says_neither_yes_nor_no_where_the_rule_says_so() -> None:
    a, b = [0.8, 0.82, 0.81], [0.7, 0.76, 0.73]
    rule = ABOVE | {"frozen": "unfit"}
    for urnn, rnn, without in ((a, b, "yes"), (b, a, "no")):
        numbers, found = accuracy(rule, urnn32=urnn, rnn32=rnn, frozen=["rnn"])
        assert (found, numbers["short"]) == ("unfit", [np.inf])
        assert accuracy(ABOVE, urnn32=urnn, rnn32=rnn, frozen=["rnn"])[1] == without
    more = rule | {"pairs": [*ABOVE["pairs"], [["urnn", 32], ["lstm", 32]]]}
    assert accuracy(more, urnn32=a, rnn32=b, lstm32=b, frozen=["rnn"])[1] == "unfit"
    assert accuracy(more, urnn32=a, rnn32=b, lstm32=[0.99, 0.991, 0.99], frozen=["rnn"])[1] == "no"


@pytest.mark.parametrize(("value", "expected"), [(0.7, "yes"), (0.75, "no"), (0.71, "open")])
def test_a_point_of_the_posters_curve(value: float, expected: str) -> None:
    near = ABOVE | {"pairs": [[["rnn", 32], ["poster rnn", 32]]], "is": "near"}
    seeds = [value, value + 1e-4, value - 1e-4]
    assert accuracy(near, rnn32=seeds, RNN={32: (0.7, 0.003)})[1] == expected


def test_a_size_that_was_not_run_leaves_no_yes_but_a_no() -> None:
    rule = ABOVE | {"pairs": [[["urnn", n], ["rnn", n]] for n in (32, 48)]}
    better, worse = [0.8, 0.81, 0.82], [0.7, 0.71, 0.72]
    numbers, found = accuracy(rule, urnn32=better, rnn32=worse)
    assert (numbers["at"], found) == ([0.0], "not run")
    assert accuracy(rule, urnn32=worse, rnn32=better)[1] == "no"
    with pytest.raises(NotTested):
        accuracy(rule)


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_checks_hold_and_their_counter_examples_fail(name: str) -> None:
    assert CHECKS[name]() == (True, name != "non-expansive")
