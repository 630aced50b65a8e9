"""Imported by the process that the kernels of edge runs are forked from; compiles what they train.

A kernel compiles the passes of each size of students anew, and in a short case that takes most of
the time. So the sizes of a page's `BASE` are compiled once for all of its cases.
"""

from __future__ import annotations

import os

import numpy as np

from companion.training import Options, Sequences, Student, fit

PAGE = "COMPANION_EDGES_PAGE"  # which page's
SIZES = {  # models, hidden units, inputs, outputs
    "capacity": [(("urnn",), (1, 2, 4, 16, 32), 2, 2)],
    "permuted-mnist": [(("urnn", "lstm"), (1, 16), 1, 10)],
    "synthetic": [(("urnn", "lstm"), (1, 2, 4), 2, 2)],
    "theorem-2": [(("urnn",), (3, 4, 5, 6, 7), 3, 3), (("urnn",), (8, 10, 12, 14, 16, 17), 8, 8)],
}


def compile_for(page: str) -> None:
    """Train students of a page's sizes by one update."""
    last = page == "permuted-mnist"
    options = Options(loss="cross-entropy", output_bias=True) if last else Options()
    for models, sizes, m, p in SIZES[page]:
        x = np.random.default_rng(0).standard_normal((1, 64, 2, m))
        y = np.tile(np.eye(p), (7, 1))[None, :64, None] if last else x @ np.ones((m, p))
        data, students = Sequences(x, y), [Student(model, n) for model in models for n in sizes]
        held = {"test": data}
        fit(students, data, updates=1, batch=64, options=options, held_out=held, threads=1)


if (page := os.environ.get(PAGE)) in SIZES:
    del os.environ["COMPANION_BAR"]  # it is the first kernel's; each has its own
    compile_for(str(page))
