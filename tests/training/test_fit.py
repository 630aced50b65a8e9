"""`fit`: mixed students in one call, divergence, records, resume, refusals."""

from __future__ import annotations

import multiprocessing
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from companion.training import Options, Sequences, Student, assemble, fit, initial_theta
from companion.training import checkpoint as module
from companion.training.engines import Backend, grouped

M, P, T, SEQUENCES = 2, 1, 30, 24


def some_data(seed: int, sequences: int = SEQUENCES) -> Sequences:
    """Two realisations of an easy task: a running difference of the inputs."""
    x = np.random.default_rng(seed).standard_normal((2, sequences, T, M)).astype(np.float32)
    return Sequences(x, x[..., :1] - 0.5 * x[..., 1:])


TRAIN, TEST = some_data(0), some_data(1, 9)
MIXED = [
    Student("rnn", 3),
    Student("urnn", 4, data=1),
    Student("rnn", 3, data=1, seed=1),
    Student("contractive", 4),
    Student("lstm", 2),
]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_mixed_fit_learns_and_keeps_its_order(backend: Any) -> None:
    result = fit(MIXED, TRAIN, updates=120, batch=6, held_out={"test": TEST}, backend=backend)
    assert result.students == tuple(MIXED)
    assert result.updates.tolist() == list(range(4, 121, 4))
    assert [len(t) for t in result.theta] == [4, 5, 4, 5, 9]
    assert (result.train_loss[:, -1] < 0.5 * result.train_loss[:, 0]).all()
    assert (result.r2["test"][:, -1] > 0.4).all()
    again = fit(MIXED, TRAIN, updates=120, batch=6, held_out={"test": TEST}, backend=backend)
    np.testing.assert_array_equal(again.r2["test"], result.r2["test"])


def test_a_student_does_not_depend_on_those_beside_it() -> None:
    arguments: dict[str, Any] = {"updates": 120, "batch": 6, "backend": "cpu"}
    many = [*MIXED, *(Student("urnn", 4, seed=s, data=s % 2) for s in range(1, 20))]
    together = fit(many, TRAIN, **arguments, threads=2)
    for i in (0, 1, 4, 7, 23):
        alone = fit(many[i : i + 1], TRAIN, **arguments)
        np.testing.assert_array_equal(alone.theta[0], together.theta[i])


def test_backends_agree() -> None:
    results = [
        fit(MIXED, TRAIN, updates=8, batch=6, held_out={"test": TEST}, backend=b)
        for b in ("cpu", "reference")
    ]
    np.testing.assert_allclose(results[0].r2["test"], results[1].r2["test"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_student_that_diverges_is_frozen_reported_and_harms_no_other(backend: Any) -> None:
    students = [Student("rnn", 3), Student("rnn", 3, seed=1)]
    thetas = [initial_theta(s, M, P).astype(np.float32) for s in students]
    thetas[0][:3, :3] = 1e3 * np.eye(3)  # float32 overflows at step 13
    result = fit(students, TRAIN, updates=8, batch=6, initial=thetas, backend=backend)
    assert result.diverged.tolist() == [0, -1]
    np.testing.assert_array_equal(result.theta[0], thetas[0])
    assert result.where[0].startswith("output at step ")
    assert result.where[1] == ""
    alone = fit(students[1:], TRAIN, updates=8, batch=6, backend=backend)
    np.testing.assert_array_equal(alone.theta[0], result.theta[1])


def test_where_a_gradient_overflows_is_said() -> None:
    """States grow by 15 a step, to 1e35, and the loss is small, but ∂loss/∂W is their product."""
    parts = {"W": [[15.0]], "F": [[1.0, 0.0]], "b": [1.0], "C": [[1e-25]]}
    theta = assemble({name: np.array(value) for name, value in parts.items()})
    result = fit([Student("rnn", 1)], TRAIN, updates=1, batch=6, initial=[theta], backend="cpu")
    assert result.diverged.tolist() == [0]
    assert "gradient" in result.where[0]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("stop_at", [1, 6, 11])
def test_a_killed_fit_resumes_bit_for_bit(
    backend: Any, stop_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {
        "updates": 23,
        "batch": 6,
        "held_out": {"test": TEST},
        "record_every": 3,
        "backend": backend,
        "threads": 1,
    }
    whole = fit(MIXED, TRAIN, **arguments)
    write, writes = module.write_whole, iter(range(100))

    def killed(path: Path, data: bytes) -> None:
        if next(writes) == stop_at:
            path.with_name(f".{path.name}.0").write_bytes(data[:100])
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(module, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(MIXED, TRAIN, **arguments, checkpoint=tmp_path)
    monkeypatch.setattr(module, "write_whole", write)
    assert len(list(tmp_path.glob("*.safetensors"))) == min(4, -(-stop_at // 8))
    resumed = fit(MIXED, TRAIN, **arguments, checkpoint=tmp_path)
    for a, b in zip(whole.theta, resumed.theta, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(whole.r2["test"], resumed.r2["test"])
    np.testing.assert_array_equal(whole.train_loss, resumed.train_loss)


LONG: dict[str, Any] = {"updates": 200_000, "batch": 6, "record_every": 400, "backend": "cpu"}


def test_a_fit_killed_at_a_random_update_resumes_bit_for_bit(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = {**LONG, "checkpoint": tmp_path}
    process = context.Process(target=fit, args=(MIXED[:2], TRAIN), kwargs=arguments)
    process.start()
    while not list(tmp_path.glob("*.safetensors")):
        assert process.is_alive()
        time.sleep(0.01)
    time.sleep(0.2 * random.random())  # noqa: S311 # any moment will do
    process.kill()
    process.join()
    saved = load_file(next(tmp_path.glob("*.safetensors")))
    assert 0 < saved["records"][-1] < LONG["updates"]
    resumed, whole = fit(MIXED[:2], TRAIN, **arguments), fit(MIXED[:2], TRAIN, **LONG)
    for a, b in zip(whole.theta, resumed.theta, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(whole.train_loss, resumed.train_loss)


def test_groups_share_the_data_of_their_students() -> None:
    """Three students on each of 24 realisations: two sets of data, not six."""
    students = [Student("rnn", 2, data=i, seed=k) for k in range(3) for i in range(24)]
    groups = grouped(students, [(s.model, s.hidden_units) for s in students], 12)
    assert sorted(i for g in groups for i in g) == list(range(72))
    assert len({frozenset(students[i].data for i in g) for g in groups}) == 2


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_students_with_orders_of_their_own_are_those_of_fits_apart(backend: Backend) -> None:
    students = [replace(s, order=order) for order in (5, 0, 5) for s in MIXED]
    arguments: dict[str, Any] = {"updates": 7, "batch": 6, "held_out": {"test": TEST}}
    together = fit(students, TRAIN, **arguments, seed=0, backend=backend)
    for order, seed in ((5, 5), (0, 0)):
        apart = fit(MIXED, TRAIN, **arguments, seed=seed, backend=backend)
        own = together.only([k for k, s in enumerate(students) if s.order == order][: len(MIXED)])
        np.testing.assert_allclose(own.r2["test"], apart.r2["test"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(own.train_loss, apart.train_loss, rtol=1e-5)
        assert own.students[-1].model == MIXED[-1].model
    assert not np.array_equal(together.train_loss[0], together.train_loss[len(MIXED)])


def test_no_updates_measure_the_start() -> None:
    result = fit(MIXED, TRAIN, updates=0, batch=6, held_out={"test": TEST}, backend="cpu")
    assert result.updates.tolist() == [0]
    assert np.isfinite(result.r2["test"]).all()
    np.testing.assert_array_equal(result.theta[0], initial_theta(MIXED[0], M, P).astype(np.float32))


def test_a_checkpoint_of_other_arguments_is_not_taken(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"updates": 4, "batch": 6, "backend": "reference"}
    first = fit(MIXED[:1], TRAIN, **arguments, checkpoint=tmp_path)
    other = fit(MIXED[:1], some_data(5), **arguments, checkpoint=tmp_path)
    assert not np.array_equal(first.theta[0], other.theta[0])
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_the_table_is_tidy_and_describes_its_columns(tmp_path: Path) -> None:
    result = fit(
        MIXED[:2],
        TRAIN,
        updates=8,
        batch=6,
        held_out={"validation": some_data(4), "test": TEST},
        backend="reference",
    )
    result.table().to_parquet(tmp_path / "fit.parquet")
    table = pd.read_parquet(tmp_path / "fit.parquet")
    assert len(table) == 2 * 2 * 2
    row = table.set_index(["student", "update", "held_out"]).loc[1, 8, "test"]
    assert row["model"] == "urnn"
    assert row["r2"] == result.r2["test"][1, -1]
    assert row["train_loss"] == result.train_loss[1, -1]
    assert list(table.attrs) == list(table.columns)
    assert all(table.attrs.values())


def test_a_table_without_held_out_data() -> None:
    table = fit(MIXED[:2], TRAIN, updates=8, batch=6, backend="cpu").table()
    assert len(table) == 2 * 2
    assert not {"held_out", "r2", "r2_best"} & set(table.columns)


def test_r2_of_any_float_type_is_that_of_float64() -> None:
    y = 300 * np.sign(TEST.y)  # whose squares overflow in float16
    found = [
        fit(MIXED[:1], TRAIN, updates=0, batch=6, held_out={"test": Sequences(TEST.x, y_)}).r2
        for y_ in (y, y.astype(np.float16))
    ]
    np.testing.assert_allclose(found[0]["test"], found[1]["test"], rtol=1e-6)


@pytest.mark.wrong_types
def test_what_is_no_data_or_options_is_refused_by_type() -> None:
    for bad in ({"train": (TRAIN.x, TRAIN.y)}, {"options": {}}, {"held_out": {"t": TEST.x}}):
        arguments: dict[str, Any] = {"students": ONE, "train": TRAIN, "updates": 4} | bad
        with pytest.raises(TypeError, match="it must be"):
            fit(**arguments)


def test_data_in_any_layout_train_the_same() -> None:
    turned = Sequences(TRAIN.x[:, :, ::-1], TRAIN.y[:, :, ::-1].astype(">f4"))
    straight = Sequences(turned.x.copy(), turned.y.astype(np.float32))
    for backend in ("cpu", "reference"):
        a, b = (fit(ONE, d, updates=4, batch=6, backend=backend) for d in (turned, straight))
        np.testing.assert_array_equal(a.theta[0], b.theta[0])


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="no GPU"):
        fit(ONE, TRAIN, updates=4, batch=6, backend="cuda")


@pytest.mark.parametrize("damage", ["", "garbage", "half", "other"])
def test_a_damaged_checkpoint_is_made_again(damage: str, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"updates": 8, "batch": 6, "backend": "cpu"}
    whole = fit(ONE, TRAIN, **arguments, checkpoint=tmp_path)
    [path] = tmp_path.glob("*.safetensors")
    if damage == "other":
        save_file({"something": np.zeros(3)}, path)
    else:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if damage == "half" else damage.encode())
    with pytest.warns(UserWarning, match=f"{path.name} is damaged"):
        again = fit(ONE, TRAIN, **arguments, checkpoint=tmp_path)
    np.testing.assert_array_equal(whole.theta[0], again.theta[0])


def test_a_shorter_call_leaves_a_longer_checkpoint_alone(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"batch": 6, "backend": "cpu", "record_every": 3}
    fit(ONE, TRAIN, updates=24, **arguments, checkpoint=tmp_path)
    [path] = tmp_path.glob("*.safetensors")
    kept = path.read_bytes()
    short = fit(ONE, TRAIN, updates=12, **arguments, checkpoint=tmp_path)
    assert path.read_bytes() == kept
    alone = fit(ONE, TRAIN, updates=12, **arguments)
    np.testing.assert_array_equal(short.theta[0], alone.theta[0])


ONE = [Student("rnn", 3)]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"students": []}, "no students"),
    ({"updates": -1}, "updates is -1"),
    ({"updates": 2.0}, "updates is 2.0"),
    ({"updates": True}, "updates is True"),
    ({"batch": "4"}, "batch is '4'"),
    ({"threads": 0}, "threads is 0"),
    ({"seed": 1.5}, "seed is 1.5"),
    ({"batch": 25}, "batch is 25"),
    ({"backend": "gpu"}, "backend is 'gpu'"),
    ({"students": [Student("rnn", 3, data=2)]}, "realisation 2"),
    ({"initial": [np.zeros((3, 3))]}, "initial"),
    ({"initial": [np.full((4, 6), np.nan)]}, "initial"),
    ({"initial": [np.ones((4, 6))]}, "under F"),
    ({"initial": []}, "0 entries"),
    ({"record_every": 0}, "record_every is 0"),
    ({"held_out": {"test": Sequences(TEST.x, TEST.y * 0)}}, "0 throughout"),
    ({"held_out": {"test": Sequences(TEST.x[:1], TEST.y[:1])}}, "held_out"),
]


@pytest.mark.wrong_types
@pytest.mark.parametrize(("bad", "message"), BAD, ids=[m for _, m in BAD])
def test_bad_arguments_are_refused(bad: dict[str, Any], message: str) -> None:
    arguments = {"students": ONE, "train": TRAIN, "updates": 4, "batch": 6} | bad
    with pytest.raises(ValueError, match=message):
        fit(**arguments)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Student("gru", 3), "model is 'gru'"),
        (lambda: Student("rnn", 0), "hidden_units is 0"),
        (lambda: Student("rnn", 2.5), "hidden_units is 2.5"),
        (lambda: Student("rnn", 3, data=0.5), "data is 0.5"),
        (lambda: Student("rnn", 3, learning_rate=0), "learning_rate is 0"),
        (lambda: Student("rnn", 3, learning_rate=float("nan")), "learning_rate is nan"),
        (lambda: Student("rnn", 3, learning_rate=1e39), "learning_rate is 1e"),
        (lambda: Options(output_bias="no"), "output_bias is 'no'"),
        (lambda: Options(optimiser="sgd"), "optimiser is 'sgd'"),
        (lambda: Options(clip=0.0), "clip is 0"),
        (lambda: Sequences(TRAIN.x, TRAIN.y[:, :3]), "x has shape"),
        (lambda: Sequences(TRAIN.x * np.nan, TRAIN.y), "finite"),
    ],
)
def test_bad_descriptions_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
