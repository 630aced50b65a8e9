"""The ledger: every claim of the poster, its number, ours, the rule, and the verdict.

The rules are data (``book/claims.yaml``) and the evidence is what is published; here measures
become verdicts:

proved, certified : by Coq; by a file that is proved again. reproduced, contradicted : yes, no.
depends on : under a condition that the poster does not state, or on which reading is taken.
undecided : neither, with how many would decide, or why. not tested : there is no run.
note : a remark, where there is nothing to reproduce, or what Coq has not checked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from companion.ledger.evidence import FIGURE_4, Claim, Evidence, Given, NotTested
from companion.ledger.measures import CHECKS, MEASURES, Answer, Numbers

LEDGER = "book/results/claims.json"
VERDICTS = (
    "proved", "certified", "reproduced", "contradicted", "depends on", "undecided", "not tested",
    "note",
)  # fmt: skip
# What a rule without readings of its own asks: as the first runs were judged.
PLAIN = {"training": "as described", "summary": "mean", "lost": "left out", "record": "last update"}
# How a verdict calls what readings differ in.
WORDS = {"released": "authors' code", "poster": "as described", "lost": "lost students"}


@dataclass(frozen=True)
class Finding:
    """What a judge found.

    Parameters
    ----------
    verdict : one of ``VERDICTS``. why : on what it depends, or what is missing, in words.
    poster, here : the two numbers, as text.
    numbers : ours as arrays, by name. answers : by reading.
    runs : names of the published runs they come from, such as "synthetic/released-20".
    files : certificates, relative to the repository.
    """

    verdict: str
    why: str = ""
    poster: str = ""
    here: str = ""
    numbers: Numbers = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    runs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A claim with what was found, and what has changed in its rule since the runs it stands on.

    ``rule_status`` is "" without runs; "recorded": every record holds this rule; "changed": some
    record holds another, and ``changed`` says what was there; "not recorded": some record is older
    than rules in records.
    """

    claim: Claim
    finding: Finding
    rule_status: str = ""
    changed: dict[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """Return what the site reads."""
        claim = {k: v for k, v in asdict(self.claim).items() if k not in ("rule", "digits")}
        age = {"rule_status": self.rule_status, "changed": self.changed}
        return claim | {"rule": self.claim.rule["says"]} | age | asdict(self.finding)


def _other(then: Any, now: Any) -> dict[str, Any]:
    """List what a rule was, by key, where it is something else now."""
    if not isinstance(then, Mapping) or not isinstance(now, Mapping):
        return {"": then} if then != now else {}
    return {
        f"{key}.{rest}".strip("."): value
        for key in sorted(then.keys() | now.keys())
        for rest, value in _other(then.get(key), now.get(key)).items()
    }


def _age(e: Evidence, claim: Claim, runs: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Find ``rule_status`` and ``changed`` of a row."""
    held = {name: e.rule_of(e.used[name], claim.id) for name in runs}
    now = {k: v for k, v in claim.rule.items() if k != "note"}  # a remark decides nothing
    known = {name: _other(rule, now) for name, rule in sorted(held.items()) if rule}
    if changed := {name: what for name, what in known.items() if what}:
        return "changed", changed
    return "not recorded" if None in held.values() else "recorded" if held else "", {}


def judge(claim: Claim, e: Evidence) -> Row:
    """Decide one claim on the published results."""
    e.used.clear()
    try:
        finding = JUDGES[claim.rule["judge"]](e, claim)
    except NotTested as error:
        finding = Finding("not tested", str(error), poster_number(e, claim.rule["given"]))
    if note := claim.rule.get("note"):
        finding = replace(finding, verdict="note", why=note)
    return Row(claim, finding, *_age(e, claim, finding.runs))


def ledger(root: Path) -> list[Row]:
    """Decide every claim on what is published in ``root``; nothing is trained.

    Raises
    ------
    Damaged : a published file cannot be read, or is not the one that its record names.
    """
    evidence = Evidence(root)
    evidence.check()
    return [judge(claim, evidence) for claim in evidence.claims]


def as_json(rows: list[Row]) -> str:
    """Write the ledger as the file ``LEDGER``; to 12 digits, so that processors agree."""
    text = json.dumps([row.json() for row in rows], ensure_ascii=False)
    rounded = json.loads(  # JSON has no infinity
        text, parse_float=lambda s: float(f"{float(s):.12g}"), parse_constant=lambda _: None
    )
    return json.dumps(rounded, ensure_ascii=False, indent=1) + "\n"


# --- judges


def proved(e: Evidence, claim: Claim) -> Finding:
    """Name statements that Coq has checked; ``against`` are those that show what it depends on."""
    given = claim.rule["given"]
    known = {t["statement"]: t for t in e.proofs["theorems"] if t["checked"]}
    against = given.get("against", [])
    named = [*given["statements"], *against]
    if unknown := [name for name in named if name not in known]:
        raise NotTested(f"{unknown[0]} is not among the statements checked by `make proofs`")
    if "counter" in given and CHECKS[given["counter"]]() != (True, True):
        return Finding("contradicted", "the counter-example does not fail")
    files = e.certificates(given.get("certificates", ()))
    axioms = {axiom for name in given["statements"] for axiom in known[name]["axioms"]}
    said = f"Coq: {', '.join(named)}, on "
    said += f"{len(axioms)} axioms of its library" if axioms else "no axiom"
    said += f"; certificates checked again: {len(files)}" if files else ""
    verdict = "depends on" if against else "proved"
    return Finding(verdict, given.get("on", ""), here=said, files=files)


def certified(e: Evidence, claim: Claim) -> Finding:
    """Prove certificates again from their files."""
    files = e.certificates(claim.rule["given"]["certificates"])
    return Finding("certified", here=f"certificates checked again: {len(files)}", files=files)


def listed(e: Evidence, claim: Claim) -> Finding:
    """Name what the record of the proofs lists beside the checked: proved on paper, or open."""
    given = claim.rule["given"]
    known = {one["name"]: one["status"] for one in e.proofs["paper"]}
    if given["name"] not in known:
        raise NotTested(f"the record of the proofs does not list {given['name']}")
    said = {"paper": "proved on paper", "open": "open"}[known[given["name"]]]
    here = "Coq: not among the statements that it has checked"
    return Finding("note", f"{said}; {given['on']}", here=here)


def executed(e: Evidence, claim: Claim) -> Finding:
    """Execute a case in which the claim holds, and perhaps one in which it does not."""
    given = claim.rule["given"]
    holds, fails = CHECKS[given["check"]]()
    if not holds:
        return Finding("contradicted", "the case in which it should hold fails")
    if given.get("counter") and not fails:
        return Finding("contradicted", "the counter-example does not fail")
    verdict = "depends on" if given.get("counter") else "proved"
    files = e.certificates(given.get("certificates", ()))
    return Finding(verdict, given.get("on", ""), here=given["said"], files=files)


def consistent(e: Evidence, claim: Claim) -> Finding:
    """Compare the sizes in the poster's figures with those that its text lists."""
    given, rows = claim.rule["given"], e.poster
    rows = rows[rows["figure"].isin([int(f) for f in given["figures"]])]
    drawn = sorted(rows["hidden_units"].dropna().astype(int).unique())
    others = ", ".join(str(n) for n in drawn if n not in given["sizes"])
    verdict = "contradicted" if others else "reproduced"
    why = f"the poster's own figures have points at {others}" if others else ""
    return Finding(verdict, why, str(given["poster"]), f"drawn: {', '.join(map(str, drawn))}")


def measured(e: Evidence, claim: Claim) -> Finding:
    """Take a measure under each reading of the experiment, all of which must say yes."""
    given = claim.rule["given"]
    readings, measure = given.get("experiments") or given["readings"], MEASURES[given["measure"]]
    numbers: Numbers = {}
    answers: dict[str, Answer] = {}
    lines, missing = [], []
    for name in readings:
        try:
            found, answers[name] = measure(e, given, {**PLAIN, "experiment": name})
        except NotTested as error:
            answers[name] = "not run"
            missing.append(error)
            continue
        numbers |= {f"{name} {key}": values for key, values in found.items()}
        lines.append((f"{WORDS[name]}: " if len(readings) > 1 else "") + shown(found, claim))
    if not lines:
        raise missing[0]
    asked = [run.record["parameters"] for run in e.used.values()]
    if epochs := [of["epochs"] for of in asked if "epochs" in of]:
        lines.append(f"after {min(epochs)} epochs")
    verdict, why = _verdict(answers)
    if verdict == "reproduced" and CHECKS.get(given.get("counter"), tuple)() == (True, True):
        verdict, why = "depends on", given["on"]
    if verdict == "not tested":
        why = "not every size has been run"
    if "unfit" in answers.values():
        why = "networks were frozen; rounding decides when, and few seeds do not show that spread"
    elif verdict == "undecided":
        why = why or would_decide(found, "seeds" if given["measure"] == "accuracy" else "systems")
    here, poster = "\n".join(lines), poster_number(e, given)
    return Finding(verdict, why, poster, here, numbers, answers, tuple(sorted(e.used)))


def _verdict(answers: Mapping[str, Answer]) -> tuple[str, str]:
    """Make one verdict of the answers under several readings; say why it is not simply yes."""
    words = {"no": "contradicted", "open": "undecided", "unfit": "undecided"}
    said = ", ".join(f"{WORDS.get(of, of)} {words.get(a, a)}" for of, a in answers.items())
    kinds = set(answers.values()) - {"not run"}
    if "yes" in kinds and len(kinds) > 1:
        return "depends on", f"the reading of the experiment: {said}"
    one = {"yes": "reproduced", **words}.items()
    verdict = next((word for kind, word in one if kind in kinds), "not tested")
    return verdict, said if len(set(answers.values())) > 1 else ""


def would_decide(numbers: Numbers, units: str) -> str:
    """Say how many systems or seeds would decide what is open, where that was reckoned."""
    if "needed" not in numbers:
        return ""
    (needed,) = numbers["needed"]
    if 10_000 < needed < np.inf:
        return f"it would take more than 10 000 {units}"
    many = f"about {needed:.0f}" if needed < np.inf else "no number of"
    return f"{many} {units} would decide"


def answer_of(e: Evidence, given: Given, reading: Given) -> Answer:
    """Answer by a rule's measure under one reading; "not run" where that was not."""
    try:
        return MEASURES[given["measure"]](e, given, reading)[1]
    except NotTested:
        return "not run"


def read(e: Evidence, claim: Claim) -> Finding:
    """Take a measure under the primary reading, and those that differ from it in one choice.

    One of these with the opposite answer makes the verdict depend on that choice; it must have it
    at its share of the error.
    """
    given = claim.rule["given"]
    primary, readings = given["primary"], given["readings"]
    numbers, found = MEASURES[given["measure"]](e, given, primary)
    runs = tuple(sorted(e.used))
    others = [(k, v) for k, values in readings.items() for v in values if v != primary[k]]
    answers, against = {"primary": found}, []
    shared = {**given, "alpha": given["alpha"] / len(others)}
    for choice, value in others:
        reading = {**primary, choice: value}
        answer = answers[value] = answer_of(e, given, reading)
        if {found, answer} == {"yes", "no"} and answer_of(e, shared, reading) == answer:
            what, this, that = (WORDS.get(x, x) for x in (choice, primary[choice], value))
            against.append(f"the {what}: {this} {found}, {that} {answer}")
    verdict, why = {"yes": "reproduced", "no": "contradicted"}.get(found, "undecided"), ""
    if against:
        verdict, why = "depends on", "; ".join(against)
    elif found == "unfit":
        why = f"one size's interval covers {100 * numbers['short'][0]:.1f} points less than allowed"
        never = numbers.get("needed") == [np.inf]
        why += ", and at another no number of systems would decide" if never else ""
    elif found == "open":
        why = would_decide(numbers, "systems")
    counts = sorted(set(numbers["systems"]))
    many = " to ".join(f"{n:.0f}" for n in dict.fromkeys([counts[0], counts[-1]]))
    here = f"{shown(numbers, claim)} ({many} systems)"
    return Finding(verdict, why, poster_number(e, given), here, numbers, answers, runs)


# --- numbers as text


def shown(numbers: Numbers, claim: Claim) -> str:
    """Write our numbers, the intervals in brackets."""
    given = claim.rule["given"]
    if "lost" in numbers:
        (a, b), (of,) = numbers["lost"], numbers["of"]
        first, second = (model.upper() for model in given["models"])
        return f"{first} {a:.0f}, {second} {b:.0f} of {of:.0f}"
    digits, signed = 4 if given["measure"] == "contrast" else 3, "pairs" in given
    digits, sign = digits if claim.digits is None else claim.digits, "+" if signed else ""
    if "least" in numbers:
        return f"{numbers['least'][0]:.{digits}g} to {numbers['greatest'][0]:.{digits}g}"
    centre = numbers["mean"] if "mean" in numbers else numbers["median"]
    labels = [f"n = {n:.0f}: " for n in numbers.get("n", [])] or _labels(given)
    labels = [labels[int(k)] for k in numbers.get("at", range(len(labels)))]
    ends = zip(labels, centre, numbers["low"], numbers["high"], strict=True)
    return "; ".join(
        f"{label}{m:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"
        for label, m, low, high in ends
    )


def poster_number(e: Evidence, given: Given) -> str:
    """Write the poster's number, from the table of its curves; errors add in quadrature."""
    if given.get("measure") == "curve":
        points = e.drawn(given["figure"], given["model"].upper())
        return "; ".join(f"n = {n}: {v} ± {u}" for n, (v, u) in sorted(points.items()))
    texts = []
    for label, pair in zip(_labels(given), given.get("pairs", []), strict=False):
        a, b = (_read_off(e, given, *side) for side in pair)
        if a and b:
            texts.append(f"{label}{a[0] - b[0]:+.4f} ± {np.hypot(a[1], b[1]):.4f}")
        elif a:
            texts.append(f"{label}{a[0]} ± {a[1]}")
    return "; ".join(texts) or str(given.get("poster", ""))


def _read_off(e: Evidence, given: Given, model: str, n: int) -> tuple[float, float] | None:
    """Return the poster's value and reading error for one side of a pair, where it is drawn."""
    if given["measure"] == "accuracy":
        return e.drawn(4, *FIGURE_4[model]).get(n) if model in FIGURE_4 else None
    return e.drawn(given["figure"], "optimal" if model == "optimum" else model.upper()).get(n)


def _labels(given: Given) -> list[str]:
    """Name what tells a rule's pairs apart: the sizes, or where those do not, the second curve."""
    pairs = given.get("pairs", [])
    sizes = [(a, b) for (_, a), (_, b) in pairs]
    if len(pairs) < 2:
        return [""]
    if len(set(sizes)) < len(pairs):
        return [f"against {second}: " for _, (second, _) in pairs]
    return [f"n = {a}: " if a == b else f"{a} − {b}: " for a, b in sizes]


JUDGES: dict[str, Callable[[Evidence, Claim], Finding]] = {
    f.__name__: f for f in (proved, certified, listed, executed, consistent, measured, read)
}
