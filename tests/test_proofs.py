"""What can be said of the proofs without Coq: the record is of these sources, and complete."""

from __future__ import annotations

import html
import importlib.util
import json
import re
import sys
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
sys.path.insert(0, str(PROOFS))
checking = importlib.import_module("checking")
drawing = importlib.import_module("drawing")
mutants = importlib.import_module("mutants")
rendering = importlib.import_module("rendering")


def test_the_record_is_of_these_sources():
    assert check.stale() is None


def test_a_change_of_any_source_makes_the_record_stale(tmp_path):
    for path in [*PROOFS.glob("*.v"), check.LEDGER, check.MUTANTS]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert check.source_hash(tmp_path) == check.source_hash()
    for name in ("Norm.v", "mutants.txt"):
        (tmp_path / name).write_bytes((PROOFS / name).read_bytes() + b" ")
        assert check.source_hash(tmp_path) != check.source_hash()
        (tmp_path / name).write_bytes((PROOFS / name).read_bytes())


def test_every_statement_is_listed_proved_and_mutated():
    stated = {
        (path.name, name)
        for path in PROOFS.glob("Statements*.v")
        for name in re.findall(r"^Definition (\w+) : Prop", path.read_text(), re.MULTILINE)
    }
    listed = check.ledger()
    assert stated == {(t["in"], t["statement"]) for t in listed["theorems"]}
    changed = mutants.mutants()
    assert {t["statement"] for t in listed["theorems"]} == {m["statement"] for m in changed}
    record = json.loads(check.RECORD.read_text(encoding="utf-8"))
    assert [t["statement"] for t in record["theorems"] if t["checked"]] == [
        t["statement"] for t in listed["theorems"]
    ]
    assert all(t["coqchk"] for t in record["theorems"])
    assert [(m["statement"], m["new"]) for m in record["mutants"]] == [
        (m["statement"], m["new"]) for m in changed
    ]


def test_most_mutants_are_refuted_and_the_others_say_why():
    found = mutants.mutants()
    for m in found:
        assert m["verdict"] in ("refuted", "true", "open")
        assert bool(m["script"]) is (m["verdict"] != "open"), m
        assert bool(m["why"]) is (m["verdict"] != "refuted"), m
    refuted = [m for m in found if m["verdict"] == "refuted"]
    assert len(refuted) >= 0.8 * len(found)
    # Every definition that the statements of the poster's theorems are made of is changed too.
    assert {m["definition"] for m in refuted} >= {
        "relu", "state", "output", "equal_over", "orthogonal", "memoryless", "derivative",
        "norm", "contractive", "defect", "bounded",
    }  # fmt: skip


def test_a_referee_reads_less_than_a_hundred_lines():
    for path in PROOFS.glob("Statements*.v"):
        assert len(path.read_text().splitlines()) < 100


def test_no_link_of_the_rendered_proofs_is_dead():
    texts = {
        p.name: p.read_text(encoding="utf-8")
        for p in rendering.PAGES.iterdir()
        if p.suffix != ".htm"
    }
    anchors = {
        name: {html.unescape(a) for a in re.findall(r' id="([^"]*)"', text)}
        for name, text in texts.items()
    }
    for name, text in texts.items():
        for target in map(html.unescape, re.findall(r'href="([^"]*)"', text)):
            page, _, anchor = target.partition("#")
            assert (page or name) in texts, target
            assert not anchor or anchor in anchors[page or name], target


def test_the_map_has_every_statement_and_no_dead_link():
    record = json.loads(check.RECORD.read_text(encoding="utf-8"))
    drawn = (rendering.PAGES / "map.htm").read_text(encoding="utf-8")
    assert drawn == drawing.proof_map(record)
    listed = drawn.partition("<ul>")[2]
    for node in [*record["theorems"], *record["paper"]]:
        assert html.escape(node["label"]) in listed
    for target in map(html.unescape, re.findall(r'href="\.\./([^"]*)"', drawn)):
        page, _, anchor = target.partition("#")
        if page.startswith("_static"):
            text = (ROOT / "book" / page).read_text(encoding="utf-8")
            assert f'id="{anchor}"' in text, target
        else:
            text = (ROOT / page.replace(".html", ".md")).read_text(encoding="utf-8")
            label = anchor.removeprefix("equation-")  # as Sphinx names the anchor of a formula
            assert not anchor or f":label: {label}" in text, target


def test_a_theorem_rests_on_what_its_proof_names():
    record = json.loads(check.RECORD.read_text(encoding="utf-8"))
    on = {t["statement"]: t["rests_on"]["theorems"] for t in record["theorems"]}
    assert on["theorem3_poster"] == ["theorem3_logistic"]
    assert on["theorem3_logistic"] == ["theorem3"]
    assert on["ours_three"] == ["ours1b", "ours_box"]
    assert on["theorem2"] == []


def test_every_source_is_rendered():
    assert {path.stem for path in PROOFS.glob("*.v")} == {
        path.stem.removeprefix("Proofs.") for path in rendering.PAGES.glob("*.html")
    }
    for page in rendering.PAGES.glob("*.html"):
        assert "http" not in page.read_text(encoding="utf-8"), "a page that requests something"


@pytest.mark.parametrize(
    ("source", "assumes"),
    [
        ("Lemma a : False. Admitted.", True),
        ("Axiom a : False.", True),
        ("Parameter a : False.", True),
        ("Hypothesis a : False.", True),
        ("#[local] Variables a b : False.", True),
        ("Section S. End S. Context (a : False).", True),
        ("Module M. Section S. End M. Variable a : False. End S.", True),
        ("Section S.\nVariable a : nat.\n- Hypothesis b : a = 0.\nEnd S.", False),
        ("(* no Axiom (* nor Parameter *) here *) Lemma a : True. Proof. by []. Qed.", False),
    ],
)
def test_what_assumes_is_seen_and_comments_are_not(source, assumes):
    assert (checking.assumed(source) is not None) is assumes


@pytest.mark.parametrize("path", sorted(PROOFS.glob("*.v")), ids=lambda path: path.stem)
def test_a_hypothesis_planted_in_any_file_is_refused(path, tmp_path):
    source = path.read_text(encoding="utf-8")
    assert checking.assumed(source) is None
    for planted in ("Hypothesis cheat : False.", "Context (cheat : False)."):
        after_imports = source.index("Local Open Scope") if "Local Open Scope" in source else 0
        for at in (after_imports, len(source)):
            (tmp_path / path.name).write_text(f"{source[:at]}{planted}\n{source[at:]}", "utf-8")
            with pytest.raises(checking.Failed, match="may assume nothing"):
                checking.compile_all(tmp_path / "build", tmp_path)


def test_a_mutant_that_matches_nothing_is_refused():
    theorem = check.ledger()["theorems"][0]
    for definition in (None, "relu", "no_such_definition"):
        mutant = {"definition": definition, "old": "no such text", "new": ""}
        with pytest.raises(checking.Failed, match=r"does not contain|no definition"):
            mutants.changed(mutant, theorem)
