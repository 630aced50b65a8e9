"""Binder, Colab and the devcontainer: their files hold together, with the pins and with the pages.

The services themselves are not asked.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]
URL = "https://github.com/owner/name"
BINDER = "https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/notebooks/page.ipynb"
COLAB = "https://colab.research.google.com/github/owner/name/blob/main/notebooks/page.ipynb"


def python() -> SpecifierSet:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return SpecifierSet(project["requires-python"])


def test_binder_installs_the_package_at_its_pins() -> None:
    folder = ROOT / ".binder"
    assert {p.name for p in folder.iterdir()} == {"postBuild", "requirements.txt", "runtime.txt"}
    version = re.fullmatch(r"python-(3\.\d+)\n", (folder / "runtime.txt").read_text())
    assert version
    assert python().contains(version[1])
    lines = (folder / "requirements.txt").read_text().splitlines()
    asked = [line for line in lines if not line.startswith("#")]
    pins, torch = asked
    assert (folder / pins.removeprefix("-r ")).resolve() == ROOT / "constraints.txt"
    assert torch in (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert f"-cp{version[1].replace('.', '')}-" in torch
    assert "pip install --no-deps" in (folder / "postBuild").read_text()


def test_devcontainer_makes_the_same_environment() -> None:
    described = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    version = re.fullmatch(
        r"mcr\.microsoft\.com/devcontainers/python:(3\.\d+)-\w+", described["image"]
    )
    assert version
    assert python().contains(version[1])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    command = re.fullmatch(r"make (\w+) (\w+)=\w+", described["postCreateCommand"])
    assert command
    assert re.search(rf"^{command[1]}:", makefile, re.MULTILINE)
    assert re.search(rf"^{command[2]} \?=", makefile, re.MULTILINE)
    interpreter = described["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert interpreter == "${containerWorkspaceFolder}/.venv/bin/python"
    assert "BIN := .venv/bin" in makefile


@pytest.mark.parametrize("url", ["", URL])
def test_buttons_are_there_with_the_address_and_only_then(tmp_path: Path, url: str) -> None:
    """The site's own configuration, over one notebook."""
    ignored = shutil.ignore_patterns("_build", "live-assets")
    shutil.copytree(ROOT / "book", tmp_path / "book", ignore=ignored)
    shutil.copytree(ROOT / "proofs", tmp_path / "proofs")
    (tmp_path / "notebooks").mkdir()
    page = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call] # untyped upstream
        cells=[nbformat.v4.new_markdown_cell("# Page")],  # type: ignore[no-untyped-call]
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(page, tmp_path / "notebooks/page.ipynb")  # type: ignore[no-untyped-call]
    toc = "format: jb-book\nroot: book/references\n"
    toc += "chapters: [{file: book/symbols}, {file: notebooks/page}]\n"
    (tmp_path / "book/_toc.yml").write_text(toc, encoding="utf-8")
    for name in ("symbols", "references"):
        (tmp_path / f"book/{name}.md").write_text("# Page\n", encoding="utf-8")
    config = yaml.safe_load((ROOT / "book/_config.yml").read_text(encoding="utf-8"))
    config["repository"]["url"] = url
    (tmp_path / "book/_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ".", "--path-output=book"]
    command += ["--config=book/_config.yml", "--toc=book/_toc.yml"]
    with (tmp_path / "log").open("w", encoding="utf-8") as out:
        subprocess.run(
            command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True
        )
    shown = (tmp_path / "book/_build/html/notebooks/page.html").read_text(encoding="utf-8")
    for address in (BINDER, COLAB):
        assert (address in shown) == bool(url)
    assert ("fa-rocket" in shown) == bool(url)
