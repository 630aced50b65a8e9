"""A page's cells, executed, with the record of what they ran on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat

from companion.running import kernel
from companion.running import record as provenance
from companion.running.folders import scratch_folder
from companion.running.kernel import Say, Setting
from companion.running.page import Page
from companion.running.record import Failed

KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {"file_extension": ".py", "name": "python", "pygments_lexer": "ipython3"}


def progress(label: str) -> Say:
    """Return what tells, on stderr, how far a page is: one line in a terminal, or a line each."""
    start = time.monotonic()

    def say(what: str) -> None:
        line = f"{label}: {what} ({time.monotonic() - start:.0f} s)" if what else ""
        if sys.stderr is None:
            return
        if sys.stderr.isatty():
            print(f"\r\x1b[2K{line[:100]}", end="", file=sys.stderr, flush=True)
        elif line:
            print(line, file=sys.stderr, flush=True)

    return say


def stamped(nb: Any, stamp: Mapping[str, Any]) -> str:
    """Write the notebook as text, with metadata that do not depend on who ran it where."""
    nb.metadata.pop("papermill", None)
    nb.metadata.update(kernelspec=KERNELSPEC, language_info=LANGUAGE)
    for cell in nb.cells:
        noise = {"execution", "papermill"} | ({"tags"} if not cell.metadata.get("tags") else set())
        for name in noise:
            cell.metadata.pop(name, None)
    as_read = nbformat.reads(nbformat.writes(nb), as_version=4)  # type: ignore[no-untyped-call]
    stamp = {**stamp, "cells": cells_digest(as_read), "outputs": outputs_digest(as_read)}
    nb.metadata["companion"] = {**nb.metadata.get("companion", {}), **stamp}
    text: str = nbformat.writes(nb)  # type: ignore[no-untyped-call]  # as nbformat leaves it
    return text + "\n"


def cells_digest(nb: Any) -> str:
    """Hash what a person writes in a notebook."""
    rows = [(cell.cell_type, cell.source, cell.metadata.get("tags")) for cell in nb.cells]
    return provenance.digest(json.dumps(rows, sort_keys=True))


def outputs_digest(nb: Any) -> str:
    """Hash what an execution leaves in a notebook."""
    rows = [(c.get("execution_count"), c.get("outputs")) for c in nb.cells]
    return provenance.digest(json.dumps(rows, sort_keys=True))


def execute(
    page: Page, nb: Any, work: Path, setting: Setting
) -> tuple[dict[str, Any], Failed | None]:
    """Execute ``nb`` in place; returns what it ran on and when, and the failure if any."""
    record: dict[str, Any] = {
        "notebook": page.name,
        "key": provenance.key(page.parts),
        "parts": dict(page.parts),
        "source_tree": page.parts["source tree"],
        "environment": provenance.environment(setting.root),
        "kernel": "forked" if setting.forks else "fresh",
    }
    results = work / "results"
    results.mkdir()
    start, clock = datetime.now(UTC), time.monotonic()
    with scratch_folder(work, ".kernel.") as scratch:
        environment = kernel.variables(setting, scratch, results)
        drawn = any(re.search(r"matplotlib|companion\.figures", cell.source) for cell in nb.cells)
        if drawn and not any((setting.cache / "matplotlib").glob("fontlist-*")):
            # this interpreter builds the cache of fonts: a kernel may do so among its outputs
            build = [sys.executable, "-P", "-c", "import matplotlib.font_manager"]
            subprocess.run(build, env=environment, capture_output=True, check=False)  # noqa: S603
        failure = kernel.execute(nb, page.name, setting, environment, scratch)
    record["duration_s"] = round(time.monotonic() - clock, 1)
    record["started"] = start.isoformat(timespec="seconds")
    record["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    now = provenance.parts(page.text, setting.root, page.data)
    if changed := provenance.differences(page.parts, now):
        failure = failure or Failed(
            f"{page.name}: {', '.join(changed)} while it ran; run it again, and change nothing"
        )
    return record, failure
