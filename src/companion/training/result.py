"""What a fit came to, and the table of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from companion.theory.network import Array
from companion.training.students import Options, Student

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "student": "number of the student in the fit",
    "model": "rnn, urnn, contractive or lstm",
    "hidden_units": "number of hidden units of the student",
    "data": "number of the realisation of teacher and data",
    "learning_rate": "of the optimiser, per update",
    "initialisation": "of the recurrent matrix",
    "seed": "of the initial weights",
    "update": "number of updates made when this was recorded",
    "train_loss": "mean loss on the batches since the record before: mean squared error, in units "
    "of y squared, or cross-entropy, in nats",
    "held_out": "which held-out set r2 or accuracy is measured on",
    "r2": "1 - mean squared error / mean(y^2), not centred, no unit",
    "r2_best": "the best r2 of this and the records before, chosen on the held-out set itself",
    "accuracy": "share of right answers, no unit",
    "accuracy_best": "the best accuracy of this and the records before, chosen on the held-out set",
    "diverged": "update whose gradient was not finite, where the student was frozen; -1: none",
    "where": "where its first inf or NaN arose; empty: none",
}


@dataclass(frozen=True, eq=False)
class Fit:
    """What a fit came to; arrays have one row a student, one column a record.

    Parameters
    ----------
    students, options : as given.
    theta : the last Θ of each student (see `companion.training.students`); of one that diverged,
        the last before.
    updates : the numbers of updates after which there is a record.
    train_loss : mean loss over the batches since the record before.
    score : for each held-out set, R² = 1 − MSE/mean(y²), also `r2`; or with cross-entropy the share
        of right answers, also `accuracy`.
    diverged : the update that could not be made because its loss or gradient was not finite, or −1.
    where : for those that diverged, where the first inf or NaN arose; otherwise "".
    backend : which computed it. seconds : wall time of this call, less when it was resumed.
    history : Θ of each student at each record, where it was asked for.
    """

    students: tuple[Student, ...]
    options: Options
    theta: tuple[Float[Array, "_ _"], ...] = field(repr=False)
    updates: Int[Array, " records"] = field(repr=False)
    train_loss: Float[Array, "students records"] = field(repr=False)
    score: dict[str, Float[Array, "students records"]] = field(repr=False)
    diverged: Int[Array, " students"] = field(repr=False)
    where: tuple[str, ...] = field(repr=False)
    backend: str
    seconds: float
    history: tuple[Float[Array, "records _ _"], ...] = field(default=(), repr=False)

    @property
    def judged_by(self) -> str:
        """What `score` is: "r2" or "accuracy"."""
        return "accuracy" if self.options.loss == "cross-entropy" else "r2"

    @property
    def r2(self) -> dict[str, Float[Array, "students records"]]:
        """R² on each held-out set, of students trained on the mean square."""
        return self._score("r2")

    @property
    def accuracy(self) -> dict[str, Float[Array, "students records"]]:
        """Share of right answers on each held-out set, of students trained on cross-entropy."""
        return self._score("accuracy")

    def _score(self, name: str) -> dict[str, Float[Array, "students records"]]:
        if name != self.judged_by:
            raise AttributeError(f"this fit has no {name}; it has {self.judged_by}.")
        return self.score

    def only(self, chosen: Sequence[int]) -> Fit:
        """Keep some of the students, by number."""

        def kept(of: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(of[k] for k in chosen) if of else ()

        at = list(chosen)
        return replace(
            self, students=kept(self.students), theta=kept(self.theta), where=kept(self.where),
            history=kept(self.history), train_loss=self.train_loss[at], diverged=self.diverged[at],
            score={name: score[at] for name, score in self.score.items()},
        )  # fmt: skip

    def table(self) -> pd.DataFrame:
        """Write a row for each student, record and held-out set; ``attrs`` tells of columns."""
        import pandas as pd

        names = np.array(list(self.score))
        shape = (*self.train_loss.shape, max(1, len(names)))
        student, record, held_out = (index.ravel() for index in np.indices(shape))
        each = pd.DataFrame([asdict(s) for s in self.students])
        each = each.assign(student=each.index, diverged=self.diverged, where=self.where)
        table = each.iloc[student].reset_index(drop=True)
        table["update"] = self.updates[record]
        table["train_loss"] = self.train_loss[student, record]
        if len(names):
            score = np.stack(list(self.score.values()), -1)
            table["held_out"] = names[held_out]
            table[self.judged_by] = score.ravel()
            table[f"{self.judged_by}_best"] = np.fmax.accumulate(score, axis=1).ravel()
        return described(table, COLUMNS)


def described(table: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """Put a table's columns in this order, and what they hold into its ``attrs``.

    Parquet keeps ``attrs``, so that a file says what is in it.
    """
    table = table[[name for name in columns if name in table]]
    table.attrs = {name: columns[name] for name in table}
    return table
