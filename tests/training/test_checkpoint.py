"""What lies in a checkpoint folder is checked before compiled code sees it, and cleaned up."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from companion.training import Fit, Sequences, Student, fit
from companion.training.checkpoint import Checkpoint
from companion.training.students import State

x = np.random.default_rng(0).standard_normal((1, 24, 30, 2)).astype(np.float32)
DATA = Sequences(x, x[..., :1] - 0.5 * x[..., 1:])
STUDENTS = [Student("rnn", 3), Student("urnn", 3)]  # two groups, with states of one shape
Arrays = dict[str, np.ndarray]


def train(folder: Path | None = None, students: list[Student] = STUDENTS, updates: int = 8) -> Fit:
    held_out = {"test": DATA}
    return fit(students, DATA, updates=updates, batch=6, held_out=held_out, backend="cpu",
               record_every=4, checkpoint=folder)  # fmt: skip


def assert_equal(a: Fit, b: Fit) -> None:
    for left, right in zip(a.theta, b.theta, strict=True):
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(a.train_loss, b.train_loss)
    np.testing.assert_array_equal(a.r2["test"], b.r2["test"])


def rewrite(path: Path, change: Callable[[Arrays], Any]) -> None:
    """Alter a file's arrays and put the right hash beside them: not damage but another content."""
    arrays = load_file(path)
    change(arrays)
    state = State.start(np.zeros((1, 1, 1)))
    says = Checkpoint(path.parent, path.stem, state, np.zeros(1), {})._says(arrays)
    save_file(arrays, path, says)


def a_nan(arrays: Arrays) -> None:
    arrays["theta"] = arrays["theta"].copy()
    arrays["theta"][0, 1, 1] = np.nan


CHANGES: dict[str, Callable[[Arrays], Any]] = {
    "nothing": lambda a: None,
    "fewer columns": lambda a: a.update(theta=a["theta"][:, :, :-1].copy()),
    "more students": lambda a: a.update(theta=np.repeat(a["theta"], 2, axis=0)),
    "an empty state": lambda a: a.update(square=a["square"][:0]),
    "float64": lambda a: a.update(mean=a["mean"].astype(np.float64)),
    "int32": lambda a: a.update(diverged=a["diverged"].astype(np.int32)),
    "a NaN": a_nan,
    "an inf": lambda a: a.update(square=a["square"] + np.float32(np.inf)),
    "a short loss": lambda a: a.update({"made loss": a["made loss"][:, :-1].copy()}),
    "no score": lambda a: a.pop("made score test"),
    "no records": lambda a: a.update(records=a["records"][:0]),
    "records as a number": lambda a: a.update(records=np.array(8)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_content_is_not_used_even_with_its_hash(change: str, tmp_path: Path) -> None:
    whole = train(tmp_path, STUDENTS[:1])
    [path] = tmp_path.glob("*.safetensors")
    rewrite(path, CHANGES[change])
    if change == "nothing":  # the rewriting is not what is refused
        assert_equal(train(tmp_path, STUDENTS[:1]), whole)
        return
    with pytest.warns(UserWarning, match=f"{path.name} is damaged"):
        again = train(tmp_path, STUDENTS[:1])
    assert_equal(again, whole)
    assert_equal(train(tmp_path, STUDENTS[:1]), whole)  # and what was made again is used


def test_swapped_files_are_not_used(tmp_path: Path) -> None:
    whole = train(tmp_path)
    a, b = tmp_path.glob("*.safetensors")
    a.rename(tmp_path / "between"), b.rename(a), (tmp_path / "between").rename(b)
    with pytest.warns(UserWarning, match="is another's") as warned:
        again = train(tmp_path)
    assert len(warned) == 2
    assert_equal(again, whole)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_one_changed_byte_is_seen(part: float, tmp_path: Path) -> None:
    whole = train(tmp_path, STUDENTS[:1])
    [path] = tmp_path.glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[int(part * len(data))] ^= 1
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="is damaged"):
        assert_equal(train(tmp_path, STUDENTS[:1]), whole)


def test_what_a_kill_leaves_is_cleaned_by_the_next_call(tmp_path: Path) -> None:
    """kill −9 at any moment; parts of files are put there too, in case it hit none."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=train, args=(tmp_path, STUDENTS[:1], 400_000))
    process.start()
    while not list(tmp_path.glob("*.safetensors")):
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    [path] = tmp_path.glob("*.safetensors")
    for i in range(3):
        (tmp_path / f".{path.name}.{i:08x}").write_bytes(path.read_bytes()[: 50 * i])
    train(tmp_path, STUDENTS[:1], updates=4)  # the file is of a longer call and stays
    assert {p.name for p in tmp_path.iterdir()} == {path.name, ".lock"}
