"""Tables for the page of Figures 2 and 3: every claim under every reading, and survivors.

On a page, with the checkout's root:

    table = specification(Evidence(root))
    table.pivot(index="claim", columns=list(table.columns[1:6]), values="answer")
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from companion.ledger.evidence import Evidence, Given, NotTested
from companion.ledger.judge import PLAIN, answer_of

if TYPE_CHECKING:
    import pandas as pd


def specification(e: Evidence) -> pd.DataFrame:
    """Every claim on Figures 2 and 3 under every reading: one row each.

    Returns
    -------
    claim, experiment, training, summary, lost, record : which. answer : yes, no, open, unfit, or
    not run. primary : whether this reading gives the verdict.
    """
    import pandas as pd

    rows = []
    for claim in e.claims:
        if claim.rule["judge"] != "read":
            continue
        given = claim.rule["given"]
        for values in itertools.product(*given["readings"].values()):
            reading = dict(zip(given["readings"], values, strict=True))
            row = {"claim": claim.id, **reading, "answer": answer_of(e, given, reading)}
            rows.append(row | {"primary": reading == given["primary"]})
    return pd.DataFrame(rows)


def survivors(e: Evidence, given: Given) -> pd.DataFrame:
    """What leaving out lost students does to URNN(2n) − RNN(n), on the runs that a rule names.

    Returns
    -------
    experiment, n : which. systems, lost_rnn, lost_urnn : how many. left_out, scored_0 : the mean
    difference over the systems on which neither was lost, and with 0 for those that were.
    """
    import pandas as pd

    rows = []
    for experiment, n in itertools.product(("released", "poster"), range(2, 8)):
        reading = {**PLAIN, "experiment": experiment}
        try:
            a, b = (e.scores(given, reading, m, k) for m, k in (("urnn", 2 * n), ("rnn", n)))
        except NotTested:
            continue
        row = {"experiment": experiment, "n": n, "systems": len(a)}
        row |= {"lost_rnn": int(b.isna().sum()), "lost_urnn": int(a.isna().sum())}
        row |= {"left_out": (a - b).mean(), "scored_0": (a.fillna(0) - b.fillna(0)).mean()}
        rows.append(row)
    return pd.DataFrame(rows)
