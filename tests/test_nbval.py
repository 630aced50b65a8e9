"""The comparison of notebooks: what it must see, and the little that it lets pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
PICTURE = '<?xml version="1.0"?>\n<svg>\n<g id="{}"/>\n</svg>\n'
DRAW = "from IPython.display import display; display({{'image/svg+xml': {!r}}}, raw=True)"


def notebook(source: str, output: dict[str, object]) -> nbformat.NotebookNode:
    """One executed cell, with the output that it is said to have had."""
    cell = nbformat.v4.new_code_cell(
        source, execution_count=1, outputs=[nbformat.v4.new_output(**output)]
    )
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel})


def printed(text: str) -> dict[str, object]:
    return {"output_type": "stream", "name": "stdout", "text": text}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of four notebooks, under the options that `make test` gives it."""
    folder = tmp_path_factory.mktemp("pages")
    drawn = {"output_type": "display_data", "data": {"image/svg+xml": PICTURE.format("there")}}
    pages = {
        "faithful": notebook("print(0.5)", printed("0.5\n")),
        "tampered": notebook("print(0.5)", printed("0.6\n")),
        "silenced": notebook("print(0.5); print('bad')", printed("0.5\n")),
        "redrawn": notebook(DRAW.format(PICTURE.format("here")), drawn),
    }
    for name, page in pages.items():
        nbformat.write(page, folder / f"{name}.ipynb")
    options = ["--nbval", f"--nbval-sanitize-with={ROOT / 'tests/nbval.cfg'}", "-rA", "--tb=no"]
    config = ["-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *config, *options, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("page", "verdict"),
    [
        ("faithful", "PASSED"),
        ("redrawn", "PASSED"),  # a figure's digits differ between processors
        ("tampered", "FAILED"),
        ("silenced", "FAILED"),
    ],
)
def test_comparison(outcomes: str, page: str, verdict: str) -> None:
    lines = [line for line in outcomes.splitlines() if f"{page}.ipynb::" in line]
    assert any(line.startswith(verdict) for line in lines), outcomes
