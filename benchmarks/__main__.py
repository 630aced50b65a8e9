"""`python -m benchmarks [ROWS …] [--json FILE]`: print the table, and write it to a file.

To add a row, write a function that returns `Row`s and list it in `ROWS`. JAX is timed where it is
installed: `pip install -r benchmarks/requirements.txt`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import other, timing, training
from benchmarks.timing import Row, as_json, as_text
from companion.theory.files import write_whole

ROWS: dict[str, Callable[[], Sequence[Row]]] = {
    "figures": training.figure_rows,
    "growth": training.growth_rows,
    "mnist": training.mnist_rows,
    "panel": training.panel_rows,
    "gpu": training.gpu_rows,
    "theory": other.theory_rows,
    "sweep": other.sweep_rows,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Time the parts of the table that were asked for, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("rows", nargs="*", metavar="ROWS", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there too")
    parser.add_argument("--patience", type=float, default=1, help="below 1 for a first look")
    asked = parser.parse_args(arguments)
    for name in asked.rows:
        if name not in ROWS:
            parser.error(f"row {name!r} is not known; allowed: {', '.join(ROWS)}.")
    timing.patience = asked.patience
    rows: list[Row] = []
    for name in asked.rows or ROWS:
        rows += ROWS[name]()
        if asked.json:  # after each, so that what fails later loses nothing
            write_whole(asked.json, as_json(rows))
    print(as_text(rows))


if __name__ == "__main__":
    main()
