"""`companion verify`: what the ledger rests on, made again and compared with what is published.

Each check yields rows (what, where it ran, outcome, difference found, difference allowed). What
cannot run here is a row too, and says so.
"""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from companion.ledger import judge as claims
from companion.ledger.measures import Evidence, Published
from companion.running import page as runs
from companion.theory.certificate import (
    Certificate,
    CertificateError,
    certify_equivalence,
    certify_witness,
)
from companion.theory.files import write_whole

Array = np.ndarray
SHORT = 50  # updates: long float32 trajectories are chaotic, these are not yet
# float32 rounds at 6e-8 and float64 at 1e-16; fifty updates through 1000 steps magnify that by
# some hundreds, and another processor adds in another order
SHORT_RELATIVE = {"float32": 1e-4, "float64": 1e-9}


@dataclass(frozen=True)
class Outcome:
    """One row: ``state`` is "as published", "differs" or "not run"; ``why`` says more."""

    what: str
    where: str
    state: str
    found: float | None = None
    allowed: float | None = None
    why: str = ""

    def __str__(self) -> str:
        numbers = "" if self.found is None else f" {self.found:.2g} of {self.allowed:.2g} allowed"
        return f"{self.state:13} {self.what} ({self.where}):{numbers} {self.why}".rstrip(" :")


# --- certificates


def certificates() -> dict[str, Callable[[], Certificate]]:
    """Name -> what makes it, the same on every machine: no random floats, no linear algebra."""
    from companion import (
        RNN,
        delay_chain,
        find_sigmoid_witness,
        find_witness,
        memoryless_teacher,
        near_miss,
        rational_contraction,
        unitary_equivalent,
    )

    def equality(n: int, steps: int) -> Certificate:
        rng = np.random.default_rng(n)
        W, U = rational_contraction(n, rng)
        shapes = ((n, 2), n, (2, n), n)
        F, b, C, h = (rng.integers(-3, 4, s).astype(object) for s in shapes)
        rnn = RNN(W, F, b, C, abs(h))
        unitary = unitary_equivalent(rnn, 2.0, dilation=U)
        return certify_equivalence(rnn, unitary, rng.integers(-1, 2, (steps, 2)), input_bound=2)

    def refuted(student: RNN) -> Certificate:
        smooth = student.activation != "relu"
        witness = find_sigmoid_witness(student) if smooth else find_witness(student, 1.0)
        return certify_witness(student, witness, input_bound=None if smooth else 1.0)

    def one_less(n: int) -> RNN:
        """The true network of 2n states less one, whose neighbour then keeps the past."""
        N = 2 * n - 1
        U = np.roll(np.eye(2 * n), n, axis=0)[:N, :N]
        U[n - 1, n - 1] = 1
        b = np.r_[np.zeros(n), -2.0 * np.ones(n - 1)]
        return RNN(U, np.eye(N, n), b, np.eye(n, N), np.zeros(N))

    return {
        "T1": lambda: equality(3, 1000),
        "T1-large": lambda: equality(6, 100),
        "T2": lambda: refuted(one_less(3)),
        "T2-near": lambda: refuted(near_miss(3, 2.0**-10, 1.0)),
        "T3": lambda: refuted(RNN(np.eye(2), np.eye(2), np.zeros(2), np.eye(2), np.zeros(2),
                                  "sigmoid")),
        "T3-chain": lambda: refuted(delay_chain(memoryless_teacher(2, "sigmoid"), 4)),
    }  # fmt: skip


def _certificates(root: Path) -> Iterator[Outcome]:
    from companion.theory.certificate import recheck

    for name, make in certificates().items():
        path = root / f"book/results/certificates/{name}.json"
        try:
            published, made = recheck(path), make()
        except (CertificateError, OSError) as error:
            yield Outcome(f"certificate {name}", "exact", "differs", why=str(error))
            continue
        if (published.kind, published.statement) != (made.kind, made.statement):
            why = f"proves something else: {published.statement}"
            yield Outcome(f"certificate {name}", "exact", "differs", why=why)
            continue
        same = published.sha256 == made.sha256
        why = "proved again, and made again" + ("" if same else ": another, proved as well")
        yield Outcome(f"certificate {name}", "exact", "as published", why=why)


# --- Coq


def _proofs(root: Path, full: bool) -> Iterator[Outcome]:
    script = runpy.run_path(str(root / "proofs" / "check.py"))
    why = script["stale"]()
    state = "differs" if why else "as published"
    yield Outcome("Coq's record", "hash of the sources", state, why=why or "is of these sources")
    if not full:
        yield Outcome("Coq's proofs", "Coq", "not run", why="only with --full")
    elif shutil.which("coqc") is None:
        yield Outcome("Coq's proofs", "Coq", "not run", why="no coqc here; the record was checked")
    else:
        try:
            found = script["check"](full=True)
        except script["Failed"] as error:
            yield Outcome("Coq's proofs", "Coq", "differs", why=str(error))
            return
        names = [t["statement"] for t in found["theorems"]]
        yield Outcome("Coq's proofs", "Coq", "as published", why=f"{len(names)} statements")


# --- systems and students, drawn and trained again


def _difference(new: Array, old: Array) -> float:
    """Largest difference, relative to the larger of the two arrays' root mean squares."""
    scale = max(float(np.sqrt(np.mean(np.square(a)))) for a in (new, old))
    return float(np.max(np.abs(new - old)) / scale) if scale else 0.0


def _systems(root: Path, full: bool) -> Iterator[Outcome]:
    """The systems of the published runs, drawn and measured again."""
    from companion.experiments.synthetic import PRESETS, describe, experiment

    for run in Evidence(root).published("systems"):
        asked = run.record["parameters"]
        count = asked["realisations"] if full else 3
        setting = replace(PRESETS[asked["preset"]], snr_db=asked["snr_db"])
        drawn, *_ = experiment(
            setting, realisations=count, models=["rnn"], hidden_units=[2], seed=asked["seed"]
        )
        names = {"norm": "norm", "snr_db": "snr_db_realised", "r2_teacher": "r2_teacher"}
        new, old = [], []
        for i, found in enumerate(map(describe, drawn)):
            rows = [row for row in run.rows if row["system"] == i]
            for a, b in names.items():
                new.append(found[a])
                old.append(rows[0][b])
            for name in ("on", "memory"):
                new += found[name]  # type: ignore[arg-type]  # a list for these two
                old += [row[name] for row in rows]
        worst = max(abs(a - b) / abs(b) for a, b in zip(new, old, strict=True))
        # outputs are kept in float32; a lag of the autocorrelation is a whole number of steps
        state = "as published" if worst <= 1e-4 else "differs"
        what = f"{count} of {asked['realisations']} systems of {run.name}"
        yield Outcome(what, "float64", state, worst, 1e-4)


def short_runs(backend: str, dtype: str = "float32") -> Float[Array, "students numbers"]:
    """Test R² and training loss after ``SHORT`` updates of the first students of the full runs.

    RNN, URNN and LSTM of 2 and 4 units on the first system of `companion run synthetic` at its
    reported seed, from the same initial weights. (At 14 units the RNN is chaotic within 50 updates
    already: float32 and float64 are then 5e-4 apart.)
    """
    from companion.experiments.synthetic import PRESETS, experiment
    from companion.training import Options, fit

    _, students, train, test = experiment(
        PRESETS["released"], realisations=1, models=["rnn", "urnn", "lstm"], hidden_units=[2, 4],
        seed=2019,
    )  # fmt: skip
    found = fit(
        students, train, updates=SHORT, options=Options(output_bias=True), held_out={"test": test},
        seed=2019, backend=backend, dtype=dtype,  # type: ignore[arg-type]  # one of its names
    )  # fmt: skip
    return np.stack([found.r2["test"][:, -1], found.train_loss[:, -1]], axis=1)


def _short(root: Path) -> Iterator[Outcome]:
    """50 updates of recorded seeds: on this processor, in float64, on a GPU."""
    import torch

    path = root / "book/results/short.json"
    old = np.array(json.loads(path.read_text("utf-8"))["numbers"])
    places = [("this processor, float32", "cpu", "float32"),
              ("reference, float64", "reference", "float64")]  # fmt: skip
    what = f"{SHORT} updates of recorded seeds"
    for where, backend, dtype in places:
        yield _compared(what, where, short_runs(backend, dtype), old, SHORT_RELATIVE[dtype])
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name(0)
        yield _compared(what, f"GPU {name}, float32", short_runs("cuda"), old)
    else:
        yield Outcome(what, "GPU, float32", "not run", why="no GPU here")


def _compared(
    what: str, where: str, new: Array, old: Array, allowed: float = SHORT_RELATIVE["float32"]
) -> Outcome:
    worst = float(np.max(np.abs(new - old) / np.abs(old)))
    return Outcome(what, where, "as published" if worst <= allowed else "differs", worst, allowed)


# the runs whose students are many of a kind: their notebook's table, and what names a kind there
REPEATED = {
    "synthetic": ("students.parquet", ("model", "hidden_units")),
    "capacity": ("arms.parquet", ("arm",)),
}


def _full_runs(root: Path, out: Path) -> Iterator[Outcome]:
    """The full runs, made again: each mean within the interval of the published one."""
    evidence = Evidence(root)
    for kind, (table, names) in REPEATED.items():
        for run in evidence.published(kind):
            page = runs.load_page(root, run.record["notebook"])
            given = [(name, str(value)) for name, value in run.record["parameters"].items()]
            try:
                folder, how = runs.perform(page.run(given), root, out)
            except runs.Failed as error:
                yield Outcome(f"full run {run.name}", "any device", "differs", why=str(error))
                continue
            record = runs.done(folder) or {}
            found = _means(Published(run.name, record, folder / "results" / table), run, names)
            yield replace(found, why=f"{found.why}; {how}")
    if evidence.published("mnist"):
        why = "one network a point: no interval to compare a chaotic training by"
        yield Outcome("full runs of mnist", "any device", "not run", why=why)


def _means(again: Published, run: Published, names: tuple[str, ...]) -> Outcome:
    """Difference of mean test R², in units of the half-widths of both 95% intervals together."""
    from scipy import stats

    worst, where = 0.0, ""
    kinds = sorted({tuple(row[name] for name in names) for row in run.rows})
    for kind in kinds:
        means, widths = [], []
        for rows in (again.rows, run.rows):
            v = np.array([
                row["r2"] for row in rows if tuple(row[name] for name in names) == kind
                and row["diverged"] < 0 and row["r2"] > 0
            ])  # fmt: skip
            if len(v) > 1:  # where all others were lost there is no interval
                means.append(v.mean())
                widths.append(stats.sem(v) * stats.t.ppf(1 - 0.025 / len(kinds), len(v) - 1))
        apart = np.inf if len(means) == 1 else 0.0
        if len(means) == 2 and means[0] != means[1]:
            apart = abs(means[0] - means[1]) / np.hypot(*widths)
        worst, where = max((worst, where), (float(apart), " of ".join(map(str, kind))))
    state = "as published" if worst <= 1 else "differs"
    device = ", ".join(again.record["environment"]["gpus"]) or "this processor"
    return Outcome(f"full run {run.name}", device, state, worst, 1.0, f"furthest: {where}")


def _pages(root: Path, full: bool, out: Path) -> Iterator[Outcome]:
    """The theorem pages: whether they are of these sources, and with --full, run again."""
    for path in sorted((root / "notebooks").glob("*.md")):
        page = runs.load_page(root, path.stem)
        reasons = runs.stale(page, root)
        state = "differs" if reasons else "as published"
        why = "; ".join(reasons) or "its outputs are of these sources"
        if full and (lack := runs.lacking(page, root)):
            state, why = ("not run", lack) if not reasons else (state, why)
        elif full and not reasons:
            try:
                why = "its assertions hold again: " + runs.perform(page.run(), root, out)[1]
            except runs.Failed as error:
                state, why = "differs", str(error)
        yield Outcome(f"page {path.stem}", "this Python", state, why=why)


# --- the ledger


def _same(new: Any, old: Any) -> float:
    """Largest relative difference between two rows' numbers."""
    if new.keys() != old.keys() or any(len(new[k]) != len(old[k]) for k in old):
        return float("inf")
    return max((_difference(np.array(new[k]), np.array(old[k])) for k in old), default=0.0)


def _rows(root: Path) -> Iterator[Outcome]:
    """Every row judged again on the published tables, and compared with the published ledger."""
    published = {row["id"]: row for row in json.loads((root / claims.LEDGER).read_text("utf-8"))}
    rows = json.loads(claims.as_json(claims.ledger(root)))
    for row in rows:
        old = published.pop(row["id"], None)
        if old is None:
            yield Outcome(f"claim {row['id']}", "tables", "differs", why="is not in the ledger")
            continue
        apart = _same(row["numbers"], old["numbers"])
        why = row["verdict"]
        changed = [name for name in row if name != "numbers" and row[name] != old.get(name)]
        if row["verdict"] != old["verdict"]:
            why = f"{old['verdict']} in the ledger, now {row['verdict']} ({row['why']})"
        elif changed:
            why += f"; other than published: {', '.join(changed)}"
        state = "differs" if apart > 1e-9 or changed else "as published"
        yield Outcome(f"claim {row['id']}", "tables", state, apart, 1e-9, why)
    for name in published:
        yield Outcome(f"claim {name}", "tables", "differs", why="is no claim of these sources")


def verify(root: Path, *, full: bool, out: Path) -> Iterator[Outcome]:
    """All checks, one row at a time; full runs go to ``out``, and are not made again there."""
    yield from _certificates(root)
    yield from _proofs(root, full)
    yield from _rows(root)
    yield from _pages(root, full, out)
    yield from _systems(root, full)
    yield from _short(root)
    if full:
        yield from _full_runs(root, out)
    else:
        yield Outcome("full runs", "any device", "not run", why="only with --full")


def as_json(outcomes: list[Outcome], root: Path) -> str:
    """The outcomes with the machine that they were found on."""
    from companion.running import record as provenance

    content = {"environment": provenance.environment(root), **provenance.git_state(root)}
    content["outcomes"] = [  # JSON knows no infinity
        asdict(o) | {"found": o.found if o.found is None or np.isfinite(o.found) else None}
        for o in outcomes
    ]
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def publish(root: Path) -> list[str]:
    """Write what is missing of the certificates and the short run, then the ledger; their names.

    Nothing that is there is replaced but the ledger, which is remade from the results.
    """
    results, written = root / "book" / "results", []
    (results / "certificates").mkdir(parents=True, exist_ok=True)
    for name, make in certificates().items():
        path = results / "certificates" / f"{name}.json"
        if not path.is_file():
            make().save(path)
            written.append(str(path.relative_to(root)))
    if not (path := results / "short.json").is_file():
        from companion.running import record as provenance

        content = {
            "what": f"test R² and training loss after {SHORT} updates, of verify.short_runs",
            "backend": "reference, float64",
            "source_tree": provenance.source_tree_hash(root / "src" / provenance.PACKAGE),
            "environment": provenance.environment(root),
            "numbers": short_runs("reference", "float64").tolist(),
        }
        write_whole(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
        written.append(str(path.relative_to(root)))
    text, path = claims.as_json(claims.ledger(root)), root / claims.LEDGER
    if not path.is_file() or path.read_text("utf-8") != text:
        write_whole(path, text)
        written.append(claims.LEDGER)
    return written
