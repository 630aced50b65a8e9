"""A page run with other parameters, into a folder of its own: all of it or nothing.

``OUT/NOTEBOOK/ID/`` holds the executed notebook, the record of what it ran on, and what it wrote.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from companion.running import limits
from companion.running import record as provenance
from companion.running.execute import KERNELSPEC, execute, stamped
from companion.running.folders import cache, clean, lock_of, scratch_folder, writing
from companion.running.kernel import Say, Setting, quiet
from companion.running.page import Run
from companion.running.record import Failed, Refused
from companion.theory.files import write_whole


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read the record of a run, complete or failed; None where there is none to rely on."""
    try:
        found = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    kinds = {"id": str, "key": str, "notebook": str, "finished": str, "parameters": dict}
    if not isinstance(found, dict):
        return None
    whole = all(isinstance(found.get(name), kind) for name, kind in kinds.items())
    return found if whole and (folder / f"{found['notebook']}.ipynb").is_file() else None


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Read the rows that a notebook wrote into ``values.json``; one empty row without the file.

    Raises
    ------
    Refused : it holds something else.
    """
    if not path.is_file():
        return [{}]
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path} is not JSON: {error}.") from error
    rows = data if isinstance(data, list) else [data]
    if not all(isinstance(row, dict) for row in rows) or not all(
        isinstance(value, int | float | str | None) for row in rows for value in row.values()
    ):
        raise Refused(
            f"{path}: allowed: an object of numbers, texts and booleans, or a list of such."
        )
    return rows


def done(folder: Path) -> dict[str, Any] | None:
    """Return the record of a complete run, or None."""
    found = read_record(folder)
    return found if found and "error" not in found else None


def skipped(folder: Path) -> str | None:
    """Say why the run that this folder is named after need not be run again; None if it must."""
    record = done(folder)
    if record and record["id"] == folder.name:
        why = "text, sources, pins, data and parameters are the same"
        return f"skipped: ran at {record['finished']}, and {why}"
    return None


def produce(run: Run, work: Path, setting: Setting) -> Failed | None:
    """Execute a run into the folder ``work``: notebook, record, results. Returns its failure.

    What it trains goes on from the setting's checkpoints; the record then says that it was resumed,
    since its times are those of the last part alone, and holds the rules of the first part.
    """
    import papermill

    rules, resumed = dict(run.rules), False  # as they stand before anything is computed
    if checkpoints := setting.checkpoints:
        checkpoints.mkdir(parents=True, exist_ok=True)
        first = checkpoints / "rules.json"
        resumed = any(path != first for path in checkpoints.iterdir())
        if resumed and first.is_file():
            rules = json.loads(first.read_text("utf-8"))
        else:
            write_whole(first, json.dumps(rules))
    nb = run.page.notebook()
    nb.metadata["kernelspec"] = KERNELSPEC
    nb = papermill.execute_notebook(nb, None, dict(run.values), prepare_only=True)
    state = provenance.git_state(setting.root)
    record, failure = execute(run.page, nb, work, setting)
    try:
        rows_of(work / "results" / "values.json")
    except Refused as error:
        failure = failure or Failed(f"{run.page.name} ran, but {error}")
    seeds = {name: value for name, value in run.values.items() if "seed" in name}
    record = {"id": run.id, **record, "parameters": dict(run.values), **state, "seeds": seeds}
    tables = {
        path.relative_to(work / "results").as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((work / "results").rglob("*"))
        if path.is_file()
    }
    record |= {"rules": rules, "tables": tables}
    record |= {"files": dict(run.files)} if run.files else {}
    record |= {"resumed": True} if resumed else {}
    record |= {"error": str(failure)} if failure else {}
    write_whole(work / f"{run.page.name}.ipynb", stamped(nb, {"id": run.id, "key": record["key"]}))
    write_whole(work / "record.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return failure


def deliver(run: Run, out: Path, fill: Callable[[Path], object]) -> tuple[Path, str]:
    """Let ``fill`` write a run into a hidden folder, then name that ``out/NOTEBOOK/ID/``.

    The caller has the lock of the run. ``fill`` returns the run's failure, or None.
    """
    folder = out / run.page.name / run.id
    kept = folder.with_name(f"{run.id}.failed")
    with scratch_folder(folder.parent, f".{run.id}.") as work:
        failure = fill(work)
        shutil.rmtree(kept, ignore_errors=True)
        if failure:
            work.rename(kept)
            raise Failed(f"{failure}\nthe partial notebook is {kept / run.page.name}.ipynb")
        record = done(work)
        if record is None:
            raise Failed(f"{run.page.name} left no complete record")
        # Two renames: a kill between them leaves the old run beside, under a hidden name.
        with scratch_folder(folder.parent, f".{run.id}.old.") as old:
            if folder.exists():
                folder.rename(old / "run")
            work.rename(folder)
        return folder, f"done in {record['duration_s']} s"


def perform(
    run: Run, root: Path, out: Path, *, force: bool = False, say: Say = quiet
) -> tuple[Path, str]:
    """Run a notebook into ``out/NOTEBOOK/ID/``, all of it or nothing; a done one is left alone.

    Where another process has the same run under way, this waits for it.

    Parameters
    ----------
    run : from `Page.run`; its id names the folder.
    root : the checkout whose package the kernel imports.
    force : replace a complete run with the same id, and go on from no checkpoint.
    say : told how far it is.

    Returns
    -------
    folder, message : ``NOTEBOOK.ipynb``, ``record.json`` and ``results/`` lie in the folder; the
        message says whether it ran, or why it was skipped.

    Raises
    ------
    Refused : the system does not give what a run takes.
    Failed : a cell failed (the partial notebook is kept in ``ID.failed/``), or the folder cannot be
        written.
    """
    out = out.absolute()  # the kernel has a working directory of its own
    name = run.page.name
    folder, checkpoints = out / name / run.id, out / ".checkpoints" / name / run.id
    with writing(folder):
        if (why := skipped(folder)) and not force:
            return folder, why
        clean(out, name)
        with lock_of(out, name, run.id):
            if (why := skipped(folder)) and not force:
                return folder, why
            limits.check(out)
            if force:
                shutil.rmtree(checkpoints, ignore_errors=True)
            setting = Setting(root, cache(root, out), checkpoints, say=say)
            found = deliver(run, out, lambda work: produce(run, work, setting))
            shutil.rmtree(checkpoints, ignore_errors=True)
            return found
