"""Students side by side, against their floor, torch and JAX; and how their time grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from benchmarks.peers import INPUTS, OUTPUTS, jax_updates, torch_mnist_update, torch_update
from benchmarks.timing import Row, least_of, memory_alone, peak_multiply_adds
from companion.experiments.permuted_mnist import BATCH as IMAGES
from companion.experiments.permuted_mnist import CLASSES
from companion.experiments.permuted_mnist import STEPS as PIXELS
from companion.training import Options, Sequences, Student, draw_batches, fit, initial_theta
from companion.training.engines import processors
from companion.training.engines.batch import Batch
from companion.training.engines.cpu import Cpu
from companion.training.engines.lanes import LANES
from companion.training.students import Group, State

BATCH, STEPS = 10, 1000
SIZES = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14)
UPDATES = 70  # a pass over 700 sequences, which `fit` makes in one call of an engine
EXPONENTIAL = (
    13  # operations of one lane of `lanes._exp` with its division: 9 of them multiply-adds
)


def operations(model: str, n: int, T: int = STEPS, batch: int = BATCH) -> int:
    """Count vector operations that one update of one student cannot do without.

    Multiply-adds of the products, forward, backward and in the sums of the gradient. For an LSTM
    its functions too: three sigmoids and two hyperbolic tangents a unit and step, counted
    alike (`EXPONENTIAL`), and the 20 products and sums of the cell.
    """
    rows = (4 if model == "lstm" else 1) * n
    forward = rows * (n + INPUTS) + OUTPUTS * n
    backward = (rows + OUTPUTS) * n
    sums = (rows + OUTPUTS) * n + rows * INPUTS
    cell = n * (5 * EXPONENTIAL + 20) if model == "lstm" else 0
    return T * batch * (forward + backward + sums + cell)


def noise(realisations: int, sequences: int, T: int) -> Sequences:
    """Draw data to train on."""
    rng, shape = np.random.default_rng(0), (realisations, sequences, T)
    x = rng.standard_normal((*shape, INPUTS), dtype=np.float32)
    return Sequences(x, rng.standard_normal((*shape, OUTPUTS), dtype=np.float32))


def engine_updates(
    model: Any, n: int, students: int, updates: int, T: int = STEPS, batch: int = BATCH,
    threads: int | None = None,
) -> Callable[[], None]:  # fmt: skip
    """Prepare ``updates`` updates of ``students`` students on the CPU, as `fit` makes them."""
    realisations, sequences = min(students, LANES), 200 * STEPS // max(T, STEPS)
    data = noise(realisations, sequences, T)  # more than any cache holds
    them = [
        Student(model, n, i % realisations, learning_rate=1e-4, seed=i) for i in range(students)
    ]
    batches = draw_batches(sequences, batch, updates, np.random.default_rng(0))
    packed: dict[Any, Any] = {}
    jobs = []
    for start in range(0, students, LANES):
        group = Group(tuple(them[start : start + LANES]), Options(), data)
        theta = group.padded([initial_theta(s, INPUTS, OUTPUTS) for s in group.students])
        jobs.append((Cpu(group, packed), State.start(theta)))

    def run() -> None:
        with ThreadPoolExecutor(threads or processors()) as pool:
            list(pool.map(lambda job: job[0].advance(job[1], batches), jobs))

    return run


def panel_updates(
    updates: int, backend: Any = "cpu", *, models: Sequence[Any] = ("rnn", "urnn"),
    sizes: Sequence[int] = SIZES, realisations: int = 30, sequences: int = 700, T: int = STEPS,
) -> Callable[[], int]:  # fmt: skip
    """Prepare `fit` on one panel of Figures 2 and 3, noise for data; it gives how many students."""
    data = noise(realisations, sequences, T)
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


def one(
    name: str, model: str, n: int, K: int, T: int, batch: int, threads: int, seconds: float,
    floor: float, memory: bool = False,
) -> Row:  # fmt: skip
    """Time the engine on some threads, its peers on all processors; ``floor`` ms an operation."""
    updates = max(2, UPDATES * STEPS * BATCH // (T * batch) // (1 + n // 16))
    engine = engine_updates(model, n, K, updates, T, batch, threads)
    torch = "torch.nn.LSTM" if model == "lstm" else "torch.nn.RNN" + " + SVD" * (model == "urnn")
    ways = {"engine": engine, torch: torch_update(model, n, T, batch)}
    times = least_of(ways | jax_updates(model, n, T, batch, K), seconds)
    peers = {k: v / (K if k.startswith("JAX") else 1) for k, v in times.items()}
    ms = peers.pop("engine") / (K * updates)
    size = {"model": model, "n": n, "T": T, "batch": batch, "students": K, "threads": threads}
    least = floor * operations(model, n, T, batch) / threads
    if not memory:
        return Row(name, size, ms, peers, least)
    own = memory_alone(engine_updates, model, n, K, updates)
    return Row(name, size, ms, peers, least, own, memory_alone(torch_update, model, n, T, batch))


def figure_rows() -> list[Row]:
    """Time students of Figures 2 and 3, on all processors."""
    floor, P = 1e3 / peak_multiply_adds(), processors()
    cases = [(model, n) for model in ("urnn", "rnn", "lstm") for n in (4, 14)]
    return [
        one("train", model, n, LANES * P, STEPS, BATCH, P, 3.0, floor, memory=True)
        for model, n in cases
    ]


def growth_rows() -> list[Row]:
    """Time how an update of a student grows along one size at a time, the others fixed."""
    floor, P = 1e3 / peak_multiply_adds(), processors()
    base = {"n": 4, "K": LANES, "T": STEPS, "batch": BATCH, "threads": 1}
    along: dict[str, Sequence[int]] = {
        "n": (2, 4, 8, 14, 24, 32),
        "T": (30, 100, 300, 1000, 3000),
        "batch": (1, 2, 4, 10, 20, 40),
        "K": (1, 4, 16, 32, 64),
        "threads": sorted({1, 2, P}),
    }
    rows, kept = [], {}
    for key, values in along.items():
        for value in values:
            case = base | {key: value} | ({"K": LANES * P} if key == "threads" else {})
            what = tuple(case.values())  # in the order that `one` takes them
            if what not in kept:
                kept[what] = one("growth", "rnn", *what, 1.0, floor)
            row = kept[what]
            rows.append(Row(f"growth, {key}", row.size, row.milliseconds, row.peers, row.floor))
    return rows


def _panel_row(backend: str, floor: float | None, memory: Callable[[], float | None]) -> Row:
    """Time all of a panel: further updates, apart from what `fit` does once."""
    device = "cuda" if backend == "cuda" else "cpu"
    ways = {
        "once": panel_updates(1, backend),
        "more": panel_updates(1 + UPDATES, backend),
        "torch.nn.RNN + SVD, n = 8": torch_update("urnn", 8, STEPS, BATCH, device),
    }
    times, K = least_of(ways, seconds=10), panel_updates(0, backend)()
    ms = (times.pop("more") - times.pop("once")) / (UPDATES * K)
    alone = memory_alone(torch_update, "urnn", 8, STEPS, BATCH) if backend == "cpu" else None
    size = {"backend": backend, "students": K, "T": STEPS, "batch": BATCH}
    return Row("panel", size, ms, times, floor, memory(), alone)


def panel_rows() -> list[Row]:
    """Time one panel of Figure 2 or 3, all sizes at once, as the figures were made."""
    work = float(np.mean([operations("rnn", n) for n in SIZES]))
    floor = 1e3 * work / (peak_multiply_adds() * processors())
    return [_panel_row("cpu", floor, partial(memory_alone, panel_updates, 2))]


def gpu_rows() -> list[Row]:
    """Time the same panel on a GPU, against the torch module there; no row where there is none."""
    import torch

    if not torch.cuda.is_available():
        return []
    return [_panel_row("cuda", None, lambda: torch.cuda.max_memory_allocated() / 2**20)]


def mnist_rows() -> list[Row]:
    """Time students of Figure 4, one a thread, and the loop over `torch.nn` that does the same."""
    floor, P, U, rng = 1e3 / peak_multiply_adds(), processors(), 16, np.random.default_rng(0)
    x = rng.random((1, U * IMAGES, PIXELS, 1), dtype=np.float32)
    y = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, (1, U * IMAGES, 1))]
    batches, data = draw_batches(U * IMAGES, IMAGES, U, rng), Sequences(x, y)
    options = Options(optimiser="rmsprop", output_bias=True, loss="cross-entropy")
    cases: list[tuple[Any, int]] = [("rnn", 32), ("urnn", 32), ("rnn", 96), ("urnn", 96)]
    rows = []
    for model, n in [*cases, ("contractive", 96), ("lstm", 32), ("lstm", 96)]:
        jobs = []
        for i in range(P):
            group = Group((Student(model, n, learning_rate=1e-4, seed=i),), options, data)
            theta = group.padded([initial_theta(group.students[0], 1, CLASSES)])
            jobs.append((Batch(group), State.start(theta)))

        def engines(jobs: Any = jobs) -> None:
            with ThreadPoolExecutor(P) as pool:
                list(pool.map(lambda job: job[0].advance(job[1], batches), jobs))

        torch = "torch.nn.LSTM" if model == "lstm" else "torch.nn.RNN"
        ways = {
            "engine": engines,
            torch: torch_mnist_update(model, n, x[0, :IMAGES], y[0, :IMAGES, 0]),
        }
        times = least_of(ways, seconds=6)
        G = 4 if model == "lstm" else 1
        cell = n * (5 * EXPONENTIAL + 20) if model == "lstm" else 0
        work = PIXELS * IMAGES * (G * n * (3 * n + 2) + cell)
        size = {"model": model, "n": n, "T": PIXELS, "batch": IMAGES, "students": P, "threads": P}
        ms = times.pop("engine") / (P * U)
        rows.append(Row("permuted MNIST", size, ms, times, floor * work / P))
    return rows
