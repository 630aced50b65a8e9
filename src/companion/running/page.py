"""A notebook run: checked parameters, an isolated kernel, a record, an atomic output.

A notebook writes files into the folder that the environment variable ``COMPANION_RESULTS`` names.
What it trains it may keep in the one that ``COMPANION_CHECKPOINTS`` names, from where the same run
goes on when it was interrupted. Files that it reads, such as published results, are declared in its
header as ``companion: {data: [book/results/NAME.json]}``; they are part of its key. One that needs
the digits says ``companion: {downloads: [mnist]}``.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from filelock import FileLock

from companion.experiments import mnist as digits
from companion.running import record as provenance
from companion.running.parameters import Parameter, Value, parse_parameters
from companion.running.record import Refused
from companion.theory.files import write_whole

# One thread each: sums are then added in one order, whatever the number of cores.
_ONE_THREAD = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "VECLIB_MAXIMUM")
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {"file_extension": ".py", "name": "python", "pygments_lexer": "ipython3"}


class Failed(RuntimeError):
    """A run or a page that started and did not end well; the command line exits with 1."""


@dataclass(frozen=True)
class Page:
    """A notebook's text, the hashes of what its outputs come from, and its parameters."""

    name: str
    text: str
    parts: Mapping[str, str]
    parameters: tuple[Parameter, ...]
    downloads: tuple[str, ...] = ()
    folder: Path = Path()

    def notebook(self) -> Any:
        """A fresh notebook, without outputs, with cell ids that stay when other cells change."""
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
        """The run of this page with (name, text) pairs in place of defaults, all checked."""
        known = {p.name: p for p in self.parameters}
        values: dict[str, Value] = {}
        for name, text in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise Refused(
                    f"parameter {name[:60]!r} is unknown to {self.name};{hint} "
                    f"allowed: {', '.join(known) or 'none'}."
                )
            if name in values:
                raise Refused(f"parameter {name} is given twice.")
            values[name] = known[name].read(text)
        chosen = {p.name: values.get(p.name, p.default) for p in self.parameters}
        return Run(self, chosen, self._files(chosen))

    def _files(self, chosen: Mapping[str, Value]) -> dict[str, str]:
        """The digest of each file that a parameter names, relative to ``notebooks/``."""
        found = {}
        for parameter in self.parameters:
            value = str(chosen[parameter.name])
            if parameter.is_file and value != parameter.default:
                try:
                    data = (self.folder / value).read_bytes()
                except OSError as error:
                    raise Refused(
                        f"parameter {parameter.name} is {value!r}, which cannot be read: "
                        f"{error.strerror}; allowed: {parameter.allowed}."
                    ) from error
                found[parameter.name] = hashlib.sha256(data).hexdigest()
        return found


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
        """Hash of the notebook's text, modules, pins, data, parameters and the files they name."""
        parts = dict(self.page.parts) | {f"file {k}": v for k, v in self.files.items()}
        return provenance.key(parts, self.parameters)


def _notebook_path(root: Path, notebook: str) -> Path:
    """The ``.md`` in ``notebooks/`` that a name or a path stands for."""
    folder = root / "notebooks"
    path = Path(notebook)
    inside = len(path.parts) == 1 and not notebook.startswith(".")
    for base in () if inside else (Path.cwd(), root):
        inside = inside or (base / path).resolve().parent == folder.resolve()
    name = path.stem if path.suffix in (".md", ".ipynb") else path.name
    found = folder / f"{name}.md"
    if not inside or not name.isprintable() or found.resolve().parent != folder.resolve():
        raise Refused(f"notebook {notebook[:80]!r} is outside {folder}.")
    if not found.is_file():
        names = sorted(p.stem for p in folder.glob("*.md"))
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise Refused(f"no notebook {name[:80]!r};{hint} there are: {', '.join(names) or 'none'}.")
    return found


def load_page(root: Path, notebook: str) -> Page:
    """Read a notebook by name or path, its parameters and its parts; nothing is run.

    Raises
    ------
    Refused : no such notebook, one outside ``notebooks/``, or a malformed one (says where).
    """
    path = _notebook_path(root, notebook)
    return read_page(path.stem, provenance.file_bytes(path), root)


def read_page(name: str, data: bytes, root: Path) -> Page:
    """The page that ``data`` is the text of, against the modules, pins and data files of ``root``.

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
        # lines for IPython (%magic, !shell) hold no import that could be followed
        python = [re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", cell.source) for cell in code]
        for number, source in enumerate(python, 1):
            ast.parse(source, f"code cell {number}")
        tagged = [c.source for c in code if "parameters" in c.metadata.get("tags", [])]
        if len(tagged) > 1:
            raise Refused("more than one cell is tagged `parameters`.")
        parameters = parse_parameters(tagged[0]) if tagged else ()
        declared = nb.metadata.get("companion", {})
        if not (isinstance(declared, dict) and isinstance(declared.get("data", []), list)):
            raise Refused("its header's `companion` is not `{data: [FILE, …]}`.")
        files = tuple(map(str, declared.get("data", ())))
        downloads = tuple(declared.get("downloads", ()))
        if not set(downloads) <= {"mnist"}:
            raise Refused(f"its header asks to download {downloads}; allowed: mnist.")
        for file in files:
            if not (root / file).resolve().is_relative_to(root) or not (root / file).is_file():
                raise Refused(f"its header names the data file {file!r}; no such file in {root}.")
        parts = provenance.notebook_parts(text, "\n".join(python), root, files)
    except (Refused, SyntaxError) as error:
        raise Refused(f"notebooks/{name}.md: {error}") from error
    return Page(name, text, parts, parameters, downloads, root / "notebooks")


def lacking(page: Page, root: Path) -> str | None:
    """What the page needs that is not in the checkout and not part of it, or None."""
    if "mnist" in page.downloads and digits.missing(digits.cache(root)):
        return "MNIST is not here; `companion data mnist` gets it"
    return None


def _execute(
    nb: Any, root: Path, results: Path, scratch: Path, label: str, checkpoints: Path | None = None
) -> Failed | None:
    """Run a notebook's cells in place, in the interpreter that runs this and nothing of the user's.

    The kernel starts in ``notebooks/``, imports the checkout's own package, uses one thread in
    linear algebra, and writes only below the checkout. Returns the failure instead of raising it:
    the notebook then holds the outputs up to it.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import run_sync
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError
    from tqdm import tqdm

    source = str(root / "src")
    environment = {
        **os.environ,
        **{f"{name}_NUM_THREADS": "1" for name in _ONE_THREAD},
        "PYTHONPATH": os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH")))),
        "PYTHONHASHSEED": "0",
        "PYTHONSTARTUP": "",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # its warning would land in the outputs
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": str(root / ".cache" / "matplotlib"),  # the font cache is worth keeping
        "NUMBA_CACHE_DIR": str(root / ".cache" / "numba"),
        "IPYTHONDIR": str(scratch / "ipython"),
        "JUPYTER_CONFIG_DIR": str(scratch / "config"),
        "COMPANION_RESULTS": str(results),
    }
    environment.pop("COMPANION_CHECKPOINTS", None)  # a user's would be another run's
    if checkpoints is not None:
        environment["COMPANION_CHECKPOINTS"] = str(checkpoints)
    fonts = root / ".cache" / "matplotlib"
    drawn = any(re.search(r"matplotlib|companion\.plotting", cell.source) for cell in nb.cells)
    if drawn and not any(fonts.glob("fontlist-*")):
        # where the kernel itself builds the cache, a notice may land in the outputs
        build = [sys.executable, "-c", "import matplotlib.font_manager"]
        subprocess.run(build, env=environment, capture_output=True, check=False)  # noqa: S603  # fixed
    manager = AsyncKernelManager(
        kernel_name="python3",
        # with no folders to look in it falls back on ipykernel's own spec: this interpreter
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
        connection_file=str(scratch / "kernel.json"),
    )
    client = NotebookClient(
        nb,
        km=manager,
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        # ipykernel >= 7.3 warns about its TCP ports inside the first cell's output
        extra_arguments=["--IPKernelApp.log_level=40", "--HistoryManager.hist_file=:memory:"],
        resources={"metadata": {"path": str(root / "notebooks")}},
    )
    code = sum(cell.cell_type == "code" for cell in nb.cells)
    # a worker of a sweep calls this in a thread, where a bar would tear the sweep's own
    quiet = None if threading.current_thread() is threading.main_thread() else True
    bar = tqdm(total=code, desc=label, unit="cell", file=sys.stderr, disable=quiet)
    index, failure = 0, ""
    try:
        with bar, client.setup_kernel(env=environment, cleanup_kc=True):
            client.reset_execution_trackers()
            try:
                for index, cell in enumerate(nb.cells):
                    client.execute_cell(cell, index)
                    bar.update(cell.cell_type == "code")
            except KeyboardInterrupt:
                client.shutdown_kernel = "immediate"
                raise
    except CellExecutionError as error:
        first = (error.evalue or "").strip().splitlines()
        failure = ": ".join(filter(None, (error.ename, first[0][:300] if first else "")))
    except DeadKernelError:
        failure = "the kernel died (out of memory, or killed)"
    finally:
        if manager.has_kernel:  # interrupted while it was starting
            run_sync(manager.shutdown_kernel)(now=True)
    if not failure:
        return None
    number = sum(cell.cell_type == "code" for cell in nb.cells[: index + 1])
    line = next((row.strip() for row in nb.cells[index].source.splitlines() if row.strip()), "")
    return Failed(f"{label} failed in code cell {number} of {code} (`{line}`): {failure}")


@contextmanager
def scratch_folder(folder: Path, prefix: str) -> Iterator[Path]:
    """A new folder that is gone afterwards, unless renamed, whatever happens but kill -9."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{prefix}{secrets.token_hex(4)}"  # not mkdtemp: that hides it from the group
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _stamp(nb: Any, stamp: Mapping[str, Any]) -> str:
    """The notebook as text, with metadata that do not depend on who ran it where."""
    nb.metadata.pop("papermill", None)
    nb.metadata.update(kernelspec=KERNELSPEC, language_info=LANGUAGE)
    nb.metadata["companion"] = {**nb.metadata.get("companion", {}), **stamp}
    for cell in nb.cells:
        noise = {"execution", "papermill"} | ({"tags"} if not cell.metadata.get("tags") else set())
        for name in noise:
            cell.metadata.pop(name, None)
    text: str = nbformat.writes(nb)  # type: ignore[no-untyped-call]  # as nbformat leaves it
    return text + "\n"


def _execute_recorded(
    run: Run, nb: Any, root: Path, results: Path, scratch: Path, checkpoints: Path | None = None
) -> tuple[dict[str, Any], Failed | None]:
    """Execute ``nb`` in place; returns what it ran on and when, and the failure if any."""
    record = {
        "notebook": run.page.name,
        "key": provenance.key(run.page.parts),
        "parts": dict(run.page.parts),
        "parameters": dict(run.parameters),
        "source_tree": provenance.source_tree_hash(root / "src" / provenance.PACKAGE),
        "environment": provenance.environment(root),
    }
    start = datetime.now(UTC)
    failure = _execute(nb, root, results, scratch, run.page.name, checkpoints)
    end = datetime.now(UTC)
    times = {"started": start, "finished": end}
    record |= {name: time.isoformat(timespec="seconds") for name, time in times.items()}
    return record | {"duration_s": round((end - start).total_seconds(), 1)}, failure


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a run, complete or failed; None where there is none that one can rely on."""
    try:
        found = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
        return None
    kinds = {"id": str, "notebook": str, "finished": str, "parameters": dict}
    if not isinstance(found, dict):
        return None
    whole = all(isinstance(found.get(name), kind) for name, kind in kinds.items())
    return found if whole and (folder / f"{found['notebook']}.ipynb").is_file() else None


def done(folder: Path) -> dict[str, Any] | None:
    """The record of a complete run, or None."""
    found = read_record(folder)
    return found if found and "error" not in found else None


def skipped(folder: Path) -> str | None:
    """Why the run that this folder is named after need not be run again, or None."""
    record = done(folder)
    if record and record["id"] == folder.name:
        why = "text, modules, pins, data and parameters are the same"
        return f"skipped: ran at {record['finished']}, and {why}"
    return None


def claim(out: Path, run: Run) -> FileLock:
    """The lock of one run below ``out``: who holds it may run it and owns its hidden folders.

    The system frees it when its holder dies, however that happens.
    """
    folder = out / ".locks" / run.page.name
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / run.id)


def produce(run: Run, root: Path, work: Path, checkpoints: Path | None = None) -> Failed | None:
    """Execute a run into the folder ``work``: notebook, record, results. Returns its failure.

    What it trains goes on from ``checkpoints``; the record then says that it was resumed, since its
    times are those of the last part alone.
    """
    import papermill

    results = work / "results"
    results.mkdir()
    rules, resumed = dict(run.rules), False  # as they stand before anything is computed
    if checkpoints is not None:
        checkpoints.mkdir(parents=True, exist_ok=True)
        first = checkpoints / "rules.json"
        resumed = any(path != first for path in checkpoints.iterdir())
        if resumed and first.is_file():
            rules = json.loads(first.read_text("utf-8"))
        else:
            write_whole(first, json.dumps(rules))
    nb = run.page.notebook()
    nb.metadata["kernelspec"] = KERNELSPEC
    nb = papermill.execute_notebook(nb, None, dict(run.parameters), prepare_only=True)
    state = provenance.git_state(root)
    with scratch_folder(work, ".kernel.") as scratch:
        record, failure = _execute_recorded(run, nb, root, results, scratch, checkpoints)
    seeds = {name: value for name, value in run.parameters.items() if "seed" in name}
    record = {"id": run.id, **record, **state, "seeds": seeds, "rules": rules}
    record |= {"files": dict(run.files)} if run.files else {}
    record |= {"resumed": True} if resumed else {}
    record |= {"error": str(failure)} if failure else {}
    write_whole(work / f"{run.page.name}.ipynb", _stamp(nb, {"id": run.id, "key": record["key"]}))
    write_whole(work / "record.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return failure


def publish(
    run: Run, out: Path, fill: Callable[[Path], str | None], *, force: bool = False
) -> tuple[Path, str]:
    """Let ``fill`` write a run into a hidden folder, then name that ``out/NOTEBOOK/ID/``.

    ``fill`` returns the run's failure, or None. Returns and raises as `perform`.
    """
    folder = out / run.page.name / run.id
    kept = folder.with_name(f"{run.id}.failed")
    with scratch_folder(folder.parent, f".{run.id}.") as work:
        failure = fill(work)
        if failure:
            shutil.rmtree(kept, ignore_errors=True)
            work.rename(kept)
            raise Failed(f"{failure}\nthe partial notebook is {kept / run.page.name}.ipynb")
        record = done(work)
        if record is None:
            raise Failed(f"{run.page.name} left no complete record")
        if folder.exists() and (force or not done(folder)):
            # Two renames: a kill between them leaves the old run beside, under a hidden name.
            with scratch_folder(folder.parent, f".{run.id}.old.") as old:
                folder.rename(old / "run")
                work.rename(folder)
        else:
            try:
                work.rename(folder)
            except OSError:
                if not done(folder):
                    raise
                return folder, "skipped: another process finished the same run meanwhile"
        shutil.rmtree(kept, ignore_errors=True)
        return folder, f"done in {record['duration_s']} s"


def perform(run: Run, root: Path, out: Path, *, force: bool = False) -> tuple[Path, str]:
    """Run a notebook into ``out/NOTEBOOK/ID/``, all of it or nothing; a done one is left alone.

    Where another process has the same run under way, this waits for it.

    Parameters
    ----------
    run : from `Page.run`; its id names the folder.
    root : the checkout whose package the kernel imports.
    force : replace a complete run with the same id, and go on from no checkpoint.

    Returns
    -------
    folder, message : ``NOTEBOOK.ipynb``, ``record.json`` and ``results/`` lie in the folder; the
        message says whether it ran, or why it was skipped.

    Raises
    ------
    Failed : a cell failed (the partial notebook is kept in ``ID.failed/``), or the folder cannot be
        written.
    """
    out = out.absolute()  # the kernel has a working directory of its own
    folder = out / run.page.name / run.id
    checkpoints = out / ".checkpoints" / run.page.name / run.id

    def fill(work: Path) -> str | None:
        failure = produce(run, root, work, checkpoints)
        return str(failure) if failure else None

    try:
        if (why := skipped(folder)) and not force:
            return folder, why
        with claim(out, run):
            if (why := skipped(folder)) and not force:
                return folder, why
            if force:
                shutil.rmtree(checkpoints, ignore_errors=True)
            found = publish(run, out, fill, force=force)
            shutil.rmtree(checkpoints, ignore_errors=True)
            return found
    except OSError as error:
        raise unwritable(error, folder) from error


def unwritable(error: OSError, path: Path) -> Failed:
    """The failure to write ``path``, in words."""
    return Failed(f"cannot write {error.filename or path}: {error.strerror or error}.")


def out_of_step(page: Page, nb: Any) -> str | None:
    """The first cell in which an executed notebook differs from its text, or None."""
    fresh = page.notebook()
    if len(fresh.cells) != len(nb.cells):
        return f"it has {len(nb.cells)} cells, the text {len(fresh.cells)}"
    for i, (a, b) in enumerate(zip(fresh.cells, nb.cells, strict=True), 1):
        if any(a[field] != b[field] for field in ("cell_type", "source", "metadata")):
            return f"cell {i} differs from the text"
    return None


def stale(page: Page, root: Path) -> list[str]:
    """Why the committed notebook of a page is not what its text and sources give; [] if it is."""
    path = root / "notebooks" / f"{page.name}.ipynb"
    if not path.is_file():
        return ["never executed"]
    try:
        text = path.read_text(encoding="utf-8")
        nb = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]  # as above
    except (ValueError, nbformat.reader.NotJSONError) as error:
        return [f"not a notebook ({error})"]
    old = nb.metadata.get("companion", {}).get("parts")
    if not isinstance(old, dict):
        return ["it carries no key"]
    changed = provenance.differences(old, page.parts)
    step = out_of_step(page, nb)
    return changed or ([step] if step else [])


def execute_page(page: Page, root: Path) -> float:
    """Execute a page at its defaults and put it in place of the committed notebook.

    Returns
    -------
    seconds that it took.

    Raises
    ------
    Failed : a cell failed; the committed notebook is as it was.
    """
    nb, path = page.notebook(), root / "notebooks" / f"{page.name}.ipynb"
    try:
        with scratch_folder(root / ".cache", "page.") as scratch:
            results = scratch / "results"  # a page's results are its outputs; files are for runs
            results.mkdir()
            record, failure = _execute_recorded(page.run(), nb, root, results, scratch)
        if failure:
            raise failure
        nb.metadata["jupytext"] = {"formats": "ipynb,md:myst"}
        write_whole(path, _stamp(nb, record))
    except OSError as error:
        raise unwritable(error, path) from error
    return float(record["duration_s"])
