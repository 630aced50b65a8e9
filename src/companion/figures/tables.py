"""Numbers on a page as a table: aligned, scrollable on a phone, and exact as text."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Mapping

import pandas as pd
from pandas.io.formats.style import Styler


class Table:
    """A data frame as a page shows it; its index is not shown, a missing value is "–".

    Parameters: the rows, what stands above them, and how the numbers of some columns are written.

    >>> Table(pd.DataFrame({"n": [2, 14], "gain": [0.1, -0.02]}), "Gains", {"gain": "{:+.2f}"})
    Gains
     n  gain
     2 +0.10
    14 -0.02
    """

    def __init__(
        self, frame: pd.DataFrame, caption: str, formats: Mapping[str, str] | None = None
    ) -> None:
        self.caption, self.shown = caption, frame.astype(object)
        self.right = [i for i, kind in enumerate(frame.dtypes) if kind.kind in "iuf"]
        words = {True: "yes", False: "no"}
        for name, kind in frame.dtypes.items():
            write = words.get if kind.kind == "b" else (formats or {}).get(str(name), "{}").format
            self.shown[name] = ["–" if pd.isna(v) else write(v) for v in frame[name]]

    def __repr__(self) -> str:
        return f"{self.caption}\n{self.shown.to_string(index=False)}"

    def _repr_html_(self) -> str:
        name = hashlib.sha256(repr(self).encode()).hexdigest()[:8]
        style = Styler(self.shown, uuid=name, cell_ids=False, escape="html").hide(axis="index")
        right = ", ".join(f".col{i}" for i in self.right) or ".none"
        style.set_table_styles([{"selector": right, "props": "text-align: right"}])
        table = style.set_caption(html.escape(self.caption)).to_html()
        label = f'role="region" aria-label="{html.escape(self.caption)}"'
        return f'<div class="table-wide" tabindex="0" {label}>{table}</div>'
