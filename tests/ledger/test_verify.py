"""What `companion verify` must find again, and what it must notice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from companion import cli, recheck
from companion.ledger import judge as claims
from companion.ledger import measures as judges
from companion.ledger import verify
from companion.ledger.measures import Evidence, Published
from companion.ledger.verify import Outcome
from companion.running import page as runs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for part in ("book/results", "proofs"):
        shutil.copytree(ROOT / part, tmp_path / part)
    return tmp_path


def differing(found: Iterator[Outcome]) -> list[Outcome]:
    rows = list(found)
    assert rows
    return [row for row in rows if row.state == "differs"]


@pytest.mark.parametrize("name", sorted(verify.certificates()))
def test_a_certificate_can_be_made_and_checked_again(name: str, tmp_path: Path) -> None:
    made = verify.certificates()[name]()
    made.save(tmp_path / "c.json")
    assert recheck(tmp_path / "c.json").statement == made.statement
    published = recheck(ROOT / f"book/results/certificates/{name}.json")
    assert published.statement == made.statement


def test_every_published_certificate_is_made_here() -> None:
    folder = ROOT / "book/results/certificates"
    assert {p.stem for p in folder.glob("*.json")} == set(verify.certificates())
    named = {c for claim in claims.CLAIMS for c in claim.rule.given.get("certificates", ())}
    assert named == set(verify.certificates())


def test_what_is_published_is_found_again() -> None:
    assert differing(verify._certificates(ROOT)) == []
    assert differing(verify._proofs(ROOT, full=False)) == []
    assert differing(verify._rows(ROOT)) == []


def test_an_altered_certificate_differs(copy: Path) -> None:
    path = copy / "book/results/certificates/T3.json"
    path.write_text(path.read_text().replace('"step": 1', '"step": 0'))
    (copy / "book/results/certificates/T1.json").unlink()
    assert {o.what for o in differing(verify._certificates(copy))} == {
        "certificate T1",
        "certificate T3",
    }


def test_another_valid_certificate_is_not_the_one(copy: Path) -> None:
    folder = copy / "book/results/certificates"
    for name in ("T1", "T2"):
        shutil.copy(folder / "T3.json", folder / f"{name}.json")
    found = differing(verify._certificates(copy))
    assert {o.what for o in found} == {"certificate T1", "certificate T2"}
    assert all("proves something else" in o.why for o in found)
    lost = {o.what for o in differing(verify._rows(copy))}
    assert {"claim T1", "claim T1-idea", "claim T2", "claim B-states"} <= lost


@pytest.mark.parametrize(
    ("field", "value"),
    [("here", "+0.1"), ("poster", "1"), ("rule_status", "changed"), ("says", "Nothing."),
     ("runs", ["x"]), ("rule_sha256", "0")],
)  # fmt: skip
def test_a_forged_text_of_the_ledger_differs(copy: Path, field: str, value: Any) -> None:
    path = copy / claims.LEDGER
    rows = json.loads(path.read_text())
    [row] = [r for r in rows if r["id"] == "F2-double"]
    row[field] = value
    path.write_text(json.dumps(rows))
    [found] = differing(verify._rows(copy))
    assert found.what == "claim F2-double"
    assert found.why.endswith(f"other than published: {field}")


def test_a_page_whose_data_are_not_here_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "lacking", lambda *_: "MNIST is not here")
    monkeypatch.setattr(runs, "stale", lambda *_: [])
    states = {o.state for o in verify._pages(ROOT, True, ROOT / "runs")}
    assert states == {"not run"}


def test_a_changed_statement_differs_and_missing_coq_is_said(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    record, proofs = verify._proofs(copy, full=True)
    assert record.state == "as published"
    assert (proofs.state, proofs.why) == ("not run", "no coqc here; the record was checked")
    path = copy / "proofs/Statements.v"
    path.write_text(path.read_text() + "(* more *)\n")
    assert [o.what for o in differing(verify._proofs(copy, full=False))] == ["Coq's record"]


def test_a_changed_table_changes_its_rows(copy: Path) -> None:
    import pyarrow.parquet as pq

    path = copy / "book/results/synthetic/primary.parquet"  # the run that decides F2-double
    rows = pq.read_table(path)
    r2 = rows["r2"].to_numpy() - 0.001 * (rows["model"].to_numpy(zero_copy_only=False) == "urnn")
    pq.write_table(rows.set_column(rows.column_names.index("r2"), "r2", [r2]), path)
    found = {o.what for o in differing(verify._rows(copy))}
    assert found == {"claim F2-double"}


def test_a_lost_verdict_is_named(copy: Path) -> None:
    path = copy / claims.LEDGER
    rows = json.loads(path.read_text())
    [row] = [r for r in rows if r["id"] == "S-memory"]
    row |= {"verdict": "reproduced", "why": ""}  # as if it had been once
    [gone] = [r for r in rows if r["id"] == "T1"]
    gone["id"] = "T9"
    path.write_text(json.dumps(rows))
    found = {o.what: o.why for o in differing(verify._rows(copy))}
    assert found == {
        "claim S-memory": "reproduced in the ledger, now not reproduced (contradicted)",
        "claim T1": "is not in the ledger",
        "claim T9": "is no claim of these sources",
    }


def test_systems_drawn_again_are_the_published_ones(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = Evidence(ROOT).published("systems")[0]
    monkeypatch.setattr(Evidence, "published", lambda *_: (first,))
    [same] = verify._systems(ROOT, full=False)
    assert same.state == "as published"
    assert same.found is not None
    assert same.found < 1e-5
    rows = [{**row, "on": row["on"] * 1.001} for row in first.rows]
    path = copy / "t.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    other = Published(first.name, first.record, path)
    monkeypatch.setattr(Evidence, "published", lambda *_: (other,))
    assert len(differing(verify._systems(ROOT, full=False))) == 1


def test_fifty_updates_of_recorded_seeds_agree_with_float64() -> None:
    """The published numbers are the reference's in float64; this is the processor's kernel."""
    path = ROOT / "book/results/short.json"
    published = np.array(json.loads(path.read_text("utf-8"))["numbers"])
    new = verify.short_runs("cpu")
    assert verify._compared("", "", new, published).state == "as published"
    new[3, 0] *= 1.001
    assert verify._compared("", "", new, published).state == "differs"
    close = published * (1 + 1e-6)  # too far for float64
    exact = verify.SHORT_RELATIVE["float64"]
    assert verify._compared("", "", close, published, exact).state == "differs"


def test_each_device_has_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    path = ROOT / "book/results/short.json"
    published = np.array(json.loads(path.read_text("utf-8"))["numbers"])
    asked = []

    def short(backend: str, dtype: str = "float32") -> Any:
        asked.append((backend, dtype))
        return published * (1 + 3e-4 * (backend == "cuda"))

    monkeypatch.setattr(verify, "short_runs", short)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    states = [(o.where, o.state, o.why) for o in verify._short(ROOT)]
    assert states[2] == ("GPU, float32", "not run", "no GPU here")
    assert {state for _, state, _ in states[:2]} == {"as published"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "X")
    last = list(verify._short(ROOT))[2]
    assert (last.where, last.state) == ("GPU X, float32", "differs")
    assert asked[:2] == [("cpu", "float32"), ("reference", "float64")]


@pytest.mark.parametrize("kind", verify.REPEATED)
def test_full_runs_are_compared_by_the_interval_of_their_mean(kind: str) -> None:
    old = next(r for r in Evidence(ROOT).published(kind) if "released-" in r.name)
    names = verify.REPEATED[kind][1]

    def again(shift: float) -> Published:
        new = Published(old.name, old.record, old.path)
        rows = [{**row, "r2": row["r2"] + shift} for row in old.rows]
        object.__setattr__(new, "rows", rows)
        return new

    assert verify._means(again(0.0), old, names).found == 0.0
    assert verify._means(again(1e-4), old, names).state == "as published"
    found = verify._means(again(-0.2), old, names)
    assert found.state == "differs"
    assert found.found is not None
    assert found.found > 1


def test_full_runs_are_made_with_their_recorded_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    published = [r for kind in verify.REPEATED for r in Evidence(ROOT).published(kind)]

    def perform(run: runs.Run, root: Path, out: Path) -> tuple[Path, str]:
        asked.append(dict(run.parameters))
        [old] = [
            r
            for r in published
            if run.page.name == r.record["notebook"]
            and all(run.parameters[k] == v for k, v in r.record["parameters"].items())
        ]
        folder = out / run.id
        (folder / "results").mkdir(parents=True)
        table, _ = verify.REPEATED[old.name.partition("/")[0]]
        shutil.copy(old.path, folder / "results" / table)
        (folder / "record.json").write_text(json.dumps(old.record))
        (folder / f"{run.page.name}.ipynb").touch()
        return folder, "done"

    monkeypatch.setattr(runs, "perform", perform)
    found = [o for o in verify._full_runs(ROOT, tmp_path) if o.state != "not run"]
    assert len(found) == len(asked) == len(published)
    assert {(o.state, o.found) for o in found} == {("as published", 0.0)}


def test_a_full_run_that_fails_is_a_row_and_stops_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def perform(run: runs.Run, root: Path, out: Path) -> tuple[Path, str]:
        raise runs.Failed("cell 3 failed")

    monkeypatch.setattr(runs, "perform", perform)
    found = [o for o in verify._full_runs(ROOT, tmp_path) if o.state != "not run"]
    assert len(found) == sum(len(Evidence(ROOT).published(kind)) for kind in verify.REPEATED)
    assert {(o.state, o.why) for o in found} == {("differs", "cell 3 failed")}


def test_a_rerun_that_lost_nearly_all_students_of_a_kind_differs() -> None:
    old = next(r for r in Evidence(ROOT).published("synthetic") if "released-20" in r.name)
    new = Published(old.name, old.record, old.path)
    lost = [row | {"diverged": 3} if row["hidden_units"] == 4 else row for row in old.rows]
    object.__setattr__(new, "rows", lost)
    found = verify._means(new, old, ("model", "hidden_units"))
    assert (found.state, found.found) == ("differs", float("inf"))
    assert '"found": null' in verify.as_json([found], ROOT)
    assert verify._means(new, new, ("model", "hidden_units")).state == "as published"


def test_exit_code_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Outcome("a", "here", "as published", 1e-9, 1e-4), Outcome("b", "GPU", "not run")]
    monkeypatch.setattr(verify, "verify", lambda root, full, out: iter(rows))
    file = tmp_path / "v.json"
    command = ["--root", str(ROOT), "verify", "--json", str(file)]
    assert cli.main(command) == 0
    written = json.loads(file.read_text("utf-8"))
    assert written["environment"]["python"]
    assert written["outcomes"][0] == {"what": "a", "where": "here", "state": "as published",
                                      "found": 1e-9, "allowed": 1e-4, "why": ""}  # fmt: skip
    rows.append(Outcome("c", "here", "differs", why="no longer proved"))
    assert cli.main(command) == 1
    said = capsys.readouterr().out
    assert "differs       c (here): no longer proved" in said
    assert "1 as published, 1 not run, 1 differs" in said
    assert cli.main([*command[:-1], str(tmp_path / "gone/v.json")]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_kept_verdicts_are_those_that_must_be_found_again() -> None:
    assert judges.KEPT == ("proved", "certified", "reproduced")
