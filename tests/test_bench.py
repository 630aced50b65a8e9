"""The benchmark's arithmetic; its timings are reported, never asserted."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from companion import bench


def test_multiply_adds_of_a_tiny_student_by_hand() -> None:
    # forward Wh, Fx, Ch: 4 + 4 + 4; back through W and C: 4 + 4; sums for W, C, F: 4 + 4 + 4
    assert bench.multiply_adds("rnn", 2, T=1) == bench.BATCH * 32
    # four gates: W and F fourfold
    assert bench.multiply_adds("lstm", 2, T=1) == bench.BATCH * (16 + 16 + 4 + 20 + 20 + 16)


def test_each_call_is_made_in_turn_and_the_least_time_kept() -> None:
    calls: list[str] = []
    times = bench.least_ms(lambda: calls.append("a"), lambda: calls.append("b"), seconds=0)
    assert calls == ["a", "b"] * 4  # once to warm up, then thrice
    assert 0 < min(times) < np.inf


def test_what_is_timed_is_an_update_of_each_student() -> None:
    """The timed functions run, on a shape small enough for a test."""
    bench.engine_updates("urnn", 2, students=17, updates=2, T=3)()
    bench.naive_update("urnn", 2, T=3)()
    bench.naive_update("lstm", 2, T=3)()
    sizes: dict[str, Any] = {"sizes": (2, 3), "realisations": 2, "sequences": 20, "T": 3}
    assert bench.panel_updates(1, models=("urnn", "lstm"), **sizes)() == 8


def test_without_a_gpu_there_is_no_row_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench.run(["gpu"]) == []
    assert bench.machine()["gpu"] == "none"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell")
def test_memory_is_that_of_a_process_of_its_own() -> None:
    held = np.ones(2**27)  # 1 GiB here, and not there
    few, many = (bench.memory_alone(partial, np.ones, size) for size in (1, 2**25))
    here = bench.peak_memory()
    assert held.all()
    assert few is not None
    assert many is not None
    assert here is not None
    assert few < here - 512
    assert 224 < many - few < 320

    digits = np.zeros((4, 5, 1), dtype=np.float32), np.eye(4, 10, dtype=np.float32)
    for model in ("rnn", "lstm"):
        bench.mnist_update(model, 3, *digits)()


def test_the_table_names_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    row = bench.Row("solve", "n = 8", 0.5, "numpy", 2.0)
    monkeypatch.setattr(bench, "ROWS", {"one": lambda: [row], "two": lambda: [row, row]})
    assert bench.run() == [row] * 3
    assert bench.run(["one"]) == [row]
    table = json.loads(bench.as_json(bench.run(["two"])))
    assert table["rows"][0]["ratio"] == 4
    assert table["machine"]["processors"] >= 1
    assert bench.as_text([row]).endswith("| solve | n = 8 | 0.5 | numpy | 2 | 4 |  |  |")
    with pytest.raises(ValueError, match="row 'three' is not known"):
        bench.run(["three"])
