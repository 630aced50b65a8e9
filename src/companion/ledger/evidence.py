"""What the ledger reads: the claims with their rules, and what is published to decide them on.

``book/claims.yaml`` holds the rules, ``book/results`` the evidence. Everything read here is checked
first: a record names its tables by SHA-256, and a file that cannot be read, or is not the one its
record names, stops the ledger with its name. Nothing here trains, draws or writes.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
import runpy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from companion.theory.certificate import CertificateError, recheck
from companion.training.students import is_lost

Given = Mapping[str, Any]  # what a rule asks, or one reading of it
CLAIMS, RULES = "book/claims.yaml", "book/results/recorded-rules.yaml"
KINDS = ("synthetic", "systems", "capacity", "mnist")
# Curve of Figure 4 -> its name and learning rate in the table of the poster's curves.
FIGURE_4 = {
    "urnn": ("URNN", 0.001),
    "contractive": ("contractive RNN", 0.001),
    "rnn/10": ("RNN", 0.0001),
    "rnn": ("RNN", 0.001),
}


class NotTested(LookupError):
    """What a rule needs has not been published; the text says what."""


class Damaged(RuntimeError):
    """A published file cannot be read, or is not the one that its record names."""


@dataclass(frozen=True)
class Claim:
    """A claim of the poster or of this project, as ``book/claims.yaml`` holds it.

    Parameters
    ----------
    id : stable name. section : of the ledger. where : on the poster, "" for a result of ours.
    says : the poster's words, or our reading of its figure. page : of this book, where it is run.
    rule : how it is decided: ``says`` in words, ``judge`` and ``given`` for the code, ``notebook``
        whose runs it is decided on, ``note`` where there is nothing to reproduce.
    history : what is known of the rule's age. digits : shown of the numbers.
    """

    id: str
    section: str
    where: str
    says: str
    page: str
    rule: Given
    history: str = ""
    digits: int | None = None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file in what goes wrong while it is read."""
    try:
        yield
    except (OSError, ValueError, RecursionError, yaml.YAMLError, CertificateError) as error:
        raise Damaged(f"{path} cannot be read: {error}") from error


def mapping(path: Path) -> dict[str, Any]:
    """Read the mapping in a JSON or YAML file; `Damaged` names a file that holds none."""
    with reading(path):
        found = (json.loads if path.suffix == ".json" else yaml.safe_load)(path.read_bytes())
    if not isinstance(found, dict):
        raise Damaged(f"{path} holds a {type(found).__name__}, where a mapping is expected.")
    return found


@dataclass(frozen=True)
class Published:
    """A published run: its record, and the path of its table, whose hash stands in the record."""

    name: str
    record: dict[str, Any]
    path: Path

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """All rows."""
        with reading(self.path):
            data = self.path.read_bytes()
            if hashlib.sha256(data).hexdigest() not in self.record["tables"].values():
                raise ValueError(f"it is not the table that the record of {self.name} names.")
            return pd.read_parquet(io.BytesIO(data))

    @functools.cached_property
    def rows(self) -> pd.DataFrame:
        """The rows at the last update, where there are updates."""
        table = self.table
        return table[table["update"] == table["update"].max()] if "update" in table else table

    @functools.cached_property
    def students(self) -> dict[Any, pd.DataFrame]:
        """The rows of each model and size, by seed and number of the system."""
        rows = self.rows.assign(seed=self.record["parameters"]["seed"]).set_index(["seed", "data"])
        return dict(iter(rows.groupby(["model", "hidden_units"], observed=True)))

    def has(self, wanted: Given, least: Given) -> bool:
        """Say whether it had these parameters, and at least these; one not known yet was 0."""
        had = self.record["parameters"]
        enough = all(had.get(k, 0) >= v for k, v in least.items())
        return enough and all(had.get(k, 0) == v for k, v in wanted.items())


@dataclass(eq=False)
class Evidence:
    """The published results of a checkout, read when first asked for.

    Parameters
    ----------
    root : the checkout. only : names of the runs to look at; by default all.
    used : the runs that were looked into, by name, since it was last emptied.
    """

    root: Path
    only: Sequence[str] | None = None
    used: dict[str, Published] = field(default_factory=dict)

    @functools.cached_property
    def book(self) -> dict[str, Any]:
        """``book/claims.yaml``: what the rules have in common, and the claims."""
        return mapping(self.root / CLAIMS)

    @functools.cached_property
    def claims(self) -> tuple[Claim, ...]:
        """Every claim, in the order of the ledger."""
        return tuple(Claim(**claim) for claim in self.book["claims"])

    @functools.cached_property
    def recorded(self) -> dict[str, Any]:
        """Hash -> claim and rule, for records that are older than rules as data."""
        return mapping(self.root / RULES)

    def rule_of(self, run: Published, claim: str) -> Given | None:
        """Return the rule of a claim that a run's record holds; None where it holds none."""
        held: str | Given | None = run.record["rules"].get(claim)
        if not isinstance(held, str):
            return held
        if held not in self.recorded:  # it is from before rules were data
            raise Damaged(f"the record of {run.name} names a rule {held} that {RULES} lacks.")
        return dict(self.recorded[held]["rule"])

    @functools.cached_property
    def proofs(self) -> dict[str, Any]:
        """What `make proofs` recorded, if it is of the present sources."""
        record = mapping(self.root / "book/results/proofs.json")
        if why := runpy.run_path(str(self.root / "proofs" / "check.py"))["stale"]():
            raise NotTested(why)
        return record

    @functools.cached_property
    def poster(self) -> pd.DataFrame:
        """The poster's curves, as read off its figures."""
        path = self.root / "book/results/poster-figures.csv"
        with reading(path):
            data = path.read_bytes().replace(b"\r\n", b"\n")
            if hashlib.sha256(data).hexdigest() != self.book["common"]["poster_figures_sha256"]:
                raise ValueError(f"it is not the table that {CLAIMS} names.")
            return pd.read_csv(io.BytesIO(data))

    def drawn(self, figure: int, model: str, rate: float = 0.01) -> dict[int, tuple[float, float]]:
        """Read a curve of the poster: value and reading error by hidden units; 0 for a line."""
        rows = self.poster
        rows = rows[(rows["figure"] == figure) & (rows["model"] == model)]
        rows = rows[rows["learning_rate"].isna() | np.isclose(rows["learning_rate"], rate)]
        units = rows["hidden_units"].fillna(0).astype(int)
        return dict(zip(units, zip(rows["value"], rows["uncertainty"], strict=True), strict=True))

    @functools.cache  # noqa: B019  # an Evidence lives as long as one command
    def published(self, kind: str) -> tuple[Published, ...]:
        """Read the runs in ``book/results/kind/``, the earliest first.

        NAME.json is a run's record; NAME.parquet, or NAME-epochs.parquet, its table.
        """
        found, expected = [], {"parameters": dict, "finished": str, "tables": dict, "rules": dict}
        for path in sorted((self.root / "book/results" / kind).glob("*.json")):
            record, name = {"rules": {}} | mapping(path), f"{kind}/{path.stem}"
            for key, of in expected.items():
                if not isinstance(record.get(key), of):
                    raise Damaged(f"{path} is no record of a run: it has no {key}.")
            table, epochs = (path.with_name(f"{path.stem}{end}.parquet") for end in ("", "-epochs"))
            if self.only is None or name in self.only:
                found.append(Published(name, record, epochs if epochs.is_file() else table))
        return tuple(sorted(found, key=lambda run: run.record["finished"]))

    def check(self) -> None:
        """Read everything that a verdict may rest on; `Damaged` names what is not whole."""
        _ = self.claims, self.recorded, self.poster
        for kind in KINDS:
            for run in self.published(kind):
                _ = run.table
            for path in sorted((self.root / "book/results" / kind).glob("*.parquet")):
                stems = (path.stem, path.stem.rpartition("-")[0])
                if not any((path.parent / f"{stem}.json").is_file() for stem in stems):
                    raise Damaged(f"{path} has no record beside it.")

    def certificates(self, names: Sequence[str]) -> tuple[str, ...]:
        """Prove certificates again, each of the kind that its name stands for; give their files."""
        files = tuple(f"book/results/certificates/{name}.json" for name in names)
        for name, file in zip(names, files, strict=True):
            kind, words = self.book["common"]["certificates"][name]
            with reading(self.root / file):
                found = recheck(self.root / file)
            if found.kind != kind or not re.search(words, found.statement):
                raise Damaged(f"{file} proves something else: {found.statement}")
        return files

    def run(self, kind: str, wanted: Given, least: Given) -> Published:
        """Find the earliest run with these parameters, and at least these."""
        for run in self.published(kind):
            if run.has(wanted, least):
                self.used[run.name] = run
                return run
        what = ", ".join(f"{k} {v}" for k, v in wanted.items())
        raise NotTested(f"no published run of {kind} with {what}")

    def scores(self, given: Given, reading: Given, model: str, n: int) -> pd.Series:
        """Take the test R² of each system's student, by seed and number of the system.

        A student is lost when it diverged or is worse than the answer 0; the reading says whether
        it then scores 0 or is left out. At the record that is best by validation a student that
        diverged later is not lost.
        """
        wanted = {"preset": reading["experiment"], "snr_db": given["snr_db"], **given["run"]}
        wanted["clip"] = 1 if reading["training"] == "clipped" else 0
        column = "r2" if reading["record"] == "last update" else "r2_chosen"
        found = []
        for run in self.published("synthetic"):
            seed = run.record["parameters"]["seed"]
            if run.has(wanted, {}) and seed in given.get("seeds", [seed]):
                rows = run.students.get((model, n))
                if rows is not None and column in rows:
                    self.used[run.name] = run
                    found.append(rows[[column, "diverged"]])
        if not found:
            asked = ", ".join(reading.values())
            raise NotTested(f"no published run of {model} with {n} units: {asked}")
        rows = pd.concat(found)
        r2: pd.Series = rows[column].astype(float)
        lost = is_lost(rows["diverged"] if column == "r2" else np.array(-1), r2)
        return r2.mask(lost, 0.0 if reading["lost"] == "scored 0" else np.nan)

    def accuracies(self, given: Given, curve: str, units: int) -> tuple[pd.Series, bool]:
        """Take the test accuracy of each seed, where its validation accuracy was best.

        Only of runs with at least the epochs and images that are asked for; and if one was frozen.
        """
        model, _, slower = curve.partition("/")
        least = {k: v for k, v in given["least"].items() if k != "seeds"}
        found: dict[int, tuple[float, bool]] = {}
        for run in self.published("mnist"):
            if not run.has({}, least):
                continue
            rows = run.table[(run.table["model"] == model) & (run.table["hidden_units"] == units)]
            rate = np.isclose(rows["learning_rate"], 1e-3 / float(slower or 1), rtol=1e-6)
            for seed, of in rows[rate].groupby("fit_seed"):
                wide = of.pivot(index="update", columns="held_out", values="accuracy")
                best = wide["validation"].fillna(-1).idxmax()  # the first of equals
                found.setdefault(seed, (float(wide["test"][best]), (of["diverged"] >= 0).any()))
                self.used[run.name] = run
        if len(found) < given["least"].get("seeds", 1):
            asked = " and ".join(f"{v} {k}" for k, v in given["least"].items())
            raise NotTested(f"no published {curve} of {units} units with at least {asked}")
        return pd.Series({k: v for k, (v, _) in found.items()}), any(f for _, f in found.values())
