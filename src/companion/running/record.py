"""What a page or a run came from: its parts and their key, the sources, git, the machine.

A page is stale when something that can change it changed: its text, the package's sources, the
pins, or a data file that it declares. The key is a hash over these. It depends on no machine, file
time, checkout path or line ending.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = "companion"


class Refused(ValueError):
    """Input refused before any work started; the command line exits with 2."""


class Failed(RuntimeError):
    """A run or a page that started and did not end well; the command line exits with 1."""


def digest(data: bytes | str) -> str:
    """Return the first 64 bits of SHA-256, in hex: against accidents, not against an adversary."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]


def file_bytes(path: Path) -> bytes:
    """Read a file; text loses its byte-order mark and CRLF, which git may add on checkout."""
    data = path.read_bytes()
    return data if b"\0" in data else data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")


def checkout(root: Path | None = None) -> Path:
    """Return the checkout's folder: the given one, or the one that this package lies in.

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


def source_tree_hash(package: Path) -> str:
    """Compute git's own tree hash of the package's folder, without git.

    The commit it came from is the one where ``git rev-parse COMMIT:src/companion`` prints the same.
    """

    def sha(kind: str, data: bytes) -> bytes:
        return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).digest()

    def tree(folder: Path) -> bytes:
        rows = {}  # by the name that git sorts by
        for path in folder.iterdir():
            if path.name.startswith((".", "__pycache__")):
                continue
            if not path.is_dir():
                blob = sha("blob", file_bytes(path))
                rows[path.name] = f"100644 {path.name}\0".encode() + blob
            elif body := tree(path):
                rows[path.name + "/"] = f"40000 {path.name}\0".encode() + sha("tree", body)
        return b"".join(row for _, row in sorted(rows.items()))

    return sha("tree", tree(package)).hex()


def pins(root: Path) -> list[tuple[str, str, str]]:
    """Read (name, version, condition) of the pinned packages, whatever their files' hashes."""
    path = root / "constraints.txt"
    if not path.is_file():
        raise Refused(f"{path} is missing: it holds the pins that a page's key depends on.")
    text = file_bytes(path).decode()
    if (torch := root / "constraints-torch.txt").is_file():
        text += "\n" + file_bytes(torch).decode()
    return sorted(re.findall(r"(?m)^([\w.-]+)==([^\s;]+) *(;[^\\\n#]*)?", text))


def parts(text: str, root: Path, data: Sequence[str] = ()) -> dict[str, str]:
    """Hash all that a notebook's outputs come from, by name.

    Parameters
    ----------
    text : the notebook's source.
    root : the checkout; its sources, its pins and the ``data`` files are read.
    """
    return {
        "text": digest(text),
        "source tree": source_tree_hash(root / "src" / PACKAGE),
        "pins": digest(json.dumps(pins(root))),
        **{f"data {name}": digest(file_bytes(root / name)) for name in sorted(data)},
    }


def key(parts: Mapping[str, str], parameters: Mapping[str, object] | None = None) -> str:
    """Hash the parts, and the parameters where a run has its own."""
    return digest(json.dumps([dict(parts), dict(parameters or {})], sort_keys=True))


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Say in words what changed between two sets of parts."""
    return [
        f"{name} {'changed' if name in old and name in new else 'new' if name in new else 'gone'}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def _output_of(*command: str) -> str | None:
    """Return what a program prints, or None where it is missing or fails."""
    program = shutil.which(command[0])
    if program is None:
        return None
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    done = subprocess.run(  # noqa: S603  # fixed programs, no shell
        [program, *command[1:]], capture_output=True, text=True, env=clean, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def git_state(root: Path) -> dict[str, Any]:
    """Return the commit and whether the checkout differs; None for both without git."""
    git = ("git", "--no-optional-locks", "-C", str(root))
    top = _output_of(*git, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        return {"commit": None, "dirty": None}
    status = _output_of(*git, "status", "--porcelain")
    return {"commit": _output_of(*git, "rev-parse", "HEAD"), "dirty": bool(status)}


def installed(root: Path) -> dict[str, str]:
    """Return the installed versions of the pinned packages."""
    return {name: _version(name) for name, _, _ in pins(root)}


@functools.cache
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def environment(root: Path) -> dict[str, Any]:
    """Return Python, platform, CPU, GPUs, and the installed versions of the pinned packages."""
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
