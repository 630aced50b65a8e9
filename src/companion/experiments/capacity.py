"""Capacity or optimisation: paired arms that differ in one thing, trained on the same systems.

Theorem 1 settles what a unitary network of 2n states can hold; what training finds is another
matter. Each arm is a way to train a student; two arms meet on the same data, batches and, where
their sizes agree, initial draws, so that their difference on a system is due to the one thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from companion.experiments.statistics import holm, interval, mean_tests
from companion.experiments.synthetic import Realisation, Setting, experiment
from companion.theory.network import RNN, Array
from companion.theory.theorem1 import unitary_equivalent
from companion.training import Fit, Options, Student, assemble, fit, initial_theta, is_lost
from companion.training.result import described
from companion.training.students import Initialisation, Projection, require

Start = Literal["orthogonal", "identity", "exact", "near"]
Pairs = dict[str, tuple[RNN, RNN]]


@dataclass(frozen=True)
class Arm:
    """A way to train a student.

    Parameters
    ----------
    model : "rnn" or "urnn".
    doubled : whether it has the 2n units of theorem 1; otherwise n, as many as the teacher.
    start : "orthogonal" (Haar) or "identity": W so, the rest Glorot. "exact": an RNN starts as the
        teacher, a URNN as its unitary equivalent; "near": near there (`equal_pairs`).
    projection : how the W of a URNN stays orthogonal, as in `companion.training.Options`.
    slow : whether it learns at the lower of two rates.
    """

    model: Literal["rnn", "urnn"]
    doubled: bool
    start: Start
    projection: Projection = "newton-schulz"
    slow: bool = False


ARMS = {
    "rnn": Arm("rnn", False, "orthogonal"),
    "rnn-identity": Arm("rnn", False, "identity"),
    "rnn-slow": Arm("rnn", False, "orthogonal", slow=True),
    "rnn-near": Arm("rnn", False, "near"),
    "rnn-exact": Arm("rnn", False, "exact"),
    "urnn": Arm("urnn", True, "orthogonal"),
    "urnn-identity": Arm("urnn", True, "identity"),
    "urnn-slow": Arm("urnn", True, "orthogonal", slow=True),
    "urnn-near": Arm("urnn", True, "near"),
    "urnn-exact": Arm("urnn", True, "exact"),
    "urnn-exponential": Arm("urnn", True, "orthogonal", projection="exponential"),
    "small-urnn": Arm("urnn", False, "orthogonal"),
    "small-urnn-identity": Arm("urnn", False, "identity"),
}

CONTRASTS = {  # the first is the primary one
    "what a start at the solution adds": ("urnn-exact", "urnn"),
    "what an identity start adds": ("urnn-identity", "urnn"),
    "what never leaving the group adds": ("urnn-exponential", "urnn"),
    "what the lower rate adds": ("urnn-slow", "urnn"),
    "URNN(2n) against RNN(n), orthogonal": ("urnn", "rnn"),
    "URNN(2n) against RNN(n), identity": ("urnn-identity", "rnn-identity"),
    "URNN(2n) against RNN(n), slow": ("urnn-slow", "rnn-slow"),
    "URNN(2n) against RNN(n), near": ("urnn-near", "rnn-near"),
    "URNN(2n) against RNN(n), exact": ("urnn-exact", "rnn-exact"),
    "what doubling adds, orthogonal": ("urnn", "small-urnn"),
    "what doubling adds, identity": ("urnn-identity", "small-urnn-identity"),
    "what a start at the solution adds to an RNN": ("rnn-exact", "rnn"),
}


def equal_pairs(realisation: Realisation, relative: float, seed: int) -> Pairs:
    """Make pairs: an RNN of n states, a URNN with the same outputs on this realisation's inputs.

    "exact" is the teacher and `unitary_equivalent` for the largest input and the length of its
    sequences. For "near", Gaussian noise of ``relative`` times its Frobenius norm is added to the
    teacher's F, b and C and to the unitary W, which is then replaced by the nearest orthogonal
    matrix; the RNN has its leading block.
    """
    rnn, T, rng = realisation.teacher.rnn, realisation.setting.T, np.random.default_rng(seed)
    inputs = (realisation.x_train, realisation.x_test)
    largest = max(float(np.hypot.reduce(x, axis=-1).max()) for x in inputs)
    unitary = unitary_equivalent(rnn, largest, horizon=T)

    def noisy(a: Array) -> Array:
        noise = rng.standard_normal(a.shape)
        return np.asarray(a + relative * np.linalg.norm(a) / np.linalg.norm(noise) * noise)

    P, _, Qt = np.linalg.svd(noisy(unitary.W))
    U, n = P @ Qt, rnn.n
    near = RNN(U[:n, :n], noisy(rnn.F), noisy(rnn.b), noisy(rnn.C), rnn.h_init)
    moved = unitary_equivalent(near, largest, horizon=T, dilation=U)
    return {"exact": (rnn, unitary), "near": (near, moved)}


def train(
    setting: Setting, arms: Sequence[str] = tuple(ARMS), *, realisations: int, updates: int,
    seed: int, learning_rate: float = 0.01, slow_rate: float = 0.001, perturbation: float = 0.1,
    validation: int = 100, backend: Any = "auto", checkpoint: str | None = None,
) -> tuple[list[Realisation], pd.DataFrame]:  # fmt: skip
    """Train one student of each arm on each of ``realisations`` systems.

    Parameters
    ----------
    setting : the experiment; ``validation`` sequences are drawn besides its train and test ones.
    arms : names in `ARMS`.
    realisations, updates, seed : as for `experiment` and `fit`.
    learning_rate, slow_rate : of the arms, and of those that are slow.
    perturbation : relative size of what the "near" arms start away by.
    backend, checkpoint : as for `fit`.

    Returns
    -------
    the realisations, and one row for each arm, system and record (`COLUMNS`), the start included.

    Raises
    ------
    ValueError : for an unknown arm, and as `experiment` and `fit`.
    """
    for name in arms:
        require(name in ARMS, f"arm {name!r} is not known; allowed: {', '.join(ARMS)}.")
    once = len(set(arms)) == len(arms) > 0
    require(once, f"arms is {arms}; there must be at least one, and none twice.")
    drawn, plain, train_on, rest = experiment(
        replace(setting, test=setting.test + validation),
        realisations=realisations, models=["rnn"], hidden_units=[setting.hidden_units], seed=seed,
    )  # fmt: skip
    held_out = dict(zip(("validation", "test"), rest.split(validation), strict=True))
    pairs = [equal_pairs(d, perturbation, s.seed) for d, s in zip(drawn, plain, strict=True)]
    tables = []
    for projection in sorted({ARMS[name].projection for name in arms}):
        named = [name for name in arms if ARMS[name].projection == projection]
        starts = [
            _start(ARMS[name], *of, slow_rate if ARMS[name].slow else learning_rate)
            for name in named
            for of in zip(drawn, pairs, plain, strict=True)
        ]
        students, initial = zip(*starts, strict=True)
        train_them = partial(
            fit, students, train_on, initial=initial, held_out=held_out, backend=backend, seed=seed,
            options=Options(output_bias=setting.output_bias, projection=projection),
        )  # fmt: skip
        before, after = train_them(updates=0), train_them(updates=updates, checkpoint=checkpoint)
        tables.append(_table(np.repeat(named, realisations), before, after))
    return drawn, described(pd.concat(tables, ignore_index=True), COLUMNS)


def _start(
    arm: Arm, drawn: Realisation, pairs: Pairs, plain: Student, rate: float
) -> tuple[Student, Float[Array, "rows columns"]]:
    """Make the student of an arm on the system of a plain one, and its initial Θ."""
    setting = drawn.setting
    how: Initialisation = "identity" if arm.start == "identity" else "orthogonal"
    at = pairs[arm.start][arm.doubled] if arm.start in pairs else None
    units = at.n if at else setting.hidden_units * (1 + arm.doubled)
    student = Student(arm.model, units, plain.data, rate, how, plain.seed)
    if at is None:
        return student, initial_theta(student, setting.inputs, setting.outputs)
    theta = assemble({k: getattr(at, k) for k in "WFbC"} | {"c": drawn.teacher.output_bias})
    return student, theta


def _table(arms: Array, before: Fit, after: Fit) -> pd.DataFrame:
    """Write one row for each student and record, that before any update first."""
    validation, test = (np.hstack([before.r2[k], after.r2[k]]) for k in ("validation", "test"))
    student, record = (index.ravel() for index in np.indices(test.shape))
    each = pd.DataFrame([(s.data, s.hidden_units) for s in after.students])
    each = each.set_axis(["data", "hidden_units"], axis=1).assign(arm=arms, diverged=after.diverged)
    return each.iloc[student].assign(
        update=np.array([0, *after.updates])[record],
        r2_validation=validation.ravel(),
        r2=test.ravel(),
        r2_stopped=_at_best(validation, test).ravel(),
    )


COLUMNS = {
    "arm": "key of companion.experiments.capacity.ARMS",
    "data": "number of the realisation of teacher and data",
    "hidden_units": "number of hidden units of the student",
    "update": "number of updates made when this was recorded",
    "r2_validation": "1 - mean squared error / mean(y^2) on the validation sequences, no unit",
    "r2": "the same on the test sequences",
    "r2_stopped": "the test r2 at that record so far whose validation r2 is the best",
    "diverged": "update whose gradient was not finite, where the student was frozen; -1: none",
}


def _at_best(
    validation: Float[Array, "students records"], test: Float[Array, "students records"]
) -> Float[Array, "students records"]:
    """Take test R² at the best validation R² so far; what is not finite is never the best."""
    known = np.where(np.isfinite(validation), validation, -np.inf)
    best = np.maximum.accumulate(known, axis=1)
    index = np.maximum.accumulate(np.where(known == best, np.arange(best.shape[1]), 0), axis=1)
    return np.asarray(np.take_along_axis(test, index, 1))


def scores(table: pd.DataFrame, arm: str, column: str = "r2") -> Float[Array, " systems"]:
    """Take a column at an arm's last update, by system; NaN where the student was lost."""
    rows = table[table["arm"] == arm]
    last = rows[rows["update"] == rows["update"].max()].sort_values("data")
    values = last[column].to_numpy(dtype=float)
    # stopping early does not meet what comes later
    diverged = np.full(len(last), -1) if column == "r2_stopped" else last["diverged"].to_numpy()
    return np.where(is_lost(diverged, values), np.nan, values)


def compare_arms(
    tables: Mapping[str, pd.DataFrame], *, primary: str, margin: float = 0.005
) -> pd.DataFrame:
    """Judge all contrasts of all runs, at the last update and stopped early.

    The primary contrast is the first of `CONTRASTS` at the last update of the run ``primary``, and
    its p stands alone; all others are corrected together (Holm), those against 0 and those of
    equivalence apart.

    Returns
    -------
    run, contrast, column : which. mean, low, high, pairs, p_zero, p_equivalent : `interval` and
    `mean_tests` over the systems on which neither arm was lost, where they are at least two.
    verdict : "equal" if equivalence within ``margin`` is shown, else "higher" or "lower" if a
    difference is, at 5% each, else "open".
    """
    rows = []
    for run, table in tables.items():
        for (name, arms), column in product(CONTRASTS.items(), ("r2", "r2_stopped")):
            if set(arms) <= set(table["arm"]):
                a, b = (scores(table, arm, column) for arm in arms)
                d = (a - b)[np.isfinite(a - b)]
                if len(d) > 1:
                    rows.append((run, name, column, *interval(d, "mean"), *mean_tests(d, margin)))
    names = ["run", "contrast", "column", "mean", "low", "high", "pairs", "p_zero", "p_equivalent"]
    found = pd.DataFrame(rows, columns=names)
    first = [primary, next(iter(CONTRASTS)), "r2"]
    rest = (found[names[:3]] != first).any(axis=1)
    p = found[["p_zero", "p_equivalent"]].copy()
    for test in p:
        p.loc[rest, test] = holm(p.loc[rest, test].to_numpy(float))
    rule = [p["p_equivalent"] < 0.05, p["p_zero"] >= 0.05, found["mean"] > 0]
    return found.assign(verdict=np.select(rule, ["equal", "open", "higher"], "lower"))
