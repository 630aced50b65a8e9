"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# No deadlines: how long a machine takes is measured by `companion bench`, never asserted.
settings.register_profile("companion", deadline=None)
settings.load_profile("companion")
