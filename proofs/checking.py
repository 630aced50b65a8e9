"""The checks that need Coq: what is assumed, what each theorem rests on, and coqchk."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from coq import HERE, LIBRARY, Failed, coqc, module, run, without_comments
from mutants import check_mutants
from rendering import render

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


def assumed(source: str) -> str | None:
    """Find what a source assumes of its own: a forbidden word, a hypothesis outside a section."""
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
    """Compile every file in the order of its dependencies; return the order."""
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
    """Collect what Coq prints after each ``== name`` of a file of these lines."""
    (folder / "Printed.v").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = coqc(folder, "Printed.v")
    if done.returncode:
        raise Failed(f"a theorem is not of the stated type:\n{done.stderr}")
    parts = (part.partition("\n") for part in done.stdout.split("== ")[1:])
    return {name: answer for name, _, answer in parts}


def rests_on(answer: str) -> list[str]:
    """Read the axioms that ``Print Assumptions`` names."""
    if "Closed under the global context" in answer:
        return []
    heads = re.findall(r"^([A-Za-z_][\w.']*)\s*(?::|$)", answer, re.MULTILINE)
    return sorted(set(heads) - {"Axioms"})


def axioms(folder: Path, theorems: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Find what each theorem rests on, after a check that it is of the type that is stated."""
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
    """List every definition, lemma and theorem that, Coq says, the files hold."""
    found = []
    for file in order:
        glob = (folder / file).with_suffix(".glob").read_text(encoding="utf-8")
        if taken := re.findall(r"^ax \S+ \S+ (\S+)$", glob, re.MULTILINE):
            raise Failed(f"{file} assumes {', '.join(taken)}")
        named = re.findall(r"^(?:prf|thm|def|inst|rec|proj) \S+ <> (\S+)$", glob, re.MULTILINE)
        found += [f"{module(file)}.{name}" for name in named]
    return found


def rests(folder: Path, order: list[str]) -> dict[str, dict[str, list[str]]]:
    """Find the theorems that each theorem's proof uses, and the files of its lemmas.

    Read from what Coq notes of each name's place (.glob). Lemmas are followed to what they use;
    a theorem is not followed further.
    """
    uses: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for file in order:
        here, entry = file.removesuffix(".v"), ("", "")
        for line in (folder / file).with_suffix(".glob").read_text(encoding="utf-8").splitlines():
            if found := re.match(r"(?:prf|thm|def|rec) \S+ <> (\S+)$", line):
                entry = (here, found[1])
                uses[entry] = set()
            elif found := re.match(rf"R\S+ {LIBRARY}\.(\w+) <> (\w+) (?:thm|prf|def)$", line):
                uses.get(entry, set()).add((found[1], found[2]))
    out = {}
    for at in [entry for entry in uses if entry[1].endswith("_holds")]:
        seen, waiting, theorems = {at}, [at], set()
        while waiting:
            for used in uses.get(waiting.pop(), set()) - seen:
                seen.add(used)
                if used[1].endswith("_holds"):
                    theorems.add(used[1].removesuffix("_holds"))
                else:
                    waiting.append(used)
        files = {file for file, name in seen if not file.startswith("Statements")} - {at[0]}
        files -= {file for file, name in seen if name.endswith("_holds") and file != at[0]}
        out[at[1].removesuffix("_holds")] = {"theorems": sorted(theorems), "files": sorted(files)}
    return out


def check_all(folder: Path, order: list[str], classical: dict[str, Any]) -> int:
    """Check that every constant rests on what its file may rest on; return their number."""
    names = constants(folder, order)
    for kind, allowed in (("plain", []), ("classical", classical["axioms"])):
        files = [file for file in order if (file in classical["files"]) is (kind == "classical")]
        mine = [name for name in names if name.split(".")[1] + ".v" in files]
        # All of them in one chain of pairs, so that Coq walks once through what is below.
        lines = [f"Require {module(file)}." for file in files] + ["Definition all0 := tt."]
        lines += [f"Definition all{i + 1} := (all{i}, @{name})." for i, name in enumerate(mine)]
        lines += ['Goal True. idtac "== all". Abort.', f"Print Assumptions all{len(mine)}."]
        if more := set(rests_on(printed(folder, lines)["all"])) - set(allowed):
            raise Failed(f"something in {', '.join(files)} rests on {sorted(more)}")
    return len(names)


def kernel_check(
    folder: Path, order: list[str], classical: dict[str, Any], *, deep: bool = False
) -> None:
    """Run ``coqchk`` over every file, on the libraries as installed; if ``deep``, over them too."""
    alone = [word for file in order for word in ("-norec", module(file))]
    done = run(folder, "coqchk", "-silent", "-o", "-R", ".", LIBRARY, *alone)
    said = done.stdout + done.stderr
    # What a library seals is an axiom to a check that leaves the library out; ours seal nothing.
    if done.returncode or re.search(rf"^\s*{LIBRARY}\.", said, re.MULTILINE):
        raise Failed(f"coqchk: {said}")
    if deep:
        plain = [module(file) for file in order if file not in classical["files"]]
        done = run(
            folder, "coqchk", "-silent", "-o", "-R", ".", LIBRARY, *plain, seconds=SECONDS_COQCHK
        )
        said = done.stdout + done.stderr
        if done.returncode or "* Axioms: <none>" not in said:
            raise Failed(f"coqchk: {said}")


def versions(folder: Path) -> dict[str, str]:
    """Read Coq's version, and those of the libraries where dpkg knows them."""
    found = {"coq": run(folder, "coqc", "--print-version").stdout.split()[0]}
    if shutil.which("dpkg-query"):
        for name in ("ssreflect", "algebra", "analysis"):
            asked = run(folder, "dpkg-query", "-W", "-f", "${Version}", f"libcoq-mathcomp-{name}")
            found[f"mathcomp-{name}"] = asked.stdout or "unknown"
    return found


def self_test(folder: Path) -> None:
    """Check that Coq sees a hypothesis that the reading of the sources would miss, both ways."""
    (folder / "Cheat.v").write_text(
        "Context (cheat : False).\nLemma absurd : 0 = 1. Proof. destruct cheat. Qed.\n"
    )
    if coqc(folder, "Cheat.v").returncode:
        raise Failed(
            "the planted hypothesis does not compile, so the check of the checks says nothing"
        )
    for seen in (
        lambda: check_all(folder, ["Cheat.v"], {"files": [], "axioms": []}),
        lambda: kernel_check(folder, ["Cheat.v"], {"files": [], "axioms": []}),
    ):
        try:
            seen()
        except Failed:
            continue
        raise Failed("a planted `Context (cheat : False).` was not seen")


def check(listed: dict[str, Any], *, full: bool, deep: bool) -> dict[str, Any]:
    """Make every check of what theorems.json lists; return the record for the book."""
    theorems, classical = listed["theorems"], listed["classical"]
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
            print("coqchk", flush=True)
            kernel_check(folder, order, classical, deep=deep)
        used = rests(folder, order)
        record = {
            "versions": versions(folder),
            "theorems": [
                {
                    **t,
                    "axioms": found[t["statement"]],
                    "rests_on": used[t["statement"]],
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
        render(folder, order, record)
        return record
