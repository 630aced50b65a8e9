"""The ledger: every claim of the poster, its number, ours, the rule, and the verdict.

A rule is fixed by its words, its constants and the code that measures; the hash of these stands in
the record of every run made for it, so that a rule changed after a run shows as such.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from companion.ledger import measures as judges
from companion.ledger.measures import Evidence, Finding, NotTested
from companion.theory.certificate import CertificateError

LEDGER = "book/results/claims.json"
# `judges.reading_digest` when the first runs recorded the hashes of rules, which did not cover it;
# any other is part of every rule's hash. It never changes.
READING = "34de54066c5c9ddd"


@dataclass(frozen=True)
class Rule:
    """How a claim is decided, fixed before the run that decides it.

    Parameters
    ----------
    says : in words. judge : a key of `judges.JUDGES`. given : its constants, JSON-ready.
    notebook : whose runs it is decided on; "" if none is needed.
    """

    says: str
    judge: str
    given: Mapping[str, Any]
    notebook: str = ""

    @property
    def sha256(self) -> str:
        """Hash of words, constants (but for the digits shown), code and how results are read."""
        given = {name: value for name, value in self.given.items() if name != "digits"}
        code: Callable[..., Any] = judges.JUDGES[self.judge]
        if "measure" in given:
            code = judges.MEASURES[given["measure"]]
        elif "check" in given:
            code = judges.CHECKS[given["check"]]
        content = [self.says, self.judge, given, judges.code_digest(code)]
        if (reading := judges.reading_digest()) != READING:
            content.append(reading)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Claim:
    """A claim of the poster.

    Parameters
    ----------
    id : stable name. section : of the ledger. where : on the poster.
    says : the poster's words, or our reading of its figure. page : of this book, where it is run.
    rule : how it is decided. history : what is known of the rule's age beside its hash.
    """

    id: str
    section: str
    where: str
    says: str
    page: str
    rule: Rule
    history: str = ""


@dataclass(frozen=True)
class Row:
    """A claim with what was found, and how the rule stands to the run's record."""

    claim: Claim
    finding: Finding
    rule_status: str
    records: dict[str, str] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """What the site and `companion verify` read."""
        claim = {k: v for k, v in asdict(self.claim).items() if k != "rule"}
        rule: dict[str, Any] = {"rule": self.claim.rule.says, "rule_sha256": self.claim.rule.sha256}
        rule |= {"rule_status": self.rule_status, "records": self.records}
        return claim | rule | asdict(self.finding)


def status(claim: Claim, records: Mapping[str, Mapping[str, Any]]) -> str:
    """How the rule stands to the runs it was applied to: what their records say of it.

    Returns
    -------
    "" without runs; "recorded": every record holds this hash; "changed": some record holds
    another; "not recorded": some record holds none, since the run is older than the rule's hash.
    """
    held = {record.get("rules", {}).get(claim.id) for record in records.values()}
    if not held:
        return ""
    if held == {claim.rule.sha256}:
        return "recorded"
    return "changed" if held - {None, claim.rule.sha256} else "not recorded"


def judge(claim: Claim, evidence: Evidence) -> Row:
    """Decide one claim on the published results."""
    evidence.claim, evidence.rule = claim.id, claim.rule.sha256
    try:
        finding = judges.JUDGES[claim.rule.judge](evidence, claim.rule.given)
    except NotTested as error:
        poster = judges.poster_number(evidence, claim.rule.given)
        finding = Finding("not tested", str(error), poster)
    except CertificateError as error:
        finding = Finding("not reproduced", f"contradicted: {error}")
    records = {name: evidence.used[name].record for name in finding.runs}
    held = {n: r.get("rules", {}).get(claim.id, "") for n, r in records.items()}
    return Row(claim, finding, status(claim, records), held)


def ledger(root: Path) -> list[Row]:
    """Every claim, decided on what is published in ``root``; a few seconds, nothing is trained."""
    evidence = Evidence(root)
    return [judge(claim, evidence) for claim in CLAIMS]


def as_json(rows: list[Row]) -> str:
    """The ledger as the file ``LEDGER``; numbers to 12 digits, so that processors agree."""
    text = json.dumps([row.json() for row in rows], ensure_ascii=False, indent=1)
    rounded = json.loads(text, parse_float=lambda s: float(f"{float(s):.12g}"))
    return json.dumps(rounded, ensure_ascii=False, indent=1) + "\n"


# --- the claims

BOTH = ["released", "poster"]
OLDER = (
    "Written when the first runs of RNN and URNN, of seed 2019, were already in the repository; "
    "those of seed 2027 were made with it in place (their plan: commit 4385dec)."
)
PRIMARY = (
    "The contrast and its margin were fixed in the project's plan before the run, and "
    "`paired_difference` was in its code; but the words entered this repository with the results "
    "(commit 85900cf), so of that run the repository by itself does not show which came first. The "
    "run of seed 2028, on 240 systems, was made with the rule in place (its plan: commit 4385dec)."
)
RUN = {"learning_rate": 0.01, "initialisation": "orthogonal"}
LEAST = {"realisations": 30, "updates": 7000}
SIZES = [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14]


def _figure(snr_db: float, measure: str, says: str, readings: list[str], **given: Any) -> Rule:
    common = {"measure": measure, "snr_db": snr_db, "alpha": 0.05, "readings": readings}
    common |= {"run": RUN, "least": LEAST, "figure": 2 if snr_db == 20.0 else 3}
    return Rule(says, "measured", common | given, "synthetic")


def _pairs(
    snr_db: float,
    what: str,
    kind: str,
    pairs: list[Any],
    readings: list[str] | None = None,
    margin: float = 0.005,
) -> Rule:
    says = (
        f"Paired difference of test R² at the last update, {what}, over the systems on which "
        "neither student was lost (diverged, or worse than the answer 0); at least 30 systems and "
        "7000 updates. "
    )
    says += {
        "below": f"Yes if every interval lies below {-margin:g}, no if one lies above.",
        "not below": f"Yes if every interval lies above {-margin:g}, no if one lies below.",
        "equivalent": f"Yes if two one-sided tests put it within ±{margin:g}, no if its interval "
        "lies outside.",
    }[kind]
    says += " Level 95%" + (f", for a no shared among {len(pairs)}." * (len(pairs) > 1) or ".")
    given = {"pairs": pairs, "is": kind, "margin": margin}
    return _figure(snr_db, "contrast", says, readings or BOTH, **given)


def _curve(snr_db: float, model: str) -> Rule:
    says = (
        "At each size of the poster's curve the interval of our mean (95%, shared among the sizes) "
        "meets the poster's value within its reading error, and is at most 0.02 to each side; no "
        "if one misses it."
    )
    return _figure(snr_db, "curve", says, BOTH, model=model, resolution=0.02)


def _of_figure(number: int, snr_db: float) -> list[Claim]:
    where, page = f"Figure {number}, SNR {snr_db:g} dB", "notebooks/figures-2-3"

    def claim(name: str, says: str, rule: Rule, history: str = OLDER) -> Claim:
        return Claim(f"F{number}-{name}", f"Figure {number}", where, says, page, rule, history)

    small, halves = [2, 3, 4], [2, 3, 4, 5, 6, 7]
    at_8_4 = [[["urnn", 8], ["rnn", 4]]]
    found = [
        claim(
            "double",
            "A URNN of 8 units does as well as an RNN of 4: twice the states make up for it.",
            _pairs(
                snr_db,
                "URNN(8) − RNN(4), under `released`" + (": the primary contrast" * (number == 2)),
                "equivalent", at_8_4, ["released"],
            ),
            PRIMARY if number == 2 else OLDER,
        ),
        claim(
            "below",
            "With equally few units (2, 3, 4) the URNN is worse than the RNN.",
            _pairs(
                snr_db, "URNN(n) − RNN(n)", "below",
                [[["urnn", n], ["rnn", n]] for n in small], margin=0.0,
            ),
        ),
        claim(
            "halves",
            "At every n from 2 to 7 a URNN of 2n units is not worse than an RNN of n.",
            _pairs(
                snr_db, "URNN(2n) − RNN(n)", "not below",
                [[["urnn", 2 * n], ["rnn", n]] for n in halves],
            ),
        ),
        *(
            claim(
                f"{model}-optimum",
                f"The {model.upper()} of 14 units comes within 0.005 of the optimum."
                if number == 2 else
                f"The {model.upper()} of 14 units stays more than 0.005 below the optimum.",
                _pairs(
                    snr_db, f"{model.upper()}(14) − optimum",
                    "not below" if number == 2 else "below", [[[model, 14], ["optimum", 0]]],
                ),
            )
            for model in ("rnn", "urnn")
        ),
        claim(
            "rnn-rises",
            "The RNN's curve does not fall from 8 to 14 units.",
            _pairs(snr_db, "RNN(14) − RNN(8)", "not below", [[["rnn", 14], ["rnn", 8]]]),
        ),
        claim(
            "urnn-rises",
            "The URNN's curve does not fall from 8 to 14 units.",
            _pairs(snr_db, "URNN(14) − URNN(8)", "not below", [[["urnn", 14], ["urnn", 8]]]),
        ),
        claim("rnn-curve", "The RNN's curve, size by size.", _curve(snr_db, "rnn")),
        claim("urnn-curve", "The URNN's curve, size by size.", _curve(snr_db, "urnn")),
    ]  # fmt: skip
    if number == 2:
        sizes = [4, 6, 8, 10, 12, 14]
        lstm = (
            "Written without sight of a result of the LSTM at this scale; but the first such run "
            "had ended shortly before these words entered the repository."
        )
        found += [
            claim(
                "lstm-below",
                "The LSTM is worse than the RNN with as many units, from 4 on.",
                _pairs(
                    snr_db, "LSTM(n) − RNN(n)", "below",
                    [[["lstm", n], ["rnn", n]] for n in sizes], margin=0.0,
                ),
                lstm,
            ),
            claim(
                "lstm-urnn",
                "The LSTM does about as well as the URNN with as many units, from 4 on.",
                _pairs(
                    snr_db, "LSTM(n) − URNN(n)", "equivalent",
                    [[["lstm", n], ["urnn", n]] for n in sizes],
                ),
                lstm,
            ),
            claim("lstm-curve", "The LSTM's curve, size by size.", _curve(snr_db, "lstm"), lstm),
        ]  # fmt: skip
    return found


def _systems(says: str, column: str, low: float, high: float, **given: Any) -> Rule:
    common = {"measure": "within", "readings": BOTH, "column": column, "low": low, "high": high}
    common |= {"of": "mean", "alpha": 0.05, "systems": 30, "seed": 2019, "snr_db": 20.0}
    return Rule(says, "measured", common | given, "systems")


def _median(what: str) -> str:
    return (
        f"The 95% interval of the median over the 30 systems of the runs (seed 2019) of {what}; no "
        "if it lies outside."
    )


def _setup() -> list[Claim]:
    where, page = "Numerical simulations, data generation", "notebooks/systems"
    infinite = 1e308  # as JSON has no infinity

    def claim(name: str, says: str, rule: Rule) -> Claim:
        return Claim(f"S-{name}", "Set-up", where, says, page, rule)

    tau = "time_constant"
    optima = [
        claim(
            f"optimum-{snr:g}",
            f"At {snr:g} dB no student can be better than the optimum line of Figure {figure}.",
            _systems(
                _median("the R² of the teacher is the line within its reading error of 0.002"),
                "r2_teacher", line - 0.002, line + 0.002,
                snr_db=snr, digits=4, poster=f"{line} ± 0.002",
            ),
        )
        for figure, snr, line in ((2, 20.0, 0.99), (3, 15.0, 0.9695))
    ]  # fmt: skip
    noise = [
        claim(
            f"snr-{snr:g}",
            f"Additive output noise with SNR = {snr:g} dB.",
            _systems(
                _median("the SNR realised on the test sequences is within 0.1 dB of it"),
                "snr_db_realised", snr - 0.1, snr + 0.1,
                snr_db=snr, poster=f"{snr:g} dB", digits=2,
            ),
        )
        for snr in (20.0, 15.0)
    ]  # fmt: skip
    return [
        claim(
            "contractive",
            "The system W = I − εAᵀA/‖A‖² is contractive.",
            _systems("‖W‖₂ < 1 for every one of the 30 systems of the runs (seed 2019).",
                     "norm", 0.0, 1.0, every=True, poster="‖W‖ < 1", digits=10),
        ),
        claim(
            "on",
            "Biases are adjusted so that hidden states are on 60% of the time.",
            _systems(_median("the mean share on of its four units is within 0.02 of 0.6"),
                     "on", 0.58, 0.62, poster="0.6"),
        ),
        claim(
            "time",
            "The time constant of the system is 1/ε = 100 steps.",
            _systems(_median("the time constant of its fastest mode is within 5 of 100 steps"),
                     tau, 95.0, 105.0, of="min", poster="100 steps", digits=0),
        ),
        claim(
            "length",
            "T = 1000 is ten time constants.",
            _systems(_median("T over the time constant of its slowest mode is at least 10"),
                     tau, 10.0, infinite, of="max", T=1000, poster="10", digits=2),
        ),
        claim(
            "memory",
            "ε = 0.01 makes a slowly varying system with long-term dependencies.",
            _systems(
                _median("the lag at which the autocorrelation of its slowest unit falls below 1/e "
                        "is at least 1/ε = 100 steps"),
                "memory", 100.0, infinite, of="max", poster="about 100 steps", digits=0,
            ),
        ),
        *noise,
        *optima,
        Claim(
            "S-sizes", "Set-up", "Numerical simulations, learning the system",
            "Students have 2, 4, 6, 8, 10, 12 or 14 hidden units.", "notebooks/figures-2-3",
            Rule(
                "The curves of Figures 2 and 3, as read off, have points at these sizes only.",
                "consistent",
                {"figures": ["2", "3"], "sizes": [2, 4, 6, 8, 10, 12, 14], "poster": "even sizes"},
            ),
        ),
    ]  # fmt: skip


def _mnist() -> list[Claim]:
    where, page = "Figure 4, permuted MNIST", "notebooks/figure-4"
    units = [16, 32, 48, 64, 80, 96]

    def claim(name: str, says: str, kind: str, pairs: list[Any], least: dict[str, int]) -> Claim:
        rule = "Test accuracy of the weights kept by early stopping on a validation set. "
        rule += {
            "above": "Yes if the interval of every difference lies above 0, no if one lies below.",
            "near": "Yes if the interval of every difference from the poster's value lies within "
            "0.01, no if one lies outside.",
        }[kind]
        rule += (
            f" At least {least['epochs']} epochs on 50 000 images. Level 95%, for a no shared "
            f"among {len(pairs)}; errors between seeds where there are three, or of 10 000 images."
        )
        given = {
            "measure": "accuracy", "readings": ["mnist"], "is": kind, "pairs": pairs,
            "margin": 0.01, "alpha": 0.05, "least": least,
        }  # fmt: skip
        history = (
            "Its constants were in this repository before the first run of permuted MNIST at this "
            "scale had ended."
        )
        built = Rule(rule, "measured", given, "permuted-mnist")
        return Claim(f"F4-{name}", "Figure 4", where, says, page, built, history)

    def against(a: str, b: str, at: list[int], twice: int = 1) -> list[Any]:
        return [[[a, twice * n], [b, n]] for n in at]

    few, many = ({"epochs": e, "train_images": 50_000} for e in (10, 100))
    return [
        claim("urnn-contractive",
              "From 32 units on, but for 80, the URNN is more accurate than the contractive RNN.",
              "above", against("urnn", "contractive", [32, 48, 64, 96]), few),
        claim("contractive-16", "With 16 units the contractive RNN is more accurate than the URNN.",
              "above", against("contractive", "urnn", [16]), few),
        claim("double", "A URNN of 2N units is more accurate than a contractive RNN of N.",
              "above", against("urnn", "contractive", [16, 32, 48], twice=2), few),
        claim("urnn-rnn", "The URNN is more accurate than the RNN trained at a rate of 1e-4.",
              "above", against("urnn", "rnn/10", units), few),
        claim("rnn-fails",
              "At a rate of 1e-3 the RNN of 64 units and more falls behind that of 48.",
              "above", [[["rnn", 48], ["rnn", n]] for n in (64, 80, 96)], few),
        claim("best", "The URNN of 96 units is the most accurate of all.",
              "above", [[["urnn", 96], [c, 96]] for c in ("contractive", "rnn/10", "rnn")], few),
        *(
            claim(f"{name}-curve", f"The curve of the {label}, size by size.", "near",
                  [[[curve, n], [f"poster {curve}", n]] for n in units], many)
            for name, label, curve in (
                ("urnn", "URNN", "urnn"),
                ("contractive", "contractive RNN", "contractive"),
                ("rnn-slow", "RNN at a rate of 1e-4", "rnn/10"),
                ("rnn-fast", "RNN at a rate of 1e-3", "rnn"),
            )
        ),
    ]  # fmt: skip


def _background() -> list[Claim]:
    page = "notebooks/background"

    def claim(name: str, where: str, says: str, rule: Rule) -> Claim:
        return Claim(f"B-{name}", "Background", f"Background, {where}", says, page, rule)

    stable = _figure(
        20.0, "divergence",
        "In training: over all systems and sizes of Figure 2 fewer URNNs than RNNs are lost "
        "(diverged, or worse than the answer 0), exact McNemar test at 5%. As a mapping: a state "
        "under a bounded input stays bounded.",
        BOTH, models=["urnn", "rnn"], sizes=SIZES, counter="bounded states",
        on="what is meant: training, yes; a bounded state, no, since with W = 1 and x = 1 it "
        "counts the steps, and with W = 1/2 it stays below 2",
    )  # fmt: skip
    return [
        claim(
            "similarity", "equivalence of RNNs",
            "With the identity activation an invertible T gives an equivalent network by "
            "W → TWT⁻¹, C → CT⁻¹, F → TF, h₋₁ → Th₋₁.",
            Rule(
                "Executed in rational arithmetic, with a bias; the proof is on the page.",
                "executed",
                {
                    "check": "similarity", "counter": True,
                    "on": "b → Tb as well, which the poster's list leaves out",
                    "said": "with b → Tb equal over 50 steps, exactly; with b kept, different",
                },
            ),
        ),
        claim(
            "states", "equivalence of RNNs",
            "Equivalent networks may have different states and different parameters.",
            Rule("One pair, certified: 3 and 6 states, equal outputs.", "certified",
                 {"certificates": ["T1"]}),
        ),
        claim(
            "non-expansive", "contractive RNNs",
            "ReLU and the sigmoid are non-expansive.",
            Rule(
                "|max(u, 0) − max(v, 0)| ≤ |u − v|, and σ′ = σ(1 − σ) = ¼ − (½ − σ)² ≤ ¼; looked "
                "for a counter-example among random pairs.",
                "executed",
                {"check": "non-expansive", "said": "no counter-example in 100 000 pairs of each"},
            ),
        ),
        claim(
            "gradient", "unitary RNNs",
            "URNNs overcome the vanishing and exploding gradient problem.",
            Rule(
                "A gradient through 50 steps of an orthogonal W, executed in integers: with every "
                "ReLU on, and with all of them off at one step.",
                "executed",
                {
                    "check": "gradient", "counter": True,
                    "on": "the activation: it never explodes, and keeps its norm where every unit "
                    "is on; ReLUs that are off still make it vanish",
                    "said": "all on: norm kept, exactly; all off once: 0",
                },
            ),
        ),
        claim("stability", "unitary RNNs", "URNNs improve the stability of the network.", stable),
    ]  # fmt: skip


def _theorems() -> list[Claim]:
    def claim(number: int, name: str, says: str, rule: Rule) -> Claim:
        return Claim(
            f"T{number}{name}", f"Theorem {number}", f"Main results, Theorem {number}", says,
            f"notebooks/theorem-{number}", rule,
        )  # fmt: skip

    def coq(says: str, statements: list[str], **given: Any) -> Rule:
        return Rule(says, "proved", {"statements": statements} | given)

    machine = "Stated in Coq and proved there; the record is of the present sources."
    both = f"{machine} Its instances are certified and re-checked."
    return [
        claim(
            1, "",
            "Any contractive RNN with n hidden states, bounded input and ReLU has a URNN of at "
            "most 2n hidden states with the identical input-output mapping.",
            coq(both, ["theorem1"], certificates=["T1", "T1-large"]),
        ),
        claim(
            1, "-loss", "No loss in modelling with URNNs compared to RNNs.",
            coq(
                f"{machine} Outside its hypothesis: h = ReLU(2h) doubles at each step, while a "
                "unitary state grows by at most ‖F‖X + ‖b‖, so that no URNN equals it.",
                ["theorem1"], against=["ours1a"], counter="expansive",
                on="the RNN: contractive, or so after a diagonal scaling, with bounded input",
            ),
        ),
        claim(
            1, "-cost", "The cost is a two-fold increase in state dimension.",
            coq(
                machine, ["theorem2"], against=["ours1b"],
                on="W: some networks need 2n states; 2n − 1 are enough wherever W is not diagonal",
            ),
        ),
        claim(
            1, "-idea",
            "Construct a URNN with 2n states: the first n match the original, the last n are zero.",
            Rule(
                "Certificates whose check shows, over the rationals, that the network is of this "
                "form and that the last states stay 0 for all bounded inputs.",
                "certified", {"certificates": ["T1", "T1-large"]},
            ),
        ),
        claim(
            2, "",
            "For every positive n there is a contractive RNN with ReLU and state dimension n such "
            "that every equivalent URNN has at least 2n states.",
            coq(both, ["theorem2"], certificates=["T2", "T2-near"]),
        ),
        claim(
            2, "-tight", "The achievability with 2n states is tight.",
            coq(machine, ["theorem2", "theorem2_attained"]),
        ),
        claim(
            3, "",
            "There is a contractive RNN with sigmoid activations such that no URNN with any finite "
            "number of states exactly matches its input-output mapping.",
            coq(both, ["theorem3_logistic"], certificates=["T3", "T3-chain"]),
        ),
        claim(
            3, "-arbitrary", "No exact equivalence even with an arbitrary number of states.",
            coq(f"{machine} N states last for N/n steps.", ["theorem3_logistic", "theorem3"]),
        ),
        claim(
            3, "-why", "The difference is due to ReLU zeroing out states.",
            coq(
                f"{machine} Theorem 3 asks of the activation only that its derivative is never 0, "
                "and ReLU, whose derivative is 0 where it is off, escapes it by theorem 1.",
                ["theorem3", "theorem1"],
            ),
        ),
    ]  # fmt: skip


CLAIMS: tuple[Claim, ...] = (
    *_background(),
    *_theorems(),
    *_setup(),
    *_of_figure(2, 20.0),
    *_of_figure(3, 15.0),
    *_mnist(),
)
