"""Numbers on a page as a table: aligned, scrollable on a phone, and exact as text.

A browser that runs a page draws it too, without pandas.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


class Table:
    """Columns as a page shows them; a missing value is "–", a truth is yes or no.

    Parameters: the columns by name (a data frame will do) or the rows, each of them a mapping or,
    with the names of ``columns``, a sequence; what stands above them; and how the numbers of some
    columns are written.

    >>> Table({"n": [2, 14], "gain": [0.1, -0.02]}, "Gains", {"gain": "{:+.2f}"})
    Gains
     n  gain
     2 +0.10
    14 -0.02
    """

    def __init__(
        self,
        data: Any,
        caption: str,
        formats: Mapping[str, str] | None = None,
        columns: Sequence[str] = (),
    ) -> None:
        if not hasattr(data, "keys"):  # rows
            rows = [r if hasattr(r, "keys") else dict(zip(columns, r, strict=True)) for r in data]
            data = {name: [row[name] for row in rows] for name in columns or rows[0]}
        self.caption = caption
        self.cells: dict[str, list[str]] = {}
        self.right: list[bool] = []
        for name in data:
            values, write = list(data[name]), (formats or {}).get(str(name), "{}")
            self.cells[str(name)] = [_shown(value, write) for value in values]
            numbers = (isinstance(v, float | int | np.number) for v in values)
            self.right.append(all(numbers) and not any(isinstance(v, bool) for v in values))

    def __repr__(self) -> str:
        wide = [max(map(len, (name, *texts))) for name, texts in self.cells.items()]
        rows = [list(self.cells), *zip(*self.cells.values(), strict=True)]
        lines = [" ".join(t.rjust(w) for t, w in zip(row, wide, strict=True)) for row in rows]
        return "\n".join([self.caption, *lines])

    def _repr_html_(self) -> str:
        def row(kind: str, texts: Iterable[str]) -> str:
            side = {True: ' style="text-align: right"', False: ""}
            pairs = zip(texts, self.right, strict=True)
            return "".join(f"<{kind}{side[r]}>{html.escape(t)}</{kind}>" for t, r in pairs)

        body = "".join(f"<tr>{row('td', r)}</tr>" for r in zip(*self.cells.values(), strict=True))
        caption = html.escape(self.caption)
        return (
            f'<div class="table-wide" tabindex="0" role="region" aria-label="{caption}"><table>'
            f"<caption>{caption}</caption><thead><tr>{row('th', self.cells)}</tr></thead>"
            f"<tbody>{body}</tbody></table></div>"
        )


def _shown(value: Any, write: str) -> str:
    if str(value) in ("None", "nan", "NaT", "<NA>"):  # Python's, NumPy's and pandas' ways to say it
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return write.format(value)
