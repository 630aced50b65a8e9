"""The small fixed part of the edge runs; `make test-edges` has the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from companion.running.page import load_page
from companion.running.parameters import pairs
from tests.edges.cases import Case
from tests.edges.run import ROOT, LimitedForks, judge

# Faults of old: text that its numbers contradicted, warnings, nan, axes that were empty or absurd.
FEW = (
    "background horizon=1000",
    "figures-2-3 level=0.5",
    "linear n=1 horizon=1",
    "synthetic realisations=2 hidden_units=1 updates=1",
    "systems realisations=2 snr_db=0",
    "theorem-1 n=32 norm=0.999 dtype=float32 horizon=1000",
    "theorem-2 n=1 seed=3",
    "theorem-3 n=1 horizon=1 activation=tanh",
)


@pytest.fixture(scope="module")
def forks() -> Iterator[LimitedForks]:
    found = LimitedForks(120)
    yield found
    found.close()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="kernels are forked on Linux alone")
@pytest.mark.parametrize("words", FEW)
def test_page_at_an_edge(words: str, forks: LimitedForks, tmp_path: Path) -> None:
    name, *given = words.split()
    case = Case(name, tuple(pairs(given)))
    outcome = judge(case, load_page(ROOT, name), forks, tmp_path)
    assert outcome["how"] == "ok", outcome["why"]
