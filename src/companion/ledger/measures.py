"""From a rule's constants and the published results to numbers and an answer.

A *measure* answers "yes", "no" or "open" under one reading of the experiment; a *check* executes a
case in which a claim holds and one in which it does not. `companion.ledger.judge` makes verdicts of
their answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np

from companion.experiments.statistics import Interval, coverage, interval, pairs_to_decide
from companion.experiments.synthetic import optimum
from companion.ledger.evidence import FIGURE_4, Evidence, Given, NotTested, Reading
from companion.theory.network import ACTIVATIONS, RNN, simulate
from companion.theory.similarity import similarity

Array = np.ndarray
Numbers = dict[str, list[float]]
# "yes", "no", "open"; "unfit": the interval does not cover as it should; "not run": part of it was
Answer = str
Found = tuple[Numbers, Answer]


class Tally:
    """What the parts of a claim say, and their numbers by name.

    All must say yes (an intersection-union test, Berger 1982), at the full error each; one no is
    enough, at its share of it. ``needed``: how many systems or seeds would decide what is open,
    infinite where none would.
    """

    def __init__(self, *names: str) -> None:
        self.numbers: Numbers = {name: [] for name in names}
        self.yes: list[bool] = []
        self.no: list[bool] = []
        self.needed = 0.0
        self.fit = True

    def add(self, yes: bool, no: bool, row: Iterable[float], needed: float | None = 0) -> None:
        """Add a part."""
        self.yes.append(bool(yes))
        self.no.append(bool(no))
        if not yes:
            self.needed = max(self.needed, np.inf if needed is None else needed)
        for name, value in zip(self.numbers, row, strict=True):
            self.numbers[name].append(float(value))

    def found(self) -> Found:
        """The numbers and the answer."""
        answer = "yes" if all(self.yes) else "no" if any(self.no) else "open"
        if not self.fit:
            answer = "unfit"
        elif answer == "open" and self.needed:
            self.numbers["needed"] = [self.needed]
        return self.numbers, answer


def _enough(values: Any, given: Given, what: str) -> Array:
    """The values that are there, if they are as many as the rule asks for."""
    found: Array = values.dropna().to_numpy()
    if len(found) < (least := given.get("systems", 2)):
        raise NotTested(f"{len(found)} {what}; {least} are needed")
    return found


def _fit(d: Array, given: Given, reading: Reading, level: float) -> bool:
    """Whether a mean's interval covers as often as it says, within the rule's allowance."""
    if reading["summary"] == "median" or "coverage" not in given:
        return True
    return bool(coverage(d, "mean", level) >= level - given["coverage"])


def contrast(e: Evidence, given: Given, reading: Reading) -> Found:
    """Differences a − b of test R² in pairs of systems, each against a margin.

    ``pairs`` lists [[model, n], [model, n]]; the model "optimum" is 1/(1 + 10^(−SNR/10)). ``is``:
    "below" by more than the margin, "not below" by more than it, or "equivalent" within it, which
    two one-sided tests say.
    """
    alpha, margin, summary = given["alpha"], given["margin"], reading["summary"]
    low, high = {
        "below": (-np.inf, -margin),
        "not below": (-margin, np.inf),
        "equivalent": (-margin, margin),
    }[given["is"]]
    tally = Tally(summary, "low", "high", "systems")
    for (model_a, n_a), (model_b, n_b) in given["pairs"]:
        a = e.scores(given, reading, model_a, n_a)
        known = model_b == "optimum"
        b = optimum(given["snr_db"]) if known else e.scores(given, reading, model_b, n_b)
        # aligned by seed and system
        d = _enough(a - b, given, f"pairs of {model_a} {n_a} and {model_b} {n_b}")
        sides = 2 if given["is"] == "equivalent" else 1
        test, found, wide = (
            interval(d, summary, 1 - share)  # type: ignore[arg-type]  # one of its names
            for share in (sides * alpha, alpha, alpha / len(given["pairs"]))
        )
        bound = high if found.estimate > 0 and sides == 2 else -margin
        tally.add(
            test.low > low and test.high < high,
            wide.high < low or wide.low > high,
            found,
            pairs_to_decide(found, bound),
        )
        tally.fit &= _fit(d, given, reading, 1 - alpha)
    return tally.found()


def curve(e: Evidence, given: Given, reading: Reading) -> Found:
    """Our summary at each size of the poster's curve, against its value within its reading error.

    With ``poster_systems`` the interval is that of the difference to a mean of as many other
    systems, s √(1/N + 1/others). A size agrees where the interval, at most ``resolution`` to each
    side, meets the value.
    """
    points = e.curve(given["figure"], given["model"].upper())
    level, summary = 1 - given["alpha"] / len(points), reading["summary"]
    others = given.get("poster_systems", np.inf)
    tally = Tally("n", summary, "low", "high", "poster", "error", "systems")
    for n, (value, error) in sorted(points.items()):
        scores = e.scores(given, reading, given["model"], n)
        d = _enough(scores, given, f"systems of {given['model']} {n}")
        found = interval(d, summary, level)  # type: ignore[arg-type]  # one of its names
        wider = (1 + len(d) / others) ** 0.5
        low, high = (found.estimate + wider * (x - found.estimate) for x in found[1:3])
        meets, half = low <= value + error and high >= value - error, (high - low) / 2
        room = (given["resolution"] / half) ** 2 * (1 / len(d) + 1 / others) - 1 / others
        tally.add(
            meets and half <= given["resolution"],
            not meets,
            (n, found.estimate, low, high, value, error, len(d)),
            1 / room if room > 0 else None,
        )
        tally.fit &= _fit(d, given, reading, level)
    return tally.found()


def divergence(e: Evidence, given: Given, reading: Reading) -> Found:
    """Lost students of two models on the same systems: exact sign test.

    Over systems, by which of the two lost more sizes; with ``each`` over students, as if the sizes
    of a system were independent (McNemar's).
    """
    from scipy.stats import binomtest

    left_out = {**reading, "lost": "left out"}
    lost = [
        np.stack([e.scores(given, left_out, model, n).isna().to_numpy() for n in given["sizes"]])
        for model in given["models"]
    ]
    a, b = (x.ravel() if given.get("each") else x.sum(0) for x in (1 * lost[0], 1 * lost[1]))
    fewer, more = int((a < b).sum()), int((a > b).sum())
    sure = fewer + more > 0 and binomtest(fewer, fewer + more).pvalue < given["alpha"]
    tally = Tally()
    tally.add(sure and fewer > more, sure and fewer < more, ())
    tally.numbers = {"lost": [float(x.sum()) for x in lost], "of": [float(lost[0].size)]}
    return tally.found()


def within(e: Evidence, given: Given, reading: Reading) -> Found:
    """Median over the systems of one of their properties, against ``low`` to ``high``.

    ``of`` reduces a system's units or modes to one number ("mean", "min" or "max"). With ``every``
    each system must lie within; otherwise the median's interval must.
    """
    wanted = {"preset": reading["experiment"], "snr_db": given["snr_db"], "seed": given["seed"]}
    rows = e.run("systems", wanted, {"realisations": given["systems"]}).rows
    values = rows.groupby("system")[given["column"]].agg(given["of"]).to_numpy(dtype=float)
    values = given["T"] / values if "T" in given else values
    lowest, highest = given["low"], given["high"]
    if given.get("every"):
        tally, ends = Tally("least", "greatest"), (values.min(), values.max())
        inside = ends[0] > lowest and ends[1] < highest
        tally.add(inside, not inside, ends)
    else:
        tally, found = (
            Tally("median", "low", "high"),
            interval(values, "median", 1 - given["alpha"]),
        )
        outside = found.high < lowest or found.low > highest
        tally.add(lowest <= found.low and found.high <= highest, outside, found[:3])
    return tally.found()


def _spread(v: Array) -> tuple[float, float]:
    """Variance of the mean of seeds' accuracies, and its degrees of freedom.

    Of fewer than three seeds it is that of 10 000 images, which leaves out that another seed trains
    differently.
    """
    if len(v) >= 3:
        return float(v.var(ddof=1) / len(v)), len(v) - 1.0
    return float(v.mean() * (1 - v.mean()) / 10_000), np.inf


def accuracy(e: Evidence, given: Given, reading: Reading) -> Found:
    """Differences of test accuracy a − b on permuted MNIST, from the early-stopped weights.

    ``pairs`` lists [[curve, N], [curve, N]]; the curve "poster NAME" is the poster's own. Welch's
    interval over seeds. ``at`` says which pairs were run; without all of them there is no yes.
    """
    from scipy.stats import t

    alpha, margin, missing = given["alpha"], given["margin"], []
    low, high = (0.0, np.inf) if given["is"] == "above" else (-margin, margin)
    tally = Tally("at", "mean", "low", "high")
    for k, pair in enumerate(given["pairs"]):
        mean, parts = 0.0, []
        try:
            for sign, (name, units) in zip((1, -1), pair, strict=True):
                if name.startswith("poster "):
                    mean += sign * e.curve(4, *FIGURE_4[name.removeprefix("poster ")])[units][0]
                else:
                    v = e.accuracies(given, name, units).to_numpy()
                    mean += sign * float(v.mean())
                    parts.append(_spread(v))
        except NotTested as error:
            missing.append(error)
            continue
        variance = sum(v for v, _ in parts)
        free = variance**2 / (sum(v**2 / f for v, f in parts) or 1e-300) if variance else np.inf
        half, wide = (
            t.ppf(1 - a / 2, free) * variance**0.5 for a in (alpha, alpha / len(given["pairs"]))
        )
        found = Interval(mean, mean - half, mean + half, len(v))
        tally.add(
            low < found.low and found.high < high,
            mean + wide < low or mean - wide > high,
            (k, *found[:3]),
            pairs_to_decide(found, high if mean > 0 and np.isfinite(high) else low),
        )
    if not tally.yes:
        raise missing[0]
    numbers, answer = tally.found()
    return numbers, answer if any(tally.no) or not missing else "not run"


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
    """|φ(u) − φ(v)| ≤ |u − v| on random pairs, for ReLU and the sigmoid; there is no other case."""
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
MEASURES: dict[str, Callable[[Evidence, Given, Reading], Found]] = {
    f.__name__: f for f in (contrast, curve, divergence, within, accuracy)
}
