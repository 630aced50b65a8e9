"""Many small recurrent students fitted at once, by one function with three back ends.

`fit` is the way in; `students` says what is trained, `reference` how, and `engines` do the same
faster.
"""

from companion.training.engines import available
from companion.training.loop import fit
from companion.training.result import Fit
from companion.training.students import (
    Options,
    Sequences,
    Student,
    as_rnn,
    assemble,
    blocks,
    draw_batches,
    initial_theta,
    is_lost,
)

__all__ = [
    "Fit",
    "Options",
    "Sequences",
    "Student",
    "as_rnn",
    "assemble",
    "available",
    "blocks",
    "draw_batches",
    "fit",
    "initial_theta",
    "is_lost",
]
