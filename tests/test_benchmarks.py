"""The benchmark's arithmetic; its timings are reported, never asserted."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import peers, timing, training


def test_operations_of_a_tiny_student_by_hand() -> None:
    # forward Wh, Fx, Ch: 4 + 4 + 4; back through W and C: 4 + 4; sums for W, C, F: 4 + 4 + 4
    assert training.operations("rnn", 2, T=1, batch=1) == 32
    # four gates: W and F fourfold; two cells of five functions
    cells = 2 * (5 * training.EXPONENTIAL + 20)
    assert training.operations("lstm", 2, T=3, batch=5) == 15 * (16 + 16 + 4 + 20 + 20 + 16 + cells)


def test_each_call_is_made_in_turn_and_the_least_time_kept() -> None:
    calls: list[str] = []
    ways = {name: partial(calls.append, name) for name in ("a", "b")}
    times = timing.least_of(ways, seconds=0)
    assert calls == ["a", "b"] * 4  # once to warm up, then thrice
    assert 0 < min(times.values()) < np.inf


def test_what_is_timed_is_an_update_of_each_student() -> None:
    """The timed functions run, on a shape small enough for a test."""
    training.engine_updates("urnn", 2, students=17, updates=2, T=3)()
    peers.torch_update("urnn", 2, T=3, batch=4)()
    peers.torch_update("lstm", 2, T=3, batch=4)()
    sizes: dict[str, Any] = {"sizes": (2, 3), "realisations": 2, "sequences": 20, "T": 3}
    assert training.panel_updates(1, models=("urnn", "lstm"), **sizes)() == 8
    images = np.zeros((4, 5, 1), dtype=np.float32), np.eye(4, 10, dtype=np.float32)
    for model in ("rnn", "lstm"):
        peers.torch_mnist_update(model, 3, *images)()


def test_jax_is_a_peer_where_it_is_installed() -> None:
    """Both layouts run; that they compute one thing is the test beside."""
    made = peers.jax_updates("lstm", 2, T=3, batch=4, students=5)
    for update in made.values():
        update()
    assert sorted(made) in ([], ["JAX, batched", "JAX, model last"])


def test_the_layouts_of_jax_compute_the_same() -> None:
    pytest.importorskip("jax", reason="a peer of the benchmark alone, not in the environment")
    for model in ("rnn", "urnn", "lstm"):
        ways = peers.jax_updates(model, 3, T=4, batch=5, students=2)
        batched, last = (ways[f"JAX, {name}"]() for name in ("batched", "model last"))
        for name, value in batched[1].items():  # the mean of the gradient
            np.testing.assert_allclose(np.moveaxis(value, 0, -1), last[1][name], atol=1e-6)


def test_growth_changes_one_size_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def one(
        name: str, model: str, n: int, K: int, T: int, batch: int, threads: int, *_: Any
    ) -> Any:
        size = {"n": n, "K": K, "T": T, "batch": batch, "threads": threads}
        return timing.Row(name, size, 1.0)

    monkeypatch.setattr(training, "one", one)
    base = {"n": 4, "K": 16, "T": 1000, "batch": 10, "threads": 1}
    rows = training.growth_rows()
    for row in rows:
        changed = {k for k, v in row.size.items() if v != base[k]}
        along = row.name.removeprefix("growth, ")
        assert changed <= ({"threads", "K"} if along == "threads" else {along})
    assert {row.size["T"] for row in rows} == {30, 100, 300, 1000, 3000}


def test_without_a_gpu_there_is_no_row_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training.gpu_rows() == []
    assert timing.machine()["gpu"] == "none"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell")
def test_memory_is_that_of_a_process_of_its_own() -> None:
    held = np.ones(2**27)  # 1 GiB here, and not there
    few, many = (timing.memory_alone(partial, np.ones, size) for size in (1, 2**25))
    here = timing.peak_memory()
    assert held.all()
    assert few is not None
    assert many is not None
    assert here is not None
    assert few < here - 512
    assert 224 < many - few < 320


def test_the_table_names_its_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = timing.Row("solve", {"n": 8}, 0.5, {"numpy": 2.0})
    monkeypatch.setattr(command, "ROWS", {"one": lambda: [row], "two": lambda: [row, row]})
    command.main(["two", "--json", str(tmp_path / "table.json")])
    assert capsys.readouterr().out.endswith("| solve | n 8 | 0.5 |  | numpy 2 (4) |  |\n")
    table = json.loads((tmp_path / "table.json").read_text())
    assert [r["peers"]["numpy"] for r in table["rows"]] == [2, 2]
    assert table["machine"]["processors"] >= 1
    with pytest.raises(SystemExit):
        command.main(["three"])
    assert "row 'three' is not known; allowed: one, two" in capsys.readouterr().err
