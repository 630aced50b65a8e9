"""What else the book quotes times of: the constructions, and what a run of a page costs."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from benchmarks.timing import Row, least_ms
from companion import RNN, find_witness, memoryless_teacher, orthogonal_dilation, unitary_equivalent


def theory_rows() -> list[Row]:
    """Time a large dilation against the singular values it is made from, and a large witness."""
    from flint import fmpq, fmpq_mat
    from scipy.linalg import svd

    rng, rows = np.random.default_rng(0), []
    for dtype in ("float64", "float32"):
        W = rng.standard_normal((2000, 2000))
        W = (W * (0.99 / np.linalg.norm(W, 2))).astype(dtype)
        peer, own = least_ms(partial(svd, W), partial(orthogonal_dilation, W), seconds=12)
        size = {"n": 2000, "dtype": dtype}
        rows.append(Row("orthogonal dilation", size, own, {"scipy.linalg.svd": peer}))
    n = 64
    full = unitary_equivalent(memoryless_teacher(n), 8.0)
    U = np.linalg.qr(rng.standard_normal((2 * n - 1, 2 * n - 1)))[0]
    keep = slice(2 * n - 1)
    student = RNN(U, full.F[keep], full.b[keep], full.C[:, keep], full.h_init[keep])
    exact = fmpq_mat(*U.shape, [fmpq(*v.as_integer_ratio()) for v in U.ravel().tolist()])
    peer, own = least_ms(exact.det, partial(find_witness, student, 1.0))
    rows.append(Row("witness", {"n": n, "N": 2 * n - 1}, own, {"exact det U (flint)": peer}))
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
    """Time what a run costs beside its notebook's own work, here none, alone and in sweeps."""
    from companion.running import grid, kernel, page, record, run

    with TemporaryDirectory() as name:
        root = Path(name)
        here = record.checkout()
        shutil.copytree(here / "src", root / "src")  # the sources that a run hashes
        for pins in ("constraints.txt", "constraints-torch.txt"):
            shutil.copy(here / pins, root)
        (root / "notebooks").mkdir()
        (root / "notebooks/empty.md").write_text(SWEEP_PAGE, encoding="utf-8")
        todo = grid.expand(page.load_page(root, "empty"), [f"seed=0:{count}"])
        numbers = itertools.count()

        def produce() -> None:
            work = root / f"work{next(numbers)}"
            work.mkdir()
            run.produce(todo[0], work, kernel.Setting(root, root))

        def started() -> None:
            NotebookClient(new_notebook(cells=[new_code_cell("")])).execute()

        whole, part = least_ms(produce, started, seconds=10)
        rows = [Row("run", {"part": "in one process, no sweep"}, whole)]
        rows.append(Row("run", {"part": "kernel: start, an empty cell, stop"}, part))
        for workers in (1, 2):
            # a sweep of one run starts the same workers: the rest is what further runs cost
            ends = [_sweep_ms(root, todo[:k], workers) for k in (workers, count)]
            each = (ends[1] - ends[0]) / (count - workers)
            size = {"runs": count, "workers": workers}
            rows.append(Row("sweep, start and end", size, ends[0] - whole))
            rows.append(Row("sweep, each run", size, each))
            ends = [_sweep_ms(root, todo[:k], workers, fork=False) for k in (workers, count)]
            each = (ends[1] - ends[0]) / (count - workers)
            rows.append(Row("sweep, each run", size | {"kernels": "fresh"}, each))
    return rows


def _sweep_ms(root: Path, todo: Sequence[Any], workers: int, *, fork: bool = True) -> float:
    """Time one sweep into a new folder, in milliseconds."""
    from companion.running import sweep

    with TemporaryDirectory() as out:
        start = time.perf_counter()
        sweep.sweep(todo, root, Path(out), workers=workers, fork=fork, say=lambda _: None)
        return 1e3 * (time.perf_counter() - start)
