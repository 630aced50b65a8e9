"""The book's pages: whether their notebooks are of these sources, and executing those that are not.

No notebook that a person edited is replaced.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat

from companion.running import limits
from companion.running import record as provenance
from companion.running.execute import cells_digest, execute, outputs_digest, progress, stamped
from companion.running.folders import cache, clean, lock_of, scratch_folder, writing
from companion.running.kernel import Say, Setting, quiet
from companion.running.page import Page
from companion.running.record import Failed, Refused
from companion.theory.files import write_whole


def _read_notebook(path: Path) -> Any:
    """Read an executed notebook, or say why that cannot be done."""
    try:
        return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001  # of files, JSON and nbformat, with no common base
        return f"not a notebook ({str(error)[:200]})"


def edited(page: Page, root: Path) -> str | None:
    """Say in what a page's notebook is not the one that was last executed; None if it is that.

    Outputs do not count, as executing makes them again.
    """
    nb = _read_notebook(root / "notebooks" / f"{page.name}.ipynb")
    if isinstance(nb, str):
        return nb
    if nb.metadata.get("companion", {}).get("cells") == cells_digest(nb):
        return None
    return _step(page, nb) or "its cells are not those that were executed"


def _step(page: Page, nb: Any) -> str | None:
    """Name the first cell in which an executed notebook differs from its text."""
    fresh = page.notebook()
    if len(fresh.cells) != len(nb.cells):
        return f"it has {len(nb.cells)} cells, the text {len(fresh.cells)}"
    for i, (a, b) in enumerate(zip(fresh.cells, nb.cells, strict=True), 1):
        if any(a[field] != b[field] for field in ("cell_type", "source", "metadata")):
            return f"cell {i} differs from the text"
    return None


def stale(page: Page, root: Path) -> list[str]:
    """Say why a page's notebook is not what its text and sources give; [] if it is."""
    path = root / "notebooks" / f"{page.name}.ipynb"
    if not path.is_file():
        return ["never executed"]
    nb = _read_notebook(path)
    if isinstance(nb, str):
        return [nb]
    stamp = nb.metadata.get("companion", {})
    if not isinstance(stamp.get("parts"), dict):
        return ["it carries no key"]
    if changed := provenance.differences(stamp["parts"], page.parts):
        return changed
    if step := _step(page, nb):
        return [step]
    same = stamp.get("outputs") == outputs_digest(nb)
    return [] if same else ["its outputs are not those of the recorded execution"]


def execute_page(page: Page, root: Path, say: Say = quiet) -> float:
    """Execute a page at its defaults and put it in place of the committed notebook.

    Returns
    -------
    seconds that it took.

    Raises
    ------
    Refused : a person edited the notebook; nothing is replaced.
    Failed : a cell failed; the committed notebook is as it was.
    """
    nb, path = page.notebook(), root / "notebooks" / f"{page.name}.ipynb"
    if path.exists() and (why := edited(page, root)):
        raise Refused(
            f"{path} was edited ({why}), and executing would replace it. Bring the edit into "
            f"notebooks/{page.name}.md, then delete the .ipynb; it is printed as text by\n"
            f"  .venv/bin/python -m jupytext --to md:myst --output - {path}"
        )
    with writing(path):
        own = cache(root, root)
        with lock_of(own, page.name, "page"):
            clean(own, page.name)
            limits.check(own)
            with scratch_folder(own / page.name, ".page.") as work:  # its files are for runs only
                record, failure = execute(page, nb, work, Setting(root, own, say=say))
        if failure:
            raise failure
        nb.metadata["jupytext"] = {"formats": "ipynb,md:myst"}
        record["parameters"] = dict(page.run().values)
        write_whole(path, stamped(nb, record))
    return float(record["duration_s"])


def refresh(
    pages: Iterable[Page],
    root: Path,
    *,
    everything: bool = False,
    check: bool = False,
    lacks: Mapping[str, str | None],
    say: Say,
) -> int:
    """Execute the pages that are stale, or all; returns how many are not as they should be.

    Parameters
    ----------
    check : execute nothing.
    lacks : by page, what it needs that is not here; such a page is left as it is.
    """
    bad = 0
    for page in pages:
        reasons = stale(page, root)
        if not reasons and not everything:
            say(f"{page.name}: skipped, fresh (same text, sources, pins and data)")
            continue
        first = [*reasons[:4], f"{len(reasons) - 4} more"] if len(reasons) > 5 else reasons
        why = f"stale ({'; '.join(first)})" if reasons else "asked for (--all)"
        say(f"{page.name}: {why}")
        if check:
            bad += 1
        elif lack := lacks.get(page.name):
            say(f"{page.name}: left as it was committed: {lack}")
        else:
            try:
                told = progress(page.name) if sys.stderr and sys.stderr.isatty() else quiet
                say(f"{page.name}: executed in {execute_page(page, root, told):.0f} s")
            except (Failed, Refused) as error:
                bad += 1
                print(f"{page.name}: {error}", file=sys.stderr, flush=True)
    return bad


def write_new(root: Path, name: str) -> str:
    """Write the skeleton of a page; returns what to do with it.

    Raises
    ------
    Refused : the name is not one of small letters, digits and hyphens, or is taken.
    """
    path = root / "notebooks" / f"{name}.md"
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or len(name) > 60:
        raise Refused(f"page {name[:60]!r}; allowed: small letters, digits and hyphens: my-page.")
    if path.exists() or path.with_suffix(".ipynb").exists():
        raise Refused(f"notebooks/{name} exists; choose another name.")
    skeleton = Path(__file__).with_name("new.md").read_text("utf-8")
    write_whole(path, skeleton.replace("TITLE", name.replace("-", " ").capitalize()))
    return (
        f"written: {path}\nedit it, name it in book/_toc.yml as `- file: notebooks/{name}`, then "
        f"`companion pages {name}` executes it and `companion run {name} -p n=8` runs it again"
    )
