"""Paired arms: their starts are what they say, and verdicts follow the rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from companion.experiments.capacity import (
    ARMS,
    COLUMNS,
    CONTRASTS,
    compare_arms,
    equal_pairs,
    scores,
    train,
)
from companion.experiments.synthetic import PRESETS, draw, r_squared
from companion.theory.network import is_unitary, spectral_norm
from companion.theory.theorem1 import compare

SMALL = replace(
    PRESETS["poster"], hidden_units=3, T=60, train=20, test=20, bias_sequences=10, epsilon=0.3
)


@pytest.mark.parametrize("seed", range(5))
def test_the_networks_of_a_pair_answer_alike(seed: int) -> None:
    realisation = draw(SMALL, seed)
    x = np.concatenate([realisation.x_train, realisation.x_test]).astype(np.float64)
    pairs = equal_pairs(realisation, 0.2, seed)
    for small, unitary in pairs.values():
        assert (small.n, unitary.n) == (3, 6)
        assert spectral_norm(small) <= 1 + 1e-14
        assert is_unitary(unitary)
        assert compare(small, unitary, x, summation="ordered").difference == 0
    (teacher, _), (near, moved) = pairs["exact"], pairs["near"]
    assert teacher is realisation.teacher.rnn
    for name in "FbC":
        there, here = getattr(teacher, name), getattr(near, name)
        assert np.linalg.norm(here - there) == pytest.approx(0.2 * np.linalg.norm(there))
    distance = np.linalg.norm(moved.W - pairs["exact"][1].W) / np.sqrt(6)
    assert 0.02 < distance <= 0.4  # the nearest orthogonal matrix is at most as far again


def test_arms_start_where_they_say_and_stop_where_validation_is_best() -> None:
    setting = replace(SMALL, output_bias=True)
    drawn, table = train(setting, realisations=2, updates=6, seed=1, backend="cpu", validation=10)
    rows = table.to_dict("records")
    assert len(rows) == len(ARMS) * 2 * 4  # records after 0, 2, 4, 6 updates
    assert set(rows[0]) == set(COLUMNS)
    assert all(table.attrs[name] for name in table)
    of = {(r["arm"], r["data"], r["update"]): r for r in rows}
    for i, realisation in enumerate(drawn):
        x, y = realisation.x_test[10:], realisation.y_test[10:]
        assert y.shape[0] == setting.test
        best = r_squared(y, realisation.teacher(x))
        for arm in ("rnn-exact", "urnn-exact"):
            assert of[arm, i, 0]["r2"] == pytest.approx(best, abs=1e-5)  # in float32
        near = [of[arm, i, 0]["r2"] for arm in ("rnn-near", "urnn-near")]
        assert near[0] == pytest.approx(near[1], abs=1e-5 * (1 + abs(near[0])))
        assert near[0] < best
        for arm in ARMS:
            seen = [of[arm, i, u] for u in (0, 2, 4, 6)]
            assert seen[0]["hidden_units"] == 3 * (1 + ARMS[arm].doubled)
            for k, row in enumerate(seen):
                chosen = max(seen[: k + 1], key=lambda r: float(r["r2_validation"]))
                assert row["r2_stopped"] == chosen["r2"]
    start = {arm: of[arm, 0, 0]["r2"] for arm in ARMS}
    assert start["urnn"] == start["urnn-slow"] == start["urnn-exponential"]
    assert start["urnn"] != start["urnn-identity"]


def test_an_unknown_arm_is_refused() -> None:
    with pytest.raises(ValueError, match="arm 'gru' is not known; allowed: rnn, "):
        train(SMALL, ["rnn", "gru"], realisations=1, updates=1, seed=0)


def a_table(values: dict[str, Any]) -> pd.DataFrame:
    rows = [
        {"arm": arm, "data": i, "update": u, "r2": v, "r2_stopped": v, "diverged": -1}
        for arm, of in values.items()
        for i, v in enumerate(of)
        for u in (0, 10)
    ]
    return pd.DataFrame(rows)


def test_scores_leave_out_what_was_lost() -> None:
    rows = a_table({"rnn": [0.9, -3.0, np.nan, 0.8]}).to_dict("records")
    rows[-1] |= {"diverged": 7, "r2_stopped": 0.7}
    table = pd.DataFrame(rows)
    np.testing.assert_array_equal(scores(table, "rnn"), [0.9, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(scores(table, "rnn", "r2_stopped"), [0.9, np.nan, np.nan, 0.7])
    assert len(scores(table, "urnn")) == 0


def test_verdicts_follow_the_rule() -> None:
    wave = 0.01 * np.sin(np.arange(30))
    base = 0.9 + wave
    table = a_table(
        {
            "urnn": base,
            "urnn-exact": base + 0.02 + 0.01 * np.cos(np.arange(30)),
            "urnn-identity": base + 0.001 * wave,
            "urnn-slow": base - 0.05 + wave,
            "rnn": base + 0.2 * np.sin(7.0 * np.arange(30)),
        }
    )
    found = compare_arms({"a": table}, primary="a")
    last = found[found["column"] == "r2"].set_index("contrast")["verdict"]
    names = {pair: name for name, pair in CONTRASTS.items()}
    assert last[names["urnn-exact", "urnn"]] == "higher"
    assert last[names["urnn-identity", "urnn"]] == "equal"
    assert last[names["urnn-slow", "urnn"]] == "lower"
    assert last[names["urnn", "rnn"]] == "open"
    assert len(found) == 2 * 4  # contrasts of absent arms are left out


def test_only_the_primary_contrast_is_not_corrected() -> None:
    """p = 0.03 is a difference when it stands alone, and none among many."""
    rng = np.random.default_rng(0)
    d = rng.standard_normal(30)
    d = 0.1 * ((d - d.mean()) / d.std(ddof=1) + 2.28 / np.sqrt(30))  # t = 2.28, p = 0.030
    table = a_table({"urnn": np.full(30, 0.5), "urnn-exact": 0.5 + d})
    found = compare_arms({"a": table, "b": table}, primary="a")
    assert found["p_zero"][0] == pytest.approx(0.03, abs=0.001)
    assert found["verdict"].tolist() == ["higher", "open", "open", "open"]
    lost = a_table({"urnn": [0.5, np.nan], "urnn-exact": [0.6, 0.6]})
    assert compare_arms({"a": lost}, primary="a").empty
