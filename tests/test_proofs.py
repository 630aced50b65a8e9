"""What can be said of the proofs without Coq: the record is of these sources, and complete."""

from __future__ import annotations

import html
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROOFS = ROOT / "proofs"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("proofs_check", PROOFS / "check.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


check = _load()


def test_the_record_is_of_these_sources():
    assert check.stale() is None


def test_a_change_of_any_source_makes_the_record_stale(tmp_path):
    for path in [*PROOFS.glob("*.v"), PROOFS / "theorems.json"]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert check.source_hash(tmp_path) == check.source_hash()
    (tmp_path / "Norm.v").write_bytes((PROOFS / "Norm.v").read_bytes() + b" ")
    assert check.source_hash(tmp_path) != check.source_hash()


def test_every_statement_is_listed_proved_and_mutated():
    stated = {
        (path.name, name)
        for path in PROOFS.glob("Statements*.v")
        for name in re.findall(r"^Definition (\w+) : Prop", path.read_text(), re.MULTILINE)
    }
    listed = check.ledger()
    assert stated == {(t["in"], t["statement"]) for t in listed["theorems"]}
    assert {t["statement"] for t in listed["theorems"]} == {
        m["statement"] for m in listed["mutants"]
    }
    record = json.loads(check.RECORD.read_text(encoding="utf-8"))
    assert [t["statement"] for t in record["theorems"] if t["checked"]] == [
        t["statement"] for t in listed["theorems"]
    ]
    assert len(record["mutants"]) == len(listed["mutants"])
    assert not any(m["proves"] for m in record["mutants"])


def test_a_referee_reads_less_than_a_hundred_lines():
    for path in PROOFS.glob("Statements*.v"):
        assert len(path.read_text().splitlines()) < 100


def test_no_link_of_the_rendered_proofs_is_dead():
    texts = {p.name: p.read_text(encoding="utf-8") for p in check.PAGES.iterdir()}
    anchors = {
        name: {html.unescape(a) for a in re.findall(r' id="([^"]*)"', text)}
        for name, text in texts.items()
    }
    for name, text in texts.items():
        for target in map(html.unescape, re.findall(r'href="([^"]*)"', text)):
            page, _, anchor = target.partition("#")
            assert (page or name) in texts, target
            assert not anchor or anchor in anchors[page or name], target


def test_every_source_is_rendered():
    assert {path.stem for path in PROOFS.glob("*.v")} == {
        path.stem.removeprefix("Proofs.") for path in check.PAGES.glob("*.html")
    }
    for page in check.PAGES.glob("*.html"):
        assert "http" not in page.read_text(encoding="utf-8"), "a page that requests something"


@pytest.mark.parametrize(
    ("source", "assumes"),
    [
        ("Lemma a : False. Admitted.", True),
        ("Axiom a : False.", True),
        ("Parameter a : False.", True),
        ("(* no Axiom (* nor Parameter *) here *) Lemma a : True. Proof. by []. Qed.", False),
    ],
)
def test_what_assumes_is_seen_and_comments_are_not(source, assumes):
    assert bool(check.FORBIDDEN.search(check.without_comments(source))) is assumes


def test_a_mutant_that_matches_nothing_is_refused():
    theorem = check.ledger()["theorems"][0]
    with pytest.raises(check.Failed, match="does not contain"):
        check.attempt(Path("/nonexistent"), theorem, "no such text", "")
