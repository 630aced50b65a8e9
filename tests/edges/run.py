"""Run every page at the edges of its parameters and read what it shows.

    python tests/edges/run.py          # all: each edge alone, some pairs, three seeds; hours
    python tests/edges/run.py --few    # the small fixed part that `make test` takes
    python tests/edges/run.py theorem-2 --out DIR --limit 300

A case is right where the run ends well, no cell writes to stderr, no number in its text is nan,
and no axes are empty; or where it is refused, or fails by an assertion that says why. A case that
runs longer than the limit is stopped and listed as slow, which is no failure.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat

from companion.running.page import load_page
from companion.running.parameters import Parameter

ROOT = Path(__file__).resolve().parents[2]
SVG = "{http://www.w3.org/2000/svg}"
DRAWN = re.compile(
    r"(line2d|PathCollection|LineCollection|PolyCollection|FillBetween|QuadMesh|image)"
)
FEW = [
    ("theorem-2", {"n": "2", "seed": "1"}),
    ("theorem-2", {"n": "2", "seed": "3"}),
    ("theorem-2", {"n": "1"}),
    ("theorem-2", {"input_bound": "1e-300"}),
    ("background", {"horizon": "1000"}),
    ("theorem-1", {"n": "32", "norm": "0.999", "dtype": "float32"}),
    ("synthetic", {"hidden_units": "1", "updates": "1"}),
    ("synthetic", {"snr_db": "0"}),
]


@dataclass(frozen=True)
class Outcome:
    """How one case ended: ok, words (refused, or an assertion that says why), slow, or wrong."""

    page: str
    given: dict[str, str]
    how: str
    why: str = ""

    def __str__(self) -> str:
        words = " ".join(f"{k}={v}" for k, v in self.given.items())
        return f"{self.how:6} {self.page} {words}" + (f"\n       {self.why}" if self.why else "")


def edges(parameter: Parameter) -> list[str]:
    """Values at the ends of what a parameter allows, or all of its few choices."""
    allowed = parameter.allowed
    if parameter.type == "bool":
        return ["true", "false"]
    if choices := re.match(r"(?:one )?of (.+)", allowed):
        words = choices[1].split(", ")
        return [*words, " ".join(words)] if parameter.is_list else words
    if not (ends := re.search(r"in ([\[(])([^,]+), ([^\])]+)([\])])", allowed)):
        return []
    low, high = float(ends[2]), float(ends[3].replace("2^63", "inf"))
    whole = parameter.type == "int" or parameter.is_list
    step = 1.0 if whole else 1e-9
    found = [low if ends[1] == "[" else low + step]
    found += [high if ends[4] == "]" else high - step] if high < float("inf") else []
    shown = [str(int(v)) if whole else repr(v) for v in found if abs(v) < float("inf")]
    return [" ".join(shown), *shown] if parameter.is_list else shown


def cases(page: str) -> Iterator[dict[str, str]]:
    """Each edge alone, pairs of edges of neighbouring parameters, and three seeds of each end."""
    declared = [p for p in load_page(ROOT, page).parameters if not p.is_file]
    alone = [(p.name, value) for p in declared for value in edges(p)]
    yield from ({name: value} for name, value in alone)
    for one, other in itertools.pairwise(p for p in declared if p.name != "seed"):
        for a, b in itertools.product(edges(one)[:2], edges(other)[:2]):
            yield {one.name: a, other.name: b}
    if any(p.name == "seed" for p in declared):
        for (name, value), seed in itertools.product(alone, ("1", "2", "3")):
            if name != "seed":
                yield {name: value, "seed": seed}


def empty_axes(svg: str) -> bool:
    """Whether a figure has axes in which nothing is drawn."""
    root = ElementTree.fromstring(svg[svg.index("<svg") :])  # noqa: S314 - our own figures
    for axes in root.iter(f"{SVG}g"):
        if not re.fullmatch(r"axes_\d+", axes.get("id") or ""):
            continue
        ids = [child.get("id") or "" for child in axes]
        bars = sum(name.startswith("patch") for name in ids) > 5  # background and four spines
        if not bars and not any(DRAWN.match(name) for name in ids) and "matplotlib.axis_1" in ids:
            return True
    return False


def faults(notebook: Any) -> list[str]:
    """What a reader of the executed page would take for a mistake."""
    found = []
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                found.append(f"cell {number} writes to stderr: {output.text[:200]!r}")
            data = dict(output.get("data", {}))
            text = output.get("text", "") + str(data.get("text/plain", ""))
            if re.search(r"(?<![\w-])nan(?![\w-])", text):
                found.append(f"cell {number} shows nan: {text[:200]!r}")
            svg = str(data.get("image/svg+xml", ""))
            if "<svg" in svg and empty_axes(svg):
                found.append(f"cell {number} has empty axes")
    return found


def judge(page: str, given: dict[str, str], out: Path, limit: float) -> Outcome:
    """Run one case in a process of its own and say how it ended."""
    words = [w for name, value in given.items() for w in ("-p", f"{name}={value}")]
    command = [sys.executable, "-m", "companion", "run", page, *words, "--out", str(out)]
    try:
        done = subprocess.run(
            [*command, "--no-html"], cwd=ROOT, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return Outcome(page, given, "slow", f"not done in {limit:g} s")
    said = done.stderr.strip()
    if done.returncode:
        spoken = "Traceback" not in said and (
            done.returncode == 2 or re.search(r"AssertionError: \S+ \S+ \S+", said)
        )
        last = " ".join(said.splitlines()[-6:])[-400:]
        return Outcome(page, given, "words" if spoken else "wrong", last)
    path = next(
        Path(w) for w in reversed(done.stdout.split("\n")) if w.endswith((".ipynb", ".html"))
    )
    wrong = faults(nbformat.read(path.with_suffix(".ipynb"), as_version=4))
    return Outcome(page, given, "wrong" if wrong else "ok", "; ".join(wrong))


def run(todo: list[tuple[str, dict[str, str]]], out: Path, limit: float) -> list[Outcome]:
    """Judge all cases, two at a time, each told as it ends."""

    def told(case: tuple[str, dict[str, str]]) -> Outcome:
        outcome = judge(*case, out, limit)
        print(outcome, flush=True)
        return outcome

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(told, todo))


def main() -> int:
    """Run what is asked for; 1 where a case is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pages", nargs="*")
    parser.add_argument("--few", action="store_true", help="the fixed part of `make test`")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "edges")
    parser.add_argument("--limit", type=float, default=300, help="seconds for a case")
    args = parser.parse_args()
    names = args.pages or sorted(p.stem for p in (ROOT / "notebooks").glob("*.md"))
    todo = [(name, given) for name in names for given in cases(name)]
    todo = FEW if args.few else [c for i, c in enumerate(todo) if c not in todo[:i]]
    started = time.monotonic()
    outcomes = run(todo, args.out, args.limit)
    counts = {how: sum(o.how == how for o in outcomes) for how in ("ok", "words", "slow", "wrong")}
    print(json.dumps(counts | {"seconds": round(time.monotonic() - started)}))
    return int(counts["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
