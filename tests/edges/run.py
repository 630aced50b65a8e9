"""Run every page at the edges of its parameters and read what it shows.

    python tests/edges/run.py                     # all pages; hours
    python tests/edges/run.py theorem-2 systems   # some of them
    python tests/edges/run.py --resume            # without what ended well for the same text
    python tests/edges/run.py --list              # count the cases; nothing is run
    python tests/edges/run.py --resume --json FILE  # and write down, page by page, how all ended

A case is ``ok`` where the run ends well, no cell writes to stderr, no number in a text or figure is
nan, no axes are empty, and ``values.json`` has its results. It is ``refused`` where an error says
what is allowed. One that runs longer than the limit is stopped and listed as ``slow``, which is no
failure. All else is ``wrong``. Kernels are forked, one at a time (Linux).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from companion.running import kernel  # noqa: E402
from companion.running.folders import cache, scratch_folder  # noqa: E402
from companion.running.page import Page, load_page  # noqa: E402
from companion.running.record import git_state  # noqa: E402
from companion.running.run import produce  # noqa: E402
from tests.edges.cases import Case, cases  # noqa: E402
from tests.edges.reading import faults, lacking  # noqa: E402

Outcome = dict[str, Any]
ENDS = ("ok", "refused", "slow", "wrong")


class LimitedForks(kernel.Forks):
    """Forks kernels that are compiled already; ends each that runs over ``limit`` seconds."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit, self.ended, self.page = limit, False, ""
        self._timer = threading.Timer(0, lambda: None)

    def turn_to(self, page: str) -> None:
        """Fork kernels for this page from now on."""
        if page != self.page:
            self.close()
            self.page = page

    def fork(
        self, nb: Any, arguments: Sequence[str], environment: Mapping[str, str], folder: str
    ) -> int:
        """Fork a kernel from a process that has imported `warm` too, and start its time."""
        path = os.pathsep.join([environment["PYTHONPATH"], str(Path(__file__).parent)])
        own = {**environment, "PYTHONPATH": path, "COMPANION_EDGES_PAGE": self.page}
        more = nbformat.v4.new_notebook(cells=[*nb.cells, nbformat.v4.new_code_cell("import warm")])
        pid, self.ended = super().fork(more, arguments, own, folder), False
        self._timer = threading.Timer(self.limit, self._end, [pid])
        self._timer.start()
        return pid

    def _end(self, pid: int) -> None:
        self.ended = True
        os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Stop the time: the kernel has ended."""
        self._timer.cancel()


def judge(case: Case, page: Page, forks: LimitedForks, out: Path, *, keep: bool = False) -> Outcome:
    """Run a case, and say how it ended and why; the notebook of one that is wrong is kept."""
    forks.turn_to(page.name)
    run, clock = page.run(case.given), time.monotonic()
    folder = out / page.name
    with scratch_folder(folder, ".edge.") as work:
        try:
            failure = produce(run, work, kernel.Setting(ROOT, cache(ROOT, out), forks=forks))
        finally:
            forks.stop()
        if forks.ended:
            how, why = "slow", [f"not done in {forks.limit:g} s"]
        elif failure:
            how = "refused" if "allowed" in str(failure) else "wrong"
            why = [str(failure)]
        else:
            found = nbformat.read(work / f"{page.name}.ipynb", as_version=4)
            why = [*faults(found), *lacking(work / "results", run.values)]
            how = "wrong" if why else "ok"
        if keep or how == "wrong":
            (folder / run.id).mkdir(exist_ok=True)
            for path in (*work.glob("*.ipynb"), *work.glob("results/values.json")):
                shutil.copy(path, folder / run.id)
    return {
        "page": page.name, "text": _digest(page), "given": dict(case.given), "how": how,
        "why": "; ".join(why), "seconds": round(time.monotonic() - clock, 1), "id": run.id,
    }  # fmt: skip


def _digest(page: Page) -> str:
    return hashlib.sha256(page.text.encode()).hexdigest()[:16]


def _known(path: Path) -> dict[tuple[str, str], Outcome]:
    """How cases ended when they last ran, by the digest of the page's text and the values given."""
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return {(row["text"], str(row["given"])): row for row in map(json.loads, lines)}


def _key(case: Case, page: Page) -> tuple[str, str]:
    return _digest(page), str(dict(case.given))


def run_all(
    todo: Iterable[tuple[Case, Page]], out: Path, limit: float, *, keep: bool = False
) -> list[Outcome]:
    """Judge cases one after the other; each is told, and written down, as it ends."""
    outcomes = []
    out.mkdir(parents=True, exist_ok=True)
    forks = LimitedForks(limit)
    try:
        for case, page in todo:
            outcome = judge(case, page, forks, out, keep=keep)
            outcome["commit"] = git_state(ROOT)["commit"]
            outcomes.append(outcome)
            with (out / "outcomes.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(outcome, ensure_ascii=False) + "\n")
            told = f"{outcome['how']:7} {outcome['seconds']:5.1f} s  {case}"
            print(told + (f"\n        {outcome['why']}" if outcome["why"] else ""), flush=True)
    finally:
        forks.close()
    return outcomes


def summary(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Count for each page its cases, their seeds and how they ended; name the page's text."""
    rows = []
    for page in sorted({o["page"] for o in outcomes}):
        of = [o for o in outcomes if o["page"] == page]
        seeds = {o["given"].get("seed", o["given"].get("seeds", "of the page")) for o in of}
        rows.append({
            "page": page, "cases": len(of), "seeds": len(seeds),
            **{end: sum(o["how"] == end for o in of) for end in ENDS},
            "seconds": round(sum(o["seconds"] for o in of)),
            "text": " ".join(sorted({o["text"] for o in of})),
        })  # fmt: skip
    return rows


def table(outcomes: Sequence[Outcome]) -> str:
    """Lay the summary out."""
    names = ("cases", "seeds", *ENDS, "seconds")
    rows = summary(outcomes)
    rows.append({"page": "all"} | {name: sum(row[name] for row in rows) for name in names})
    rows[-1]["seeds"] = ""
    lines = [f"{'page':16}" + "".join(f"{name:>9}" for name in names)]
    lines += [f"{row['page']:16}" + "".join(f"{row[name]:>9}" for name in names) for row in rows]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 1 where a case is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pages", nargs="*", help="their names (default: all)")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "edges")
    parser.add_argument("--limit", type=float, default=300, help="seconds for a case")
    parser.add_argument("--resume", action="store_true", help="without what ended well before")
    parser.add_argument("--alone", action="store_true", help="edges one at a time, no more")
    parser.add_argument("--only", default="", help="cases whose line matches this pattern")
    parser.add_argument("--keep", action="store_true", help="keep every notebook")
    parser.add_argument("--json", type=Path, help="write the summary, page by page")
    parser.add_argument("--list", action="store_true", help="count the cases, and run none")
    args = parser.parse_args(arguments)
    names = args.pages or sorted(p.stem for p in (ROOT / "notebooks").glob("*.md"))
    pages = [page for page in (load_page(ROOT, name) for name in names) if page.parameters]
    asked = [
        (case, page)
        for page in pages
        for case in cases(page, alone=args.alone)
        if re.search(args.only, str(case))
    ]
    known = _known(args.out / "outcomes.jsonl") if args.resume else {}
    well = {key for key, row in known.items() if row["how"] in ("ok", "refused")}
    todo = [each for each in asked if _key(*each) not in well]
    if args.list:
        count = Counter(page.name for _, page in todo)
        print("\n".join(f"{name:16}{number:6}" for name, number in count.items()))
        return 0
    run_all(todo, args.out, args.limit, keep=args.keep)
    known = _known(args.out / "outcomes.jsonl")
    outcomes = [known[key] for each in asked if (key := _key(*each)) in known]
    print(table(outcomes))
    if args.json:
        args.json.write_text(json.dumps(summary(outcomes), indent=1) + "\n", encoding="utf-8")
    return int(any(o["how"] == "wrong" for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())
