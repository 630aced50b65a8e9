"""Planted results, written as a run writes them, come to the verdict that was planted."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from companion.ledger.evidence import Evidence
from companion.ledger.judge import Finding, judge

ROOT = Path(__file__).resolve().parents[2]


def plant(root: Path, name: str, difference: np.ndarray, **parameters: object) -> None:
    """A block of students of which URNN(8) − RNN(4) is ``difference``, system by system."""
    folder = root / "book/results/synthetic"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, d in enumerate(difference):
        for model, n, r2 in (("rnn", 4, 0.9), ("urnn", 8, 0.9 + d)):
            same = {"model": model, "hidden_units": n, "data": i, "diverged": -1}
            rows.append(same | {"r2": r2, "r2_chosen": r2})
    path = folder / f"{name}.parquet"
    pd.DataFrame(rows).to_parquet(path, index=False)
    asked = {"snr_db": 20.0, "learning_rate": 0.01, "initialisation": "orthogonal", "updates": 7000}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    record = {"parameters": asked | parameters, "finished": name, "tables": {"x": digest}}
    path.with_suffix(".json").write_text(json.dumps(record))


def found(root: Path) -> Finding:
    """The verdict on F2-double, under the rule of the book."""
    for name in ("book/claims.yaml", "book/results/poster-figures.csv"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    evidence = Evidence(root)
    claim = next(c for c in evidence.claims if c.id == "F2-double")
    return judge(claim, evidence).finding


NOISE = np.random.default_rng(0).normal(0, 0.002, 32)


@pytest.mark.parametrize(
    ("released", "poster", "verdict"),
    [
        (NOISE, NOISE, "reproduced"),
        (NOISE + 0.05, NOISE + 0.05, "reproduced"),  # a URNN that is ahead does as well
        (NOISE - 0.05, NOISE - 0.05, "contradicted"),
        (NOISE, NOISE - 0.05, "depends on"),
        (NOISE - 0.05, NOISE, "depends on"),
        (NOISE - 0.005, NOISE, "undecided"),
        (NOISE[:29], NOISE, "not tested"),  # pairs are counted
    ],
)
def test_planted_differences_come_to_their_verdict(
    tmp_path: Path, released: np.ndarray, poster: np.ndarray, verdict: str
) -> None:
    plant(tmp_path, "a", released, preset="released", seed=3001)
    plant(tmp_path, "b", poster, preset="poster", seed=3001)
    finding = found(tmp_path)
    assert finding.verdict == verdict
    assert ("as described" in finding.why) == (verdict == "depends on")
    assert finding.runs == (("synthetic/a",) if verdict != "not tested" else ())


def test_a_heavy_tail_makes_means_unfit_and_leaves_the_median(tmp_path: Path) -> None:
    heavy = NOISE.copy()
    heavy[0] = -0.9  # one URNN that ends near 0
    plant(tmp_path, "a", heavy, preset="released", seed=3001)
    finding = found(tmp_path)
    assert (finding.verdict, finding.answers["mean"]) == ("reproduced", "unfit")


def test_blocks_decide_together_what_one_leaves_open(tmp_path: Path) -> None:
    wide = np.random.default_rng(1).permutation(np.linspace(-0.012, 0.010, 32))
    plant(tmp_path, "a", wide, preset="released", seed=3001)
    assert found(tmp_path).verdict == "undecided"
    for seed in (3002, 3003, 3004, 3005):
        plant(tmp_path, f"a{seed}", wide, preset="released", seed=seed)
    assert found(tmp_path).verdict == "reproduced"
    plant(tmp_path, "other", wide - 9, preset="released", seed=2019)  # no seed of the plan
    assert found(tmp_path).verdict == "reproduced"
