"""Kernels that are started, and kernels that are forked."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest

from companion.running import kernel
from companion.running.page import Run, load_page
from companion.running.run import produce

PARAMETERS = """
n: int = 4  # states, 1 to 64
seed: int = 0  # seed, in [0, inf)
"""
# numbers, hashes, figures, arithmetic in parallel, and what differs if modules are shared
CODE = """
import os
import numpy as np
import matplotlib.pyplot as plt
from companion.theory.dilation import orthogonal_dilation
W = np.random.default_rng(seed).standard_normal((n, n))
W /= 2 * np.linalg.norm(W, 2)
U = orthogonal_dilation(W)
print(U.tobytes().hex()[:200], (W @ W).sum().hex(), hash("x"), {"b", "a", "c"})
print(os.environ["OMP_NUM_THREADS"], os.getcwd(), plt.rcParams["lines.linewidth"], __name__)
fig, axes = plt.subplots()
axes.plot(U[0])
plt.rcParams["lines.linewidth"] = 9
plt.show()
n
"""


@pytest.fixture
def root(
    tmp_path: Path, make_checkout: Callable[..., Path], write_page: Callable[..., Path]
) -> Path:
    root = make_checkout(tmp_path / "checkout", whole=True)
    write_page(root, "demo", PARAMETERS, CODE)
    return root


@pytest.fixture
def forks() -> Iterator[kernel.Forks]:
    made = kernel.Forks()
    yield made
    made.close()


def outputs(root: Path, run: Run, name: str, forks: kernel.Forks | None) -> list[object]:
    work = root / name
    work.mkdir()
    assert produce(run, work, kernel.Setting(root, root / ".cache", forks=forks)) is None
    nb = nbformat.read(work / "demo.ipynb", as_version=4)
    return [cell.get("outputs") for cell in nb.cells]


def test_a_forked_kernel_gives_what_a_fresh_one_does(root: Path, forks: kernel.Forks) -> None:
    page = load_page(root, "demo")
    for seed in ("0", "1"):  # the second does not see what the first left
        run = page.run([("seed", seed)])
        fresh = outputs(root, run, f"fresh{seed}", None)
        assert outputs(root, run, f"forked{seed}", forks) == fresh
        assert len(fresh[-1]) == 3  # type: ignore[arg-type]  # texts, a figure, a value


def test_forks_end_with_their_process_and_are_made_anew(root: Path, forks: kernel.Forks) -> None:
    run = load_page(root, "demo").run()
    outputs(root, run, "one", forks)
    server = forks._process.pid
    os.kill(server, signal.SIGKILL)
    outputs(root, run, "two", forks)
    assert forks._process.pid != server
    last = forks._process.pid
    forks.close()
    end = time.monotonic() + 10
    while Path(f"/proc/{last}").exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_progress_is_told_and_a_bar_within_a_cell_moves_through(
    root: Path, write_page: Callable[..., Path]
) -> None:
    code = """
import os, time
with open(os.environ["COMPANION_BAR"], "w") as bar:
    print("50%|#####     | 1/2", end="\\r", file=bar, flush=True)
    time.sleep(2.5)
"""
    write_page(root, "demo", PARAMETERS, code)
    told: list[str] = []
    (root / "work").mkdir()
    run = load_page(root, "demo").run()
    setting = kernel.Setting(root, root / ".cache", say=told.append)
    assert produce(run, root / "work", setting) is None
    assert told == [*(f"cell {k} of 3" for k in (1, 2, 3)), "cell 3 of 3: 50%|#####     | 1/2", ""]


def test_a_kernel_that_does_not_start_is_a_failure(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "launch.py"
    broken.write_text("raise SystemExit('no such luck')")
    monkeypatch.setattr(kernel, "_LAUNCH", broken)
    (root / "work").mkdir()
    run = load_page(root, "demo").run()
    start = time.monotonic()
    failure = produce(run, root / "work", kernel.Setting(root, root / ".cache"))
    assert "cell 0 of 3: the kernel did not start: no such luck" in str(failure)
    assert time.monotonic() - start < 30


def test_a_kernel_whose_port_was_taken_is_started_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = tmp_path / "launch.py"
    first.write_text(
        "import pathlib, runpy, sys\n"
        "seen = pathlib.Path(__file__).with_name('seen')\n"
        "if not seen.exists():\n"
        "    seen.touch()\n"
        "    raise SystemExit('Address already in use')\n"
        f"runpy.run_path({str(kernel._LAUNCH)!r}, run_name='__main__')\n"
    )
    monkeypatch.setattr(kernel, "_LAUNCH", first)
    (root / "work").mkdir()
    setting = kernel.Setting(root, root / ".cache")
    assert produce(load_page(root, "demo").run(), root / "work", setting) is None
    assert first.with_name("seen").exists()
