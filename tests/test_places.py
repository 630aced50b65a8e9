"""A checkout that is copied, moved, linked or read-only: what make and the package then do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shlex import quote

import pytest

from companion.running.page import load_page
from companion.running.pages import execute_page, stale
from companion.running.record import checkout
from companion.running.run import perform

ROOT = Path(__file__).resolve().parents[1]
# Stands for Python, venv and pip; says what it is asked, and makes an environment with itself in.
PYTHON = """#!/bin/bash
echo "$*" >>asked
if [ "$1 $2" = "-m venv" ]; then mkdir -p .venv/bin; cp "$0" .venv/bin/python; fi
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Part of a checkout with an environment that is up to date, under an awkward name."""
    root = tmp_path / "my thesis" / "ü 'o'"
    root.mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", *(p.name for p in ROOT.glob("constraints*.txt"))):
        shutil.copy(ROOT / name, root)
    (root / "proofs").mkdir()
    shutil.copy(ROOT / "proofs/proofs.mk", root / "proofs")
    (root / "python").write_text(PYTHON)
    (root / "python").chmod(0o755)
    make(root, "env")
    assert (root / ".venv/.installed").read_text().strip() == str(root)
    (root / ".venv/bin/of-this-folder").write_text(str(root))
    return root


def make(root: Path, *words: str) -> int:
    done = subprocess.run(
        ["make", "PYTHON=./python", *words], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert "Error" not in done.stderr, done.stderr
    return done.returncode


def test_an_environment_is_kept_where_it_was_made(place: Path, tmp_path: Path) -> None:
    assert make(place, "-q", "env") == 0
    (tmp_path / "link").symlink_to(place)  # the same folder by another name
    assert make(tmp_path / "link", "-q", "env") == 0
    assert make(tmp_path, "-q", "-C", "link", "env") == 0
    assert (place / ".venv/bin/of-this-folder").exists()


@pytest.mark.parametrize("how", ["copied", "moved", "linked", "shared"])
def test_an_environment_of_another_folder_is_made_again(
    place: Path, tmp_path: Path, how: str
) -> None:
    there = tmp_path / "an other"
    if how == "moved":
        place.rename(there)
    else:
        ignore = shutil.ignore_patterns(".venv") if how != "copied" else None
        shutil.copytree(place, there, ignore=ignore)  # with the times of the files
    if how == "linked":
        (there / ".venv").symlink_to(place / ".venv")
    elif how == "shared":
        (there / ".venv").mkdir()
        for path in (place / ".venv").iterdir():
            (there / ".venv" / path.name).symlink_to(path)
    assert make(there, "-q", "env") == 1
    assert (there / ".venv/bin/of-this-folder").exists()  # to look changes nothing
    assert make(there, "env") == 0
    assert not (there / ".venv").is_symlink()
    assert not (there / ".venv/bin/of-this-folder").exists()
    assert (there / ".venv/.installed").read_text().strip() == str(there)
    assert "-e ." in (there / "asked").read_text()
    assert make(there, "-q", "env") == 0
    if how != "moved":  # and the other's is as it was
        assert make(place, "-q", "env") == 0
        assert (place / ".venv/bin/of-this-folder").exists()


def text_of(folder: Path) -> str:
    return (folder / "results/f.txt").read_text()


@pytest.fixture
def root(
    tmp_path: Path, make_checkout: Callable[..., Path], write_page: Callable[..., Path]
) -> Path:
    root = make_checkout(tmp_path / "here")
    write_page(
        root, "demo", "n: int = 4  # states, 1 to 64",
        "import os\nfrom pathlib import Path\nfrom companion import f\n"
        "_ = (Path(os.environ['COMPANION_RESULTS']) / 'f.txt').write_text(str(f(n)))",
    )  # fmt: skip
    return root


def test_a_copied_or_moved_checkout_runs_its_own_code_and_knows_its_runs(
    root: Path, tmp_path: Path
) -> None:
    execute_page(load_page(root, "demo"), root)
    folder, _ = perform(load_page(root, "demo").run(), root, root / "runs")
    there = tmp_path / "my thesis" / "ü o"
    shutil.copytree(root, there)
    shutil.rmtree(root)
    page = load_page(there, "demo")
    assert stale(page, there) == []
    again, said = perform(page.run(), there, there / "runs")
    assert (again, said[:7]) == (there / folder.relative_to(root), "skipped")
    (there / "src/companion/a.py").write_text("def f(n):\n    return 10 * n\n")
    page = load_page(there, "demo")
    assert stale(page, there) == ["source tree changed"]
    assert text_of(perform(page.run(), there, there / "runs")[0]) == "40"


def test_a_linked_checkout_is_the_one_it_leads_to(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    assert checkout(link) == root.resolve()
    page = load_page(checkout(link), str(link / "notebooks/demo.md"))
    folder, _ = perform(page.run(), checkout(link), link / "runs")
    assert perform(page.run(), root, root / "runs")[1].startswith("skipped")
    assert text_of(folder) == "5"


def test_a_checkout_that_is_read_only(root: Path, tmp_path: Path) -> None:
    """Of a mount where this is root, to whom modes mean nothing; of its modes otherwise."""
    words = f"--root {root} run demo --no-html --out"
    command = f"{quote(sys.executable)} -m companion {words} {tmp_path / 'out'}"
    if os.geteuid():
        shell = [
            "bash",
            "-c",
            f"chmod -R a-w {root}; {command}; e=$?; chmod -R u+w {root}; exit $e",
        ]
    else:
        shell = ["unshare", "-m", "bash", "-c", f"mount --bind -o ro {root} {root} && {command}"]
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
            pytest.skip("this root may not mount")
    before = sorted(root.rglob("*"))
    source = {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        shell, env={**os.environ, **source}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    [result] = (tmp_path / "out/demo").glob("*/results/f.txt")
    assert result.read_text() == "5"
    assert sorted(root.rglob("*")) == before
