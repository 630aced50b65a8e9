"""The runs of a sweep: a grid of parameters, or points from a file, all checked beforehand."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence

from companion.running.page import Page, Run
from companion.running.parameters import Axes, pairs
from companion.running.record import Refused

MOST = 100_000
"""Runs in one sweep."""


def _values(page: Page, name: str, texts: Sequence[str]) -> list[str]:
    """Return the values of one axis; for an int, ``0:30`` and ``0:30:5`` stand for ranges."""
    integer = any(p.name == name and p.type == "int" for p in page.parameters)
    out: list[str] = []
    for text in texts:
        ends = re.fullmatch(r"([+-]?\d{1,18}):([+-]?\d{1,18})(?::([1-9]\d{0,17}))?", text, re.ASCII)
        if integer and ends:
            found = range(int(ends[1]), int(ends[2]), int(ends[3] or 1))
            if len(found) > MOST:
                raise Refused(f"{name}={text} has {len(found)} values; allowed: {MOST} runs.")
            out += map(str, found)
        else:
            out.append(text)
    if not out:
        raise Refused(f"{name}={','.join(texts)} has no values; allowed: a,b,c or 0:30 (0 to 29).")
    return out


def expand(
    page: Page,
    grids: Iterable[str] = (),
    blocks: Sequence[tuple[str, Axes]] | None = None,
    fixed: Iterable[str] = (),
) -> list[Run]:
    """Make every run of a sweep, all checked: each block of a file, times the grid.

    Parameters
    ----------
    grids : each ``name=a,b,c``, or ``name=0:30`` for an int from 0 to 29.
    blocks : from `parameters.grids_from_yaml`, or None without a file.
    fixed : each ``name=value``, the same in all runs.

    Raises
    ------
    Refused : a value or name that is not allowed, a run that stands there twice, or more than
        `MOST` runs.
    """
    named = [(name, text.split(",")) for name, text in pairs(grids, "--grid")]
    same = [(name, [text]) for name, text in pairs(fixed)]
    if not {name for name, _ in same} & {name for name, _ in named}:
        page.run((name, text) for name, (text,) in same)  # what is wrong there, said of no grid
    found: dict[str, Run] = {}
    todo = 0
    for where, block in [("--grid", Axes())] if blocks is None else blocks:
        try:
            axes = [(name, _values(page, name, texts)) for name, texts in [*named, *block]]
            axes += same
            todo += math.prod(len(values) for _, values in axes)
            if todo > MOST:
                raise Refused(f"more than {MOST} runs; split the sweep.")
            for point in itertools.product(*(values for _, values in axes)):
                run = page.run(zip((name for name, _ in axes), point, strict=True))
                if found.setdefault(run.id, run) is not run:
                    raise Refused(f"the run {run.describe()} is given twice.")
        except Refused as error:
            raise Refused(f"{where}: {error}") from error
    if not found:
        raise Refused("the file has no points; allowed: at least one.")
    return list(found.values())
