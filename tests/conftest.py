"""Settings of all tests."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

ROOT = Path(__file__).resolve().parents[1]
HEADER = """---
kernelspec:
  display_name: Python 3 (ipykernel)
  language: python
  name: python3
---

# Demo

"""
CELL = """```{code-cell} ipython3
%s```

"""

# The GPU kernel is tested in Triton's interpreter; read when triton is first imported, by whatever.
os.environ["TRITON_INTERPRET"] = "1"
# A shell that puts a job in the background has it ignore Ctrl-C and Ctrl-\, nohup the end of a
# terminal, and children inherit that: tests that stop one need them as in the foreground.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("SIGHUP", "SIGQUIT"):
    number = getattr(signal, name, signal.SIGTERM)
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
# No deadlines: how long a machine takes is measured by `make bench`, never asserted.
settings.register_profile("companion", deadline=None)
settings.load_profile("companion")
# Before anything of the package is imported; see shapes.py.
if os.environ.get("COMPANION_SHAPES"):
    # Of the engines numba compiles what a checked function would hide from it.
    training = ("students", "loop", "reference", "result", "checkpoint")
    rooms = ("theory", "experiments", *(f"training.{name}" for name in training))
    install_import_hook([f"companion.{room}" for room in rooms], "shapes.checked")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of refused types where types are enforced before anything can refuse them."""
    if os.environ.get("COMPANION_SHAPES"):
        wrong = [item for item in items if item.get_closest_marker("wrong_types")]
        items[:] = [item for item in items if item not in wrong]
        config.hook.pytest_deselected(items=wrong)


def write_page(root: Path, name: str, parameters: str, *cells: str) -> Path:
    """A page of a cell of parameters and cells of code."""
    tagged = f":tags: [parameters]\n{parameters.strip()}\n"
    text = HEADER + "".join(CELL % f"{cell.strip()}\n" for cell in (tagged, *cells))
    path = root / "notebooks" / f"{name}.md"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def make_checkout() -> Callable[..., Path]:
    """What makes a checkout: one module of its own, or with ``whole`` this package."""

    def make(root: Path, *, whole: bool = False) -> Path:
        (root / "notebooks").mkdir(parents=True)
        package = root / "src" / "companion"
        if whole:
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / "src" / "companion", package, ignore=ignore)
            for name in ("constraints.txt", "constraints-torch.txt"):
                shutil.copy(ROOT / name, root)
        else:
            package.mkdir(parents=True)
            (package / "__init__.py").write_text("from companion.a import f\n")
            (package / "a.py").write_text("def f(n):\n    return n + 1\n")
            (root / "constraints.txt").write_text("numpy==1\n")
        return root

    return make


@pytest.fixture(scope="session", name="write_page")
def _write_page() -> Callable[..., Path]:
    return write_page
