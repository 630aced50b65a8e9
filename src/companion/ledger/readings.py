"""What `companion claims --write` publishes: the ledger, and two tables for Figures 2 and 3.

``book/results/readings.csv`` has every claim under every reading, ``survivors.csv`` what leaving
out lost students does. On a page:

    table = pd.read_csv("../book/results/readings.csv")
    table.pivot(index="claim", columns=list(table.columns[1:6]), values="answer")
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd

from companion.ledger.evidence import Evidence, Given, NotTested
from companion.ledger.judge import LEDGER, PLAIN, answer_of, as_json, ledger
from companion.theory.files import write_whole

SPECIFICATION, SURVIVORS = "book/results/readings.csv", "book/results/survivors.csv"
FILES = (LEDGER, SPECIFICATION, SURVIVORS)


def texts(root: Path) -> dict[str, str]:
    """Write the texts that follow from the published results: the ledger and two tables."""
    rows, e = ledger(root), Evidence(root)
    given = next(c.rule["given"] for c in e.claims if c.id == "F2-halves")
    tables = [survivors(e, {**given, "snr_db": snr}) for snr in (20.0, 15.0)]
    return {
        LEDGER: as_json(rows),
        SPECIFICATION: specification(e).to_csv(index=False),
        SURVIVORS: pd.concat(tables).to_csv(index=False, float_format="%.9g"),
    }


def publish(root: Path) -> list[str]:
    """Write those of `texts` that are not as their files; return their names."""
    old = {n: (root / n).read_text("utf-8") if (root / n).is_file() else "" for n in FILES}
    new = {name: text for name, text in texts(root).items() if text != old[name]}
    for name, text in new.items():
        write_whole(root / name, text)
    return list(new)


def specification(e: Evidence) -> pd.DataFrame:
    """Answer every claim on Figures 2 and 3 under every reading: one row each.

    Returns
    -------
    claim, experiment, training, summary, lost, record : which. answer : yes, no, open, unfit, or
    not run. primary : whether this reading gives the verdict.
    """
    rows = []
    for claim in (c for c in e.claims if c.rule["judge"] == "read"):
        given = claim.rule["given"]
        for values in itertools.product(*given["readings"].values()):
            reading = dict(zip(given["readings"], values, strict=True))
            row = {"claim": claim.id, **reading, "answer": answer_of(e, given, reading)}
            rows.append(row | {"primary": reading == given["primary"]})
    return pd.DataFrame(rows)


def survivors(e: Evidence, given: Given) -> pd.DataFrame:
    """Show what leaving out lost students does to URNN(2n) − RNN(n), on a rule's runs.

    Returns
    -------
    snr_db, experiment, n : which. systems, lost_rnn, lost_urnn : how many. left_out, scored_0 : the
    mean difference over the systems on which neither was lost, and with 0 for those that were.
    """
    rows = []
    for experiment, n in itertools.product(("released", "poster"), range(2, 8)):
        reading = {**PLAIN, "experiment": experiment}
        try:
            a, b = (e.scores(given, reading, m, k) for m, k in (("urnn", 2 * n), ("rnn", n)))
        except NotTested:
            continue
        a, b = a.align(b, join="inner")  # a block can have one of the two alone
        row = {"snr_db": given["snr_db"], "experiment": experiment, "n": n, "systems": len(a)}
        row |= {"lost_rnn": int(b.isna().sum()), "lost_urnn": int(a.isna().sum())}
        means = {"left_out": (a - b).mean(), "scored_0": (a.fillna(0) - b.fillna(0)).mean()}
        rows.append(row | means)
    return pd.DataFrame(rows)
