"""The ledger: complete, up to date, and honest about rules that are younger than their run."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from companion import cli
from companion.ledger import judge as claims
from companion.ledger import measures as judges
from companion.ledger.judge import CLAIMS, judge, ledger, status
from companion.ledger.measures import VERDICTS, Evidence

ROOT = Path(__file__).resolve().parents[2]
BY_ID = {claim.id: claim for claim in CLAIMS}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [row.json() for row in ledger(ROOT)]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout's results and proofs, to be spoilt."""
    for part in ("book/results", "proofs"):
        shutil.copytree(ROOT / part, tmp_path / part)
    return tmp_path


def test_every_claim_has_a_name_a_page_and_a_rule() -> None:
    assert len(BY_ID) == len(CLAIMS)
    for claim in CLAIMS:
        assert re.fullmatch(r"[BFST]\d?(-[a-z0-9]+)*", claim.id), claim.id
        assert claim.rule.judge in judges.JUDGES
        assert len(claim.rule.says) > 30
        assert claim.says[-1] == "."
        json.dumps(claim.rule.given, allow_nan=False)
    missing = {c.page for c in CLAIMS if not (ROOT / f"{c.page}.md").is_file()}
    assert missing <= {"notebooks/figure-4"}


def test_every_curve_of_the_poster_is_a_claim() -> None:
    with (ROOT / "book/results/poster-figures.csv").open() as file:
        curves = {(r["figure"], r["model"], r["learning_rate"]) for r in csv.DictReader(file)}
    drawn = {c.id for c in CLAIMS if c.id.endswith("-curve")}
    lines = {c.id for c in CLAIMS if c.id.startswith("S-optimum")}
    assert len(drawn) == len([c for c in curves if c[1] != "optimal"])
    assert len(lines) == len([c for c in curves if c[1] == "optimal"])


def test_the_published_ledger_is_that_of_the_results(rows: list[dict[str, Any]]) -> None:
    published = json.loads((ROOT / claims.LEDGER).read_text("utf-8"))
    again = "remake it: companion claims --write"
    assert [row["id"] for row in published] == [row["id"] for row in rows], again
    for old, new in zip(published, json.loads(json.dumps(rows)), strict=True):
        assert old.keys() == new.keys()
        for name, values in new.pop("numbers").items():
            np.testing.assert_allclose(old["numbers"].pop(name), values, rtol=1e-9, err_msg=again)
        assert old.pop("numbers") == {}, again
        assert old == new, again


def test_every_verdict_says_why(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert row["verdict"] in VERDICTS
        assert bool(row["why"]) == (row["verdict"] not in judges.KEPT), row["id"]
        assert row["rule_status"] in ("", "recorded", "not recorded"), row["id"]
        assert bool(row["rule_status"]) == bool(row["runs"])
        if row["verdict"] in ("reproduced", "not reproduced"):
            assert row["here"]
            assert row["poster"], row["id"]


# --- the age of rules


def test_a_rule_changed_after_its_run_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = BY_ID["S-on"]
    assert judge(claim, Evidence(ROOT)).rule_status == "recorded"
    for other in (
        replace(claim.rule, says=claim.rule.says + " Or so."),
        replace(claim.rule, given={**claim.rule.given, "high": 0.65}),
    ):
        row = judge(replace(claim, rule=other), Evidence(ROOT)).json()
        assert row["rule_status"] == "changed"
        assert set(row["records"].values()) == {claim.rule.sha256}
        assert row["rule_sha256"] == other.sha256 != claim.rule.sha256
    shown = replace(claim.rule, given={**claim.rule.given, "digits": 9})
    assert shown.sha256 == claim.rule.sha256

    def within(e: Any, given: Any, reading: str) -> Any:
        return {"median": [0.6], "low": [0.6], "high": [0.6]}, "yes"

    monkeypatch.setitem(judges.MEASURES, "within", within)  # the code is part of the rule
    evidence = Evidence(ROOT)
    records = {r.name: r.record for r in evidence.published("systems")}
    assert status(claim, records) == "changed"


def test_how_results_are_read_is_part_of_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The baseline is that of the first records; it must not move with the code."""
    assert claims.READING == "34de54066c5c9ddd"
    assert judges.reading_digest() == claims.READING, (
        "how results are read has changed: every rule's hash changes with it, and every run shows "
        "as made under another rule, which it then is"
    )
    before = BY_ID["S-on"].rule.sha256
    monkeypatch.setattr(judges, "reading_digest", lambda: "0" * 16)
    assert BY_ID["S-on"].rule.sha256 != before
    assert judge(BY_ID["S-on"], Evidence(ROOT)).rule_status == "changed"


def test_a_claim_whose_students_were_all_lost_takes_no_other_down(copy: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in (copy / "book/results/synthetic").glob("*20.parquet"):
        table = pq.read_table(path)
        gone = [
            3 if (row["model"], row["hidden_units"]) == ("rnn", 14) else row["diverged"]
            for row in table.select(["model", "hidden_units", "diverged"]).to_pylist()
        ]
        at = table.column_names.index("diverged")
        pq.write_table(table.set_column(at, "diverged", pa.array(gone)), path)
    rows = {row.claim.id: row.finding for row in claims.ledger(copy)}
    assert rows["F2-rnn-rises"].verdict == "not tested"
    assert "at least two" in rows["F2-rnn-rises"].why
    assert rows["F2-double"].verdict != "not tested"


def test_what_a_record_can_say_of_a_rule() -> None:
    claim = BY_ID["S-on"]
    mine, other = {"rules": {claim.id: claim.rule.sha256}}, {"rules": {claim.id: "0" * 16}}
    assert status(claim, {}) == ""
    assert status(claim, {"a": mine}) == "recorded"
    assert status(claim, {"a": mine, "b": {}}) == "not recorded"
    assert status(claim, {"a": mine, "b": {"rules": {}}}) == "not recorded"
    assert status(claim, {"a": mine, "b": other}) == "changed"
    assert status(claim, {"a": {}, "b": other}) == "changed"


def test_layout_and_comments_are_no_change_of_a_rule(tmp_path: Path) -> None:
    import importlib.util

    def loaded(name: str, text: str) -> Any:
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("sample", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def digest(name: str, text: str) -> str:
        module = loaded(name, text)
        sys_modules_entry = {"sample": module}
        import sys
        from unittest.mock import patch

        with patch.dict(sys.modules, sys_modules_entry):
            return judges.code_digest(module.f)

    first = digest("a", "def f(x):\n    return x > 1\n")
    assert first == digest("b", 'def f(x):\n    """What."""\n    # why\n    return (x > 1)\n')
    assert first != digest("c", "def f(x):\n    return x >= 1\n")


def test_a_run_records_the_rules_it_is_made_for(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    for folder in ("notebooks", "src/companion", "book"):
        (root / folder).mkdir(parents=True)
    (root / "src/companion/__init__.py").touch()
    (root / "constraints.txt").touch()
    (root / "notebooks/demo.md").write_text(
        "---\nkernelspec: {name: python3, display_name: Python 3, language: python}\n---\n"
        "\n```{code-cell} ipython3\nprint(1)\n```\n"
    )
    rule = {"says": "The answer is one.", "judge": "measured", "notebook": "demo", "given": {}}
    other = {"says": "Another page.", "judge": "measured", "notebook": "other", "given": {}}
    (root / "book/claims.yaml").write_text(
        json.dumps({"claims": [{"id": "X", "rule": rule}, {"id": "Y", "rule": other}]})
    )
    assert cli.main(["--root", str(root), "run", "demo"]) == 0
    [path] = (root / "runs/demo").glob("*/record.json")
    assert json.loads(path.read_text())["rules"] == {"X": rule}


# --- what is missing or spoilt


def test_results_that_are_not_there_are_not_tested(copy: Path) -> None:
    shutil.rmtree(copy / "book/results/synthetic")
    (copy / "book/results/certificates/T1.json").unlink()
    evidence = Evidence(copy)
    found = judge(BY_ID["F2-double"], evidence).finding
    assert found.verdict == "not tested"
    assert found.why == (
        "no published runs of synthetic on the same systems with rnn 4, urnn 8, preset released"
    )
    assert found.poster.startswith("+0.0050 ±")
    assert judge(BY_ID["T1"], evidence).finding.why.endswith("T1.json is missing")


def test_proofs_of_other_sources_prove_nothing(copy: Path) -> None:
    path = copy / "proofs/Statements.v"
    path.write_text(path.read_text() + "(* more *)\n")
    found = judge(BY_ID["T2"], Evidence(copy)).finding
    assert found.verdict == "not tested"
    assert "make proofs" in found.why


def test_an_altered_certificate_is_no_proof(copy: Path) -> None:
    path = copy / "book/results/certificates/T2.json"
    path.write_text(path.read_text().replace('"step": 1', '"step": 0'))
    found = judge(BY_ID["T2"], Evidence(copy)).finding
    assert found.verdict == "not reproduced"
    assert "altered" in found.why


def _without_runs_made_under_the_rules(folder: Path) -> None:
    """Leave the older runs alone, which a later one would come before."""
    for path in (*folder.glob("again-*.json"), folder / "primary.json"):
        path.unlink()


def test_a_later_run_displaces_none_and_a_shorter_one_does_not_count(copy: Path) -> None:
    folder = copy / "book/results/synthetic"
    _without_runs_made_under_the_rules(folder)
    before = judge(BY_ID["F2-double"], Evidence(copy)).finding
    record = json.loads((folder / "released-20.json").read_text())
    shutil.copy(folder / "poster-20.parquet", folder / "again.parquet")
    (folder / "again.json").write_text(json.dumps(record | {"finished": "2099-01-01"}))
    assert judge(BY_ID["F2-double"], Evidence(copy)).finding == before
    for name in ("again", "released-20"):
        short = record | {"parameters": {**record["parameters"], "realisations": 29}}
        (folder / f"{name}.json").write_text(json.dumps(short))
    found = judge(BY_ID["F2-double"], Evidence(copy)).finding
    assert found.verdict == "not tested"
    assert "29 realisations" in found.why


def _publish(
    folder: Path, name: str, finished: str, rules: dict[str, str], seed: int, source: str
) -> None:
    """A copy of a run of ``folder``, with another age and seed."""
    record = json.loads((folder / f"{source}.json").read_text())
    record |= {"finished": finished, "rules": rules}
    record["parameters"]["seed"] = seed
    (folder / f"{name}.json").write_text(json.dumps(record))
    shutil.copy(folder / f"{source}.parquet", folder / f"{name}.parquet")


def test_a_run_made_under_the_rule_comes_before_an_older_one(copy: Path) -> None:
    folder, claim = copy / "book/results/synthetic", BY_ID["F3-double"]
    _without_runs_made_under_the_rules(folder)

    def runs_of() -> tuple[str, str]:
        row = judge(claim, Evidence(copy))
        return ", ".join(row.finding.runs), row.rule_status

    assert runs_of() == ("synthetic/released-15", "not recorded")
    _publish(folder, "a", "2099", {claim.id: "0" * 16}, 7, "released-15")
    assert runs_of() == ("synthetic/a", "changed")  # a rule changed after its run still shows
    _publish(folder, "b", "2199", {claim.id: claim.rule.sha256}, 8, "released-15")
    assert runs_of() == ("synthetic/b", "recorded")
    _publish(folder, "c", "2299", {claim.id: claim.rule.sha256}, 9, "released-15")
    assert runs_of() == ("synthetic/b", "recorded")  # the first one made under it, no choice


def test_only_runs_on_the_same_systems_are_compared(copy: Path) -> None:
    folder, claim = copy / "book/results/synthetic", BY_ID["F2-lstm-urnn"]
    _without_runs_made_under_the_rules(folder)
    older = judge(claim, Evidence(copy))
    rules = {claim.id: claim.rule.sha256}
    for preset in ("released", "poster"):
        _publish(folder, f"{preset}-new", "2099", rules, 7, f"{preset}-20")
        # the URNN's new run has no LSTM beside it on its systems: the old pair is used
        assert judge(claim, Evidence(copy)).finding == older.finding
    for preset in ("released", "poster"):
        _publish(folder, f"{preset}-new-lstm", "2099", rules, 7, f"{preset}-20-lstm")
    newer = judge(claim, Evidence(copy))
    names = [f"{preset}-new{lstm}" for preset in ("poster", "released") for lstm in ("", "-lstm")]
    assert newer.finding.runs == tuple(f"synthetic/{name}" for name in names)
    assert newer.rule_status == "recorded"
    assert newer.finding.numbers == older.finding.numbers  # they are copies


def test_an_lstm_in_a_file_of_its_own_is_found(copy: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = copy / "book/results/synthetic"
    _without_runs_made_under_the_rules(folder)
    table = pq.read_table(folder / "released-20.parquet")
    kept = table.filter(pa.compute.equal(table["model"], "urnn"))
    lstm = kept.set_column(1, "model", pa.array(["lstm"] * kept.num_rows))
    for preset in ("released", "poster"):
        pq.write_table(lstm, folder / f"{preset}-lstm.parquet")
        record = json.loads((folder / f"{preset}-20.json").read_text())
        record["parameters"]["models"] = "lstm"
        (folder / f"{preset}-lstm.json").write_text(json.dumps(record))
    found = judge(BY_ID["F2-lstm-urnn"], Evidence(copy))
    assert found.finding.numbers["released mean"] == [0.0] * 6  # it is the URNN's copy
    assert set(found.finding.runs) >= {"synthetic/released-lstm", "synthetic/released-20"}
    assert found.rule_status == "not recorded"


def test_accuracy_is_the_test_sets_where_validation_was_best(copy: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    claim, folder = BY_ID["F4-contractive-16"], copy / "book/results/mnist"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rows = [
        {"model": model, "hidden_units": 16, "learning_rate": 1e-3, "fit_seed": seed,
         "update": 859 * epoch, "held_out": part, "accuracy": accuracy}
        for model, shift in (("urnn", 0.0), ("contractive", 0.1))
        for seed in (1, 2, 3)
        for epoch, both in ((1, (0.5, 0.9)), (2, (0.7, 0.6)), (3, (float("nan"), 0.2)))
        for part, accuracy in zip(("validation", "test"), both, strict=True)
        for accuracy in (accuracy + shift + seed * 1e-3,)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / "curves-epochs.parquet")
    record: dict[str, Any] = {"finished": "2026", "parameters": {"epochs": 9}, "rules": {}}
    (folder / "curves.json").write_text(json.dumps(record))
    assert "at least 10 epochs and 50000 train_images" in judge(claim, Evidence(copy)).finding.why
    record["parameters"] = {"epochs": 10, "train_images": 55_000}
    record["rules"] = {claim.id: claim.rule.sha256}
    (folder / "curves.json").write_text(json.dumps(record))
    row = judge(claim, Evidence(copy))
    assert row.finding.verdict == "reproduced"
    assert row.finding.numbers["mnist mean"] == pytest.approx([0.1])
    assert row.finding.runs == ("mnist/curves",)
    assert row.rule_status == "recorded"


def test_the_command_lists_and_writes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["--root", str(ROOT), "claims"]) == 0
    said = capsys.readouterr().out
    assert f"{len(CLAIMS)} claims: " in said
    assert re.search(r"(?m)^T2 +proved$", said)
