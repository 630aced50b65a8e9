"""Measures on planted numbers, where the answer is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.ledger import measures as judges
from companion.ledger.measures import CHECKS, Evidence, Finding, NotTested


class Planted(Evidence):
    """Evidence of which only the scores are known."""

    def __init__(self, **values: Any) -> None:
        self.values, self.used = values, {}

    def scores(self, given: Any, reading: str, model: str, n: int) -> Any:
        return self.values[f"{model}{n}"]

    def accuracies(self, given: Any, curve: str, units: int) -> Any:
        return self.values[f"{curve}{units}"]

    def curve(self, figure: int, model: str, rate: str = "0.01") -> Any:
        return self.values[model]

    def run(self, kind: str, wanted: Any, least: Any, model: str | None = None) -> Any:
        return self.values["run"]


rng = np.random.default_rng(0)
BASE = rng.normal(0.9, 0.05, 30)
NOISE = rng.normal(0, 0.001, 30)


def contrast(kind: str, *differences: Any, margin: float = 0.005) -> str:
    values = {"rnn4": BASE} | {f"urnn{i}": BASE + d for i, d in enumerate(differences)}
    pairs = [[["urnn", i], ["rnn", 4]] for i in range(len(differences))]
    rule = {"pairs": pairs, "is": kind, "margin": margin, "alpha": 0.05, "snr_db": 20.0}
    return judges.contrast(Planted(**values), rule, "x")[1]


@pytest.mark.parametrize(
    ("kind", "difference", "expected"),
    [
        ("equivalent", NOISE, "yes"),
        ("equivalent", NOISE + 0.02, "no"),
        ("equivalent", 20 * NOISE, "undecided"),
        ("not below", NOISE, "yes"),
        ("not below", NOISE + 0.02, "yes"),
        ("not below", NOISE - 0.02, "no"),
        ("not below", NOISE - 0.005, "undecided"),
        ("below", NOISE - 0.02, "yes"),
        ("below", NOISE - 0.002, "no"),  # below 0, not below −margin
        ("below", NOISE - 0.005, "undecided"),
    ],
)
def test_a_contrast_is_decided_by_its_interval(kind: str, difference: Any, expected: str) -> None:
    assert contrast(kind, difference) == expected


def test_yes_needs_every_pair_and_no_needs_one() -> None:
    assert contrast("below", NOISE - 0.1, NOISE - 0.1, margin=0.0) == "yes"
    assert contrast("below", NOISE - 0.1, 20 * NOISE, margin=0.0) == "undecided"
    assert contrast("below", NOISE - 0.1, NOISE + 0.1, margin=0.0) == "no"
    # at 95% for one pair this is above 0, but not when the error is shared among three
    d = NOISE - NOISE.mean()
    d = d + 2.2 * d.std(ddof=1) / np.sqrt(30)
    assert contrast("below", d, margin=0.0) == "no"
    assert contrast("below", d, NOISE - 0.1, NOISE - 0.1, margin=0.0) == "undecided"


def test_lost_students_leave_the_pairs_not_the_count() -> None:
    lost = BASE.copy()
    lost[:3] = np.nan
    rule = {"pairs": [[["urnn", 8], ["rnn", 4]]], "is": "equivalent", "margin": 0.005,
            "alpha": 0.05, "snr_db": 20.0}  # fmt: skip
    numbers, found = judges.contrast(Planted(urnn8=BASE + NOISE, rnn4=lost), rule, "x")
    assert numbers["systems"] == [27.0]
    assert found == "yes"


def test_the_optimum_is_a_constant() -> None:
    rule = {"pairs": [[["rnn", 14], ["optimum", 0]]], "is": "not below", "margin": 0.005,
            "alpha": 0.05, "snr_db": 20.0}  # fmt: skip
    best = np.full(30, 1 / 1.01) + NOISE
    assert judges.contrast(Planted(rnn14=best), rule, "x")[1] == "yes"
    assert judges.contrast(Planted(rnn14=best - 0.02), rule, "x")[1] == "no"


@pytest.mark.parametrize(
    ("shift", "spread", "expected"),
    [(0.0, 0.005, "yes"), (0.05, 0.005, "no"), (0.0, 0.2, "undecided")],
)
def test_a_curve_agrees_where_narrow_intervals_meet_it(
    shift: float, spread: float, expected: str
) -> None:
    v = (NOISE - NOISE.mean()) / NOISE.std() * spread + 0.9 + shift
    e = Planted(RNN={2: (0.9, 0.005), 4: (0.9, 0.002)}, rnn2=v, rnn4=v)
    rule = {"figure": 2, "model": "rnn", "alpha": 0.05, "resolution": 0.02}
    assert judges.curve(e, rule, "x")[1] == expected


@given(st.integers(0, 30), st.integers(0, 30))
def test_fewer_lost_is_decided_by_the_discordant_pairs(a: int, b: int) -> None:
    values = [
        np.where(np.arange(60) < a, np.nan, 1.0),
        np.where(np.arange(60) >= 60 - b, np.nan, 1),
    ]
    e = Planted(urnn2=values[0], rnn2=values[1])
    rule = {"sizes": [2], "models": ["urnn", "rnn"], "alpha": 0.05}
    numbers, found = judges.divergence(e, rule, "x")
    assert numbers == {"lost": [a, b], "of": [60.0]}
    if found == "yes":
        assert a < b
    if found == "no":
        assert a > b
    if a == 0:
        assert (found == "yes") == (b >= 6)  # 2 · 2⁻⁶ < 0.05 < 2 · 2⁻⁵


def test_a_median_is_within_when_its_interval_is() -> None:
    rows = [{"system": i, "on": 0.6 + d} for i in range(30) for d in (NOISE[i], -NOISE[i])]

    def answer(**changed: Any) -> str:
        rule = {"column": "on", "low": 0.58, "high": 0.62, "of": "mean", "alpha": 0.05,
                "systems": 30, "seed": 1, "snr_db": 20.0}  # fmt: skip
        return judges.within(Planted(run=SimpleNamespace(rows=rows)), rule | changed, "x")[1]

    assert answer() == "yes"
    assert answer(low=0.61, high=0.7) == "no"
    assert answer(of="max", low=0.6, high=float(0.6 + np.abs(NOISE).mean())) == "undecided"
    assert answer(every=True) == "yes"
    assert answer(every=True, of="max", low=0.6, high=0.6 + np.abs(NOISE).max() / 2) == "no"
    assert answer(T=0.36) == "yes"


def test_accuracies_with_one_seed_have_the_error_of_the_images() -> None:
    rule = {"pairs": [[["urnn", 32], ["rnn", 32]]], "is": "above", "margin": 0.01, "alpha": 0.05}
    numbers, found = judges.accuracy(
        Planted(urnn32=np.array([0.8]), rnn32=np.array([0.7])), rule, ""
    )
    error = 1.959964 * np.sqrt(0.8 * 0.2 / 10_000 + 0.7 * 0.3 / 10_000)
    assert numbers["low"] == pytest.approx([0.1 - error], rel=1e-5)
    assert found == "yes"
    close = Planted(urnn32=np.array([0.8]), rnn32=np.array([0.799]))
    assert judges.accuracy(close, rule, "")[1] == "undecided"
    seeds = Planted(urnn32=np.array([0.7, 0.9, 0.8]), rnn32=np.array([0.7, 0.71, 0.7]))
    assert judges.accuracy(seeds, rule, "")[1] == "undecided"
    near = rule | {"pairs": [[["rnn", 32], ["poster rnn", 32]]], "is": "near"}
    poster = {"RNN": {32: (0.7, 0.003)}}
    for value, expected in ((0.7, "yes"), (0.75, "no"), (0.709, "undecided")):
        e = Planted(rnn32=np.array([value, value + 1e-4, value - 1e-4]), **poster)
        if expected == "undecided":
            e = Planted(rnn32=np.array([value]), **poster)
        assert judges.accuracy(e, near, "")[1] == expected


@pytest.mark.parametrize(
    ("answers", "verdict", "why"),
    [
        (("yes", "yes"), "reproduced", ""),
        (("yes", "no"), "depends on", "released yes, poster contradicted"),
        (("undecided", "yes"), "depends on", "released undecided, poster yes"),
        (("no", "no"), "not reproduced", "contradicted"),
        (("yes", "not run"), "depends on", "released yes, poster not run"),
        (("no", "not run"), "not reproduced", "released contradicted, poster not run"),
        (("undecided", "no"), "not reproduced", "released undecided, poster contradicted"),
    ],
)
def test_two_readings_make_one_verdict(
    answers: tuple[str, str], verdict: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = dict(zip(("released", "poster"), answers, strict=True))

    def measure(e: Any, given: Any, reading: str) -> Any:
        if of[reading] == "not run":
            raise NotTested("no run")
        return {"lost": [1.0, 2.0], "of": [9.0]}, of[reading]

    monkeypatch.setitem(judges.MEASURES, "planted", measure)
    rule = {"measure": "planted", "readings": ["released", "poster"], "models": ["a", "b"]}
    found = judges.measured(Planted(), rule)
    assert found.verdict == verdict
    assert found.why.endswith(why)
    run = [reading for reading in of if of[reading] != "not run"]
    assert found.here.splitlines() == [f"{reading}: A 1, B 2 of 9" for reading in run]


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_checks_hold_and_their_counter_examples_fail(name: str) -> None:
    assert CHECKS[name]() == (True, name != "non-expansive")


@pytest.mark.parametrize("outcome", [(False, True), (True, False)])
def test_a_check_that_comes_out_otherwise_is_no_proof(
    outcome: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHECKS, "gradient", lambda: outcome)
    rule = {"check": "gradient", "counter": True, "on": "x", "said": "y"}
    assert judges.executed(Planted(), rule).verdict == "not reproduced"


@pytest.mark.parametrize(
    ("sizes", "verdict"), [([2, 4], "not reproduced"), ([2, 3, 4], "reproduced")]
)
def test_a_figure_that_shows_other_sizes_contradicts_the_text(sizes: Any, verdict: str) -> None:
    class Drawn(Planted):
        @property
        def poster(self) -> list[dict[str, str]]:  # type: ignore[override]
            rows = [("2", "2"), ("3", "3"), ("2", "4"), ("2", ""), ("4", "99")]
            return [{"figure": f, "hidden_units": n} for f, n in rows]

    rule = {"figures": ["2", "3"], "sizes": sizes, "poster": "even"}
    found = judges.consistent(Drawn(), rule)
    assert found.verdict == verdict
    assert found.here == "drawn: 2, 3, 4"


def test_a_statement_that_coq_has_not_checked_is_not_proved() -> None:
    class Half(Planted):
        @property
        def proofs(self) -> dict[str, Any]:  # type: ignore[override]
            return {"theorems": [{"statement": "a", "checked": True, "axioms": []}]}

    assert judges.proved(Half(), {"statements": ["a"]}) == Finding(
        "proved", here="Coq: a, on no axiom"
    )
    with pytest.raises(NotTested, match="b is not among"):
        judges.proved(Half(), {"statements": ["a"], "against": ["b"]})
