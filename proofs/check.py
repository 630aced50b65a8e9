"""Check every proof from a clean tree and write what was found for the book.

``python proofs/check.py`` needs Coq 8.16, MathComp 1.15 and mathcomp-analysis 0.6 (README.md) and
takes a few minutes; ``--fresh`` needs Python alone: it says whether the record is of these sources.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # where it is not run as a script

from coq import HERE, LIBRARY, Failed, coqc, module, run, without_comments
from mutants import MUTANTS, check_mutants
from rendering import render

RECORD = HERE.parent / "book" / "results" / "proofs.json"
LEDGER = HERE / "theorems.json"
SECONDS_COQCHK = 900
# Words that assume without proving, or that switch a check of the kernel off.
FORBIDDEN = re.compile(
    r"\b(Admitted|[Aa]dmit|give_up|Axioms?|Parameters?|Conjectures?|Primitive"
    r"|Declare\s+(Instance|Module)|bypass_check|(Set|Unset)\s+(Guard|Positivity|Universe)\s+Checking|type-in-type"
    r"|native_cast_no_check)\b"
)
# Words that assume within a section, where what is assumed becomes a hypothesis of each lemma; and
# an axiom outside one.
LOCAL = re.compile(
    r"(?:#\[[^]]*\]\s*)*(?:(?:Local|Global|Polymorphic|Monomorphic)\s+)*"
    r"(Hypothes[ie]s|Variables?|Context)\b"
)


def ledger() -> dict[str, Any]:
    """The committed list: theorems with what they rest on, and what is not checked."""
    listed: dict[str, Any] = json.loads(LEDGER.read_text(encoding="utf-8"))
    return listed


def source_hash(folder: Path = HERE) -> str:
    """SHA-256 over the names and contents of the Coq files and the list."""
    total = hashlib.sha256()
    for path in sorted([*folder.glob("*.v"), folder / LEDGER.name, folder / MUTANTS.name]):
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


def assumed(source: str) -> str | None:
    """What the source assumes of its own: a forbidden word, or a hypothesis outside a section."""
    text = re.sub(r'"[^"]*"', '""', without_comments(source))
    if found := FORBIDDEN.search(text):
        return found[0]
    open_sections = 0
    for sentence in re.split(r"\.(?:\s+|$)", text):
        said = sentence.strip().lstrip("-+*{} ")
        open_sections += said.startswith("Section ") - said.startswith("End ")
        if open_sections == 0 and (local := LOCAL.match(said)):
            return f"{local[1]} outside a section"
        if re.match(r"Module\b", said):
            return "Module"  # `End` could then close something else than a section
    return None


def compile_all(folder: Path, sources: Path = HERE) -> list[str]:
    """Compile every file in the order of its dependencies; the order."""
    for path in sorted(sources.glob("*.v")):
        if found := assumed(path.read_text(encoding="utf-8")):
            raise Failed(f"{path.name} contains {found!r}: a proof may assume nothing of its own")
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


def printed(folder: Path, lines: list[str]) -> dict[str, str]:
    """What Coq prints after each ``== name`` of a file of these lines."""
    (folder / "Printed.v").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = coqc(folder, "Printed.v")
    if done.returncode:
        raise Failed(f"a theorem is not of the stated type:\n{done.stderr}")
    parts = (part.partition("\n") for part in done.stdout.split("== ")[1:])
    return {name: answer for name, _, answer in parts}


def rests_on(answer: str) -> list[str]:
    """The axioms that ``Print Assumptions`` names."""
    if "Closed under the global context" in answer:
        return []
    heads = re.findall(r"^([A-Za-z_][\w.']*)\s*(?::|$)", answer, re.MULTILINE)
    return sorted(set(heads) - {"Axioms"})


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
    return {name: rests_on(answer) for name, answer in printed(folder, lines).items()}


def constants(folder: Path, order: list[str]) -> list[str]:
    """Every definition, lemma and theorem that, Coq says, the files hold."""
    found = []
    for file in order:
        glob = (folder / file).with_suffix(".glob").read_text(encoding="utf-8")
        if taken := re.findall(r"^ax \S+ \S+ (\S+)$", glob, re.MULTILINE):
            raise Failed(f"{file} assumes {', '.join(taken)}")
        named = re.findall(r"^(?:prf|thm|def|inst|rec|proj) \S+ <> (\S+)$", glob, re.MULTILINE)
        found += [f"{module(file)}.{name}" for name in named]
    return found


def check_all(folder: Path, order: list[str], classical: dict[str, Any]) -> int:
    """Every constant of every file rests on what its file may rest on; their number."""
    names = constants(folder, order)
    lines = [f"Require {module(file)}." for file in order]
    for name in names:
        lines += [f'Goal True. idtac "== {name}". Abort.', f"Print Assumptions {name}."]
    answers = printed(folder, lines)
    if set(answers) != set(names):
        raise Failed(f"no answer for {sorted(set(names) - set(answers))}")
    for name, answer in answers.items():
        file = name.split(".")[1] + ".v"
        allowed = classical["axioms"] if file in classical["files"] else []
        if more := set(rests_on(answer)) - set(allowed):
            raise Failed(f"{name} rests on {sorted(more)}")
    return len(names)


def kernel_check(folder: Path, order: list[str], classical: dict[str, Any]) -> None:
    """``coqchk``: the files on no axiom with all below them, the others without the library."""
    plain = [module(file) for file in order if file not in classical["files"]]
    if plain:
        done = run(
            folder, "coqchk", "-silent", "-o", "-R", ".", LIBRARY, *plain, seconds=SECONDS_COQCHK
        )
        said = done.stdout + done.stderr
        if done.returncode or "* Axioms: <none>" not in said:
            raise Failed(f"coqchk: {said}")
    alone = [word for file in classical["files"] for word in ("-norec", module(file))]
    done = run(folder, "coqchk", "-silent", "-o", "-R", ".", LIBRARY, *alone)
    said = done.stdout + done.stderr
    if done.returncode or re.search(rf"^\s*{LIBRARY}\.", said, re.MULTILINE):
        raise Failed(f"coqchk: {said}")


def versions(folder: Path) -> dict[str, str]:
    """Coq's version, and those of the libraries where dpkg knows them."""
    found = {"coq": run(folder, "coqc", "--print-version").stdout.split()[0]}
    if shutil.which("dpkg-query"):
        for name in ("ssreflect", "algebra", "analysis"):
            asked = run(folder, "dpkg-query", "-W", "-f", "${Version}", f"libcoq-mathcomp-{name}")
            found[f"mathcomp-{name}"] = asked.stdout or "unknown"
    return found


def self_test(folder: Path) -> None:
    """A hypothesis that the reading of the sources would miss is seen by Coq, in both ways."""
    (folder / "Cheat.v").write_text(
        "Context (cheat : False).\nLemma absurd : 0 = 1. Proof. destruct cheat. Qed.\n"
    )
    if coqc(folder, "Cheat.v").returncode:
        raise Failed(
            "the planted hypothesis does not compile, so the check of the checks says nothing"
        )
    for seen in (
        lambda: check_all(folder, ["Cheat.v"], {"files": [], "axioms": []}),
        lambda: kernel_check(folder, [], {"files": ["Cheat.v"], "axioms": []}),
    ):
        try:
            seen()
        except Failed:
            continue
        raise Failed("a planted `Context (cheat : False).` was not seen")


def check(full: bool) -> dict[str, Any]:
    """Every check; the record for the book."""
    listed = ledger()
    theorems, classical = listed["theorems"], listed["classical"]
    before = source_hash()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("compile, from a clean tree", flush=True)
        order = compile_all(folder)
        print("assumptions", flush=True)
        found = axioms(folder, theorems)
        for t in theorems:
            expected = sorted(classical["axioms"]) if t["proof"] in classical["files"] else []
            if found.get(t["statement"]) != expected:
                raise Failed(f"{t['statement']} rests on {found[t['statement']]}, not {expected}")
        number = check_all(folder, order, classical)
        self_test(folder)
        print(f"mutants, after the assumptions of {number} definitions and lemmas", flush=True)
        settled = check_mutants(folder, order, theorems)
        if full:
            print("coqchk (about a minute)", flush=True)
            kernel_check(folder, order, classical)
        if source_hash() != before:
            raise Failed("the sources changed while they were checked: run it again")
        render(folder, order)
        return {
            "sources_sha256": before,
            "versions": versions(folder),
            "theorems": [
                {
                    **t,
                    "axioms": found[t["statement"]],
                    "proved_as": f"{t['statement']}_holds",
                    "checked": True,
                    "coqchk": full,
                }
                for t in theorems
            ],
            "constants": number,
            "mutants": settled,
            "paper": listed["paper"],
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
        f"{record['constants']} definitions and lemmas, {len(record['mutants'])} mutants settled"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
