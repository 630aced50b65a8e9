"""Many small recurrent students fitted at once, by one function with three back ends.

`fit` is the way in; `students` says what is trained, `reference` how, and `cpu` and `cuda` do the
same faster; `batch` and `batch_cuda` do it for classification after the last step.
"""

from companion.training.loop import Fit, fit
from companion.training.students import (
    Options,
    Sequences,
    Student,
    as_rnn,
    assemble,
    draw_batches,
    initial_theta,
    parameters,
)

__all__ = [
    "Fit",
    "Options",
    "Sequences",
    "Student",
    "as_rnn",
    "assemble",
    "draw_batches",
    "fit",
    "initial_theta",
    "parameters",
]
