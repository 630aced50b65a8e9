"""`fit`: many small recurrent students trained in one call, on whatever computes them fastest."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from companion.theory.checks import whole_number
from companion.theory.network import Array
from companion.training.checkpoint import Checkpoint, code, digest
from companion.training.engines import Backend, available, constructor, grouped, processors
from companion.training.result import Fit
from companion.training.students import (
    Batches,
    Engine,
    Group,
    Options,
    Sequences,
    State,
    Student,
    draw_batches,
    initial_theta,
    require,
)

Trained = dict[str, Array]  # of a student what `_Plan.blank` has, "theta" and "diverged"


@contextmanager
def _bar(total: int, progress: bool) -> Iterator[tqdm[Any]]:
    """Draw a progress bar, where a page is run in the file that its runner watches."""
    watched = os.environ.get("COMPANION_BAR")
    with (
        Path(watched or os.devnull).open("a", encoding="utf-8") as file,
        tqdm(
            total=total, unit="update", unit_scale=True, file=file if watched else None,
            disable=not (progress or watched),
        ) as bar,
    ):  # fmt: skip
        yield bar


def fit(
    students: Sequence[Student], train: Sequences, *, updates: int, batch: int = 10,
    options: Options | None = None, held_out: Mapping[str, Sequences] | None = None,
    initial: Sequence[Float[Array, "_ _"]] | None = None, seed: int = 0,
    record_every: int | None = None, backend: Backend = "auto", threads: int | None = None,
    checkpoint: Path | str | None = None, keep_history: bool = False, progress: bool = False,
) -> Fit:  # fmt: skip
    """Train independent students, each on its realisation of the data.

    Parameters
    ----------
    students : what to train; models and sizes may be mixed.
    train : the training sequences of every realisation.
    updates, batch, seed : number of updates, of sequences in each, and what draws these, alike for
        all students without an ``order`` of their own, whose data differ anyway: each pass in a
        new order, a remainder left out.
    options : what the students share; by default Keras' Adam without clipping or output bias.
    held_out : named sets that R² or accuracy is recorded on, such as "validation" and "test".
        Nothing is chosen by them here.
    initial : Θ of each student (`assemble`, `initial_theta`); drawn from its seed by default.
    record_every : updates between records; by default one pass over the data.
    backend : "cpu", "cuda", or "reference" (torch autograd); "auto" takes a GPU if there is one.
    threads : of the CPU back end; by default one for each processor this process may use.
    checkpoint : a folder. At each record, each group of students is saved there, and a later call
        with the same arguments goes on from there, to a result equal bit for bit; so does one with
        more updates, if the earlier number was a multiple of ``record_every``. One with fewer
        leaves what is there alone. A damaged file is made again, with a warning.
    keep_history, progress : whether to return Θ of every record, and to show a progress bar.

    Raises
    ------
    TypeError, ValueError : for bad arguments, before any work is done.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> data = Sequences(rng.standard_normal((1, 20, 8, 2)), rng.standard_normal((1, 20, 8, 2)))
    >>> result = fit([Student("rnn", 2), Student("urnn", 3)], data, updates=4, held_out={"t": data})
    >>> result.r2["t"].shape, result.diverged.tolist()
    ((2, 2), [-1, -1])
    """
    start = time.perf_counter()
    workers = processors() if threads is None else whole_number("threads", threads, 1)
    plan = _Plan(
        students, train, updates, batch, options, held_out, initial, seed, record_every, backend,
        keep_history, checkpoint,
    )  # fmt: skip
    with _bar(updates * len(students), progress) as bar:
        trained = _train_groups(plan, workers, bar.update)
    return _result(plan, trained, time.perf_counter() - start)


class _Plan:
    """What `fit` was asked for: refused if bad, before any work, and made complete."""

    def __init__(
        self, students: Sequence[Student], train: Sequences, updates: int, batch: int,
        options: Options | None, held_out: Mapping[str, Sequences] | None,
        initial: Sequence[Array] | None, seed: int, every: int | None, backend: Backend,
        keep_history: bool, checkpoint: Path | str | None,
    ) -> None:  # fmt: skip
        self.students, self.train, self.held_out = tuple(students), train, dict(held_out or {})
        self.options = Options() if options is None else options
        data = {"train": train} | {f"held_out[{k!r}]": d for k, d in self.held_out.items()}
        for name, value in (data | {"options": self.options}).items():
            kind = Options if name == "options" else Sequences
            if not isinstance(value, kind):
                raise TypeError(f"{name} is a {type(value).__name__}; it must be {kind.__name__}.")
        updates, batch = whole_number("updates", updates, 0), whole_number("batch", batch, 1)
        self.backend, self.keep_history = available(backend), keep_history
        self.power = _power(train, self.held_out, self.options)
        seed, count = whole_number("seed", seed, 0), train.x.shape[1]
        self.orders = [seed if s.order is None else s.order for s in self.students]
        self.drawn = {
            order: draw_batches(count, batch, updates, np.random.default_rng(order))
            for order in dict.fromkeys(self.orders)
        }
        self.thetas = _thetas(self.students, train, initial)
        self.every = count // batch if every is None else whole_number("record_every", every, 1)
        self.records = np.unique([*range(self.every, updates + 1, self.every), updates])
        self.folder = None if checkpoint is None else Path(checkpoint)

    def blank(self, theta: Array) -> dict[str, Array]:
        """Make room by record: the loss, the score on each held-out set and, if kept, Θ."""
        shape = len(theta), len(self.records)
        names = ["loss", *(f"score {name}" for name in self.held_out)]
        made = {name: np.full(shape, np.nan) for name in names}
        if self.keep_history:
            made["history"] = np.zeros((*shape, *theta.shape[1:]), dtype=theta.dtype)
        return made

    def name(self) -> str:
        """Hash what is the same for all groups: data, options, back end and code."""
        data = [a for d in (self.train, *self.held_out.values()) for a in (d.x, d.y)]
        what = (self.options, self.backend, list(self.held_out), self.keep_history, self.every)
        return digest(code(), *data, *what, *(drawn[:1] for drawn in self.drawn.values()))

    def batches(self, members: Sequence[int], first: int, last: int) -> Batches:
        """Give the batches of some students: one for all where they share their order."""
        orders = [self.orders[i] for i in members]
        drawn = [self.drawn[order][first:last] for order in orders]
        return drawn[0] if len(set(orders)) == 1 else np.stack(drawn, axis=1)


def _power(
    train: Sequences, held_out: Mapping[str, Sequences], options: Options
) -> dict[str, Float[Array, " R"]]:
    """Refuse data that do not fit the loss or each other; give what 1 − score is a part of.

    That is mean(y²) of each held-out set and realisation, or 1 where an error is a share already.
    """
    R, _, T, m = train.x.shape
    last = options.loss == "cross-entropy"
    steps, p = train.y.shape[2:]
    one_hot = last and np.isin(train.y, (0, 1)).all() and (train.y.sum(-1) == 1).all()
    require(
        (steps == 1 and one_hot) if last else steps == T,
        f"y of train has shape {train.y.shape}; loss = {options.loss!r} needs "
        + ("a single 1 among zeros, for the last step." if last else f"all {T} steps."),
    )
    power = {}
    for name, data in held_out.items():
        wanted = (R, m, 1 if last else data.x.shape[2], p)
        require(
            (data.x.shape[0], data.x.shape[-1], *data.y.shape[2:]) == wanted,
            f"held_out[{name!r}] has x of shape {data.x.shape} and y of shape {data.y.shape}; "
            f"as in train, there must be {R} realisations, {m} inputs and {p} outputs at "
            f"{'the last step' if last else 'every step'}.",
        )
        power[name] = np.ones(R) if last else np.square(data.y, dtype=float).mean((1, 2, 3))
        require(
            power[name].all(),
            f"y of held_out[{name!r}] is 0 throughout a realisation, where R² has no meaning; "
            "leave it out, or give other data.",
        )
    return power


def _thetas(
    students: Sequence[Student], train: Sequences, given: Sequence[Array] | None
) -> list[Array]:
    """Find where each student starts: as given, or drawn from its seed."""
    R, m, p = len(train.x), train.x.shape[-1], train.y.shape[-1]
    require(len(students), "there are no students; at least one is needed.")
    if given is None:
        given = [initial_theta(s, m, p) for s in students]
    entries = f"initial has {len(given)} entries for {len(students)} students."
    require(len(given) == len(students), entries)
    thetas = [np.asarray(theta, dtype=np.float32) for theta in given]
    for i, (s, theta) in enumerate(zip(students, thetas, strict=True)):
        require(s.data < R, f"student {i} is on realisation {s.data}; there are {R}, from 0.")
        n, shape = s.hidden_units, (s.gates * s.hidden_units + p, s.hidden_units + m + 1)
        require(
            theta.shape == shape and np.isfinite(theta).all(),
            f"initial[{i}] has shape {theta.shape}; a {s.model} of {n} units needs finite values "
            f"of shape {shape}.",
        )
        under = f"initial[{i}] has entries under F, where no parameters are."
        require(not theta[-p:, n:-1].any(), under)
    return thetas


def _train_groups(plan: _Plan, workers: int, advanced: Callable[[int], object]) -> list[Trained]:
    """Train all groups, some at a time; the first that fails, or Ctrl-C, stops the others.

    They stop at their next record, and have saved it.
    """
    engine_of, width, kind = constructor(plan.backend, plan.options.loss)
    groups = grouped(plan.students, list(map(kind, plan.students, plan.orders)), width)
    stop, lock = threading.Event(), threading.Lock()
    common = ""
    if plan.folder is not None:
        plan.folder.mkdir(parents=True, exist_ok=True)
        common = plan.name()

    def count(updates: int) -> None:
        with lock:
            advanced(updates)

    def run(members: list[int]) -> list[Trained]:
        try:
            return _train_group(plan, members, engine_of, common, stop, count)
        except BaseException:
            stop.set()
            raise

    # torch's own threads are shared already; on a GPU two groups go side by side
    with ThreadPoolExecutor({"cpu": workers, "cuda": 2}.get(plan.backend, 1)) as pool:
        try:
            found = dict(zip(chain(*groups), chain(*pool.map(run, groups)), strict=True))
        except BaseException:  # also an interrupt of this thread
            stop.set()
            raise
    return [found[i] for i in range(len(found))]


def _train_group(
    plan: _Plan, members: list[int], engine_of: Callable[[Group], Engine], common: str,
    stop: threading.Event, advanced: Callable[[int], object],
) -> list[Trained]:  # fmt: skip
    """Train one group from record to record, from where its checkpoint left it, if it has one."""
    group = Group(tuple(plan.students[i] for i in members), plan.options, plan.train)
    state = State.start(group.padded([plan.thetas[i] for i in members]))
    made, done, checkpoint = plan.blank(state.theta), 0, None
    if plan.folder is not None:
        name = digest(common, group.students, state.theta)[:20]
        checkpoint = Checkpoint(plan.folder, name, state, plan.records, made)
        state, done = checkpoint.load()
    advanced(state.update * len(members))
    engine = engine_of(group)
    for column, update in enumerate(plan.records[done:], start=done):
        if stop.is_set():
            break
        batches = plan.batches(members, state.update, int(update))
        if len(batches):
            state, losses = engine.advance(state, batches)
            made["loss"][:, column] = losses.mean(1)
        for name, data in plan.held_out.items():
            errors = engine.evaluate(state.theta, data)
            made[f"score {name}"][:, column] = 1 - errors / plan.power[name][group.data]
        if plan.keep_history:
            made["history"][:, column] = state.theta
        if checkpoint is not None:
            checkpoint.save(state, column + 1)
        advanced(len(batches) * len(members))
    found = []
    for j, inside in enumerate(group.places):
        of = {name: values[j] for name, values in made.items()}
        if plan.keep_history:
            of["history"] = of["history"][:, *inside]
        found.append(of | {"theta": state.theta[j][inside], "diverged": state.diverged[j]})
    return found


def _result(plan: _Plan, trained: list[Trained], seconds: float) -> Fit:
    """Join what the students came to."""

    def joined(name: str) -> Array:
        return np.stack([of[name] for of in trained])

    return Fit(
        plan.students,
        plan.options,
        tuple(of["theta"] for of in trained),
        plan.records,
        joined("loss"),
        {name: joined(f"score {name}") for name in plan.held_out},
        joined("diverged"),
        tuple(map(partial(_where, plan), plan.students, plan.orders, trained)),
        plan.backend,
        seconds,
        tuple(of["history"] for of in trained) if plan.keep_history else (),
    )


def _where(plan: _Plan, student: Student, order: int, of: Trained) -> str:
    """Say where the first inf or NaN arose, on the batch of the update that could not be made."""
    if of["diverged"] < 0:
        return ""
    from companion.training.reference import first_non_finite

    index, i = plan.drawn[order][of["diverged"]], student.data
    return first_non_finite(of["theta"], plan.train.x[i, index], plan.train.y[i, index],
                            student.gates, plan.options.loss)  # fmt: skip
