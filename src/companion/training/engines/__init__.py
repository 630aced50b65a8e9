"""Which engine trains which students; each compiled one stands beside its plain twin.

The twin of all is `companion.training.reference`. On the CPU, `cpu` puts students of one model and
size side by side, and `batch` the sequences of one student, for classification; on a GPU `cuda`
has a kernel for each of the two.
"""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np

from companion.training.students import Engine, Group, Loss, Student, require

Backend = Literal["auto", "reference", "cpu", "cuda"]


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
    names = ", ".join(get_args(Backend))
    require(backend in get_args(Backend), f"backend is {backend!r}; allowed: {names}.")
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


def constructor(backend: str, dtype: str, loss: Loss) -> tuple[Callable[[Group], Engine], int]:
    """Find the constructor of a back end's engines, and how many students one of them takes."""
    last = loss == "cross-entropy"
    if backend == "cpu" and last:
        from companion.training.engines.batch import Batch

        return Batch, 1
    if backend == "cpu":
        from companion.training.engines.cpu import Cpu
        from companion.training.engines.lanes import LANES

        packed: dict[Any, Any] = {}  # data in lanes, shared by groups on the same realisations
        return lambda group: Cpu(group, packed), LANES
    import torch

    from companion.training.reference import NewtonSchulz, Reference

    if backend == "cuda":
        from companion.training.engines.cuda import BatchCuda, Cuda

        kernel = BatchCuda if last else Cuda
        return lambda group: (NewtonSchulz if group.sizes[0] == 4 else kernel)(group, "cuda"), 4096
    return lambda group: Reference(group, getattr(torch, dtype)), 64


def grouped(students: Sequence[Student], width: int, mixed: bool) -> list[list[int]]:
    """Put at most ``width`` students of one model and size together; if ``mixed``, of any but LSTM.

    The longest groups come first, so that no thread is left with one at the end.
    """
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
    parts.sort(key=lambda part: -students[part[0]].gates * students[part[0]].hidden_units)
    return [[int(i) for i in part] for part in parts]


def processors() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
