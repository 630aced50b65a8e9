"""One line a check: what was made again, how far from what is published, how far it may be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FULL = os.environ.get("COMPANION_FULL") == "1"
full = pytest.mark.skipif(not FULL, reason="only with FULL=1")


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Note what a check found, for the report; with ``allowed`` it must be no more than that."""

    def note(what: str, found: float | None = None, allowed: float | None = None) -> None:
        numbers = "" if found is None else f": {found:.2g} of {allowed:.2g} allowed"
        request.node.user_properties.append(("row", what + numbers))
        if found is not None and allowed is not None:
            assert found <= allowed, what + numbers

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the report: every row with its outcome."""
    words = {
        "passed": "as published",
        "failed": "differs",
        "error": "not made",
        "skipped": "not run",
    }
    for outcome, word in words.items():
        for report in terminalreporter.stats.get(outcome, []):
            if "tests/published" not in report.nodeid:
                continue
            noted = [text for key, text in report.user_properties if key == "row"]
            name = report.nodeid.partition("tests/published/")[2]
            why = f" ({report.longrepr[2]})" if outcome == "skipped" else ""
            terminalreporter.write_line(f"{word:13} {'; '.join(noted) or name}{why}")
