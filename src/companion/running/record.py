"""What a page or a run came from: the key of a notebook, the hash of the sources, the machine.

A page is stale when something that can change it changed: its text, the text of a companion module
that it imports (directly or through others), the pins, or a data file that it declares. The key is
a hash over exactly these, read statically (nothing is imported or run) and free of the machine,
file times, checkout path and line endings.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = "companion"


class Refused(ValueError):
    """Input refused before any work started; the command line exits with 2."""


def digest(data: bytes | str) -> str:
    """First 64 bits of SHA-256, in hex: against accidents, not against an adversary."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]


def file_bytes(path: Path) -> bytes:
    """A file's bytes; text loses its byte-order mark and CRLF, which git may add on checkout."""
    data = path.read_bytes()
    return data if b"\0" in data else data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")


def checkout(root: Path | None = None) -> Path:
    """The folder of the checkout: the given one, or the one that this package was installed from.

    Raises
    ------
    Refused : if that folder holds no ``notebooks/`` beside ``src/companion/``.
    """
    given = (root or Path(__file__).parents[3]).resolve()
    if (given / "notebooks").is_dir() and (given / "src" / PACKAGE / "__init__.py").is_file():
        return given
    raise Refused(
        f"{given} is no checkout of the companion (notebooks/ and src/{PACKAGE}/ beside each "
        "other). Clone the repository and install it with `pip install -e .`, or name a "
        "checkout: `companion --root DIR …`."
    )


def _module_file(package: Path, module: str) -> Path | None:
    base = package.joinpath(*module.split(".")[1:])
    found = (base / "__init__.py", base.parent / f"{base.name}.py")
    return next((path for path in found if path.is_file()), None)


def _imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[str, str | None]]:
    """(module, name) of each import; the name is None where the module itself is imported.

    ``import companion`` and ``import companion.theory.network`` bind the whole package: both give
    ("companion", "*"), and so does a dynamic import whose module is not written out.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: len(module.split(".")) - node.level + is_package]
            base = ".".join(parents) if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            yield from ((source, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name.split(".")[0] == PACKAGE and not (
                    alias.asname and "." in alias.name
                )
                yield (PACKAGE, "*") if whole else (alias.name, None)
        elif isinstance(node, ast.Call):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else None
            function = node.func.id if isinstance(node.func, ast.Name) else function
            if function in ("import_module", "__import__") and node.args:
                arg = node.args[0]
                known = isinstance(arg, ast.Constant) and isinstance(arg.value, str)
                yield (str(arg.value), None) if known else (PACKAGE, "*")  # type: ignore[attr-defined]  # ``known`` says that it is a Constant


def imported_modules(code: str, package: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Companion modules that ``code`` imports, transitively, and the names it takes from the top.

    ``from companion import X`` leads to the module from which ``companion/__init__.py`` imports X,
    so that a change elsewhere does not count. What cannot be resolved counts as every module.

    Returns
    -------
    modules : module -> file.
    names : X -> "module:name", where ``companion/__init__.py`` takes X from.

    Raises
    ------
    SyntaxError : if the code, or a module of the package, is not Python.
    """
    init = ast.parse(file_bytes(package / "__init__.py"))
    exports = {
        alias.asname or alias.name: (
            f"{PACKAGE}.{node.module}" if node.level and node.module else node.module,
            alias.name,
        )
        for node in ast.walk(init)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    found: dict[str, Path] = {}
    names: dict[str, str] = {}
    todo = list(_imports(ast.parse(code), "__main__", False))
    while todo:
        module, name = todo.pop()
        if module.split(".")[0] != PACKAGE:
            continue
        if name and name != "*" and _module_file(package, f"{module}.{name}"):
            todo.append((f"{module}.{name}", None))
            if module == PACKAGE:
                continue
        if module == PACKAGE:
            source = exports.get(name or "*")
            if source and source[0] and source[0].startswith(f"{PACKAGE}."):
                names[name or ""] = ":".join((source[0], source[1]))
                todo.append((source[0], source[1]))
                continue
        path = _module_file(package, module)
        if module == PACKAGE or path is None:  # all of it
            return {
                ".".join((PACKAGE, *path.relative_to(package).with_suffix("").parts)): path
                for path in sorted(package.rglob("*.py"))
            }, {}
        if module not in found:
            found[module] = path
            todo += _imports(ast.parse(file_bytes(path)), module, path.name == "__init__.py")
            if (parent := module.rpartition(".")[0]) != PACKAGE:
                todo.append((parent, None))
    return found, names


def notebook_parts(text: str, code: str, root: Path, data: tuple[str, ...] = ()) -> dict[str, str]:
    """Hashes of all that a notebook's outputs come from, by name.

    Parameters
    ----------
    text : the notebook's source; ``code`` is the Python in it.
    root : the checkout; its modules, its ``constraints.txt`` and the ``data`` files are read.
    """
    pins = root / "constraints.txt"
    if not pins.is_file():
        raise Refused(f"{pins} is missing: it holds the pins that a page's key depends on.")
    lines = (line.partition("#")[0].strip() for line in file_bytes(pins).decode().splitlines())
    modules, names = imported_modules(code, root / "src" / PACKAGE)
    return {
        "text": digest(text),
        "pins": digest("\n".join(sorted(filter(None, lines)))),
        **({"names": digest(json.dumps(names, sort_keys=True))} if names else {}),
        **{f"module {name}": digest(file_bytes(path)) for name, path in modules.items()},
        **{f"data {name}": digest(file_bytes(root / name)) for name in sorted(data)},
    }


def key(parts: Mapping[str, str], parameters: Mapping[str, object] | None = None) -> str:
    """One hash over the parts, and over parameters where a run has its own."""
    return digest(json.dumps([dict(parts), dict(parameters or {})], sort_keys=True))


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """What changed between two sets of parts, in words."""
    return [
        f"{name} {'changed' if name in old and name in new else 'new' if name in new else 'gone'}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def source_tree_hash(package: Path) -> str:
    """Git's own tree hash of the package's folder, computed without git.

    The commit it came from is the one where ``git rev-parse COMMIT:src/companion`` prints the same.
    """

    def sha(kind: str, data: bytes) -> bytes:
        return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).digest()

    def tree(folder: Path) -> bytes:
        rows: list[tuple[str, bytes]] = []
        for path in folder.iterdir():
            if path.name.startswith((".", "__pycache__")):
                continue
            if path.is_dir():
                if body := tree(path):
                    rows.append(
                        (path.name + "/", f"40000 {path.name}\0".encode() + sha("tree", body))
                    )
            else:
                blob = sha("blob", file_bytes(path))
                rows.append((path.name, f"100644 {path.name}\0".encode() + blob))
        return b"".join(row for _, row in sorted(rows))

    return sha("tree", tree(package)).hex()


def _output_of(*command: str) -> str | None:
    """What a program prints, or None where it is missing or fails."""
    program = shutil.which(command[0])
    if program is None:
        return None
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    done = subprocess.run(  # noqa: S603  # fixed programs, no shell
        [program, *command[1:]], capture_output=True, text=True, env=clean, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def git_state(root: Path) -> dict[str, Any]:
    """Commit and whether the checkout differs from it; None for both without git or a checkout."""
    git = ("git", "--no-optional-locks", "-C", str(root))
    top = _output_of(*git, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        return {"commit": None, "dirty": None}
    status = _output_of(*git, "status", "--porcelain")
    return {"commit": _output_of(*git, "rev-parse", "HEAD"), "dirty": bool(status)}


def installed(root: Path) -> dict[str, str]:
    """The installed versions of the pinned packages."""
    packages = {}
    for name in re.findall(r"(?m)^([\w.-]+)==", file_bytes(root / "constraints.txt").decode()):
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = "not installed"
    return packages


def environment(root: Path) -> dict[str, Any]:
    """Python, platform, CPU, GPUs, and the installed versions of the pinned packages."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.is_file() else "")
    gpus = _output_of("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpus": gpus.splitlines() if gpus else [],
        "packages": installed(root),
    }
