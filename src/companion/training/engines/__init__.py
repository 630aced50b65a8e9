"""Which engine trains which students; each compiled one stands beside its plain twin.

The twin of all is `companion.training.reference`. On the CPU, `cpu` puts students of one model and
size side by side, and `batch` the sequences of one student, for classification; on a GPU, `cuda`
takes all at once. `step` is what follows a gradient; `lanes` is what the kernels are written in.
"""

from __future__ import annotations

import importlib.util
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from companion.training.students import Engine, Group, Loss, Student, one_of, require

Backend = Literal["auto", "reference", "cpu", "cuda"]
Kind = Callable[[Student, int], Any]  # of a student and the order of its batches


def available(backend: Backend) -> str:
    """Name the back end that "auto" takes here, or refuse one that is not here.

    Raises
    ------
    ValueError : for another name, or for "cuda" without a GPU or Triton.

    Examples
    --------
    >>> available("cpu")
    'cpu'
    """
    one_of("backend", backend, Backend)
    if backend in ("cpu", "reference"):
        return backend
    import torch

    # under its interpreter Triton computes on the processor
    there = torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"
    here = there and importlib.util.find_spec("triton") is not None
    require(
        here or backend == "auto",
        "backend is 'cuda', but no GPU or no Triton is here; allowed: auto, cpu.",
    )
    return "cuda" if here and torch.cuda.is_available() else backend.replace("auto", "cpu")


def constructor(backend: str, loss: Loss) -> tuple[Callable[[Group], Engine], int, Kind]:
    """Find a back end's constructor of engines, how many students one takes, of which kind."""

    def same(student: Student, order: int) -> Any:
        return student.model, student.hidden_units, order

    if backend == "cpu" and loss == "cross-entropy":
        from companion.training.engines.batch import Batch

        return Batch, 1, same
    if backend == "cpu":
        from companion.training.engines.cpu import Cpu
        from companion.training.engines.lanes import LANES

        packed: dict[Any, Any] = {}  # data in lanes, shared by groups on the same realisations
        return lambda group: Cpu(group, packed), LANES, same
    import torch

    from companion.training.engines.newton_schulz import NewtonSchulz
    from companion.training.reference import Reference

    if backend == "cuda":
        from companion.training.engines.cuda import Cuda, fits, padded

        def filled(student: Student, _order: int) -> Any:  # each has its own order in a launch
            return student.gates, padded(student.hidden_units)

        return lambda g: (Cuda if fits(*g.sizes[:2]) else NewtonSchulz)(g, "cuda"), 4096, filled
    return lambda group: Reference(group, torch.float32), 64, same


def grouped(students: Sequence[Student], kinds: Sequence[Any], width: int) -> list[list[int]]:
    """Put at most ``width`` students of one kind together.

    The longest groups come first, so that no thread is left with one at the end.
    """
    of_kind, turn = defaultdict(list), Counter[Any]()
    for i, (s, kind) in enumerate(zip(students, kinds, strict=True)):
        # one student of each realisation after another, so that groups share their data
        of_kind[kind].append((turn[kind, s.data], s.data, i))
        turn[kind, s.data] += 1
    groups = [
        part[:, -1].tolist()
        for of in of_kind.values()
        for part in np.array_split(sorted(of), -(-len(of) // width))
    ]
    return sorted(groups, key=lambda of: -students[of[0]].gates * students[of[0]].hidden_units)


def processors() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
