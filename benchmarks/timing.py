"""How a time is taken, and what a row of the table holds.

A time is the least of several, taken in turn with its peers', since whatever else runs on a
machine only ever adds. Timings are reported, never asserted.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from companion.training.engines import processors
from companion.training.engines.lanes import LANES, fma, load, store

QUIET = 0.03  # seconds before each call: threads of a library spin for a while after the last one
patience = 1.0  # of the seconds that a time is given; less is for a first look


@dataclass(frozen=True)
class Row:
    """One timing.

    Parameters
    ----------
    name, size : what was timed, and on what: numbers by their names.
    milliseconds : the least time of it; for training, per update and student.
    peers : the least times of what it is compared with, in the same run.
    floor : the milliseconds that its multiplications and additions take at the peak speed measured
        in the same run, or None where that says nothing.
    memory, peer_memory : the most MiB that a process held which did this alone, or its first peer,
        libraries and data included (on a GPU, what is allocated there); None if not measured.
    """

    name: str
    size: dict[str, Any]
    milliseconds: float
    peers: dict[str, float] = field(default_factory=dict)
    floor: float | None = None
    memory: float | None = None
    peer_memory: float | None = None


def least_ms(*calls: Callable[[], Any], seconds: float = 3.0) -> list[float]:
    """Time calls made in turn for about ``seconds``, thrice at least: the least ms of each."""
    for call in calls:
        call()  # compiles, fills caches
    best, rounds = [np.inf] * len(calls), 0
    end = time.perf_counter() + patience * seconds
    while rounds < 3 or time.perf_counter() < end:
        for k, call in enumerate(calls):
            time.sleep(QUIET)
            start = time.perf_counter()
            call()
            best[k] = min(best[k], 1e3 * (time.perf_counter() - start))
        rounds += 1
    return best


def peak_memory() -> float | None:
    """Measure the most memory this process has held, in MiB, where the system tells (Linux)."""
    status = Path("/proc/self/status")  # getrusage would count what the parent held before exec
    if not status.exists():
        return None
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


def _memory_of(make: Callable[..., Callable[[], Any]], *args: Any) -> float | None:
    make(*args)()
    return peak_memory()


def memory_alone(make: Callable[..., Callable[[], Any]], *args: Any) -> float | None:
    """Measure the `peak_memory` of a new process that makes this one call."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_memory_of, make, *args).result()


def peak_multiply_adds() -> float:
    """Count float32 multiply-adds a second of one processor, on registers alone."""
    from numba import njit

    @njit
    def chains(v: Any, count: int) -> None:
        # twelve chains hide the latency; equal ones would be merged into one
        x, y = load(v, 0), load(v, 1)
        a, b, c, d, e, f = (load(v, 2), load(v, 3), load(v, 4), load(v, 5), load(v, 6), load(v, 7))
        g, h, i, j = load(v, 8), load(v, 9), load(v, 10), load(v, 11)
        k, m = load(v, 12), load(v, 13)
        for _ in range(count):
            a, b, c, d = fma(a, x, y), fma(b, x, y), fma(c, x, y), fma(d, x, y)
            e, f, g, h = fma(e, x, y), fma(f, x, y), fma(g, x, y), fma(h, x, y)
            i, j, k, m = fma(i, x, y), fma(j, x, y), fma(k, x, y), fma(m, x, y)
        store(v, 14, fma(a, b, fma(c, d, fma(e, f, fma(g, h, fma(i, j, fma(k, m, x)))))))

    v, count = np.random.default_rng(0).random(15 * LANES, dtype=np.float32) / 2, 100_000
    return LANES * 12 * count / (least_ms(lambda: chains(v, count), seconds=0.5)[0] / 1e3)


def least_of(ways: dict[str, Callable[[], Any]], seconds: float = 3.0) -> dict[str, float]:
    """Time calls that have names, as `least_ms` does."""
    return dict(zip(ways, least_ms(*ways.values(), seconds=seconds), strict=True))


def machine() -> dict[str, str | int | float]:
    """Describe what the timings were taken on."""
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
        **{name: _version(name) for name in ("numpy", "numba", "torch", "jax")},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def as_json(rows: Sequence[Row]) -> str:
    """Write the table and the machine for a results file."""
    table = {"machine": machine(), "rows": [asdict(row) for row in rows]}
    return json.dumps(table, indent=1, ensure_ascii=False)


def as_text(rows: Sequence[Row]) -> str:
    """Write the table in Markdown; times in ms, for training per update and student.

    Examples
    --------
    >>> print(as_text([Row("solve", {"n": 8}, 0.5, {"numpy": 2.0}, floor=0.25)]))
    | what | size | ms | over floor | peers, ms (times) | MiB |
    |---|---|---|---|---|---|
    | solve | n 8 | 0.5 | 2 | numpy 2 (4) |  |
    """
    lines = ["| what | size | ms | over floor | peers, ms (times) | MiB |", "|---" * 6 + "|"]
    for row in rows:
        ms = row.milliseconds
        size = ", ".join(f"{k} {v}" for k, v in row.size.items())
        peers = ", ".join(f"{k} {v:.3g} ({v / ms:.3g})" for k, v in row.peers.items())
        floor = f"{ms / row.floor:.2g}" if row.floor else ""
        memory = f"{row.memory:.0f}" if row.memory else ""
        lines.append(f"| {row.name} | {size} | {ms:.3g} | {floor} | {peers} | {memory} |")
    return "\n".join(lines)
