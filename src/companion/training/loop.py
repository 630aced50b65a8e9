"""`fit`: many small recurrent students trained in one call, on whatever computes them fastest."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import threading
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from companion.theory.checks import whole_number
from companion.theory.files import whole
from companion.training.students import (
    Engine,
    Group,
    Loss,
    Options,
    Sequences,
    State,
    Student,
    draw_batches,
    initial_theta,
    places,
)

if TYPE_CHECKING:
    import pyarrow

Array = np.ndarray
Backend = Literal["auto", "reference", "cpu", "cuda"]
Outcome = tuple[State, dict[str, Array]]


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
    theta: tuple[Float[Array, "rows columns"], ...] = field(repr=False)
    updates: Int[Array, " records"] = field(repr=False)
    train_loss: Float[Array, "students records"] = field(repr=False)
    score: dict[str, Float[Array, "students records"]] = field(repr=False)
    diverged: Int[Array, " students"] = field(repr=False)
    where: tuple[str, ...] = field(repr=False)
    backend: str
    seconds: float
    history: tuple[Float[Array, "records rows columns"], ...] = field(default=(), repr=False)

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

    def table(self) -> pyarrow.Table:
        """One row for each student, record and held-out set if any; columns say what they hold."""
        import pyarrow as pa

        K, R = self.train_loss.shape
        names, judged_by = list(self.score), self.judged_by
        sets = max(1, len(names))
        per_student: dict[str, Any] = {
            key: [asdict(s)[key] for s in self.students]
            for key in COLUMNS
            if key in Student.__dataclass_fields__
        }
        per_student |= {"student": list(range(K)), "diverged": self.diverged, "where": self.where}
        columns: dict[str, Array] = {
            key: np.repeat(np.asarray(values), R * sets) for key, values in per_student.items()
        }
        columns["update"] = np.tile(np.repeat(self.updates, sets), K)
        columns["train_loss"] = np.repeat(self.train_loss.ravel(), sets)
        if names:
            columns["held_out"] = np.tile(np.array(names), K * R)
            score = np.stack([self.score[name] for name in names], -1)
            columns[judged_by] = score.ravel()
            columns[f"{judged_by}_best"] = np.fmax.accumulate(score, axis=1).ravel()
        described = {key: text for key, text in COLUMNS.items() if key in columns}
        arrays = [pa.array(columns[key]) for key in described]
        fields = [
            pa.field(key, a.type, metadata={"description": text})
            for a, (key, text) in zip(arrays, described.items(), strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


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


def _backend(name: Backend) -> str:
    if name not in get_args(Backend):
        raise ValueError(f"backend is {name!r}; allowed: {', '.join(get_args(Backend))}.")
    if name in ("cpu", "reference"):
        return name
    import torch

    # under its interpreter Triton computes on the processor
    there = torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"
    here = there and importlib.util.find_spec("triton") is not None
    if name == "cuda" and not here:
        raise ValueError("backend is 'cuda', but no GPU or no Triton is here; allowed: auto, cpu.")
    return "cuda" if here and torch.cuda.is_available() else name.replace("auto", "cpu")


def _engines(backend: str, dtype: str, loss: Loss) -> tuple[Callable[[Group], Engine], int]:
    """The constructor of a back end's engines, and how many students one of them takes."""
    if backend == "cpu" and loss == "cross-entropy":
        from companion.training.engines.batch import Batch

        return Batch, 1
    if backend == "cpu":
        from companion.training.engines.cpu import Cpu
        from companion.training.engines.lanes import LANES

        packed: dict[Any, Any] = {}  # data in lanes, shared by groups on the same realisations
        return lambda group: Cpu(group, packed), LANES
    import torch

    if backend == "cuda" and loss == "cross-entropy":
        from companion.training.engines.batch_cuda import BatchCuda

        return BatchCuda, 4096
    if backend == "cuda":
        from companion.training.engines.cuda import Cuda

        return Cuda, 4096
    from companion.training.reference import Reference

    return lambda group: Reference(group, getattr(torch, dtype)), 64


def _groups(students: Sequence[Student], width: int, mixed: bool) -> list[list[int]]:
    """Students of one model and size, or if ``mixed`` all but LSTMs, at most ``width`` together."""
    kinds: dict[Any, list[int]] = {}
    for i, s in enumerate(students):
        kinds.setdefault(s.gates if mixed else (s.model, s.hidden_units), []).append(i)
    parts = []
    for members in kinds.values():
        turn: Counter[int] = Counter()
        order = {}
        for i in members:  # one student of each realisation after another: groups share their data
            order[i] = (turn[students[i].data], students[i].data)
            turn[students[i].data] += 1
        members.sort(key=order.__getitem__)
        parts += np.array_split(members, -(-len(members) // width))
    # the longest first, so that no thread is left with one at the end
    parts.sort(key=lambda part: -students[part[0]].gates * students[part[0]].hidden_units)
    return [[int(i) for i in part] for part in parts]


def _digest(*parts: Any) -> str:
    """Name of a checkpoint, which what is trained, on what, and by which code all change."""
    h = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        h.update(file.read_bytes())
    for part in parts:
        if isinstance(part, np.ndarray):
            h.update(f"{part.dtype}{part.shape}".encode())
            h.update(np.ascontiguousarray(part).data)
        else:
            h.update(repr(part).encode())
    return h.hexdigest()[:20]


def _saved(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """The arrays ``names`` of a checkpoint; none, where there is no such file or it is damaged."""
    if not path.exists():
        return {}
    try:
        with path.open("rb") as whole_file, np.load(whole_file, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        warnings.warn(f"{path} is damaged ({error}) and is made again", stacklevel=2)
        return {}


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _refuse_bad(
    students: Sequence[Student],
    train: Sequences,
    loss: Loss,
    held_out: Mapping[str, Sequences],
    updates: int,
    batches: Array,
    thetas: Sequence[Array],
    record_every: int | None,
) -> None:
    R, S, T, m = train.x.shape
    p = train.y.shape[-1]
    last = loss == "cross-entropy"
    if train.y.shape[2] != (1 if last else T) or (last and not train.one_hot):
        raise ValueError(
            f"y of train has shape {train.y.shape}; loss = {loss!r} needs "
            + ("a single 1 among zeros, for the last step" if last else f"all {T} steps")
            + "."
        )
    if not students:
        raise ValueError("there are no students; at least one is needed.")
    if record_every is not None:
        whole_number("record_every", record_every, 1)
    for name, data in held_out.items():
        steps = 1 if last else data.x.shape[2]
        if (data.x.shape[0], data.x.shape[-1], *data.y.shape[2:]) != (R, m, steps, p):
            raise ValueError(
                f"held_out[{name!r}] has x of shape {data.x.shape} and y of shape {data.y.shape}; "
                f"as in train, there must be {R} realisations, {m} inputs and {p} outputs at "
                f"{'the last step' if last else 'every step'}."
            )
        if not last and not data.power.all():
            raise ValueError(
                f"y of held_out[{name!r}] is 0 throughout a realisation, where R² has no meaning; "
                "leave it out, or give other data."
            )
    if (
        batches.dtype.kind not in "iu"
        or batches.ndim != 2
        or len(batches) != updates
        or batches.shape[1] < 1
        or (batches.size and not 0 <= batches.min() <= batches.max() < S)
    ):
        raise ValueError(
            f"batches has dtype {batches.dtype} and shape {batches.shape}; it must hold integers "
            f"from 0 to {S - 1}, one row for each of the {updates} updates."
        )
    for i, (s, theta) in enumerate(zip(students, thetas, strict=True)):
        if s.data >= R:
            raise ValueError(f"student {i} is on realisation {s.data}; there are {R}, from 0.")
        shape = (s.gates * s.hidden_units + p, s.hidden_units + m + 1)
        if theta.shape != shape or not np.isfinite(theta).all():
            raise ValueError(
                f"initial[{i}] has shape {theta.shape}; a {s.model} of {s.hidden_units} units "
                f"needs finite values of shape {shape}."
            )
        if theta[-p:, s.hidden_units : -1].any():
            raise ValueError(f"initial[{i}] has entries under F, where no parameters are.")


def fit(
    students: Sequence[Student],
    train: Sequences,
    *,
    updates: int,
    batch: int = 10,
    options: Options | None = None,
    held_out: Mapping[str, Sequences] | None = None,
    initial: Sequence[Float[Array, "rows columns"]] | None = None,
    batches: Int[Array, "updates batch"] | None = None,
    seed: int = 0,
    record_every: int | None = None,
    backend: Backend = "auto",
    dtype: str = "float32",
    threads: int | None = None,
    checkpoint: Path | str | None = None,
    keep_history: bool = False,
    progress: bool = False,
) -> Fit:
    """Train independent students, each on its realisation of the data.

    Parameters
    ----------
    students : what to train; models and sizes may be mixed.
    train : the training sequences of every realisation.
    updates, batch : number of updates, and of sequences in each.
    options : what the students share; by default Keras' Adam without clipping or output bias.
    held_out : named sets that R² or accuracy is recorded on, such as "validation" and "test".
        Nothing is chosen by them here.
    initial : Θ of each student (`assemble`, `initial_theta`); drawn from its seed by default.
    batches : the sequences of each update, the same for all students, whose data differ anyway;
        drawn from ``seed`` by default: each pass in a new order, a remainder left out.
    record_every : updates between records; by default one pass over the data.
    backend : "cpu" (numba), "cuda" (Triton) or "reference" (torch autograd); "auto" takes a GPU if
        there is one.
    dtype : "float32", or with the reference "float64".
    threads : of the CPU back end; by default one for each processor this process may use.
    checkpoint : a folder. At each record, each group of students is saved there, and a later call
        with the same arguments goes on from there, to a result equal bit for bit; so does one with
        more updates, if the earlier number was a multiple of ``record_every``. One with fewer
        leaves what is there alone. A damaged file is made again, with a warning.
    keep_history : whether to return Θ of every record.
    progress : whether to show a progress bar.

    Raises
    ------
    TypeError, ValueError : for bad arguments, before any work is done.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> data = Sequences(rng.standard_normal((1, 20, 8, 2)), rng.standard_normal((1, 20, 8, 2)))
    >>> students = [Student("rnn", 2), Student("urnn", 3)]
    >>> result = fit(students, data, updates=4, held_out={"test": data}, backend="reference")
    >>> result.r2["test"].shape, result.diverged.tolist()
    ((2, 2), [-1, -1])
    """
    start, held_out = time.perf_counter(), dict({} if held_out is None else held_out)
    options = Options() if options is None else options
    typed = {"train": (train, Sequences), "options": (options, Options)}
    typed |= {f"held_out[{name!r}]": (data, Sequences) for name, data in held_out.items()}
    for name, (value, kind) in typed.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name} is a {type(value).__name__}; it must be {kind.__name__}.")
    updates, seed = whole_number("updates", updates, 0), whole_number("seed", seed, 0)
    if threads is not None:
        threads = whole_number("threads", threads, 1)
    backend_name = _backend(backend)
    if dtype not in ("float32", "float64") or (dtype == "float64" and backend_name != "reference"):
        raise ValueError(
            f"dtype is {dtype!r} with backend {backend_name!r}; allowed: 'float32', and 'float64' "
            "with backend='reference'."
        )
    if batches is None:
        count = train.x.shape[1]
        batch = whole_number("batch", batch, 1)
        batches = draw_batches(count, batch, updates, np.random.default_rng(seed))
    batches = np.asarray(batches)
    m, p = train.x.shape[-1], train.y.shape[-1]
    if initial is not None and len(initial) != len(students):
        raise ValueError(f"initial has {len(initial)} entries for {len(students)} students.")
    thetas = [
        np.asarray(initial_theta(s, m, p) if initial is None else initial[i], dtype=dtype)
        for i, s in enumerate(students)
    ]
    _refuse_bad(students, train, options.loss, held_out, updates, batches, thetas, record_every)

    record_every = record_every or max(1, train.x.shape[1] // batches.shape[1])
    records = np.unique([*range(record_every, updates + 1, record_every), updates])
    engine_of, width = _engines(backend_name, dtype, options.loss)
    folder = None if checkpoint is None else Path(checkpoint)
    data_digest = ""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        data_digest = _digest(train.x, train.y, *(a for d in held_out.values() for a in (d.x, d.y)))
    share = options.loss == "cross-entropy"  # an error is a share already
    R = len(train.x)
    power = {name: np.ones(R) if share else data.power for name, data in held_out.items()}
    bar = tqdm(total=updates * len(students), unit="update", disable=not progress, unit_scale=True)
    lock, stop = threading.Lock(), threading.Event()

    def run(members: list[int]) -> Outcome:
        try:
            return run_group(members)
        except BaseException:
            stop.set()  # the other groups end at their next record, saved
            raise

    def run_group(members: list[int]) -> Outcome:
        group = Group(tuple(students[i] for i in members), options, train)
        n = group.sizes[1]
        inside = [places(s, n, m, p) for s in group.students]
        theta = np.zeros((len(members), group.sizes[0] * n + p, n + m + 1), dtype=dtype)
        for j, i in enumerate(members):
            theta[j][inside[j]] = thetas[i]
        state = State(theta, theta * 0, theta * 0, np.full(len(members), -1))
        path = None
        # by record: the loss, the score on each held-out set and, if kept, Θ
        made: dict[str, Array] = {"loss": np.full((len(members), len(records)), np.nan)}
        made |= {f"score {name}": made["loss"].copy() for name in held_out}
        if keep_history:
            made["history"] = np.zeros((*made["loss"].shape, *theta.shape[1:]), dtype=dtype)
        done = 0
        if folder is not None:
            first = batches[:1]
            what = (group.students, options, backend_name, list(made), record_every, first)
            path = folder / f"{_digest(data_digest, *what, theta)}.npz"
            names = ("theta", "mean", "square", "diverged")
            saved = _saved(path, (*names, "update", "records", "batches", *made))
            update, count = int(saved.get("update", 0)), len(saved.get("records", ()))
            if update > updates:
                path = None  # of a longer call, which this one leaves alone
            elif (
                count
                and saved["batches"] == _digest(batches[:update])
                and np.array_equal(saved["records"], records[:count])
            ):
                state = State(**{name: saved[name] for name in names}, update=update)
                done = count
                for name, values in made.items():
                    values[:, :done] = saved[name]
            with lock:
                bar.update(state.update * len(members))
        engine = engine_of(group)
        for column, last in list(enumerate(records))[done:]:
            if stop.is_set():
                break
            if count := int(last) - state.update:
                state, losses = engine.advance(state, batches[state.update : last])
                made["loss"][:, column] = losses.mean(1)
            for name, data in held_out.items():
                error = engine.evaluate(state.theta, data)
                made[f"score {name}"][:, column] = 1 - error / power[name][group.data]
            if keep_history:
                made["history"][:, column] = state.theta
            if path is not None:
                so_far = {name: values[:, : column + 1] for name, values in made.items()}
                so_far |= {"records": records[: column + 1], **vars(state)}
                with whole(path) as temporary, temporary.open("wb") as file:
                    np.savez(file, allow_pickle=False, batches=_digest(batches[:last]), **so_far)
            with lock:
                bar.update(count * len(members))
        return state, made

    groups = _groups(students, width, mixed=backend_name == "cuda")
    # the GPU and torch's own threads are shared already
    workers = 1 if backend_name != "cpu" else threads or processors()
    with bar, ThreadPoolExecutor(workers) as pool:
        try:
            outcomes = list(pool.map(run, groups))
        except BaseException:  # also an interrupt of this thread
            stop.set()
            raise

    K = len(students)
    final: list[Array] = [np.empty(0)] * K
    train_loss = np.empty((K, len(records)))
    score = {name: np.empty((K, len(records))) for name in held_out}
    history: list[Array] = [np.empty(0)] * (K if keep_history else 0)
    diverged, where = np.empty(K, dtype=np.int64), [""] * K
    for members, (state, made) in zip(groups, outcomes, strict=True):
        train_loss[members], diverged[members] = made["loss"], state.diverged
        for name, values in score.items():
            values[members] = made[f"score {name}"]
        n = max(students[i].hidden_units for i in members)
        for j, i in enumerate(members):
            inside = places(students[i], n, m, p)
            final[i] = theta = state.theta[j][inside]
            if keep_history:
                history[i] = made["history"][j][:, *inside]
            if diverged[i] >= 0:
                from companion.training.reference import first_non_finite

                index, s = batches[diverged[i]], students[i]
                where[i] = first_non_finite(
                    theta, train.x[s.data, index], train.y[s.data, index], s.gates, options.loss
                )
    return Fit(
        tuple(students),
        options,
        tuple(final),
        records,
        train_loss,
        score,
        diverged,
        tuple(where),
        backend_name,
        time.perf_counter() - start,
        tuple(history),
    )
