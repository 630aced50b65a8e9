"""A page, executed at its defaults into its notebook, or run with others into a folder of its own.

A notebook writes files into the folder that the environment variable ``COMPANION_RESULTS`` names.
What it trains it may keep in the one that ``COMPANION_CHECKPOINTS`` names, from where the same run
goes on when it was interrupted. Files that it reads, such as published results, are declared in its
header as ``companion: {data: [book/results/NAME.json]}``; they are part of its key. One that needs
the digits says ``companion: {downloads: [mnist]}``.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from filelock import FileLock, Timeout

from companion.running import kernel
from companion.running import record as provenance
from companion.running.parameters import Parameter, Value, parse_parameters
from companion.running.record import Failed, Refused
from companion.theory.files import write_whole

KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {"file_extension": ".py", "name": "python", "pygments_lexer": "ipython3"}
LARGEST = 1 << 30
"""Bytes of a file that a parameter names."""
Say = Callable[[str], None]


def quiet(_: str) -> None:
    """Say nothing."""


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


@dataclass(frozen=True)
class Page:
    """A notebook's text, the hashes of what its outputs come from, and its parameters."""

    name: str
    text: str
    parts: Mapping[str, str]
    parameters: tuple[Parameter, ...]
    data: tuple[str, ...] = ()
    downloads: tuple[str, ...] = ()

    def notebook(self) -> Any:
        """Make a notebook without outputs, with cell ids that stay when other cells change."""
        nb = jupytext.reads(self.text, fmt="md:myst")
        seen: set[str] = set()
        for cell in nb.cells:
            name = provenance.digest(cell.cell_type + cell.source)[:8]
            while name in seen:
                name = provenance.digest(name)[:8]
            seen.add(name)
            cell.id = name
        nb.metadata.pop("jupytext", None)
        nb.nbformat_minor = max(nb.nbformat_minor, 5)
        return nb

    def run(self, given: Iterable[tuple[str, str]] = ()) -> Run:
        """Take (name, text) pairs in place of defaults, all checked; files from this folder."""
        known = {p.name: p for p in self.parameters}
        values: dict[str, Value] = {}
        files: dict[str, str] = {}
        for name, text in given:
            if name not in known:
                raise Refused(
                    f"parameter {name[:60]!r} is unknown to {self.name};{_near(name, known)} "
                    f"allowed: {', '.join(known) or 'none'}."
                )
            if name in values:
                raise Refused(f"parameter {name} is given twice.")
            values[name] = known[name].read(text)
            if known[name].is_file and values[name] != known[name].default:
                values[name], files[name] = _file(name, text)
        return Run(self, {p.name: values.get(p.name, p.default) for p in self.parameters}, files)


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""


def _file(name: str, text: str) -> tuple[str, str]:
    """Return the absolute path of a file that a parameter names, and its digest."""
    try:
        path = Path(text).expanduser().absolute()
        if not path.is_file():  # a pipe or a device would never end
            raise OSError(0, "it is not a file")
        if path.stat().st_size > LARGEST:
            raise OSError(0, f"it is larger than {LARGEST} bytes")
        with path.open("rb") as file:
            return str(path), hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, RuntimeError) as error:  # the latter where ~USER has no home
        why = getattr(error, "strerror", None) or error
        raise Refused(
            f"parameter {name} is {text!r}, which cannot be read from {Path.cwd()}: {why}; "
            "allowed: the path of a file, from the folder you are in."
        ) from error


@dataclass(frozen=True)
class Run:
    """A page with a value for every parameter: what an output folder is named after.

    ``rules`` go into the record word for word: what the run will be judged by, from whoever orders
    it. They do not change the id.
    """

    page: Page
    parameters: Mapping[str, Value]
    files: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Hash of the page's parts, the parameters, and what is in the files they name."""
        parts = dict(self.page.parts) | {f"file {k}": v for k, v in self.files.items()}
        values = {k: v for k, v in self.parameters.items() if k not in self.files}
        return provenance.key(parts, values)

    def describe(self) -> str:
        """Write the parameters that differ from the page's defaults."""
        defaults = {p.name: p.default for p in self.page.parameters}
        changed = [f"{k}={v}" for k, v in self.parameters.items() if v != defaults[k]]
        return " ".join(changed) or "defaults"


def load_page(root: Path, notebook: str) -> Page:
    """Read a notebook by name or path, its parameters and its parts; nothing is run.

    Raises
    ------
    Refused : no such notebook, one outside ``notebooks/``, or a malformed one (says where).
    """
    folder, path = root / "notebooks", Path(notebook)
    inside = len(path.parts) == 1 and not notebook.startswith(".")
    for base in () if inside else (Path.cwd(), root):
        inside = inside or (base / path).resolve().parent == folder.resolve()
    name = path.stem if path.suffix in (".md", ".ipynb") else path.name
    found = folder / f"{name}.md"
    if not inside or not name.isprintable() or found.resolve().parent != folder.resolve():
        raise Refused(f"notebook {notebook[:80]!r} is outside {folder}.")
    if not found.is_file():
        names = sorted(p.stem for p in folder.glob("*.md"))
        there = f"{_near(name, names)} there are: {', '.join(names) or 'none'}."
        raise Refused(f"no notebook {name[:80]!r};{there}")
    return read_page(name, provenance.file_bytes(found), root)


def read_page(name: str, data: bytes, root: Path) -> Page:
    """Read the page that ``data`` is the text of, against the sources, pins and data of ``root``.

    Raises
    ------
    Refused : it is malformed (says where).
    """
    try:
        text = data.decode()
        nb = jupytext.reads(text, fmt="md:myst")
    except Exception as error:  # of YAML, nbformat, jupytext or codecs, with no common base
        raise Refused(f"notebooks/{name}.md: {error}") from error
    try:
        code = [cell for cell in nb.cells if cell.cell_type == "code"]
        for number, cell in enumerate(code, 1):
            kernel.parsed(cell.source, f"code cell {number}")
        tagged = [c.source for c in code if "parameters" in c.metadata.get("tags", [])]
        if len(tagged) > 1:
            raise Refused("more than one cell is tagged `parameters`.")
        parameters = parse_parameters(tagged[0]) if tagged else ()
        declared = nb.metadata.get("companion", {})
        lists = declared.values() if isinstance(declared, dict) else [None]
        if not all(isinstance(x, list) and all(isinstance(y, str) for y in x) for x in lists):
            raise Refused("its header's `companion` is not `{data: [FILE, …], downloads: [NAME]}`.")
        files, downloads = tuple(declared.get("data", ())), tuple(declared.get("downloads", ()))
        for file in files:
            if not (root / file).resolve().is_relative_to(root) or not (root / file).is_file():
                raise Refused(f"its header names the data file {file!r}; no such file in {root}.")
        parts = provenance.parts(text, root, files)
    except (Refused, SyntaxError) as error:
        raise Refused(f"notebooks/{name}.md: {error}") from error
    return Page(name, text, parts, parameters, files, downloads)


# --- executing


def cache(root: Path, out: Path) -> Path:
    """Return the checkout's ``.cache``, or one in ``out`` where the checkout is read-only."""
    for folder in (root / ".cache", out / ".cache"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise Failed(f"neither {root} nor {out} can be written.")


@contextmanager
def scratch_folder(folder: Path, prefix: str) -> Iterator[Path]:
    """Make a folder that is gone afterwards, unless renamed, whatever happens but kill -9."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{prefix}{secrets.token_hex(4)}"  # not mkdtemp: that hides it from the group
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def claim(out: Path, name: str, what: str) -> FileLock:
    """Return the lock of one run (or page): who holds it may run it and owns its hidden folders.

    The system frees it when its holder dies, however that happens.
    """
    folder = out / ".locks" / name
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / what)


def clean(out: Path, name: str) -> int:
    """Remove what killed runs of a page left below ``out``; those under way are left alone."""
    removed = 0
    for path in (out / name).glob(".*"):
        match = re.fullmatch(r"\.([0-9a-f]{16}|page)\.(old\.)?[0-9a-f]{8}", path.name)
        if not match:
            continue
        try:
            with claim(out, name, match[1]).acquire(blocking=False):
                folder = path.with_name(match[1])
                if match[2] and (path / "run").is_dir() and not folder.exists():
                    (path / "run").rename(folder)  # killed just before its replacement was named
                shutil.rmtree(path)
                removed += 1
        except Timeout:  # its owner lives
            continue
    return removed


def stamped(nb: Any, stamp: Mapping[str, Any]) -> str:
    """Write the notebook as text, with metadata that do not depend on who ran it where."""
    nb.metadata.pop("papermill", None)
    nb.metadata.update(kernelspec=KERNELSPEC, language_info=LANGUAGE)
    for cell in nb.cells:
        noise = {"execution", "papermill"} | ({"tags"} if not cell.metadata.get("tags") else set())
        for name in noise:
            cell.metadata.pop(name, None)
    as_read = nbformat.reads(nbformat.writes(nb), as_version=4)  # type: ignore[no-untyped-call]
    stamp = {**stamp, "cells": _cells(as_read), "outputs": _outputs(as_read)}
    nb.metadata["companion"] = {**nb.metadata.get("companion", {}), **stamp}
    text: str = nbformat.writes(nb)  # type: ignore[no-untyped-call]  # as nbformat leaves it
    return text + "\n"


def _cells(nb: Any) -> str:
    """Hash what a person writes in a notebook."""
    rows = [(cell.cell_type, cell.source, cell.metadata.get("tags")) for cell in nb.cells]
    return provenance.digest(json.dumps(rows, sort_keys=True))


def _outputs(nb: Any) -> str:
    """Hash what an execution leaves in a notebook."""
    rows = [(c.get("execution_count"), c.get("outputs")) for c in nb.cells]
    return provenance.digest(json.dumps(rows, sort_keys=True))


def execute(
    page: Page,
    nb: Any,
    root: Path,
    work: Path,
    *,
    cache: Path,
    checkpoints: Path | None = None,
    forks: kernel.Forks | None = None,
    say: Say = quiet,
) -> tuple[dict[str, Any], Failed | None]:
    """Execute ``nb`` in place; returns what it ran on and when, and the failure if any."""
    record: dict[str, Any] = {
        "notebook": page.name,
        "key": provenance.key(page.parts),
        "parts": dict(page.parts),
        "source_tree": page.parts["source tree"],
        "environment": provenance.environment(root),
        "kernel": "forked" if forks else "fresh",
    }
    results = work / "results"
    results.mkdir()
    start, clock = datetime.now(UTC), time.monotonic()
    with scratch_folder(work, ".kernel.") as scratch:
        environment = kernel.variables(root, cache, scratch) | {"COMPANION_RESULTS": str(results)}
        if checkpoints is not None:
            environment["COMPANION_CHECKPOINTS"] = str(checkpoints)
        _build_fonts(nb, cache, environment)
        failure = kernel.execute(
            nb, page.name, environment, root / "notebooks", scratch, forks=forks, say=say
        )
    record["duration_s"] = round(time.monotonic() - clock, 1)
    record["started"] = start.isoformat(timespec="seconds")
    record["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    if changed := provenance.differences(page.parts, provenance.parts(page.text, root, page.data)):
        failure = failure or Failed(
            f"{page.name}: {', '.join(changed)} while it ran; run it again, and change nothing"
        )
    return record, failure


def _build_fonts(nb: Any, cache: Path, environment: Mapping[str, str]) -> None:
    """Have matplotlib build its cache of fonts: in the kernel, a notice may land in the outputs."""
    drawn = any(re.search(r"matplotlib|companion\.figures", cell.source) for cell in nb.cells)
    if drawn and not any((cache / "matplotlib").glob("fontlist-*")):
        build = [sys.executable, "-P", "-c", "import matplotlib.font_manager"]
        subprocess.run(build, env=dict(environment), capture_output=True, check=False)  # noqa: S603


def unwritable(error: OSError, path: Path) -> Failed:
    """Put the failure to write ``path`` into words."""
    return Failed(f"cannot write {error.filename or path}: {error.strerror or error}.")


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
    stamp = nb.metadata.get("companion", {})
    if "parts" in stamp and "cells" not in stamp:  # executed before stamps had them
        return _step(page, nb) if stamp["parts"].get("text") == page.parts["text"] else None
    same = stamp.get("cells") == _cells(nb)
    return None if same else _step(page, nb) or "its cells are not those that were executed"


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
    same = stamp.get("outputs") == _outputs(nb)
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
            f"notebooks/{page.name}.md (`jupytext --to md:myst --output - {path}` shows its text), "
            "then delete the .ipynb."
        )
    try:
        own = cache(root, root)
        with claim(own, page.name, "page"):
            clean(own, page.name)
            with scratch_folder(own / page.name, ".page.") as work:  # its files are for runs only
                record, failure = execute(page, nb, root, work, cache=own, say=say)
        if failure:
            raise failure
        nb.metadata["jupytext"] = {"formats": "ipynb,md:myst"}
        record["parameters"] = dict(page.run().parameters)
        write_whole(path, stamped(nb, record))
    except OSError as error:
        raise unwritable(error, path) from error
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
        why = f"stale ({'; '.join(reasons)})" if reasons else "asked for (--all)"
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


NEW = """---
jupytext:
  formats: ipynb,md:myst
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3 (ipykernel)
  language: python
  name: python3
---

# {title}

What the page shows, and why it matters.

```{{code-cell}} ipython3
:tags: [parameters]

n: int = 4     # number of states, 1 to 64
seed: int = 0  # seed of every draw, in [0, inf)
```

```{{code-cell}} ipython3
import json
import os
from pathlib import Path

import numpy as np

from companion import orthogonal_dilation, orthogonality_error

W = np.random.default_rng(seed).standard_normal((n, n))
W *= 0.9 / np.linalg.norm(W, 2)
error = orthogonality_error(orthogonal_dilation(W))
print(f"an orthogonal matrix holds W: {{error < 1e-13 * n}}")
assert error < 1e-13 * n, f"the dilation is orthogonal only to {{error:.1e}}"

if folder := os.environ.get("COMPANION_RESULTS"):  # a row of `companion runs NAME --csv FILE`
    values = {{"orthogonality_error": float(error)}}
    (Path(folder) / "values.json").write_text(json.dumps(values))
```
"""


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
    write_whole(path, NEW.format(title=name.replace("-", " ").capitalize()))
    return (
        f"written: {path}\nedit it, name it in book/_toc.yml as `- file: notebooks/{name}`, then "
        f"`companion pages {name}` executes it and `companion run {name} -p n=8` runs it again"
    )
