"""Settings of all tests."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# The GPU kernel is tested in Triton's interpreter; read when triton is first imported, by whatever.
os.environ["TRITON_INTERPRET"] = "1"
# A shell that puts a job in the background has it ignore Ctrl-C, and children inherit that: tests
# that interrupt one need it as in the foreground.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# No deadlines: how long a machine takes is measured by `make bench`, never asserted.
settings.register_profile("companion", deadline=None)
settings.load_profile("companion")
