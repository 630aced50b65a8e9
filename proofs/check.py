"""Check every proof from a clean tree and write what was found for the book.

``python proofs/check.py`` needs Coq 8.16, MathComp 1.15 and mathcomp-analysis 0.6 (README.md) and
takes a few minutes; ``--fresh`` needs Python alone: it says whether the record is of these sources.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RECORD = HERE.parent / "book" / "results" / "proofs.json"
PAGES = HERE.parent / "book" / "_static" / "proofs"
LEDGER = HERE / "theorems.json"
LIBRARY = "Proofs"
WARNINGS = "-notation-overridden,-ambiguous-paths,-redundant-canonical-projection"
# Words that assume without proving, or that switch a check of the kernel off.
FORBIDDEN = re.compile(
    r"\b(Admitted|admit|give_up|Axioms?|Parameters?|Conjecture|bypass_check|Unset\s+Guard\s+Checking"
    r"|Unset\s+Positivity\s+Checking|Unset\s+Universe\s+Checking|type-in-type|native_cast_no_check)\b"
)
# Generous: the slowest file takes some seconds. A mutant that runs out of time proves nothing.
SECONDS = 120
SECONDS_COQCHK = 900


class Failed(Exception):
    """A check that failed; its text says which and what was expected."""


def ledger() -> dict[str, Any]:
    """The committed list: theorems with their axioms, mutants, what coqchk covers."""
    listed: dict[str, Any] = json.loads(LEDGER.read_text(encoding="utf-8"))
    return listed


def source_hash(folder: Path = HERE) -> str:
    """SHA-256 over the names and contents of the Coq files and the list."""
    total = hashlib.sha256()
    for path in sorted([*folder.glob("*.v"), folder / LEDGER.name]):
        total.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def stale() -> str | None:
    """Why the record in the book is not of these sources; None where it is."""
    if not RECORD.is_file():
        return f"{RECORD} is missing: run `make proofs`"
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))["sources_sha256"]
    if recorded != source_hash():
        return "proofs/ has changed since book/results/proofs.json was written: run `make proofs`"
    return None


def without_comments(source: str) -> str:
    """The source with its comments, which nest, cut out."""
    kept, depth = [], 0
    for part in re.split(r"(\(\*|\*\))", source):
        if part == "(*":
            depth += 1
        elif part == "*)":
            depth -= 1
        elif depth == 0:
            kept.append(part)
    return "".join(kept)


def statement(name: str, source: str) -> str:
    """The text of ``Definition name : Prop := … .``"""
    found = re.search(rf"^Definition {name} : Prop :=.*?\.$", source, re.MULTILINE | re.DOTALL)
    if found is None:
        raise Failed(f"no `Definition {name} : Prop := … .` that ends its line")
    return found[0]


def run(folder: Path, *command: str, seconds: int = SECONDS) -> subprocess.CompletedProcess[str]:
    """One tool, in the build folder."""
    try:
        return subprocess.run(  # noqa: S603 -- names fixed here, arguments from the committed list
            command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False
        )
    except FileNotFoundError:
        raise Failed(f"{command[0]} is not on PATH: see proofs/README.md") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command)}: no answer within {seconds} s") from None


def coqc(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Compile one file of the build folder."""
    return run(folder, "coqc", "-q", "-w", WARNINGS, "-R", ".", LIBRARY, name)


def compile_all(folder: Path) -> list[str]:
    """Compile every file in the order of its dependencies; the order."""
    for path in sorted(HERE.glob("*.v")):
        text = path.read_text(encoding="utf-8")
        if found := FORBIDDEN.search(without_comments(text)):
            raise Failed(
                f"{path.name} contains {found[0]!r}: a proof may assume nothing of its own"
            )
        shutil.copy(path, folder)
    names = sorted(path.name for path in folder.glob("*.v"))
    order = run(folder, "coqdep", "-sort", "-R", ".", LIBRARY, *names).stdout.split()
    order = [name.removeprefix("./") for name in order]
    if sorted(order) != names:
        raise Failed(f"coqdep names {sorted(order)}, the folder has {names}")
    for name in order:
        print(f"  {name}", flush=True)
        done = coqc(folder, name)
        if done.returncode:
            raise Failed(f"{name} does not compile:\n{done.stdout}{done.stderr}")
    return order


def module(file: str) -> str:
    """``Theorem1.v`` as ``Proofs.Theorem1``."""
    return f"{LIBRARY}.{file.removesuffix('.v')}"


def axioms(folder: Path, theorems: list[dict[str, Any]]) -> dict[str, list[str]]:
    """What each theorem rests on, after a check that it is of the type that is stated."""
    lines = [f"Require {module(name)}." for t in theorems for name in (t["in"], t["proof"])]
    for t in theorems:
        name = t["statement"]
        proof = f"{module(t['proof'])}.{name}_holds"
        lines += [
            f'Goal True. idtac "== {name}". Abort.',
            f"Definition checked_{name} : {module(t['in'])}.{name} := {proof}.",
            f"Print Assumptions {proof}.",
        ]
    (folder / "Assumptions.v").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = coqc(folder, "Assumptions.v")
    if done.returncode:
        raise Failed(f"a theorem is not of the stated type:\n{done.stderr}")
    found: dict[str, list[str]] = {}
    for part in done.stdout.split("== ")[1:]:
        name, _, answer = part.partition("\n")
        if "Closed under the global context" in answer:
            found[name] = []
        else:
            heads = re.findall(r"^([A-Za-z_][\w.']*)\s*(?::|$)", answer, re.MULTILINE)
            found[name] = sorted(set(heads) - {"Axioms"})
    return found


def attempt(folder: Path, theorem: dict[str, Any], old: str = "", new: str = "") -> str | None:
    """The committed proof tried on a changed statement: the error, or None where it proves it."""
    stated = statement(theorem["statement"], (HERE / theorem["in"]).read_text(encoding="utf-8"))
    if old not in stated:
        raise Failed(f"{theorem['statement']} does not contain {old!r}: adjust theorems.json")
    source = (HERE / theorem["proof"]).read_text(encoding="utf-8")
    proof = re.search(
        rf"^Theorem {theorem['statement']}_holds : {theorem['statement']}\.\n.*?Qed\.$",
        source,
        re.MULTILINE | re.DOTALL,
    )
    if proof is None:
        raise Failed(f"{theorem['proof']} has no `Theorem {theorem['statement']}_holds … Qed.`")
    head = re.findall(r"^(?:From|Set|Import|Local Open Scope).*?\.$", source, re.MULTILINE)
    own = f"From {LIBRARY} Require Import {theorem['proof'].removesuffix('.v')}."
    text = "\n".join(
        [*head, own, stated.replace(old, new) if old else stated, "Check tt.", proof[0]]
    )
    (folder / "Mutant.v").write_text(text + "\n", encoding="utf-8")
    done = coqc(folder, "Mutant.v")
    if "tt" not in done.stdout:
        raise Failed(f"the changed statement is not even well-formed:\n{text}\n{done.stderr}")
    if done.returncode == 0:
        return None
    return " ".join(done.stderr.partition("Error:")[2].split())[:120]


def versions(folder: Path) -> dict[str, str]:
    """Coq's version, and those of the libraries where dpkg knows them."""
    found = {"coq": run(folder, "coqc", "--print-version").stdout.split()[0]}
    if shutil.which("dpkg-query"):
        for name in ("ssreflect", "algebra", "analysis"):
            asked = run(folder, "dpkg-query", "-W", "-f", "${Version}", f"libcoq-mathcomp-{name}")
            found[f"mathcomp-{name}"] = asked.stdout or "unknown"
    return found


def render(folder: Path, order: list[str]) -> None:
    """The sources as pages, in the order in which they build on each other."""
    target = folder / "html"
    target.mkdir()
    (folder / "header.html").write_text(HEADER, encoding="utf-8")
    (folder / "footer.html").write_text("</div></body></html>\n", encoding="utf-8")
    done = run(
        folder, "coqdoc", "--html", "--utf8", "--no-externals", "--no-index", "--lib-subtitles",
        "--with-header", "header.html", "--with-footer", "footer.html", "-R", ".", LIBRARY,
        "-d", "html", *order,
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"coqdoc: {done.stderr}")
    texts = {page.name: page.read_text(encoding="utf-8") for page in target.glob("*.html")}
    for name, text in readable(texts).items():
        (target / name).write_text(text, encoding="utf-8")
    shutil.copy(HERE / "proofs.css", target / "coqdoc.css")
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(target, PAGES)


# What coqdoc marks beyond keywords and tactics: half of a page's size, and no reader sees it.
PLAIN = re.compile(r'<span class="id" title="(?!keyword|tactic)[^"]*">([^<]*)</span>')
LINK = re.compile(r'<a (?:id="[^"]*" )?class="idref" href="([^"#]*)#([^"]*)">(.*?)</a>')
HEADER = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="coqdoc.css"><title>TITLE</title></head>
<body><div id="main"><nav>NAV</nav>
"""


def readable(pages: dict[str, str]) -> dict[str, str]:
    """The pages less what no reader sees or can follow, with the file's own `*`."""
    pages = {name: PLAIN.sub(r"\1", text).replace("×", "*") for name, text in pages.items()}
    anchors = {
        name: {html.unescape(anchor) for anchor in re.findall(r' id="([^"]*)"', text)}
        for name, text in pages.items()
    }

    def link(name: str, found: re.Match[str]) -> str:
        page, anchor = found[1] or name, html.unescape(found[2])
        # Links to variables bound in the same line, and to what has no anchor, such as notations.
        dead = anchor and anchor not in anchors.get(page, ())
        return found[3] if dead or re.search(r":\d+$", anchor) else found[0]

    names = sorted(pages)
    out = {}
    for name, text in pages.items():
        titles = {other: other.removeprefix(f"{LIBRARY}.").removesuffix(".html") for other in names}
        nav = " ".join(f'<a href="{other}">{titles[other]}</a>' for other in names)
        linked = LINK.sub(lambda found, name=name: link(name, found), text)  # type: ignore[misc]
        out[name] = linked.replace("NAV", nav, 1).replace("TITLE", titles[name], 1)
    return out


def check(full: bool) -> dict[str, Any]:
    """Every check; the record for the book."""
    listed = ledger()
    theorems = listed["theorems"]
    by_name = {t["statement"]: t for t in theorems}
    before = source_hash()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("compile, from a clean tree", flush=True)
        order = compile_all(folder)
        print("assumptions", flush=True)
        found = axioms(folder, theorems)
        for t in theorems:
            if found.get(t["statement"]) != t["axioms"]:
                raise Failed(
                    f"{t['statement']} rests on {found.get(t['statement'])}, listed: {t['axioms']}"
                )
        print("mutants", flush=True)
        for t in theorems:
            if error := attempt(folder, t):
                raise Failed(f"the unchanged {t['statement']} fails in the mutants' frame: {error}")
        mutants = []
        for m in listed["mutants"]:
            error = attempt(folder, by_name[m["statement"]], m["old"], m["new"])
            if error is None:
                raise Failed(f"{m['statement']} with {m['old']!r} -> {m['new']!r} still proves")
            print(f"  {m['statement']}: {m['old']} -> {m['new']}: {error[:60]}")
            mutants.append({**m, "proves": False})
        if full:
            print("coqchk (about a minute)", flush=True)
            modules = [f"{LIBRARY}.{name}" for name in listed["coqchk"]["modules"]]
            done = run(
                folder, "coqchk", "-silent", "-o", "-R", ".", LIBRARY, *modules,
                seconds=SECONDS_COQCHK,
            )  # fmt: skip
            if done.returncode or "* Axioms: <none>" not in done.stdout + done.stderr:
                raise Failed(f"coqchk: {done.stdout}{done.stderr}")
        if source_hash() != before:
            raise Failed("the sources changed while they were checked: run it again")
        render(folder, order)
        return {
            "sources_sha256": before,
            "versions": versions(folder),
            "theorems": [
                {
                    **t,
                    "proved_as": f"{t['statement']}_holds",
                    "checked": True,
                    "coqchk": full and t["proof"].removesuffix(".v") in listed["coqchk"]["modules"],
                }
                for t in theorems
            ],
            "mutants": mutants,
            "coqchk_left_out": listed["coqchk"]["left_out"],
            "supporting": listed["supporting"],
            "not_checked": listed["not_checked"],
        }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--fresh", action="store_true", help="only: is the record of these sources?"
    )
    parser.add_argument("--quick", action="store_true", help="leave out coqchk; write no record")
    given = parser.parse_args()
    if given.fresh:
        why = stale()
        print(why or "book/results/proofs.json is of these sources")
        return 1 if why else 0
    try:
        record = check(full=not given.quick)
    except Failed as error:
        print(f"proofs: {error}", file=sys.stderr)
        return 1
    if not given.quick:
        RECORD.parent.mkdir(parents=True, exist_ok=True)
        temporary = RECORD.with_suffix(".json.tmp")
        text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(RECORD)
    print(
        f"proofs: {len(record['theorems'])} statements checked, "
        f"{len(record['mutants'])} mutants no longer prove"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
