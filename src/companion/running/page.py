"""A page's text: its parameters, what its outputs come from, and the runs that can be made of it.

A notebook writes files into the folder that the environment variable ``COMPANION_RESULTS`` names.
What it trains it may keep in the one that ``COMPANION_CHECKPOINTS`` names, from where the same run
goes on when it was interrupted. Files that it reads, such as published results, are declared in its
header, by name or pattern, as ``companion: {data: [book/results/mnist/*]}``; they are part of its
key. One that needs the digits says ``companion: {downloads: [mnist]}``.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jupytext

from companion.running import record as provenance
from companion.running.parameters import Parameter, Value, parse_parameters
from companion.running.record import Refused

LARGEST = 1 << 30
"""Bytes of a file that a parameter names."""


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
            raise RuntimeError("it is not a file")
        if path.stat().st_size > LARGEST:
            raise RuntimeError(f"it is larger than {LARGEST} bytes")
        with path.open("rb") as file:
            return str(path), hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, RuntimeError) as error:  # the latter where ~USER has no home, too
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
    values: Mapping[str, Value]
    files: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Hash of the page's parts, the parameters, and what is in the files they name."""
        parts = dict(self.page.parts) | {f"file {k}": v for k, v in self.files.items()}
        values = {k: v for k, v in self.values.items() if k not in self.files}
        return provenance.key(parts, values)

    def describe(self) -> str:
        """Write the parameters that differ from the page's defaults."""
        defaults = {p.name: p.default for p in self.page.parameters}
        changed = [f"{k}={v}" for k, v in self.values.items() if v != defaults[k]]
        return " ".join(changed) or "defaults"


def parsed(source: str, name: str = "cell") -> ast.Module:
    """Parse a cell; lines for IPython (%magic, !shell) count as nothing."""
    return ast.parse(re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", source), name)


def load_page(root: Path, notebook: str) -> Page:
    """Read a notebook by name or path, its parameters and its parts; nothing is run.

    Raises
    ------
    Refused : no such notebook, one outside ``notebooks/``, or a malformed one (says where).
    """
    folder, path = (root / "notebooks").resolve(), Path(notebook)
    plain = len(path.parts) == 1 and not notebook.startswith(".")
    places = [folder] if plain else [(base / path).resolve().parent for base in (Path.cwd(), root)]
    name = path.stem if path.suffix in (".md", ".ipynb") else path.name
    found = folder / f"{name}.md"
    if folder not in places or not name.isprintable() or found.resolve().parent != folder:
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
        code = [cell for cell in nb.cells if cell.cell_type == "code"]
        for number, cell in enumerate(code, 1):
            parsed(cell.source, f"code cell {number}")
        tagged = [c.source for c in code if "parameters" in c.metadata.get("tags", [])]
        if len(tagged) > 1:
            raise Refused("more than one cell is tagged `parameters`.")
        parameters = parse_parameters(tagged[0]) if tagged else ()
        declared = nb.metadata.get("companion", {})
        lists = declared.values() if isinstance(declared, dict) else [None]
        if not all(isinstance(x, list) and all(isinstance(y, str) for y in x) for x in lists):
            raise Refused("its header's `companion` is not `{data: [FILE, …], downloads: [NAME]}`.")
        files: list[str] = []
        for pattern in declared.get("data", ()):
            found = [p for p in root.glob(pattern) if p.is_file()]
            if not found or not all(p.resolve().is_relative_to(root) for p in found):
                raise Refused(f"its header names the data {pattern!r}; no such file in {root}.")
            files += sorted(p.relative_to(root).as_posix() for p in found)
        parts = provenance.parts(text, root, files)
    except Exception as error:  # of YAML, nbformat, jupytext or codecs, with no common base
        raise Refused(f"notebooks/{name}.md: {error}") from error
    return Page(name, text, parts, parameters, tuple(files), tuple(declared.get("downloads", ())))
