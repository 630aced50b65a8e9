"""What the ledger rests on, made again and compared: `make verify`, and `make verify FULL=1`.

With FULL=1 the published runs are trained again too and the pages executed. Those runs are kept in
``runs/verify``, where the same command goes on from after an interruption.
"""

from __future__ import annotations

import importlib
import json
import runpy
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from companion import recheck
from companion.experiments import mnist
from companion.experiments.statistics import interval
from companion.experiments.synthetic import PRESETS, describe, experiment
from companion.ledger.evidence import Evidence, Published
from companion.ledger.judge import LEDGER
from companion.ledger.readings import SPECIFICATION, SURVIVORS, texts
from companion.running.page import load_page
from companion.running.pages import stale
from companion.running.run import perform
from companion.training import is_lost

from .conftest import FULL, ROOT, full
from .making import CERTIFICATES, RESULTS, short_run

Row = Callable[..., None]
EVIDENCE = Evidence(ROOT)
PROOFS = runpy.run_path(str(ROOT / "proofs/check.py"))
# float32, the type of the other engines, rounds at 6e-8 and float64 at 1e-16; fifty updates through
# 1000 steps magnify that by some hundreds, and another processor adds in another order
RELATIVE = {"float64": 1e-9}
# the runs whose students are many of a kind: their notebook's table, and what names a kind there
REPEATED = {
    "synthetic": ("students.parquet", ["model", "hidden_units"]),
    "capacity": ("arms.parquet", ["arm"]),
}


@pytest.mark.parametrize("name", sorted(CERTIFICATES))
def test_a_certificate_is_made_and_proved_again(name: str, row: Row) -> None:
    published, made = recheck(RESULTS / f"certificates/{name}.json"), CERTIFICATES[name]()
    assert (published.kind, published.statement) == (made.kind, made.statement)
    same = "the same" if published.sha256 == made.sha256 else "another, proved as well"
    row(f"certificate {name}: proved again, and made again, {same}")


def test_every_certificate_is_made_here() -> None:
    assert {p.stem for p in (RESULTS / "certificates").glob("*.json")} == set(CERTIFICATES)
    assert set(EVIDENCE.book["common"]["certificates"]) == set(CERTIFICATES)


def test_the_record_of_the_proofs_is_of_these_sources(row: Row) -> None:
    row("Coq's record, by the hash of its sources")
    assert PROOFS["stale"]() is None


@full
def test_coq_checks_the_proofs(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("coqc") is None:
        pytest.skip("no coqc here; the record was checked")
    listed, recorded = PROOFS["ledger"](), json.loads((RESULTS / "proofs.json").read_text("utf-8"))
    row(f"Coq's proofs: {len(listed['theorems'])} statements")
    monkeypatch.syspath_prepend(ROOT / "proofs")
    made = importlib.import_module("checking").check(listed, full=True, deep=False)
    for part in ("theorems", "constants", "mutants"):
        assert json.loads(json.dumps(made[part])) == recorded[part], part


PUBLISHED = {r["id"]: r for r in json.loads((ROOT / LEDGER).read_text("utf-8"))}


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    return texts(ROOT)


@pytest.fixture(scope="module")
def judged(written: dict[str, str]) -> dict[str, Any]:
    return {r["id"]: r for r in json.loads(written[LEDGER])}


def test_the_ledger_has_the_claims_of_the_rules() -> None:
    assert list(PUBLISHED) == [claim.id for claim in EVIDENCE.claims]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_claim_is_judged_again(name: str, judged: dict[str, Any], row: Row) -> None:
    old, new = dict(PUBLISHED[name]), dict(judged[name])
    then, now = old.pop("numbers"), new.pop("numbers")
    row(f"claim {name}: {new['verdict']}")
    assert new == old, "companion claims --write makes the ledger anew"
    assert now.keys() == then.keys()
    for key, values in then.items():
        np.testing.assert_allclose(
            np.array(now[key], dtype=float), np.array(values, dtype=float), rtol=1e-9
        )


@pytest.mark.parametrize("name", [SPECIFICATION, SURVIVORS])
def test_a_table_of_the_results_is_written_again(
    name: str, written: dict[str, str], row: Row
) -> None:
    row(f"{name}, written again")
    assert written[name] == (ROOT / name).read_text("utf-8"), "companion claims --write"


@pytest.mark.parametrize("run", EVIDENCE.published("systems"), ids=lambda run: run.name)
def test_systems_are_drawn_again(run: Published, row: Row) -> None:
    asked = run.record["parameters"]
    count = asked["realisations"] if FULL else 3
    setting = replace(PRESETS[asked["preset"]], snr_db=asked["snr_db"])
    drawn, *_ = experiment(
        setting, realisations=count, models=["rnn"], hidden_units=[2], seed=asked["seed"]
    )
    names = {"norm": "norm", "snr_db": "snr_db_realised", "r2_teacher": "r2_teacher"}
    new: list[Any] = []
    old: list[Any] = []
    for i, found in enumerate(map(describe, drawn)):
        of = run.rows[run.rows["system"] == i]
        new += [found[name] for name in names]
        old += [of[name].iloc[0] for name in names.values()]
        for name in ("on", "memory"):
            new += found[name]  # type: ignore[arg-type]
            old += of[name].tolist()
    worst = float(np.max(np.abs(np.array(new) - old) / np.abs(old)))
    # outputs are kept in float32; a lag of the autocorrelation is a whole number of steps
    row(f"{count} of {asked['realisations']} systems of {run.name}", worst, 1e-4)


@pytest.mark.parametrize(
    "engine",
    ["cpu", "cuda", *(pytest.param(name, marks=full) for name in ("reference", "float64"))],
)
def test_fifty_updates_of_recorded_seeds(engine: str, row: Row) -> None:
    if engine == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    old = np.array(json.loads((RESULTS / "short.json").read_text("utf-8"))["numbers"])
    worst = float(np.max(np.abs(short_run(engine) - old) / np.abs(old)))
    row(f"50 updates of recorded seeds ({engine})", worst, RELATIVE.get(engine, 1e-4))


def furthest(again: pd.DataFrame, published: pd.DataFrame, names: list[str]) -> tuple[str, float]:
    """The kind of student whose median is furthest away, in half-widths of both intervals."""
    kinds, apart = dict(tuple(published.groupby(names))), {}
    level = 1 - 0.05 / len(kinds)
    for kind, of in again.groupby(names):
        both = [
            interval(rows["r2"].mask(is_lost(rows["diverged"], rows["r2"]), 0), "median", level)
            for rows in (of, kinds.pop(kind))
        ]
        low, high = sorted(both, key=lambda found: found.estimate)
        width = (low.high - low.estimate) + (high.estimate - high.low)
        gap = high.estimate - low.estimate
        apart[" of ".join(map(str, kind))] = gap / width if gap else 0.0
    assert not kinds, f"not made again: {list(kinds)}"
    return max(apart.items(), key=lambda item: item[1])


@full
@pytest.mark.parametrize(
    "run", [r for kind in REPEATED for r in EVIDENCE.published(kind)], ids=lambda run: run.name
)
def test_a_run_is_trained_again(run: Published, row: Row) -> None:
    table, names = REPEATED[run.name.partition("/")[0]]
    page = load_page(ROOT, run.record["notebook"])
    given = [(name, str(value)) for name, value in run.record["parameters"].items()]
    folder, how = perform(page.run(given), ROOT, ROOT / "runs/verify")
    rows = pd.read_parquet(folder / "results" / table)
    rows = rows[rows["update"] == rows["update"].max()] if "update" in rows else rows
    kind, apart = furthest(rows, run.rows, names)
    row(f"run {run.name} ({how}), furthest: {kind}", apart, 1.0)


@full
@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "notebooks").glob("*.md")))
def test_a_page_is_executed_again(name: str, row: Row) -> None:
    page = load_page(ROOT, name)
    assert stale(page, ROOT) == []
    if page.downloads and (lack := mnist.missing(mnist.cache(ROOT))):
        pytest.skip(f"MNIST is not here: {lack}")
    row(f"page {name}: its assertions hold again, "
        + perform(page.run(), ROOT, ROOT / "runs/verify")[1])  # fmt: skip


# --- that these checks notice what they are for


def test_another_training_is_noticed() -> None:
    run = next(r for r in EVIDENCE.published("synthetic") if r.name == "synthetic/released-20")
    names = REPEATED["synthetic"][1]
    assert furthest(run.rows, run.rows, names)[1] == 0.0
    near = run.rows.assign(r2=run.rows["r2"] + 1e-4)
    assert furthest(near, run.rows, names)[1] <= 1
    far = run.rows.assign(r2=run.rows["r2"] - 0.2)
    assert furthest(far, run.rows, names)[1] > 1
    lost = run.rows.assign(diverged=np.where(run.rows["hidden_units"] == 4, 3, -1))
    assert furthest(lost, run.rows, names)[1] > 1


def test_a_forged_row_is_noticed(judged: dict[str, Any], row: Row) -> None:
    forged = json.loads(json.dumps(judged["S-on"]))
    forged["verdict"] = "contradicted"
    with pytest.raises(AssertionError, match="companion claims --write"):
        test_a_claim_is_judged_again("S-on", {"S-on": forged}, row)
    forged = json.loads(json.dumps(judged["S-on"]))
    forged["numbers"]["released median"][0] *= 1 + 1e-6
    with pytest.raises(AssertionError):
        test_a_claim_is_judged_again("S-on", {"S-on": forged}, row)
