"""The package's front: every public name, from its module, and nothing loaded before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import companion

THEORY = sorted(p.stem for p in Path(companion.__file__).parent.glob("theory/*.py"))


def test_type_checkers_read_the_names_that_there_are() -> None:
    stub = Path(companion.__file__).with_suffix(".pyi").read_text()
    named = {
        alias.name: node.module
        for node in ast.parse(stub).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(named) == companion.__all__
    for name, module in named.items():
        assert getattr(companion, name) is getattr(import_module(module), name)
        assert getattr(companion, name).__doc__
    with pytest.raises(AttributeError, match="'companion' has no attribute 'nothing'"):
        _ = companion.nothing


def loaded(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_an_import_loads_nothing_that_was_not_asked_for() -> None:
    assert not loaded("import companion") & {"numpy", "torch", "flint", "matplotlib", "scipy"}
    heavy = {"torch", "flint", "matplotlib", "scipy", "safetensors"}
    assert not loaded("import " + ", ".join(f"companion.theory.{m}" for m in THEORY)) & heavy
