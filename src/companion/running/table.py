"""Runs as a list, and their results as one tidy table.

A notebook that wants rows in the table writes ``values.json`` into the folder that
``COMPANION_RESULTS`` names: an object of numbers, texts and booleans, or a list of such objects for
several rows. Each row of the table is a run's parameters, then these.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from companion.running import page as runs
from companion.running import record as provenance
from companion.running.record import Refused
from companion.theory.files import write_whole

Row = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """A run's folder; ``state`` is done, failed, broken, or older (another text, code or pins)."""

    folder: Path
    state: str
    record: Row

    def __str__(self) -> str:
        values = " ".join(f"{k}={v}" for k, v in self.record.get("parameters", {}).items())
        when = self.record.get("finished", "?")
        took = self.record.get("duration_s", "?")
        return f"{self.folder.parent.name} {self.folder.name} {self.state} {when} {took} s {values}"


def find(root: Path, out: Path, names: Sequence[str] | None = None) -> list[Found]:
    """The runs below ``out``, of the named notebooks or of all, by notebook and time."""
    found = []
    here = (p.name for p in out.iterdir() if p.is_dir()) if out.is_dir() else ()
    for name in sorted(n for n in here if n[0] != "." and (names is None or n in names)):
        try:
            key = provenance.key(runs.load_page(root, name).parts)
        except Refused:  # a notebook that is no more: all its runs are older
            key = ""
        for path in sorted((out / name).glob("[0-9a-f]*/record.json")):
            record = runs.read_record(path.parent) or {}
            if record.get("id") != path.parent.name.partition(".")[0]:
                record, state = {}, "broken"
            elif "error" in record:
                state = "failed"
            else:
                state = "done" if record.get("key") == key else "older"
            found.append(Found(path.parent, state, record))
    return sorted(found, key=lambda f: (f.folder.parent.name, f.record.get("finished", "")))


def _values(folder: Path) -> list[Row]:
    """The rows that a run's notebook wrote; one empty row where it wrote none."""
    path = folder / "results" / "values.json"
    if not path.is_file():
        return [{}]
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Refused(f"{path} is not JSON: {error}.") from error
    rows = data if isinstance(data, list) else [data]
    for row in rows:
        scalars = isinstance(row, dict) and all(
            value is None or isinstance(value, int | float | str) for value in row.values()
        )
        if not scalars:
            raise Refused(
                f"{path}: allowed: an object of numbers, texts and booleans, or a list of such."
            )
    return rows


def rows(found: Sequence[Found], *, older: bool = False) -> list[Row]:
    """The table: notebook, run, parameters and values; of runs of older texts only if asked for.

    Raises
    ------
    Refused : a ``values.json`` is malformed, or names a column that a parameter has.
    """
    table = []
    for run in found:
        if run.state != "done" and not (older and run.state == "older"):
            continue
        head = {"notebook": run.record["notebook"], "run": run.record["id"]}
        head |= {"key": run.record["key"]} | run.record["parameters"]
        for values in _values(run.folder):
            if both := sorted(head.keys() & values.keys()):
                raise Refused(f"{run.folder}: values.json and the run both have {', '.join(both)}.")
            table.append(head | values)
    columns = dict.fromkeys(name for row in table for name in row)
    return [{name: row.get(name) for name in columns} for row in table]


def write_csv(table: Sequence[Row], path: Path) -> None:
    """Write the table as CSV, whole or not at all; what a row lacks is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]) if table else ["notebook"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_whole(path, text.getvalue())


def write_parquet(table: Sequence[Row], path: Path) -> None:
    """Write the table as Parquet, whole or not at all; what a row lacks is null.

    Raises
    ------
    Refused : a column mixes text and numbers.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        data = pyarrow.Table.from_pylist(list(table))
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        raise Refused(f"a column mixes types ({error}); use --csv.") from error
    buffer = io.BytesIO()
    parquet.write_table(data, buffer)
    write_whole(path, buffer.getvalue())
