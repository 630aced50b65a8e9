"""How a claim is decided: from a rule's constants and the published results to a finding.

A *measure* turns results into numbers and an answer, and is part of the rule: its code is hashed
with the rule's words and constants. A *judge* turns answers into a verdict. Nothing here trains,
draws or writes; `companion.ledger.verify` remakes the results themselves.
"""

from __future__ import annotations

import ast
import csv
import functools
import hashlib
import inspect
import json
import re
import runpy
import textwrap
import tokenize
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from jaxtyping import Float

from companion.experiments.synthetic import optimum, paired_difference
from companion.theory.network import RNN, simulate
from companion.theory.similarity import similarity

Array = np.ndarray
Given = Mapping[str, Any]
Numbers = dict[str, list[float]]
VERDICTS = ("proved", "certified", "reproduced", "depends on", "not reproduced", "not tested")
KEPT = VERDICTS[:3]  # what `companion verify` must find again
# Curve of Figure 4 -> its name and learning rate in the table of the poster's curves.
FIGURE_4 = {
    "urnn": ("URNN", "0.001"),
    "contractive": ("contractive RNN", "0.001"),
    "rnn/10": ("RNN", "0.0001"),
    "rnn": ("RNN", "0.001"),
}


class NotTested(LookupError):
    """What a rule needs is not there; its text says what."""


@dataclass(frozen=True)
class Finding:
    """What a judge found.

    Parameters
    ----------
    verdict : one of ``VERDICTS``. why : on what it depends, or what is missing, in words.
    poster, here : the two numbers, as text.
    numbers : ours as arrays, by name, to be compared with a rerun's.
    runs : names of the published runs they come from, such as "synthetic/released-20".
    files : certificates and records, relative to the repository.
    """

    verdict: str
    why: str = ""
    poster: str = ""
    here: str = ""
    numbers: Numbers = field(default_factory=dict)
    runs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """A published run: its record, and the path of its table."""

    name: str
    record: dict[str, Any]
    path: Path

    @functools.cached_property
    def table(self) -> list[dict[str, Any]]:
        """All rows."""
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.read_table(self.path).to_pylist()
        return rows

    @functools.cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows at the last update, where there are updates."""
        last = max((row["update"] for row in self.table if "update" in row), default=None)
        return [row for row in self.table if row.get("update") == last]

    @functools.cached_property
    def students(self) -> set[tuple[str, int]]:
        """Model and hidden units of its students."""
        return {(row["model"], row["hidden_units"]) for row in self.rows}


class Evidence:
    """The published results of a checkout, read when first asked for.

    Parameters
    ----------
    root : the checkout. claim, rule : id of the claim that is being decided, and hash of its rule.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.results = root, root / "book" / "results"
        self.used: dict[str, Published] = {}
        self.claim, self.rule = "", ""

    @functools.cached_property
    def proofs(self) -> dict[str, Any]:
        """What `make proofs` recorded, if it is of the present sources."""
        if why := runpy.run_path(str(self.root / "proofs" / "check.py"))["stale"]():
            raise NotTested(why)
        record: dict[str, Any] = json.loads((self.results / "proofs.json").read_text("utf-8"))
        return record

    @functools.cached_property
    def poster(self) -> list[dict[str, str]]:
        """The poster's curves, as read off its figures."""
        with (self.results / "poster-figures.csv").open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    @functools.cache  # noqa: B019  # an Evidence lives as long as one command
    def published(self, kind: str) -> tuple[Published, ...]:
        """The runs in ``book/results/kind/``, the earliest first.

        NAME.json is a run's record; NAME.parquet, or NAME-epochs.parquet, its table.
        """
        found = []
        for path in sorted((self.results / kind).glob("*.json")):
            tables = (path.with_suffix(".parquet"), path.with_name(f"{path.stem}-epochs.parquet"))
            table = next((t for t in tables if t.is_file()), None)
            record = json.loads(path.read_text("utf-8"))
            if table and "parameters" in record:
                found.append(Published(f"{kind}/{path.stem}", record, table))
        return tuple(sorted(found, key=lambda run: run.record["finished"]))

    def curve(self, figure: int, model: str, rate: str = "0.01") -> dict[int, tuple[float, float]]:
        """Hidden units -> value and reading error of one of the poster's curves."""
        rows = [
            row for row in self.poster
            if (row["figure"], row["model"]) == (str(figure), model)
            and row["learning_rate"] in ("", rate)
        ]  # fmt: skip
        return {
            int(r["hidden_units"] or 0): (float(r["value"]), float(r["uncertainty"])) for r in rows
        }

    def rank(self, run: Published) -> tuple[int, str]:
        """Runs made for the rule come first, then for the claim's other rules, then the earliest.

        A run that was made when the rule stood is a test of it; an older one only describes.
        """
        held = run.record.get("rules", {}).get(self.claim)
        return 0 if held == self.rule else 2 if held is None else 1, run.record["finished"]

    def candidates(
        self, kind: str, wanted: Given, least: Given
    ) -> tuple[list[Published], list[str]]:
        """The runs with these parameters, and at least these, by `rank`; what others lack."""
        found, short = [], []
        for run in sorted(self.published(kind), key=self.rank):
            values = run.record["parameters"]
            if any(values.get(name) != value for name, value in wanted.items()):
                continue
            if lacks := [f"{values.get(k)} {k}" for k, v in least.items() if values.get(k, 0) < v]:
                short.append(f"{run.name} has {', '.join(lacks)}")
            else:
                found.append(run)
        return found, short

    def run(self, kind: str, wanted: Given, least: Given) -> Published:
        """The first of the `candidates`."""
        found, short = self.candidates(kind, wanted, least)
        if not found:
            what = ", ".join(f"{k} {v}" for k, v in wanted.items())
            raise NotTested("; ".join(short) or f"no published run of {kind} with {what}")
        self.used[found[0].name] = found[0]
        return found[0]

    def together(self, given: Given, reading: str) -> dict[str, Published]:
        """Model -> run of Figures 2 and 3 for all that a rule compares: on the same systems."""
        if "pairs" in given:
            needed = {(m, n) for pair in given["pairs"] for m, n in pair if m != "optimum"}
        else:
            models = given.get("models") or [given["model"]]
            points = given.get("sizes") or self.curve(given["figure"], models[0].upper())
            needed = {(model, n) for model in models for n in points}
        wanted = {"preset": reading, "snr_db": given["snr_db"], **given["run"]}
        systems: dict[Any, dict[str, Published]] = {}
        found, short = self.candidates("synthetic", wanted, given["least"])
        for run in found:
            same = tuple(run.record["parameters"][name] for name in ("seed", "realisations"))
            for model in {m for m, _ in needed}:
                if {(m, n) for m, n in needed if m == model} <= run.students:
                    systems.setdefault(same, {}).setdefault(model, run)
        whole = [runs for runs in systems.values() if len(runs) == len({m for m, _ in needed})]
        if not whole:
            what = ", ".join([*(f"{m} {n}" for m, n in sorted(needed)), f"preset {reading}"])
            lacks = f"no published runs of synthetic on the same systems with {what}"
            raise NotTested("; ".join(short) or lacks)
        return min(whole, key=lambda runs: max(map(self.rank, runs.values())))

    def scores(self, given: Given, reading: str, model: str, n: int) -> Float[Array, " systems"]:
        """Test R² of each system's student, NaN where it was lost: diverged, or worse than 0."""
        run = self.together(given, reading)[model]
        self.used[run.name] = run
        rows = [r for r in run.rows if (r["model"], r["hidden_units"]) == (model, n)]
        rows.sort(key=lambda r: r["data"])
        return np.array([r["r2"] if r["diverged"] < 0 and r["r2"] > 0 else np.nan for r in rows])

    def accuracies(self, given: Given, curve: str, units: int) -> Float[Array, " seeds"]:
        """Test accuracy of each seed at the epoch at which its validation accuracy was best.

        Only of runs with at least the epochs and training images that are asked for.
        """
        model, _, slower = curve.partition("/")
        rate = 1e-3 / float(slower or 1)
        found: dict[int, float] = {}
        for run in self.published("mnist"):
            if any(run.record["parameters"].get(k, 0) < v for k, v in given["least"].items()):
                continue
            of = [r for r in run.table if (r["model"], r["hidden_units"]) == (model, units)]
            of = [r for r in of if np.isclose(r["learning_rate"], rate, rtol=1e-6)]
            for seed in sorted({row["fit_seed"] for row in of} - found.keys()):
                known = {
                    part: {
                        row["update"]: np.nan_to_num(row["accuracy"], nan=-1.0)
                        for row in of
                        if (row["fit_seed"], row["held_out"]) == (seed, part)
                    }
                    for part in ("validation", "test")
                }
                validation = known["validation"]
                best = max(sorted(validation), key=validation.__getitem__)  # the first of equals
                found[seed] = known["test"][best]
                self.used[run.name] = run
        if not found:
            least = " and ".join(f"{v} {k}" for k, v in given["least"].items())
            raise NotTested(f"no published {curve} of {units} units with at least {least}")
        return np.array(list(found.values()))


# --- measures: the part of a rule that is code. No presentation here: their source is hashed.

Answer = str  # "yes", "no" or "undecided"


def answer(yes: Sequence[bool], no: Sequence[bool]) -> Answer:
    """Yes if every part is, no if one is contradicted."""
    return "yes" if all(yes) else "no" if any(no) else "undecided"


def contrast(e: Evidence, given: Given, reading: str) -> tuple[Numbers, Answer]:
    """Paired differences a − b of test R² over the systems where neither was lost.

    ``pairs`` lists [[model, n], [model, n]]; the model "optimum" is 1/(1 + 10^(−SNR/10)). ``is``:
    "below" by more than the margin, "not below" by more than it, or "equivalent" within it. Each
    pair is tested at ``alpha`` for yes, which needs them all (an intersection-union test, Berger
    1982), and at its share of alpha for no, for which one is enough.
    """
    alpha, yes, no = given["alpha"], [], []
    numbers: Numbers = {"mean": [], "low": [], "high": [], "systems": []}
    for (model_a, n_a), (model_b, n_b) in given["pairs"]:
        a = e.scores(given, reading, model_a, n_a)
        if model_b == "optimum":
            b = np.full(len(a), optimum(given["snr_db"]))
        else:
            b = e.scores(given, reading, model_b, n_b)
        both = np.isfinite(a) & np.isfinite(b)
        margin = given["margin"] or 1.0
        d = paired_difference(a[both], b[both], margin=margin, level=1 - alpha)
        wide = paired_difference(
            a[both], b[both], margin=margin, level=1 - alpha / len(given["pairs"])
        )
        if given["is"] == "below":
            yes.append(d.high < -given["margin"])
            no.append(wide.low > -given["margin"])
        elif given["is"] == "not below":
            yes.append(d.low > -margin)
            no.append(wide.high < -margin)
        else:
            yes.append(d.p_equivalent < alpha)
            no.append(wide.low > margin or wide.high < -margin)
        for name, value in zip(numbers, (d.mean, d.low, d.high, d.pairs), strict=True):
            numbers[name].append(float(value))
    return numbers, answer(yes, no)


def curve(e: Evidence, given: Given, reading: str) -> tuple[Numbers, Answer]:
    """Our mean at each size of the poster's curve, against its value within its reading error.

    A size agrees where our interval, at most ``resolution`` to each side, meets the poster's.
    """
    points = e.curve(given["figure"], given["model"].upper())
    level = 1 - given["alpha"] / len(points)
    yes, no = [], []
    numbers: Numbers = {"n": [], "mean": [], "low": [], "high": [], "poster": [], "error": []}
    for n, (value, error) in sorted(points.items()):
        v = e.scores(given, reading, given["model"], n)
        v = v[np.isfinite(v)]
        d = paired_difference(v, np.zeros(len(v)), margin=1.0, level=level)
        meets = d.low <= value + error and d.high >= value - error
        yes.append(meets and (d.high - d.low) / 2 <= given["resolution"])
        no.append(not meets)
        row = (n, d.mean, d.low, d.high, value, error)
        for name, number in zip(numbers, row, strict=True):
            numbers[name].append(float(number))
    return numbers, answer(yes, no)


def divergence(e: Evidence, given: Given, reading: str) -> tuple[Numbers, Answer]:
    """Lost students of two models on the same systems and sizes; exact McNemar test of pairs."""
    from scipy.stats import binomtest

    a, b = (
        np.concatenate([np.isnan(e.scores(given, reading, model, n)) for n in given["sizes"]])
        for model in given["models"]
    )
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    sure = p < given["alpha"]
    numbers = {"lost": [float(a.sum()), float(b.sum())], "of": [float(len(a))]}
    return numbers, answer([sure and only_a < only_b], [sure and only_a > only_b])


def within(e: Evidence, given: Given, reading: str) -> tuple[Numbers, Answer]:
    """Median over the systems of one of their properties, against ``low`` to ``high``.

    ``of`` reduces a system's units or modes to one number ("mean", "min" or "max"). With ``every``
    each system must lie within; otherwise the median's distribution-free interval must.
    """
    from scipy.stats import quantile_test

    wanted = {"preset": reading, "snr_db": given["snr_db"], "seed": given["seed"]}
    rows = e.run("systems", wanted, {"realisations": given["systems"]}).rows
    reduce: Any = {"mean": np.mean, "min": np.min, "max": np.max}[given["of"]]
    values = np.array(
        [
            reduce([row[given["column"]] for row in rows if row["system"] == i])
            for i in sorted({row["system"] for row in rows})
        ]
    )
    values = given["T"] / values if "T" in given else values
    lowest, highest = given["low"], given["high"]
    if given.get("every"):
        inside = (values > lowest) & (values < highest)
        numbers = {"least": [float(values.min())], "greatest": [float(values.max())]}
        return numbers, answer([bool(inside.all())], [not inside.all()])
    ends = quantile_test(values, p=0.5).confidence_interval(1 - given["alpha"])
    low, high = float(ends.low), float(ends.high)
    numbers = {"median": [float(np.median(values))], "low": [low], "high": [high]}
    return numbers, answer([lowest <= low and high <= highest], [high < lowest or low > highest])


def accuracy(e: Evidence, given: Given, reading: str) -> tuple[Numbers, Answer]:
    """Differences of test accuracy a − b on permuted MNIST, from the early-stopped weights.

    ``pairs`` lists [[curve, N], [curve, N]]; the curve "poster NAME" is the poster's own.
    The error of each mean is that between seeds where there are at least three, and otherwise the
    binomial one of 10 000 images, which leaves out that another seed trains differently.
    """
    from scipy.stats import norm

    numbers: Numbers = {"mean": [], "low": [], "high": []}
    yes, no = [], []
    z = float(norm.ppf(1 - given["alpha"] / 2))
    z_wide = float(norm.ppf(1 - given["alpha"] / len(given["pairs"]) / 2))
    for pair in given["pairs"]:
        mean, variance, margin = 0.0, 0.0, given["margin"]
        for sign, (name, units) in zip((1, -1), pair, strict=True):
            if name.startswith("poster "):
                mean += sign * e.curve(4, *FIGURE_4[name.removeprefix("poster ")])[units][0]
                continue
            v = e.accuracies(given, name, units)
            mean += sign * float(v.mean())
            share = v.var(ddof=1) if len(v) >= 3 else v.mean() * (1 - v.mean()) / 10_000 * len(v)
            variance += float(share) / len(v)
        low, high = mean - z * variance**0.5, mean + z * variance**0.5
        if given["is"] == "above":
            yes.append(low > 0)
            no.append(mean + z_wide * variance**0.5 < 0)
        else:
            yes.append(low >= -margin and high <= margin)
            no.append(abs(mean) - z_wide * variance**0.5 > margin)
        for name, value in zip(numbers, (mean, low, high), strict=True):
            numbers[name].append(value)
    return numbers, answer(yes, no)


# --- checks without a run: executed here, exactly


def _similar() -> tuple[bool, bool]:
    """An invertible T and an identity activation, with b → Tb, and with b left as it is."""
    rng = np.random.default_rng(0)
    T = np.array([[2, 1], [1, 1]])
    shapes = ((2, 2), (2, 1), 2, (1, 2), 2)
    W, F, b, C, h_init = (rng.integers(-3, 4, s).astype(object) for s in shapes)
    a = RNN(W, F, b, C, h_init, "identity")
    moved = similarity(a, T.astype(object))
    x = rng.integers(-3, 4, (50, 1)).astype(object)
    left = RNN(moved.W, moved.F, a.b, moved.C, moved.h_init, "identity")
    y = simulate(a, x)
    return bool((simulate(moved, x) == y).all()), bool((simulate(left, x) != y).any())


def _non_expansive() -> tuple[bool, bool]:
    from companion.theory.network import ACTIVATIONS

    u, v = np.random.default_rng(0).standard_normal((2, 100_000)) * 5
    slack = 1e-15
    holds = all(
        (np.abs(ACTIVATIONS[name](u) - ACTIVATIONS[name](v)) <= np.abs(u - v) + slack).all()
        for name in ("relu", "sigmoid")
    )
    return holds, False


def _gradient() -> tuple[bool, bool]:
    """Through 50 steps of a permutation: kept where every unit is on, gone where all were off."""
    U, g = np.eye(3, dtype=int)[[1, 2, 0]], np.array([3, -4, 12])
    kept, gone = g, g
    for step in range(50):
        kept, gone = U.T @ kept, U.T @ (gone * (step != 25))
    return bool(kept @ kept == g @ g), not gone.any()


def _scalar(w: Fraction, f: int, h: int) -> RNN:
    """The network h = ReLU(w h + f x), y = h, of one state that starts at ``h``."""
    values = ([[w]], [[f]], [0], [[1]], [h])
    W, F, b, C, h_init = (np.array(v, dtype=object) for v in values)
    return RNN(W, F, b, C, h_init, "relu")


def _states() -> tuple[bool, bool]:
    """Under a constant input the state of W = 1 passes every bound; that of W = 1/2 is below 2."""
    ones = np.ones((1000, 1), dtype=object)
    one, half = _scalar(Fraction(1), 1, 0), _scalar(Fraction(1, 2), 1, 0)
    return bool((simulate(half, ones) < 2).all()), bool(simulate(one, ones)[-1, 0] == 1000)


def _expansive() -> tuple[bool, bool]:
    """The network h = ReLU(2h) doubles; a unitary state grows by at most ‖F‖X + ‖b‖ a step."""
    y = simulate(_scalar(Fraction(2), 0, 1), np.zeros((200, 1), dtype=object))
    return True, all(v == 2 ** (k + 1) for k, v in enumerate(y[:, 0]))


CHECKS: dict[str, Callable[[], tuple[bool, bool]]] = {
    "similarity": _similar,
    "non-expansive": _non_expansive,
    "gradient": _gradient,
    "bounded states": _states,
    "expansive": _expansive,
}
MEASURES: dict[str, Callable[[Evidence, Given, str], tuple[Numbers, Answer]]] = {
    f.__name__: f for f in (contrast, curve, divergence, within, accuracy)
}


def code_digest(function: Callable[..., Any]) -> str:
    """Hash of a function's statements and of those of this package that it calls.

    Comments, docstrings and layout do not count; how results are read is `reading_digest`'s.
    """
    sources: dict[str, str] = {}
    todo: list[Callable[..., Any]] = [function]
    while todo:
        f = todo.pop()
        name = f"{f.__module__}.{f.__qualname__}"
        if name in sources:
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(f)))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
        sources[name] = ast.unparse(tree)
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        called = (getattr(inspect.getmodule(f), name, None) for name in names)
        todo += [
            g for g in called if isinstance(g, FunctionType) and g.__module__[:9] == "companion"
        ]
    return hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()


@functools.cache
def reading_digest() -> str:
    """Hash of what decides before a measure does, and of the counter-examples that qualify a yes.

    Which runs and rows are read, who counts as lost, which epoch is kept. Of the text without
    comments, docstrings and white space, since Python 3.12 writes a syntax tree otherwise.
    """
    texts = []
    readers: list[Callable[..., Any]] = [Published, Evidence, *CHECKS.values()]
    for code in readers:
        source = textwrap.dedent(inspect.getsource(code))
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
                first = node.body[0]
                for number in range(first.lineno - 1, first.end_lineno or 0):
                    lines[number] = ""
        tokens = tokenize.generate_tokens(iter([line + "\n" for line in lines]).__next__)
        kept = (token.string for token in tokens if token.type != tokenize.COMMENT)
        texts.append(re.sub(r"\s", "", "".join(kept)))
    return hashlib.sha256(json.dumps([*texts, FIGURE_4]).encode()).hexdigest()[:16]


# --- judges


def proved(e: Evidence, given: Given) -> Finding:
    """Statements that Coq has checked; ``against`` are those that show what it depends on."""
    known = {t["statement"]: t for t in e.proofs["theorems"] if t["checked"]}
    against = tuple(given.get("against", ()))
    for name in (*given["statements"], *against):
        if name not in known:
            raise NotTested(f"{name} is not among the statements checked by `make proofs`")
    if "counter" in given and CHECKS[given["counter"]]() != (True, True):
        return Finding("not reproduced", "contradicted: the counter-example does not fail")
    certificates = _certificates(e, given)
    axioms = sorted({axiom for name in given["statements"] for axiom in known[name]["axioms"]})
    said = "Coq: " + ", ".join((*given["statements"], *against))
    said += f", on {len(axioms)} axioms of its library" if axioms else ", on no axiom"
    if certificates:
        said += f"; {len(certificates)} certificates re-checked"
    verdict = "depends on" if against else "proved"
    return Finding(verdict, given.get("on", ""), "", said, files=certificates)


# What a certificate of this name has to be: its kind, and words of its statement.
CERTIFIES = {
    "T1": ("equality", "ReLU network of 3 states and a unitary one of 6"),
    "T1-large": ("equality", "ReLU network of 6 states and a unitary one of 12"),
    "T2": ("difference", "relu teacher gives .* this student of 5 states"),
    "T2-near": ("difference", "relu teacher gives .* this student of 4 states"),
    "T3": ("difference", "sigmoid teacher gives .* this student of 2 states"),
    "T3-chain": ("difference", "sigmoid teacher gives .* this student of 8 states"),
}


def _certificates(e: Evidence, given: Given) -> tuple[str, ...]:
    from companion.theory.certificate import CertificateError, recheck

    found = []
    for name in given.get("certificates", ()):
        file = f"book/results/certificates/{name}.json"
        if not (e.root / file).is_file():
            raise NotTested(f"{file} is missing")
        certificate, (kind, words) = recheck(e.root / file), CERTIFIES[name]
        if certificate.kind != kind or not re.search(words, certificate.statement):
            raise CertificateError(f"{file} proves something else: {certificate.statement}")
        found.append(file)
    return tuple(found)


def certified(e: Evidence, given: Given) -> Finding:
    """Certificates that are proved again from their files."""
    files = _certificates(e, given)
    return Finding("certified", here=f"{len(files)} certificates re-checked", files=files)


def executed(e: Evidence, given: Given) -> Finding:
    """A case in which the claim holds, and perhaps one in which it does not, both executed."""
    holds, fails = CHECKS[given["check"]]()
    if not holds:
        return Finding("not reproduced", "contradicted: the case in which it should hold fails")
    if given.get("counter") and not fails:
        return Finding("not reproduced", "contradicted: the counter-example does not fail")
    verdict = "depends on" if given.get("counter") else "proved"
    return Finding(verdict, given.get("on", ""), here=given["said"], files=_certificates(e, given))


def consistent(e: Evidence, given: Given) -> Finding:
    """Whether the poster's figures have points at the sizes that its text lists, and no others."""
    rows = [row for row in e.poster if row["figure"] in given["figures"] and row["hidden_units"]]
    drawn = sorted({int(row["hidden_units"]) for row in rows})
    others = [n for n in drawn if n not in given["sizes"]]
    here = "drawn: " + ", ".join(map(str, drawn))
    if not others:
        return Finding("reproduced", "", str(given["poster"]), here)
    why = f"contradicted by the poster's own figures, with points at {', '.join(map(str, others))}"
    return Finding("not reproduced", why, str(given["poster"]), here)


def measured(e: Evidence, given: Given) -> Finding:
    """A measure taken under each reading of the experiment."""
    e.used = {}
    numbers: Numbers = {}
    answers: dict[str, Answer] = {}
    lines = []
    missing = []
    for reading in given["readings"]:
        try:
            found, answers[reading] = MEASURES[given["measure"]](e, given, reading)
        except (NotTested, ValueError) as error:  # the latter: all but one student were lost
            answers[reading] = "not run"
            missing.append(NotTested(str(error)))
            continue
        numbers |= {f"{reading} {name}": values for name, values in found.items()}
        lines.append((f"{reading}: " if len(given["readings"]) > 1 else "") + _shown(found, given))
    if len(missing) == len(given["readings"]):
        raise missing[0]
    if epochs := [run.record["parameters"]["epochs"] for run in e.used.values() if "epochs" in
                  run.record["parameters"]]:  # fmt: skip
        lines.append(f"after {min(epochs)} epochs")
    yes = [reading for reading, a in answers.items() if a == "yes"]
    rest = {reading: a for reading, a in answers.items() if a != "yes"}
    words = {"no": "contradicted", "undecided": "undecided", "not run": "not run"}
    if not rest:
        verdict, why = "reproduced", ""
    elif yes:
        verdict = "depends on"
        why = "the reading of the experiment: " + ", ".join(
            f"{r} {'yes' if a == 'yes' else words[a]}" for r, a in answers.items()
        )
    else:
        verdict = "not reproduced"
        kinds = set(rest.values())
        why = words[kinds.pop()] if len(kinds) == 1 else ", ".join(
            f"{r} {words[a]}" for r, a in rest.items()
        )  # fmt: skip
    if verdict == "reproduced" and "counter" in given:
        holds, fails = CHECKS[given["counter"]]()
        verdict, why = ("depends on", given["on"]) if holds and fails else (verdict, why)
    return Finding(
        verdict, why, poster_number(e, given), "\n".join(lines), numbers, tuple(sorted(e.used))
    )


def _shown(numbers: Numbers, given: Given) -> str:
    """Our numbers as text, the intervals in brackets."""
    digits = given.get("digits", 4 if given["measure"] == "contrast" else 3)
    sign = "+" if given["measure"] in ("contrast", "accuracy") else ""
    centre = numbers.get("mean", numbers.get("median"))
    if centre is not None:
        labels = [f"n = {n:.0f}: " for n in numbers.get("n", [])]
        labels = labels or [_label(pair, given) for pair in given.get("pairs", [])] or [""]
        return "; ".join(
            f"{label}{m:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"
            for label, m, low, high in zip(
                labels, centre, numbers["low"], numbers["high"], strict=True
            )
        )
    if "lost" in numbers:
        (a, b), (of,) = numbers["lost"], numbers["of"]
        first, second = (model.upper() for model in given["models"])
        return f"{first} {a:.0f}, {second} {b:.0f} of {of:.0f}"
    return f"{numbers['least'][0]:.{digits}g} to {numbers['greatest'][0]:.{digits}g}"


def _named(e: Evidence, given: Given, side: Sequence[Any]) -> tuple[float, float] | None:
    """The poster's value and reading error for one side of a pair, where its figure shows it."""
    model, n = "optimal" if side[0] == "optimum" else side[0].upper(), side[-1]
    if given["measure"] == "accuracy":
        return e.curve(4, *FIGURE_4[side[0]]).get(n) if side[0] in FIGURE_4 else None
    return e.curve(given["figure"], model).get(n)


def poster_number(e: Evidence, given: Given) -> str:
    """The poster's number, from the table of its curves; errors add in quadrature."""
    if given.get("measure") == "curve":
        points = e.curve(given["figure"], given["model"].upper())
        return "; ".join(f"n = {n}: {v} ± {u}" for n, (v, u) in sorted(points.items()))
    shown = []
    for pair in given.get("pairs", []):
        a, b = (_named(e, given, side) for side in pair)
        if a and b:
            shown.append(f"{_label(pair, given)}{a[0] - b[0]:+.4f} ± {np.hypot(a[1], b[1]):.4f}")
        elif a:
            shown.append(f"{_label(pair, given)}{a[0]} ± {a[1]}")
    return "; ".join(shown) or str(given.get("poster", ""))


def _label(pair: Sequence[Any], given: Given) -> str:
    if len(given["pairs"]) == 1:
        return ""
    a, b = pair[0][-1], pair[1][-1]
    if len({(p[0][-1], p[1][-1]) for p in given["pairs"]}) < len(given["pairs"]):
        return f"against {pair[1][0]}: "
    return f"n = {a}: " if a == b else f"{a} − {b}: "


JUDGES: dict[str, Callable[[Evidence, Given], Finding]] = {
    f.__name__: f for f in (proved, certified, executed, consistent, measured)
}
