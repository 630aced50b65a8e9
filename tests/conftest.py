"""Settings of all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# The GPU kernel is tested in Triton's interpreter; read when triton is first imported, by whatever.
os.environ["TRITON_INTERPRET"] = "1"
# No deadlines: how long a machine takes is measured by `companion bench`, never asserted.
settings.register_profile("companion", deadline=None)
settings.load_profile("companion")
