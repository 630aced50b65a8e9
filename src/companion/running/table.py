"""Runs as a table, and their results as one, with a row or several a run.

A notebook that wants rows in the table writes ``values.json`` into the folder that
``COMPANION_RESULTS`` names: an object of numbers, texts and booleans, or a list of such objects for
several rows. Each row of the table is a run's parameters, then these.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from companion.running import record as provenance
from companion.running.page import load_page
from companion.running.record import Refused
from companion.running.run import read_record, rows_of
from companion.theory.files import write_whole


def find(root: Path, out: Path, names: Sequence[str] | None = None) -> pd.DataFrame:
    """List the runs below ``out``, of the named notebooks or of all, by notebook and time.

    Returns
    -------
    A row a run: notebook, run, state, finished, duration_s, parameters, folder, record. The state
    is done, failed, broken, or older (made by another text, sources or pins).
    """
    rows = []
    here = (p.name for p in out.iterdir() if p.is_dir()) if out.is_dir() else ()
    for name in sorted(n for n in here if n[0] != "." and (names is None or n in names)):
        try:
            key = provenance.key(load_page(root, name).parts)
        except Refused:  # a notebook that is no more: all its runs are older
            key = ""
        for folder in sorted(path.parent for path in (out / name).glob("[0-9a-f]*/record.json")):
            record = read_record(folder) or {}
            if record.get("id") != folder.name.partition(".")[0]:
                record, state = {}, "broken"
            elif "error" in record:
                state = "failed"
            else:
                state = "done" if record["key"] == key else "older"
            values = " ".join(f"{k}={v}" for k, v in record.get("parameters", {}).items())
            facts = record.get("finished", "?"), record.get("duration_s", "?")
            rows.append((name, folder.name, state, *facts, values, folder, record))
    columns = ["notebook", "run", "state", "finished", "duration_s", "parameters"]
    columns += ["folder", "record"]
    return pd.DataFrame(rows, columns=columns, dtype=object).sort_values(["notebook", "finished"])


def results(found: pd.DataFrame, *, older: bool = False) -> pd.DataFrame:
    """Join what the runs wrote: notebook, run, key, parameters and values, a row each.

    Parameters
    ----------
    found : from `find`.
    older : rows of older texts, sources and pins too.

    Raises
    ------
    Refused : a ``values.json`` is malformed, or names a column that a parameter has.
    """
    table = []
    kept = found[found.state.isin(["done", "older"] if older else ["done"])]
    for folder, record in zip(kept.folder, kept.record, strict=True):
        head = {"notebook": record["notebook"], "run": record["id"], "key": record["key"]}
        head |= record["parameters"]
        for values in rows_of(folder / "results" / "values.json"):
            if both := sorted(head.keys() & values.keys()):
                raise Refused(f"{folder}: values.json and the run both have {', '.join(both)}.")
            table.append(head | values)
    # as they were written: a column with gaps stays one of whole numbers
    return pd.DataFrame(table, dtype=object).convert_dtypes()


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, whole or not at all; what a row lacks is empty."""
    write_whole(path, table.to_csv(index=False))


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet, whole or not at all; what a row lacks is null.

    Raises
    ------
    Refused : a column mixes text and numbers, or has one past 64 bits.
    """
    buffer = io.BytesIO()
    try:
        table.to_parquet(buffer)
    except (ValueError, TypeError, OverflowError) as error:  # of pyarrow
        raise Refused(f"a column mixes types ({error}); use --csv.") from error
    write_whole(path, buffer.getvalue())
