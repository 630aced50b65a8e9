"""The ledger of commit 3dd410a, found again by the present code from the runs that it stood on.

``at_3dd410a.json`` holds that ledger's rules, verdicts and numbers. Its rules are no longer those
of ``book/claims.yaml``; what is tested is that measures and readers still mean what they meant.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from companion.ledger.evidence import Claim, Evidence
from companion.ledger.judge import judge

ROOT = Path(__file__).resolve().parents[2]
THEN = json.loads(Path(__file__).with_name("at_3dd410a.json").read_text("utf-8"))


def in_words_of_now(row: dict[str, Any]) -> str:
    """The verdict, where "not reproduced" stood for two."""
    if row["verdict"] != "not reproduced":
        return str(row["verdict"])
    return "contradicted" if "contradicted" in row["why"] else "undecided"


@pytest.mark.parametrize("then", THEN, ids=lambda row: row["id"])
def test_every_verdict_and_number_is_found_again(then: dict[str, Any]) -> None:
    rule = {"says": "", "judge": then["judge"], "given": then["given"]}
    claim = Claim(then["id"], "", "", "", "", rule)
    finding = judge(claim, Evidence(ROOT, only=then["runs"])).finding
    assert finding.verdict == in_words_of_now(then)
    assert list(finding.runs) == then["runs"]
    for name, values in then["numbers"].items():
        np.testing.assert_allclose(finding.numbers[name], values, rtol=1e-9, atol=1e-12)
    if "contradicted" in then["why"] and "undecided" in then["why"]:
        named = then["why"].replace("released", "authors' code").replace("poster", "as described")
        assert finding.why == named


def test_the_rules_of_records_are_carried_over() -> None:
    """Every hash in a published record names a rule, of the claim that it stands for."""
    evidence, seen = Evidence(ROOT), set()
    for kind in ("synthetic", "systems", "mnist"):
        for run in evidence.published(kind):
            for claim, held in run.record.get("rules", {}).items():
                if isinstance(held, str):
                    assert evidence.recorded[held]["claim"] == claim
                    seen.add((claim, held))
    assert len(seen) == len(evidence.recorded) == 41
    known = {row["id"]: row for row in THEN}
    for held in evidence.recorded.values():
        given = known[held["claim"]]["given"]
        assert held["rule"]["given"] == {k: v for k, v in given.items() if k != "each"}
