"""The folders that runs are made in: hidden until they are whole, cleaned after a kill, locked."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from companion.running.record import Failed


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


def lock_of(out: Path, name: str, what: str) -> FileLock:
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
            with lock_of(out, name, match[1]).acquire(blocking=False):
                folder = path.with_name(match[1])
                if match[2] and (path / "run").is_dir() and not folder.exists():
                    (path / "run").rename(folder)  # killed just before its replacement was named
                shutil.rmtree(path)
                removed += 1
        except Timeout:  # its owner lives
            continue
    return removed


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Put a failure to write ``path`` into words."""
    try:
        yield
    except OSError as error:
        raise Failed(
            f"cannot write {error.filename or path}: {error.strerror or error}."
        ) from error
