"""From a rule's constants and the published results to numbers and an answer.

A *measure* answers "yes", "no" or "open" under one reading of the experiment; a *check* executes a
case in which a claim holds and one in which it does not. `companion.ledger.judge` makes verdicts of
their answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def answer(yes: Sequence[bool], no: Sequence[bool]) -> Answer:
    """Yes if every part is, no if one is contradicted."""
    return "yes" if all(yes) else "no" if any(no) else "open"


def _difference(e: Evidence, given: Given, reading: Reading, pair: Sequence[Any]) -> Array:
    """Score of the first of a pair less that of the second, on the systems that have both."""
    (model_a, n_a), (model_b, n_b) = pair
    a = e.scores(given, reading, model_a, n_a)
    if model_b == "optimum":
        d = a - optimum(given["snr_db"])
    else:
        d = a - e.scores(given, reading, model_b, n_b)  # aligned by seed and system
    return _enough(d, given, f"pairs of {model_a} {n_a} and {model_b} {n_b}")


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
    "below" by more than the margin, "not below" by more than it, or "equivalent" within it. Each
    pair is tested at ``alpha`` for yes, which needs them all (an intersection-union test, Berger
    1982), and at its share of alpha for no, for which one is enough. Where none is decided,
    ``needed`` is how many systems would decide the pairs that are open; infinite: none would.
    """
    alpha, margin, kind = given["alpha"], given["margin"], given["is"]
    summary: Any = reading["summary"]
    numbers: Numbers = {summary: [], "low": [], "high": [], "systems": []}
    yes, no, fit, needed = [], [], [], [0.0]
    for pair in given["pairs"]:
        d = _difference(e, given, reading, pair)
        found = interval(d, summary, 1 - alpha)
        wide = interval(d, summary, 1 - alpha / len(given["pairs"]))
        if kind == "equivalent":
            tests = interval(d, summary, 1 - 2 * alpha)  # two one-sided tests at alpha
            yes.append(tests.low > -margin and tests.high < margin)
            no.append(wide.low > margin or wide.high < -margin)
        elif kind == "below":
            yes.append(found.high < -margin)
            no.append(wide.low > -margin)
        else:
            yes.append(found.low > -margin)
            no.append(wide.high < -margin)
        fit.append(_fit(d, given, reading, 1 - alpha))
        if not yes[-1]:
            bound = margin if kind == "equivalent" and found.estimate > 0 else -margin
            needed.append(pairs_to_decide(found, bound) or np.inf)
        for name, value in zip(numbers, found, strict=True):
            numbers[name].append(float(value))
    result = answer(yes, no) if all(fit) else "unfit"
    return numbers | ({"needed": [max(needed)]} if result == "open" else {}), result


def curve(e: Evidence, given: Given, reading: Reading) -> Found:
    """Our summary at each size of the poster's curve, against its value within its reading error.

    With ``poster_systems`` the interval is that of the difference to a mean of as many other
    systems. A size agrees where the interval, at most ``resolution`` to each side, meets the value.
    """
    points = e.curve(given["figure"], given["model"].upper())
    level = 1 - given["alpha"] / len(points)
    summary: Any = reading["summary"]
    numbers: Numbers = {"n": [], summary: [], "low": [], "high": [], "poster": [], "error": []}
    numbers["systems"] = []
    yes, no, fit = [], [], []
    for n, (value, error) in sorted(points.items()):
        scores = e.scores(given, reading, given["model"], n)
        d = _enough(scores, given, f"systems of {given['model']} {n}")
        found = interval(d, summary, level)
        others = given.get("poster_systems")
        wider = (1 + len(d) / others) ** 0.5 if others else 1.0  # s √(1/N + 1/others)
        low, high = (
            found.estimate + wider * (end - found.estimate) for end in (found.low, found.high)
        )
        meets = low <= value + error and high >= value - error
        yes.append(meets and (high - low) / 2 <= given["resolution"])
        no.append(not meets)
        fit.append(_fit(d, given, reading, level))
        row = (n, found.estimate, low, high, value, error, len(d))
        for name, number in zip(numbers, row, strict=True):
            numbers[name].append(float(number))
    result = answer(yes, no) if all(fit) else "unfit"
    # the poster's own thirty systems leave more than the resolution, however many we have
    return numbers | ({"needed": [np.inf]} if result == "open" else {}), result


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
    numbers = {"lost": [float(x.sum()) for x in lost], "of": [float(lost[0].size)]}
    return numbers, answer([sure and fewer > more], [sure and fewer < more])


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
        inside = (values > lowest) & (values < highest)
        numbers = {"least": [float(values.min())], "greatest": [float(values.max())]}
        return numbers, answer([bool(inside.all())], [not inside.all()])
    median, low, high, _ = interval(values, "median", 1 - given["alpha"])
    numbers = {"median": [median], "low": [low], "high": [high]}
    return numbers, answer([lowest <= low and high <= highest], [high < lowest or low > highest])


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
    ``needed`` is how many seeds would decide those that are open.
    """
    from scipy.stats import t

    alpha, margin, missing = given["alpha"], given["margin"], []
    numbers: Numbers = {"at": [], "mean": [], "low": [], "high": []}
    yes, no, needed = [], [], [0.0]
    for k, pair in enumerate(given["pairs"]):
        mean, parts = 0.0, []
        try:
            for sign, (name, units) in zip((1, -1), pair, strict=True):
                if name.startswith("poster "):
                    mean += sign * e.curve(4, *FIGURE_4[name.removeprefix("poster ")])[units][0]
                else:
                    v = e.accuracies(given, name, units).to_numpy()
                    seeds = len(v)
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
        if given["is"] == "above":
            yes.append(mean - half > 0)
            no.append(mean + wide < 0)
        else:
            yes.append(mean - half >= -margin and mean + half <= margin)
            no.append(abs(mean) - wide > margin)
        if not yes[-1]:
            found = Interval(mean, mean - half, mean + half, seeds)
            bound = 0.0 if given["is"] == "above" else float(np.copysign(margin, mean))
            needed.append(pairs_to_decide(found, bound) or np.inf)
        row = (float(k), mean, mean - half, mean + half)
        for key, value in zip(numbers, row, strict=True):
            numbers[key].append(float(value))
    if not yes:
        raise missing[0]
    result = answer(yes, no) if any(no) or not missing else "not run"
    return numbers | ({"needed": [max(needed)]} if result == "open" else {}), result


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
