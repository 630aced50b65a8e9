"""What is published is read whole, or the ledger stops and names the file."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from companion import cli
from companion.ledger.evidence import KINDS, Evidence, NotTested
from companion.ledger.judge import LEDGER, PLAIN

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for part in ("book/results", "proofs"):
        shutil.copytree(ROOT / part, tmp_path / part)
    shutil.copy(ROOT / "book/claims.yaml", tmp_path / "book")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "src/companion").mkdir(parents=True)
    (tmp_path / "src/companion/__init__.py").touch()
    return tmp_path


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def a_list(path: Path) -> None:
    path.write_text("[]")


def without_hashes(path: Path) -> None:
    record = json.loads(path.read_text())
    del record["tables"]
    path.write_text(json.dumps(record))


FAULTS: list[tuple[str, Callable[[Path], None]]] = [
    ("synthetic/poster-15.parquet", truncated),
    ("synthetic/released-20.parquet", flipped),
    ("synthetic/primary.parquet", Path.unlink),
    ("synthetic/primary.json", Path.unlink),  # leaves a table without a record
    ("synthetic/again-poster-20.json", truncated),
    ("systems/poster-15.json", a_list),
    ("systems/poster-15.json", without_hashes),
    ("mnist/curves.json", truncated),
    ("mnist/curves-epochs.parquet", truncated),
    ("capacity/poster-0.1.parquet", flipped),
    ("poster-figures.csv", truncated),
    ("proofs.json", truncated),
    ("proofs.json", a_list),
    ("recorded-rules.yaml", a_list),
    ("certificates/T2.json", truncated),
    ("certificates/T1.json", Path.unlink),
    ("certificates/T3.json", a_list),
]


@pytest.mark.parametrize(("name", "spoil"), FAULTS)
def test_a_damaged_file_stops_the_ledger_with_its_name(
    name: str, spoil: Callable[[Path], None], checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (checkout / LEDGER).read_bytes()
    spoil(checkout / "book/results" / name)
    assert cli.main(["--root", str(checkout), "claims", "--write"]) == 1
    assert Path(name).stem in capsys.readouterr().err
    assert (checkout / LEDGER).read_bytes() == before


def test_every_record_names_its_tables_by_hash() -> None:
    evidence = Evidence(ROOT)
    evidence.check()
    for kind in KINDS:
        for run in evidence.published(kind):
            digest = hashlib.sha256(run.path.read_bytes()).hexdigest()
            assert digest in run.record["tables"].values()
            assert len(run.table)


def publish(root: Path, name: str, rows: list[dict[str, Any]], **parameters: Any) -> None:
    folder = root / "book/results" / Path(name).parent
    folder.mkdir(parents=True, exist_ok=True)
    path = root / f"book/results/{name}.parquet"
    pd.DataFrame(rows).to_parquet(path, index=False)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    record = {"parameters": parameters, "finished": "2026", "rules": {}}
    path.with_suffix(".json").write_text(
        json.dumps(record | {"tables": {"students.parquet": digest}})
    )


def student(model: str, n: int, data: int, r2: float, chosen: float, diverged: int = -1) -> Any:
    return {"model": model, "hidden_units": n, "data": data, "r2": np.float32(r2),
            "r2_chosen": np.float32(chosen), "diverged": diverged}  # fmt: skip


def test_blocks_are_pooled_and_paired_by_seed_and_system(tmp_path: Path) -> None:
    common = {"preset": "released", "snr_db": 20.0, "learning_rate": 0.01}
    for seed, shift in ((1, 0.0), (2, 0.1)):
        rows = [
            student(m, 4, i, 0.5 + shift + 0.01 * i, 0.6) for i in (1, 0) for m in ("rnn", "urnn")
        ]
        publish(tmp_path, f"synthetic/block-{seed}", rows, **common, seed=seed)
    best = [student("rnn", 4, 0, 0.9, 0.9)]
    publish(tmp_path, "synthetic/clipped", best, **common, seed=1, clip=1)
    publish(tmp_path, "synthetic/third", [student("rnn", 4, 0, 0.1, 0.9)], **common, seed=3)
    given = {"snr_db": 20.0, "run": {"learning_rate": 0.01}, "seeds": [1, 2]}
    reading = {**PLAIN, "experiment": "released"}
    evidence = Evidence(tmp_path)
    found = evidence.scores(given, reading, "rnn", 4)
    assert {key: round(v, 6) for key, v in found.items()} == {
        (1, 0): 0.5, (1, 1): 0.51, (2, 0): 0.6, (2, 1): 0.61}  # fmt: skip
    assert set(evidence.used) == {"synthetic/block-1", "synthetic/block-2"}
    clipped = evidence.scores(given, reading | {"training": "clipped"}, "rnn", 4)
    assert clipped.round(6).tolist() == [0.9]
    with pytest.raises(NotTested, match="lstm with 4 units"):
        evidence.scores(given, reading, "lstm", 4)


def test_lost_students_score_0_or_are_left_out_and_early_stopping_saves_some(
    tmp_path: Path,
) -> None:
    rows = [
        student("rnn", 4, 0, 0.9, 0.9),
        student("rnn", 4, 1, 0.8, 0.7, diverged=50),  # diverged late; its best record stands
        student("rnn", 4, 2, -3.0, 0.2),
        student("rnn", 4, 3, float("nan"), float("nan")),
    ]
    publish(tmp_path, "synthetic/a", rows, preset="released", snr_db=20.0, seed=1)
    given = {"snr_db": 20.0, "run": {}}

    def scores(**choice: str) -> list[float]:
        reading = {**PLAIN, "experiment": "released"} | choice
        return Evidence(tmp_path).scores(given, reading, "rnn", 4).round(6).tolist()

    np.testing.assert_equal(scores(), [0.9, np.nan, np.nan, np.nan])
    assert scores(lost="scored 0") == [0.9, 0.0, 0.0, 0.0]
    best = {"record": "best by validation"}
    np.testing.assert_equal(scores(**best), [0.9, 0.7, 0.2, np.nan])
    assert scores(lost="scored 0", **best) == [0.9, 0.7, 0.2, 0.0]


def test_a_run_without_validation_has_no_best_by_it(tmp_path: Path) -> None:
    rows = [{k: v for k, v in student("rnn", 4, 0, 0.9, 0).items() if k != "r2_chosen"}]
    publish(tmp_path, "synthetic/a", rows, preset="released", snr_db=20.0, seed=1)
    reading = {**PLAIN, "experiment": "released", "record": "best by validation"}
    with pytest.raises(NotTested):
        Evidence(tmp_path).scores({"snr_db": 20.0, "run": {}}, reading, "rnn", 4)


def test_accuracy_is_the_test_sets_where_validation_was_best(tmp_path: Path) -> None:
    rows = [
        {"model": model, "hidden_units": 16, "learning_rate": 1e-3, "fit_seed": seed,
         "update": 859 * epoch, "held_out": part, "accuracy": accuracy + seed * 1e-3,
         "diverged": 900 if model == "rnn" and seed == 2 else -1}
        for model in ("urnn", "rnn")
        for seed in (1, 2, 3)
        for epoch, both in ((1, (0.5, 0.9)), (2, (0.7, 0.6)), (3, (float("nan"), 0.2)))
        for part, accuracy in zip(("validation", "test"), both, strict=True)
    ]  # fmt: skip
    publish(tmp_path, "mnist/a", rows, epochs=10, train_images=55_000)
    evidence = Evidence(tmp_path)

    def accuracies(**least: int) -> list[float]:
        values, frozen = evidence.accuracies({"least": least}, "urnn", 16)
        assert not frozen
        return values.tolist()

    assert accuracies(epochs=10, seeds=3) == pytest.approx([0.601, 0.602, 0.603])
    assert evidence.accuracies({"least": {}}, "rnn", 16)[1], "one of the three was frozen"
    for least in ({"epochs": 11}, {"epochs": 10, "seeds": 4}):
        with pytest.raises(NotTested, match="with at least"):
            accuracies(**least)
