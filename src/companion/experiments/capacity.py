"""Capacity or optimisation: paired arms that differ in one thing, trained on the same systems.

Theorem 1 settles what a unitary network of 2n states can hold; what training finds is another
matter. Each arm is a way to train a student; two arms meet on the same data, batches and, where
their sizes agree, initial draws, so that their difference on a system is due to the one thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from companion.experiments.statistics import Difference, holm, paired_difference
from companion.experiments.synthetic import Realisation, Setting, experiment
from companion.theory.network import RNN
from companion.theory.theorem1 import unitary_equivalent
from companion.training import Fit, Options, Student, assemble, fit, initial_theta, is_lost
from companion.training.result import described
from companion.training.students import Initialisation, Projection, require

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray
Start = Literal["orthogonal", "identity", "exact", "near"]


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


def equal_pairs(realisation: Realisation, relative: float, seed: int) -> dict[str, tuple[RNN, RNN]]:
    """Pairs (RNN of n states, URNN with the same outputs on this realisation's inputs).

    "exact" is the teacher and `unitary_equivalent` for the largest input and the length of its
    sequences. For "near", Gaussian noise of ``relative`` times its Frobenius norm is added to the
    teacher's F, b and C and to the unitary W, which is then replaced by the nearest orthogonal
    matrix; the RNN has its leading block.
    """
    rnn, T, rng = realisation.teacher.rnn, realisation.setting.T, np.random.default_rng(seed)
    largest = max(
        float(np.hypot.reduce(x, axis=-1).max()) for x in (realisation.x_train, realisation.x_test)
    )
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
    import pandas as pd

    for name in arms:
        require(name in ARMS, f"arm {name!r} is not known; allowed: {', '.join(ARMS)}.")
    once = len(set(arms)) == len(arms) > 0
    require(once, f"arms is {arms}; there must be at least one, and none twice.")
    setting, n = replace(setting, test=setting.test + validation), setting.hidden_units
    drawn, plain, train_on, rest = experiment(
        setting, realisations=realisations, models=["rnn"], hidden_units=[n], seed=seed
    )
    systems = [
        (i, d, equal_pairs(d, perturbation, s.seed), s.seed)
        for i, (d, s) in enumerate(zip(drawn, plain, strict=True))
    ]
    held_out = dict(zip(("validation", "test"), rest.split(validation), strict=True))
    tables = []
    for projection in sorted({ARMS[name].projection for name in arms}):
        named = [name for name in arms if ARMS[name].projection == projection]
        rates = [slow_rate if ARMS[name].slow else learning_rate for name in named]
        each = [(ARMS[k], *s, rate) for k, rate in zip(named, rates, strict=True) for s in systems]
        students, initial = zip(*(_start(*one) for one in each), strict=True)
        options = Options(output_bias=setting.output_bias, projection=projection)
        train_them = partial(
            fit, students, train_on, options=options, held_out=held_out, initial=initial,
            backend=backend, seed=seed,
        )  # fmt: skip
        before, after = train_them(updates=0), train_them(updates=updates, checkpoint=checkpoint)
        tables.append(_table(np.repeat(named, realisations), before, after))
    return drawn, described(pd.concat(tables, ignore_index=True), COLUMNS)


def _start(
    arm: Arm, i: int, drawn: Realisation, pairs: dict[str, tuple[RNN, RNN]], seed: int, rate: float
) -> tuple[Student, Float[Array, "rows columns"]]:
    """The student of an arm on system ``i``, and its initial Θ."""
    how: Initialisation = "identity" if arm.start == "identity" else "orthogonal"
    setting = drawn.setting
    units = setting.hidden_units * (1 + arm.doubled)
    if arm.start not in ("exact", "near"):
        student = Student(arm.model, units, i, rate, how, seed)
        return student, initial_theta(student, setting.inputs, setting.outputs)
    at = pairs[arm.start][arm.doubled]
    theta = assemble({k: getattr(at, k) for k in "WFbC"} | {"c": drawn.teacher.output_bias})
    return Student(arm.model, at.n, i, rate, how, seed), theta


def _table(arms: Array, before: Fit, after: Fit) -> pd.DataFrame:
    """One row for each student and record, that before any update first."""
    import pandas as pd

    r2 = {name: np.hstack([before.r2[name], after.r2[name]]) for name in after.r2}
    student, record = (index.ravel() for index in np.indices(r2["test"].shape))
    columns = {
        "arm": arms[student],
        "data": np.array([s.data for s in after.students])[student],
        "hidden_units": np.array([s.hidden_units for s in after.students])[student],
        "update": np.array([0, *after.updates])[record],
        "r2_validation": r2["validation"].ravel(),
        "r2": r2["test"].ravel(),
        "r2_stopped": _at_best(r2["validation"], r2["test"]).ravel(),
        "diverged": after.diverged[student],
    }
    return pd.DataFrame(columns)


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
    """Test R² at the best validation R² so far; what is not finite is never the best."""
    known = np.where(np.isfinite(validation), validation, -np.inf)
    best = np.maximum.accumulate(known, axis=1)
    index = np.maximum.accumulate(np.where(known == best, np.arange(best.shape[1]), 0), axis=1)
    return np.asarray(np.take_along_axis(test, index, 1))


def scores(table: pd.DataFrame, arm: str, column: str = "r2") -> Float[Array, " systems"]:
    """A column at an arm's last update, by system; NaN where the student was lost."""
    rows = table[table["arm"] == arm]
    last = rows[rows["update"] == rows["update"].max()].sort_values("data")
    values, diverged = last[column].to_numpy(dtype=float), last["diverged"].to_numpy()
    if column == "r2_stopped":
        diverged = np.full(len(last), -1)  # stopping early does not meet what comes later
    return np.where(is_lost(diverged, values), np.nan, values)


class Contrast(NamedTuple):
    """One paired comparison: a key of `CONTRASTS`, in which run, of which column, and what of it.

    ``difference`` is over the systems where neither arm diverged; None if they are fewer than two.
    """

    run: str
    name: str
    column: str
    difference: Difference | None
    median: float
    verdict: str


def compare_arms(
    tables: Mapping[str, pd.DataFrame],
    *,
    primary: str,
    margin: float = 0.005,
    level: float = 0.95,
) -> list[Contrast]:
    """All contrasts of all runs, at the last update and stopped early, with their verdicts.

    The primary contrast is the first of `CONTRASTS` at the last update of the run ``primary``, and
    its p stands alone; all others are corrected together (Holm), those against 0 and those of
    equivalence apart. Verdict: "equal" if equivalence within ``margin`` is shown at ``level``, else
    "higher" or "lower" if a difference is, else "open".
    """
    found: list[tuple[str, str, str, Difference | None, float]] = []
    for run, table in tables.items():
        here = {arm: {c: scores(table, arm, c) for c in ("r2", "r2_stopped")} for arm in ARMS}
        for name, (a, b) in CONTRASTS.items():
            if not (len(here[a]["r2"]) and len(here[b]["r2"])):
                continue
            for column in ("r2", "r2_stopped"):
                d = here[a][column] - here[b][column]
                d = d[np.isfinite(d)]
                difference = None
                if len(d) > 1:
                    difference = paired_difference(d, d * 0, margin=margin, level=level)
                median = float(np.median(d)) if len(d) else np.nan
                found.append((run, name, column, difference, median))
    first = (primary, next(iter(CONTRASTS)), "r2")
    rest = [c[3] for c in found if c[3] is not None and c[:3] != first]
    zero = iter(holm([d.p_zero for d in rest]))
    equivalent = iter(holm([d.p_equivalent for d in rest]))

    def verdict(case: tuple[str, str, str], d: Difference | None) -> str:
        if d is None:
            return "open"
        p, q = (d.p_zero, d.p_equivalent) if case == first else (next(zero), next(equivalent))
        if q < 1 - level:
            return "equal"
        return ("higher" if d.mean > 0 else "lower") if p < 1 - level else "open"

    return [Contrast(*c, verdict(c[:3], c[3])) for c in found]
