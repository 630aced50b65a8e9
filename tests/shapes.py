"""Shapes and types enforced where it costs nobody: in the tests, by jaxtyping and beartype.

``COMPANION_SHAPES=1 pytest tests/theory tests/training tests/experiments`` checks every annotation
of these rooms on every call, but for the engines', which numba compiles. Users are not slowed down
by it: what they get wrong is refused in words, where it enters. Tests of those words hand in what
annotations forbid; they are marked ``wrong_types`` and left out then.
"""

from __future__ import annotations

import beartype

checked = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))  # 1 is a float too
