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


def constructor(backend: str, loss: Loss) -> tuple[Callable[[Group], Engine], int]:
    """Find the constructor of a back end's engines, and how many students one of them takes."""
    if backend == "cpu" and loss == "cross-entropy":
        from companion.training.engines.batch import Batch

        return Batch, 1
    if backend == "cpu":
        from companion.training.engines.cpu import Cpu
        from companion.training.engines.lanes import LANES

        packed: dict[Any, Any] = {}  # data in lanes, shared by groups on the same realisations
        return lambda group: Cpu(group, packed), LANES
    import torch

    from companion.training.engines.newton_schulz import NewtonSchulz
    from companion.training.reference import Reference

    if backend == "cuda":
        from companion.training.engines.cuda import Cuda, fits

        return lambda g: (Cuda if fits(*g.sizes[:2]) else NewtonSchulz)(g, "cuda"), 4096
    return lambda group: Reference(group, torch.float32), 64


def grouped(
    students: Sequence[Student], orders: Sequence[int], width: int, mixed: bool
) -> list[list[int]]:
    """Put at most ``width`` students of one model and size together, or of like ones if ``mixed``.

    Alike are those that the GPU fills up to the same size, LSTMs apart; there each can have its own
    order of batches.

    The longest groups come first, so that no thread is left with one at the end.
    """
    kinds, turn = defaultdict(list), Counter[Any]()
    for i, s in enumerate(students):
        size = max(16, 1 << (s.hidden_units - 1).bit_length())
        kind = (s.gates, size) if mixed else (s.model, s.hidden_units, orders[i])
        # one student of each realisation after another, so that groups share their data
        kinds[kind].append((turn[kind, s.data], s.data, i))
        turn[kind, s.data] += 1
    groups = [
        part[:, -1].tolist()
        for of in kinds.values()
        for part in np.array_split(sorted(of), -(-len(of) // width))
    ]
    return sorted(groups, key=lambda of: -students[of[0]].gates * students[of[0]].hidden_units)


def processors() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
