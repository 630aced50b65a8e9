"""Coq's tools, run in a build folder, and the reading of its sources."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARY = "Proofs"
WARNINGS = "-notation-overridden,-ambiguous-paths,-redundant-canonical-projection"
# Generous: the slowest file takes some seconds. A mutant that runs out of time proves nothing.
SECONDS = 600


class Failed(Exception):
    """A check that failed; its text says which and what was expected."""


def without_comments(source: str) -> str:
    """Cut the comments, which nest, out of a source."""
    kept, depth = [], 0
    for part in re.split(r"(\(\*|\*\))", source):
        if part == "(*":
            depth += 1
        elif part == "*)":
            depth -= 1
        elif depth == 0:
            kept.append(part)
    return "".join(kept)


def statement(name: str, source: str) -> str:
    """Take the text of ``Definition name : Prop := … .``"""
    found = re.search(rf"^Definition {name} : Prop :=.*?\.$", source, re.MULTILINE | re.DOTALL)
    if found is None:
        raise Failed(f"no `Definition {name} : Prop := … .` that ends its line")
    return found[0]


def run(folder: Path, *command: str, seconds: int = SECONDS) -> subprocess.CompletedProcess[str]:
    """Run one tool in the build folder."""
    try:
        return subprocess.run(  # noqa: S603 -- names fixed here, arguments from the committed list
            command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False
        )
    except FileNotFoundError:
        raise Failed(f"{command[0]} is not on PATH: see proofs/README.md") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command)}: no answer within {seconds} s") from None


def coqc(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Compile one file of the build folder."""
    return run(folder, "coqc", "-q", "-w", WARNINGS, "-R", ".", LIBRARY, name)


def module(file: str) -> str:
    """Name ``Theorem1.v`` as ``Proofs.Theorem1``."""
    return f"{LIBRARY}.{file.removesuffix('.v')}"
