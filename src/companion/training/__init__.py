"""Many small recurrent students fitted at once, by one function with three back ends.

`fit` is the way in; `students` says what is trained, `reference` how, and `engines` do the same
faster.
"""

from companion.training.engines import available as available
from companion.training.loop import fit as fit
from companion.training.result import Fit as Fit
from companion.training.students import Options as Options
from companion.training.students import Sequences as Sequences
from companion.training.students import Student as Student
from companion.training.students import as_rnn as as_rnn
from companion.training.students import assemble as assemble
from companion.training.students import blocks as blocks
from companion.training.students import draw_batches as draw_batches
from companion.training.students import initial_theta as initial_theta
from companion.training.students import is_lost as is_lost
