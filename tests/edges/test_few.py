"""The small fixed part of the edge runs; `make test-edges` has the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from companion.running.page import load_page
from tests.edges.cases import Case
from tests.edges.run import ROOT, LimitedForks, judge

FEW = [
    Case("theorem-2", (("n", "2"), ("seed", "1"))),
]


@pytest.fixture(scope="module")
def forks() -> Iterator[LimitedForks]:
    found = LimitedForks(120)
    yield found
    found.close()


@pytest.mark.parametrize("case", FEW, ids=str)
def test_page_at_an_edge(case: Case, forks: LimitedForks, tmp_path: Path) -> None:
    outcome = judge(case, load_page(ROOT, case.page), forks, tmp_path)
    assert outcome["how"] in ("ok", "refused"), outcome["why"]
