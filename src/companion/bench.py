"""Timings that the book quotes: each row against what it replaces, in the same run on one machine.

A time is the least of several, taken in turn with its baseline's, since whatever else runs on a
machine only ever adds. Timings are reported, never asserted. To add a row, write a function that
returns `Row`s and list it in `ROWS`.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from companion.theory.dilation import orthogonal_dilation
from companion.theory.network import RNN
from companion.theory.theorem1 import unitary_equivalent
from companion.theory.theorem2 import find_witness, memoryless_teacher
from companion.training.engines import processors
from companion.training.engines.cpu import Cpu
from companion.training.engines.lanes import LANES, fma, load, store
from companion.training.loop import fit
from companion.training.students import (
    Group,
    Options,
    Sequences,
    State,
    Student,
    draw_batches,
    initial_theta,
)

INPUTS, OUTPUTS, BATCH, STEPS = 2, 2, 10, 1000
SIZES = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14)
UPDATES = 70  # a pass over 700 sequences, which `fit` makes in one call of an engine


@dataclass(frozen=True)
class Row:
    """One timing.

    Parameters
    ----------
    name, size : what was timed, and on what.
    milliseconds : the least time of it; for training, per update and student.
    against, against_milliseconds : what it is compared with, and its least time in the same run.
    floor_milliseconds : the time its multiplications and additions take at the peak speed measured
        in the same run, or None where that says nothing.
    memory_MiB, against_memory_MiB : the most memory of a process that does this alone, libraries
        and data included (on a GPU, what is allocated there); None where it was not measured.
    """

    name: str
    size: str
    milliseconds: float
    against: str
    against_milliseconds: float
    floor_milliseconds: float | None = None
    memory_MiB: float | None = None
    against_memory_MiB: float | None = None

    @property
    def ratio(self) -> float:
        """How many times faster than the baseline."""
        return self.against_milliseconds / self.milliseconds


def least_ms(*calls: Callable[[], Any], seconds: float = 3.0) -> list[float]:
    """The least milliseconds of each call, made in turn for about ``seconds``, thrice at least."""
    for call in calls:
        call()  # compiles, fills caches
    best, end, rounds = [np.inf] * len(calls), time.perf_counter() + seconds, 0
    while rounds < 3 or time.perf_counter() < end:
        for k, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[k] = min(best[k], 1e3 * (time.perf_counter() - start))
        rounds += 1
    return best


def peak_memory() -> float | None:
    """The most memory this process has held, in MiB, where the system tells (Linux)."""
    status = Path("/proc/self/status")  # getrusage would count what the parent held before exec
    if not status.exists():
        return None
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


def _memory_of(make: Callable[..., Callable[[], Any]], *args: Any) -> float | None:
    make(*args)()
    return peak_memory()


def memory_alone(make: Callable[..., Callable[[], Any]], *args: Any) -> float | None:
    """`peak_memory` of a new process that makes this one call."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_memory_of, make, *args).result()


def peak_multiply_adds() -> float:
    """Float32 multiply-adds a second of one processor, measured on registers alone."""
    from numba import njit

    @njit
    def chains(v: Any, count: int) -> None:
        # twelve chains hide the latency; equal ones would be merged into one
        x, y = load(v, 0), load(v, 1)
        a, b, c, d, e, f = (load(v, 2), load(v, 3), load(v, 4), load(v, 5), load(v, 6), load(v, 7))
        g, h, i, j, k, m = (
            load(v, 8),
            load(v, 9),
            load(v, 10),
            load(v, 11),
            load(v, 12),
            load(v, 13),
        )
        for _ in range(count):
            a, b, c, d = fma(a, x, y), fma(b, x, y), fma(c, x, y), fma(d, x, y)
            e, f, g, h = fma(e, x, y), fma(f, x, y), fma(g, x, y), fma(h, x, y)
            i, j, k, m = fma(i, x, y), fma(j, x, y), fma(k, x, y), fma(m, x, y)
        store(v, 14, fma(a, b, fma(c, d, fma(e, f, fma(g, h, fma(i, j, fma(k, m, x)))))))

    v, count = np.random.default_rng(0).random(15 * LANES, dtype=np.float32) / 2, 100_000
    return LANES * 12 * count / (least_ms(lambda: chains(v, count), seconds=0.5)[0] / 1e3)


def multiply_adds(model: str, n: int, T: int = STEPS) -> int:
    """Multiply-adds of the products in one update of one student (not of an LSTM's functions)."""
    rows = (4 if model == "lstm" else 1) * n
    forward = rows * (n + INPUTS) + OUTPUTS * n
    backward = (rows + OUTPUTS) * n
    sums = (rows + OUTPUTS) * n + rows * INPUTS
    return T * BATCH * (forward + backward + sums)


def naive_update(model: str, n: int, T: int = STEPS, device: str = "cpu") -> Callable[[], None]:
    """One update as one would write it with `torch.nn`: RNN or LSTM, Adam, the SVD projection."""
    import torch

    torch.manual_seed(0)
    net = (
        torch.nn.LSTM(INPUTS, n, batch_first=True)
        if model == "lstm"
        else torch.nn.RNN(INPUTS, n, nonlinearity="relu", batch_first=True)
    )
    readout = torch.nn.Linear(n, OUTPUTS).to(device)
    net = net.to(device)
    optimiser = torch.optim.Adam([*net.parameters(), *readout.parameters()], lr=1e-4)
    x = torch.randn(BATCH, T, INPUTS, device=device)
    y = torch.randn(BATCH, T, OUTPUTS, device=device)

    def update() -> None:
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(readout(net(x)[0]), y)
        torch.autograd.backward(loss)
        optimiser.step()
        if model == "urnn":
            with torch.no_grad():
                W = dict(net.named_parameters())["weight_hh_l0"]
                U, _, Vt = torch.linalg.svd(W)
                W.copy_(U @ Vt)
        if device != "cpu":
            torch.cuda.synchronize()

    return update


def engine_updates(
    model: str, n: int, students: int, updates: int, T: int = STEPS, threads: int | None = None
) -> Callable[[], None]:
    """``updates`` updates of ``students`` students on the CPU, as `fit` makes them."""
    rng = np.random.default_rng(0)
    realisations, sequences = min(students, LANES), 200  # more data than any cache holds
    shape = (realisations, sequences, T)
    x = rng.standard_normal((*shape, INPUTS), dtype=np.float32)
    data = Sequences(x, rng.standard_normal((*shape, OUTPUTS), dtype=np.float32))
    kind: Any = model
    them = [Student(kind, n, i % realisations, learning_rate=1e-4, seed=i) for i in range(students)]
    batches = draw_batches(sequences, BATCH, updates, rng)
    packed: dict[Any, Any] = {}
    jobs = []
    for start in range(0, students, LANES):
        part = tuple(them[start : start + LANES])
        theta = np.stack([initial_theta(s, INPUTS, OUTPUTS) for s in part]).astype(np.float32)
        state = State(theta, theta * 0, theta * 0, np.full(len(part), -1))
        jobs.append((Cpu(Group(part, Options(), data), packed), state))

    def run() -> None:
        with ThreadPoolExecutor(threads or processors()) as pool:
            list(pool.map(lambda job: job[0].advance(job[1], batches), jobs))

    return run


def panel_updates(
    updates: int,
    backend: Any = "cpu",
    *,
    models: Sequence[Any] = ("rnn", "urnn"),
    sizes: Sequence[int] = SIZES,
    realisations: int = 30,
    sequences: int = 700,
    T: int = STEPS,
) -> Callable[[], int]:
    """`fit` on one panel of Figures 2 and 3, noise for data; returns how many students it had."""
    rng = np.random.default_rng(0)
    shape = (realisations, sequences, T)
    x = rng.standard_normal((*shape, INPUTS), dtype=np.float32)
    data = Sequences(x, rng.standard_normal((*shape, OUTPUTS), dtype=np.float32))
    students = [
        Student(model, n, i, learning_rate=1e-4, seed=i)
        for i in range(realisations)
        for n in sizes
        for model in models
    ]

    def run() -> int:
        fit(students, data, updates=updates, batch=BATCH, backend=backend)
        return len(students)

    return run


def training_rows() -> list[Row]:
    """Students of Figures 2 and 3 against the torch module a user would reach for."""
    peak, rows = peak_multiply_adds(), []
    K = LANES * processors()
    for model, n in (("urnn", 4), ("urnn", 14), ("rnn", 4), ("rnn", 14), ("lstm", 4), ("lstm", 14)):
        naive, engine = least_ms(naive_update(model, n), engine_updates(model, n, K, UPDATES))
        rows.append(
            Row(
                f"train {model}",
                f"n = {n}, T = {STEPS}, batch {BATCH}, {K} students",
                engine / (K * UPDATES),
                "torch.nn.LSTM"
                if model == "lstm"
                else "torch.nn.RNN" + " + SVD" * (model == "urnn"),
                naive,
                1e3 * multiply_adds(model, n) / (peak * processors()),
                memory_alone(engine_updates, model, n, K, UPDATES),
                memory_alone(naive_update, model, n),
            )
        )
    return rows


def _panel_row(backend: str, floor: float | None, memory: Callable[[], float | None]) -> Row:
    """All of a panel; the time of further updates, apart from what `fit` does once."""
    device = "cuda" if backend == "cuda" else "cpu"
    short, long = panel_updates(1, backend), panel_updates(1 + UPDATES, backend)
    once, more, naive = least_ms(short, long, naive_update("urnn", 8, device=device), seconds=20)
    K = short()
    return Row(
        f"train a panel, {backend}",
        f"{K} students, RNN and URNN, n = 2 to 14, T = {STEPS}, batch {BATCH}",
        (more - once) / (UPDATES * K),
        "torch.nn.RNN + SVD, n = 8",
        naive,
        floor,
        memory(),
        memory_alone(naive_update, "urnn", 8) if backend == "cpu" else None,
    )


def panel_rows() -> list[Row]:
    """One panel of Figure 2 or 3, all sizes at once, as the figures were made."""
    work = float(np.mean([multiply_adds("rnn", n) for n in SIZES]))
    floor = 1e3 * work / (peak_multiply_adds() * processors())
    return [_panel_row("cpu", floor, partial(memory_alone, panel_updates, 2))]


def gpu_rows() -> list[Row]:
    """The same panel on a GPU, against the torch module there; no row where there is none."""
    import torch

    if not torch.cuda.is_available():
        return []
    return [_panel_row("cuda", None, lambda: torch.cuda.max_memory_allocated() / 2**20)]


def mnist_update(model: str, n: int, x: Any, y: Any) -> Callable[[], None]:
    """One update on permuted MNIST as one would write it with `torch.nn`, on all processors."""
    import torch

    torch.manual_seed(0)
    cell = torch.nn.LSTM if model == "lstm" else partial(torch.nn.RNN, nonlinearity="relu")
    net: Any = cell(1, n, batch_first=True)
    readout = torch.nn.Linear(n, y.shape[-1])
    optimiser = torch.optim.RMSprop([*net.parameters(), *readout.parameters()], lr=1e-4, alpha=0.9)
    x_, answer = torch.from_numpy(x), torch.from_numpy(y).argmax(-1)

    def update() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(processors())
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(readout(net(x_)[0][:, -1]), answer)
        torch.autograd.backward(loss)
        optimiser.step()
        torch.set_num_threads(before)

    return update


def mnist_rows() -> list[Row]:
    """Students of Figure 4, one a thread, against the loop over `torch.nn` that does the same."""
    from companion.experiments.permuted_mnist import BATCH as B
    from companion.experiments.permuted_mnist import CLASSES, STEPS
    from companion.training.engines.batch import Batch

    peak, rows, rng, U = peak_multiply_adds(), [], np.random.default_rng(0), 4
    x = rng.random((1, 4 * B, STEPS, 1), dtype=np.float32)
    y = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, (1, 4 * B, 1))]
    batches, data = draw_batches(4 * B, B, U, rng), Sequences(x, y)
    options = Options(optimiser="rmsprop", output_bias=True, loss="cross-entropy")
    cases: list[tuple[Any, int]] = [("rnn", 32), ("urnn", 32), ("rnn", 96), ("urnn", 96)]
    for model, n in [*cases, ("contractive", 96), ("lstm", 32), ("lstm", 96)]:
        jobs = []
        for i in range(processors()):
            student = Student(model, n, learning_rate=1e-4, seed=i)
            theta = initial_theta(student, 1, CLASSES).astype(np.float32)[None]
            state = State(theta, theta * 0, theta * 0, np.full(1, -1))
            jobs.append((Batch(Group((student,), options, data)), state))

        def engines(jobs: Any = jobs) -> None:
            with ThreadPoolExecutor(processors()) as pool:
                list(pool.map(lambda job: job[0].advance(job[1], batches), jobs))

        naive, engine = least_ms(mnist_update(model, n, x[0, :B], y[0, :B, 0]), engines, seconds=8)
        G = 4 if model == "lstm" else 1
        rows.append(
            Row(
                f"permuted MNIST, {model}",
                f"n = {n}, T = {STEPS}, batch {B}, {processors()} students",
                engine / (processors() * U),
                "torch.nn.LSTM" if model == "lstm" else "torch.nn.RNN",
                naive,
                1e3 * STEPS * B * G * n * (3 * n + 2) / (peak * processors()),
            )
        )
    return rows


def scaling_rows() -> list[Row]:
    """How the time of an update and student grows with students, size and length; one thread."""
    peak, rows, base = peak_multiply_adds(), [], (LANES, 4, STEPS)
    cases = [(k, 4, STEPS) for k in (1, 4, 64)] + [(LANES, n, STEPS) for n in (2, 8, 14, 32)]
    cases += [(LANES, 4, T) for T in (100, 4000)]
    for K, n, T in cases:
        of_base, engine = least_ms(
            *(engine_updates("rnn", n_, k, UPDATES, t, threads=1) for k, n_, t in (base, (K, n, T)))
        )
        size = f"n = {n}, T = {T}, {K} students"
        floor = 1e3 * multiply_adds("rnn", n, T) / peak
        against = f"n = {base[1]}, T = {base[2]}, {base[0]} students"
        rows.append(
            Row(
                "train rnn, one thread",
                size,
                engine / (K * UPDATES),
                against,
                of_base / (base[0] * UPDATES),
                floor,
            )
        )
    return rows


def theory_rows() -> list[Row]:
    """A large dilation against the singular values it is made from, and a large exact witness."""
    from flint import fmpq, fmpq_mat
    from scipy.linalg import svd

    rng, rows = np.random.default_rng(0), []
    for dtype in ("float64", "float32"):
        W = rng.standard_normal((2000, 2000))
        W = (W * (0.99 / np.linalg.norm(W, 2))).astype(dtype)
        peer, own = least_ms(partial(svd, W), partial(orthogonal_dilation, W), seconds=30)
        rows.append(Row("orthogonal dilation", f"n = 2000, {dtype}", own, "scipy.linalg.svd", peer))
    n = 64
    full = unitary_equivalent(memoryless_teacher(n), 8.0)
    U = np.linalg.qr(rng.standard_normal((2 * n - 1, 2 * n - 1)))[0]
    keep = slice(2 * n - 1)
    student = RNN(U, full.F[keep], full.b[keep], full.C[:, keep], full.h_init[keep])
    exact = fmpq_mat(*U.shape, [fmpq(*v.as_integer_ratio()) for v in U.ravel().tolist()])
    peer, own = least_ms(exact.det, partial(find_witness, student, 1.0))
    rows.append(Row("witness", f"n = {n}, N = {2 * n - 1}", own, "exact det U (flint)", peer))
    return rows


SWEEP_PAGE = """---
kernelspec: {display_name: Python 3 (ipykernel), language: python, name: python3}
---

```{code-cell} ipython3
:tags: [parameters]
seed: int = 0  # tells the runs apart, in [0, inf)
```
"""


def sweep_rows(count: int = 24) -> list[Row]:
    """What a run costs beside its notebook's own work, here none: its parts, and sweeps (once)."""
    from companion.running import cluster, grid
    from companion.running import page as runs
    from companion.running import record as provenance

    here = provenance.checkout()
    with TemporaryDirectory() as name:
        root = Path(name)
        shutil.copytree(here / "src", root / "src")  # the sources that a run hashes
        shutil.copy(here / "constraints.txt", root)
        (root / "notebooks").mkdir()
        (root / "notebooks/empty.md").write_text(SWEEP_PAGE, encoding="utf-8")
        page = runs.load_page(root, "empty")
        todo = grid.expand(page, [f"seed=0:{count}"])
        tree = provenance.source_tree_hash(root / "src" / provenance.PACKAGE)
        order = cluster.Order(
            "", tree, provenance.installed(root), cluster.python_version(), str(root)
        )
        (root / "kernel").mkdir()
        numbers = itertools.count()

        def produce() -> None:
            work = root / f"work{next(numbers)}"
            work.mkdir()
            runs.produce(todo[0], root, work)

        parts = {
            "in one process, no sweep": produce,
            "of it, kernel: start, an empty notebook, stop": lambda: runs._execute(
                page.notebook(), root, root, root / "kernel", "empty"
            ),
            "of it, the record: machine, packages, git": lambda: (
                provenance.environment(root),
                provenance.git_state(root),
            ),
            "a worker's check of its version": lambda: cluster.refusal(order, page),
        }
        whole, *rest = least_ms(*parts.values(), seconds=15)
        rows = [Row("run", "in one process, no sweep", whole, "itself", whole)]
        rows += [
            Row("run", part, ms, "run in one process", whole)
            for part, ms in zip(list(parts)[1:], rest, strict=True)
        ]
        for workers in (1, 2):
            # a sweep of one run starts the same workers: the rest is what further runs cost
            ends = [_sweep_ms(root, todo[:k], workers) for k in (workers, count)]
            each = (ends[1] - ends[0]) / (count - workers)
            size = f"{count} runs, {workers} workers"
            rows.append(Row("sweep, start and end", size, ends[0] - whole, "run", whole))
            rows.append(Row("sweep, each run", size, each, "run in one process", whole))
    return rows


def _sweep_ms(root: Path, todo: Sequence[Any], workers: int) -> float:
    """The milliseconds of one sweep into a new folder."""
    from companion.running import sweep

    with TemporaryDirectory() as out:
        start = time.perf_counter()
        sweep.sweep(todo, root, Path(out), workers=workers, say=lambda _: None)
        return 1e3 * (time.perf_counter() - start)


ROWS: dict[str, Callable[[], Sequence[Row]]] = {
    "theory": theory_rows,
    "training": training_rows,
    "panel": panel_rows,
    "gpu": gpu_rows,
    "mnist": mnist_rows,
    "scaling": scaling_rows,
    "sweep": sweep_rows,
}


def run(rows: Iterable[str] | None = None) -> list[Row]:
    """The rows of the named parts of the table, or of all.

    Raises
    ------
    ValueError : for a name that is not in `ROWS`.
    """
    names = list(ROWS if rows is None else rows)
    for name in names:
        if name not in ROWS:
            raise ValueError(f"row {name!r} is not known; allowed: {', '.join(ROWS)}.")
    return [row for name in names for row in ROWS[name]()]


def machine() -> dict[str, str | int | float]:
    """What the timings were taken on."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((v.split(":")[1].strip() for v in lines if v.startswith("model name")), model)
    return {
        "processor": model,
        "processors": processors(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "load_average": round(os.getloadavg()[1], 1),  # of 5 minutes: what else ran
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "numba", "torch")},
    }


def as_json(rows: Sequence[Row]) -> str:
    """The table and the machine, for a results file."""
    table = [asdict(row) | {"ratio": row.ratio} for row in rows]
    return json.dumps({"machine": machine(), "rows": table}, indent=1, ensure_ascii=False)


def as_text(rows: Sequence[Row]) -> str:
    """The table in Markdown; times in ms, for training per update and student.

    Examples
    --------
    >>> print(as_text([Row("solve", "n = 8", 0.5, "numpy", 2.0, 0.25)]))
    | what | size | ms | against | ms | ratio | over floor | MiB |
    |---|---|---|---|---|---|---|---|
    | solve | n = 8 | 0.5 | numpy | 2 | 4 | 2 |  |
    """
    lines = ["| what | size | ms | against | ms | ratio | over floor | MiB |", "|---" * 8 + "|"]
    for row in rows:
        floor = f"{row.milliseconds / row.floor_milliseconds:.2g}" if row.floor_milliseconds else ""
        memory = f"{row.memory_MiB:.0f}" if row.memory_MiB else ""
        lines.append(
            f"| {row.name} | {row.size} | {row.milliseconds:.3g} | {row.against} "
            f"| {row.against_milliseconds:.3g} | {row.ratio:.3g} | {floor} | {memory} |"
        )
    return "\n".join(lines)
