"""Imported by the process that the kernels of edge runs are forked from; compiles what they train.

A kernel compiles the passes of each size of students anew, and in a short case that takes most of
the time. So the sizes of a page's `BASE` are compiled once for all of its cases.
"""

from __future__ import annotations

import os

import numpy as np

from companion.training import Options, Sequences, Student, fit

PAGE = "COMPANION_EDGES_PAGE"  # which page's
SIZES = {  # models, hidden units, inputs and outputs
    "capacity": (("urnn",), (1, 2, 4, 16, 32), 2, 2),
    "permuted-mnist": (("urnn", "lstm"), (1, 16), 1, 10),
    "synthetic": (("urnn", "lstm"), (1, 2, 4), 2, 2),
    "theorem-2": (("urnn",), range(3, 8), 3, 3),
}


def compile_for(page: str) -> None:
    """Train students of a page's sizes by one update."""
    models, sizes, m, p = SIZES[page]
    last = page == "permuted-mnist"
    x = np.random.default_rng(0).standard_normal((1, 64, 2, m))
    y = np.tile(np.eye(p), (7, 1))[None, :64, None] if last else x @ np.ones((m, p))
    options = Options(loss="cross-entropy", output_bias=True) if last else Options()
    data, students = Sequences(x, y), [Student(model, n) for model in models for n in sizes]
    fit(students, data, updates=1, batch=64, options=options, held_out={"test": data}, threads=1)


if (page := os.environ.get(PAGE)) in SIZES:
    del os.environ["COMPANION_BAR"]  # it is the first kernel's; each has its own
    compile_for(str(page))
