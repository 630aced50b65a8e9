"""Imported by the process that the kernels of edge runs are forked from; compiles what they train.

A kernel compiles the passes of each size of students anew, and in a short case that takes most of
the time. So the sizes of a page's `BASE` are compiled once for all of its cases. Of the capacity
page most of the rest goes into systems that it draws in every case: they are kept too.
"""

from __future__ import annotations

import functools
import os
from dataclasses import replace

import numpy as np

from companion.experiments import synthetic
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


def keep_drawn_systems() -> None:
    """Draw the systems of the runs that the capacity page reports, and those of its `BASE`."""
    draw = functools.cache(synthetic.draw)
    synthetic.draw = draw
    for preset, sizes in {"released": (0.01,), "poster": (0.01, 0.1, 0.3)}.items():
        reported = replace(synthetic.PRESETS[preset], train=1, test=100, bias_sequences=25)
        for epsilon in sizes:
            for seed in range(3):
                draw(replace(reported, epsilon=epsilon), seed)
    own = replace(synthetic.PRESETS["released"], hidden_units=2, test=400)
    for number in np.random.SeedSequence(1).generate_state(2):
        draw(own, int(number))


if (page := os.environ.get(PAGE)) in SIZES:
    del os.environ["COMPANION_BAR"]  # it is the first kernel's; each has its own
    compile_for(str(page))
    if page == "capacity":
        keep_drawn_systems()
