"""Statements and definitions changed a little, and what Coq proves of each: see mutants.txt."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from coq import HERE, LIBRARY, Failed, coqc, statement

MUTANTS = HERE / "mutants.txt"


def mutants() -> list[dict[str, Any]]:
    """Read the changes of mutants.txt, each with its script or the reason why it has none."""
    found = []
    for block in re.split(r"^@ ", MUTANTS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        head, old, new, *rest = block.strip().split("\n")
        target, _, name = head.rpartition(" > ")
        kind = "refuted"
        if said := re.match(r"(open|true): (.*)", rest[0]):
            kind, rest = said[1], rest[1:]
        found.append(
            {
                "statement": name,
                "definition": target or None,
                "old": old.removeprefix("- "),
                "new": new.removeprefix("+ "),
                "verdict": kind,
                "why": said[2] if said else "",
                "script": "\n".join(rest),
            }
        )
    return found


def changed(mutant: dict[str, Any], theorem: dict[str, Any]) -> str:
    """Write the changed statement, after the definitions that depend on a changed definition."""
    stated = statement(theorem["statement"], (HERE / theorem["in"]).read_text(encoding="utf-8"))
    old, new = mutant["old"], mutant["new"]
    if mutant["definition"] is None:
        if old not in stated:
            raise Failed(f"{theorem['statement']} does not contain {old!r}: adjust mutants.txt")
        return stated.replace(old, new)
    start = rf"^(?:Definition|Fixpoint) {mutant['definition']} .*?(?=^\(\* end)"
    for path in sorted(HERE.glob("Statements*.v")):
        if found := re.search(start, path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            break
    else:
        raise Failed(f"no definition {mutant['definition']}: adjust mutants.txt")
    first, end, others = found[0].partition(".\n")
    if old not in first:
        raise Failed(f"{mutant['definition']} does not contain {old!r}: adjust mutants.txt")
    text = first.replace(old, new) + end + others
    if "End Networks." in text:
        head = "Section Networks. Variable R : realFieldType."
        if "Record RNN" not in text:
            head += " Local Notation RNN := (@Statements.RNN R)."
        text = f"{head}\n{text}"
    return f"{text}\n{stated}"


def attempt(folder: Path, theorem: dict[str, Any], stated: str) -> str | None:
    """Try the committed proof on a changed statement: the error, or None where it proves it."""
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
    text = "\n".join([*head, own, stated, "Check tt.", proof[0]])
    (folder / "Mutant.v").write_text(text + "\n", encoding="utf-8")
    done = coqc(folder, "Mutant.v")
    if "tt" not in done.stdout:
        raise Failed(f"the changed statement is not even well-formed:\n{text}\n{done.stderr}")
    if done.returncode == 0:
        return None
    return " ".join(done.stderr.partition("Error:")[2].split())[:120]


REFUTATIONS = """From mathcomp Require Import all_ssreflect all_algebra realalg complex.
From mathcomp Require Import reals Rstruct.
From Proofs Require Import {files}.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.
Local Notation K := realalg_rcfType.
Local Notation real_realType := [realType of Rdefinitions.R].
"""


def check_mutants(
    folder: Path, order: list[str], theorems: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Prove every changed statement false, or true where it is; where open, check it is not."""
    by_name = {t["statement"]: t for t in theorems}
    found = mutants()
    lines = [REFUTATIONS.format(files=" ".join(f.removesuffix(".v") for f in order))]
    for i, m in enumerate(found):
        theorem = by_name[m["statement"]]
        stated = changed(m, theorem)
        print(f"  {m['verdict']}: {m['statement']}: {m['old']} -> {m['new']}", flush=True)
        if m["verdict"] == "open":
            if attempt(folder, theorem, stated) is None:
                raise Failed(f"{m['statement']} with {m['old']!r} -> {m['new']!r} still proves")
            continue
        aim = ("~ " if m["verdict"] == "refuted" else "") + m["statement"]
        lines += [
            f'Goal True. idtac "== {i}". Abort.\nModule M{i}.\n{stated}',
            f"Theorem settled : {aim}.\nProof.\n{m['script']}\nQed.\nEnd M{i}.",
        ]
    (folder / "Refutations.v").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = coqc(folder, "Refutations.v")
    if done.returncode:
        last = int(done.stdout.split("== ")[-1])
        raise Failed(f"the script under {found[last]} fails:\n{done.stderr}")
    return [{key: m[key] for key in m if key != "script"} for m in found]
