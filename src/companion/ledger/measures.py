"""From a rule's constants and the published results to numbers and an answer.

A *measure* answers "yes", "no" or "open" under one reading of the experiment; a *check* executes a
case in which a claim holds and one in which it does not. `companion.ledger.judge` makes verdicts of
their answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from companion.experiments.statistics import coverage, interval, pairs_to_decide, pairs_to_narrow
from companion.experiments.synthetic import optimum
from companion.ledger.evidence import FIGURE_4, Evidence, Given, NotTested
from companion.theory.network import ACTIVATIONS, RNN, Array, simulate
from companion.theory.similarity import similarity

Numbers = dict[str, list[float]]
# "yes", "no", "open"; "unfit": the interval does not cover as it should; "not run": part of it was
Answer = str
Found = tuple[Numbers, Answer]


class Part(NamedTuple):
    """What one part of a claim says, such as one size, with its numbers.

    ``to_yes``, ``to_no``: how many systems or seeds it would take, infinite where none would do.
    ``short``: by how much its interval covers too seldom: 0 where it is fit, infinite where it
    never holds.
    """

    yes: bool
    no: bool
    numbers: Iterable[float]
    to_yes: float = 0.0
    to_no: float = np.inf
    short: float = 0.0


def _together(parts: Sequence[Part], *names: str) -> Found:
    """Join the parts: the answer of all, and their numbers by name.

    All must say yes (an intersection-union test, Berger 1982), at the full error each; one no is
    enough, at its share of it. A part whose interval is not fit says neither.
    """
    columns = zip(*(part.numbers for part in parts), strict=True)
    numbers = {k: [float(v) for v in of] for k, of in zip(names, columns, strict=True)}
    yes, no = all(part.yes for part in parts), any(part.no and not part.short for part in parts)
    short, fit = max(part.short for part in parts), [part for part in parts if not part.short]
    to_yes = max((part.to_yes for part in fit if not part.yes), default=0.0)
    needed = min([to_yes, *(part.to_no for part in fit)])
    answer = "no" if no else "unfit" if short else "yes" if yes else "open"
    if answer in ("unfit", "open"):
        numbers |= {k: [v] for k, v in (("short", short), ("needed", needed)) if v}
    return numbers, answer


def _enough(values: Any, given: Given, what: str) -> Array:
    """Return the values that are there, if they are as many as the rule asks for."""
    found: Array = values.dropna().to_numpy()
    if len(found) < (least := given.get("systems", 2)):
        raise NotTested(f"{len(found)} {what}; {least} are needed")
    return found


def _short(
    d: Array, given: Given, reading: Given, level: float, others: float = np.inf
) -> float:  # fmt: skip
    """Measure by how much a mean's interval covers too seldom, beyond the rule's allowance."""
    if reading["summary"] == "median" or "coverage" not in given:
        return 0.0
    short = level - given["coverage"] - coverage(d, "mean", level, others=others)
    if abs(short) < 0.018:  # a thousand draws do not tell, by three deviations
        short = level - given["coverage"] - coverage(d, "mean", level, others=others, draws=10_000)
    return float(max(short, 0.0))


def contrast(e: Evidence, given: Given, reading: Given) -> Found:
    """Judge differences a − b of test R² in pairs of systems, each against a margin.

    ``pairs`` lists [[model, n], [model, n]]; the model "optimum" is 1/(1 + 10^(−SNR/10)). ``is``:
    "below" by more than the margin, "not below" by more than it, or "equivalent" within it, which
    two one-sided tests say.
    """
    alpha, margin, summary = given["alpha"], given["margin"], reading["summary"]
    low, high, sides = {
        "below": (-np.inf, -margin, 1),
        "not below": (-margin, np.inf, 1),
        "equivalent": (-margin, margin, 2),
    }[given["is"]]
    parts = []
    for (model_a, n_a), (model_b, n_b) in given["pairs"]:
        a = e.scores(given, reading, model_a, n_a)
        known = model_b == "optimum"
        b = optimum(given["snr_db"]) if known else e.scores(given, reading, model_b, n_b)
        # aligned by seed and system
        d = _enough(a - b, given, f"pairs of {model_a} {n_a} and {model_b} {n_b}")
        errors = (sides * alpha, alpha, alpha / len(given["pairs"]))
        test, found, wide = (interval(d, summary, 1 - error) for error in errors)
        yes, no = test.low > low and test.high < high, wide.high < low or wide.low > high
        inside = low < found.estimate < high
        ends = [pairs_to_decide(test if inside else wide, x) for x in (low, high) if np.isfinite(x)]
        needed = (max(ends), np.inf) if inside else (np.inf, max(ends))
        parts.append(Part(yes, no, found, *needed, _short(d, given, reading, 1 - alpha)))
    return _together(parts, summary, "low", "high", "systems")


def curve(e: Evidence, given: Given, reading: Given) -> Found:
    """Judge our summary at each size of the poster's curve by its value and reading error.

    With ``poster_systems`` the interval is that of the difference to a mean of as many other
    systems, s √(1/N + 1/others). A size agrees where the interval, at most ``resolution`` to each
    side, meets the value.
    """
    points = e.drawn(given["figure"], given["model"].upper())
    alpha, summary, parts = given["alpha"], reading["summary"], []
    others, resolution = given.get("poster_systems", np.inf), given["resolution"]
    for n, (value, error) in sorted(points.items()):
        scores = e.scores(given, reading, given["model"], n)
        d = _enough(scores, given, f"systems of {given['model']} {n}")
        wider, ends = (1 + len(d) / others) ** 0.5, []
        for share in (alpha, alpha / len(points)):
            at, *found, _ = interval(d, summary, 1 - share)
            ends.append([at + wider * (x - at) for x in found])
        (low, high), (least, most) = ends
        half, away = (high - low) / 2, max(abs(at - value) - error, 0.0)
        yes = low <= value + error and high >= value - error and half <= resolution
        no = least > value + error or most < value - error
        sizes = len(d), others
        to_yes = pairs_to_narrow(half, resolution, *sizes) if away <= resolution else np.inf
        to_no = pairs_to_narrow((most - least) / 2, away, *sizes)
        short = _short(d, given, reading, 1 - alpha / len(points), others)
        numbers = (n, at, least, most, value, error, len(d))
        parts.append(Part(yes, no, numbers, to_yes, to_no, short))
    return _together(parts, "n", summary, "low", "high", "poster", "error", "systems")


def divergence(e: Evidence, given: Given, reading: Given) -> Found:
    """Compare lost students of two models on the same systems, by the exact sign test.

    Over systems, by which of the two lost more sizes; with ``each`` over students, as if the sizes
    of a system were independent (McNemar's).
    """
    left_out, models, sizes = {**reading, "lost": "left out"}, given["models"], given["sizes"]
    lost = {(m, n): e.scores(given, left_out, m, n).isna() for m in models for n in sizes}
    both = pd.concat(lost, axis=1, join="inner").astype(int)  # systems with every size of both
    a, b = (both[m].to_numpy() for m in models)
    a, b = (a.ravel(), b.ravel()) if given.get("each") else (a.sum(axis=1), b.sum(axis=1))
    fewer, more = int((a < b).sum()), int((a > b).sum())
    sure = fewer + more > 0 and stats.binomtest(fewer, fewer + more).pvalue < given["alpha"]
    _, answer = _together([Part(sure and fewer > more, sure and fewer < more, ())])
    of = a.size if given.get("each") else a.size * len(sizes)
    return {"lost": [float(a.sum()), float(b.sum())], "of": [float(of)]}, answer


def within(e: Evidence, given: Given, reading: Given) -> Found:
    """Judge the median over systems of one of their properties against ``low`` to ``high``.

    ``of`` reduces a system's units or modes to one number ("mean", "min" or "max"). With ``every``
    each system must lie within; otherwise the median's interval must.
    """
    wanted = {"preset": reading["experiment"], "snr_db": given["snr_db"], "seed": given["seed"]}
    rows = e.run("systems", wanted, {"realisations": given["systems"]}).rows
    values = rows.groupby("system")[given["column"]].agg(given["of"]).to_numpy(dtype=float)
    values = given["T"] / values if "T" in given else values
    low, high = given["low"], given["high"]
    if given.get("every"):
        least, greatest = values.min(), values.max()
        inside = least > low and greatest < high
        return _together([Part(inside, not inside, (least, greatest))], "least", "greatest")
    found = interval(values, "median", 1 - given["alpha"])
    inside, outside = low <= found.low and found.high <= high, found.high < low or found.low > high
    return _together([Part(inside, outside, found[:3])], "median", "low", "high")


def _side(e: Evidence, given: Given, curve: str, n: int) -> tuple[float, float, float, int, float]:
    """Return a mean accuracy, its variance, degrees of freedom and seeds, and a `Part`'s short."""
    if curve.startswith("poster "):
        value, _ = e.drawn(4, *FIGURE_4[curve.removeprefix("poster ")])[n]
        return value, 0.0, np.inf, 0, 0.0
    v, frozen = e.accuracies(given, curve, n)
    short = np.inf if frozen and given.get("frozen") == "unfit" else 0.0
    if len(v) >= 3:
        return v.mean(), v.var(ddof=1) / len(v), len(v) - 1, len(v), short
    # with fewer seeds the error of 10 000 images, which leaves out that seeds train differently
    return v.mean(), v.mean() * (1 - v.mean()) / 10_000, np.inf, len(v), short


def accuracy(e: Evidence, given: Given, reading: Given) -> Found:
    """Judge differences a − b of test accuracy on permuted MNIST, of the early-stopped weights.

    ``pairs`` lists [[curve, N], [curve, N]]; the curve "poster NAME" is the poster's own. Welch's
    interval over seeds. ``at`` says which pairs were run; without all of them there is no yes.
    Where ``frozen`` is "unfit", a pair with a frozen network says neither yes nor no.
    """
    alpha, margin, parts, missing = given["alpha"], given["margin"], [], []
    low, high = (0.0, np.inf) if given["is"] == "above" else (-margin, margin)
    for k, pair in enumerate(given["pairs"]):
        try:
            one, other = (_side(e, given, *of) for of in pair)
        except NotTested as error:
            missing.append(error)
            continue
        (a, v_a, free_a, n_a, short_a), (b, v_b, free_b, n_b, short_b) = one, other
        mean, variance = float(a - b), v_a + v_b
        spread = v_a**2 / free_a + v_b**2 / free_b
        free = variance**2 / spread if spread else np.inf  # Welch's degrees of freedom
        errors = (alpha, alpha / len(given["pairs"]))
        half, wide = (stats.t.ppf(1 - x / 2, free) * variance**0.5 for x in errors)
        yes, no = low < mean - half and mean + half < high, mean + wide < low or mean - wide > high
        # the degrees of freedom grow with the seeds
        inside, n, more = low < mean < high, n_b or n_a, np.arange(2, 100_000)
        t = stats.t.ppf(1 - errors[not inside] / 2, free * (more - 1) / max(n - 1, 1))
        away = min(abs(mean - low), abs(mean - high))
        enough = more[t * (variance * n / more) ** 0.5 < away]
        needed = float(enough[0]) if enough.size else np.inf
        found = (k, mean, mean - half, mean + half)
        both = (needed, np.inf) if inside else (np.inf, needed)
        parts.append(Part(yes, no, found, *both, max(short_a, short_b)))
    if not parts:
        raise missing[0]
    numbers, answer = _together(parts, "at", "mean", "low", "high")
    return numbers, answer if answer == "no" or not missing else "not run"


# --- checks without a run: executed here, exactly


def _similar() -> tuple[bool, bool]:
    """Change coordinates under the identity activation, with b → Tb, and with b left as it is."""
    rng = np.random.default_rng(0)
    T = np.array([[2, 1], [1, 1]])
    shapes = ((2, 2), (2, 1), 2, (1, 2), 2)
    W, F, b, C, h_init = (rng.integers(-3, 4, s).astype(object) for s in shapes)
    a = RNN(W, F, b, C, h_init, "identity")
    moved = similarity(a, T.astype(object))
    x = rng.integers(-3, 4, (50, 1)).astype(object)
    left, y = replace(moved, b=a.b), simulate(a, x)
    return bool((simulate(moved, x) == y).all()), bool((simulate(left, x) != y).any())


def _non_expansive() -> tuple[bool, bool]:
    """Check |φ(u) − φ(v)| ≤ |u − v| on random pairs, for ReLU and the sigmoid; all cases hold."""
    u, v = np.random.default_rng(0).standard_normal((2, 100_000)) * 5
    phis = (ACTIVATIONS[name] for name in ("relu", "sigmoid"))
    return all((np.abs(phi(u) - phi(v)) <= np.abs(u - v) + 1e-15).all() for phi in phis), False


def _gradient() -> tuple[bool, bool]:
    """Send a gradient through 50 steps: kept where all units are on, gone where all were off."""
    U, g = np.eye(3, dtype=int)[[1, 2, 0]], np.array([3, -4, 12])
    kept, gone = g, g
    for step in range(50):
        kept, gone = U.T @ kept, U.T @ (gone * (step != 25))
    return bool(kept @ kept == g @ g), not gone.any()


def _scalar(w: Fraction, f: int, h: int) -> RNN:
    """Make the network h = ReLU(w h + f x), y = h, of one state that starts at ``h``."""
    theta = [np.array(v, dtype=object) for v in ([[w]], [[f]], [0], [[1]], [h])]
    return RNN(*theta)  # of ReLU


def _states() -> tuple[bool, bool]:
    """Drive W = 1, whose state passes every bound, and W = 1/2, whose state stays below 2."""
    ones = np.ones((1000, 1), dtype=object)
    one, half = _scalar(Fraction(1), 1, 0), _scalar(Fraction(1, 2), 1, 0)
    return bool((simulate(half, ones) < 2).all()), bool(simulate(one, ones)[-1, 0] == 1000)


def _expansive() -> tuple[bool, bool]:
    """Run h = ReLU(2h), which doubles; a unitary state grows by at most ‖F‖X + ‖b‖ a step."""
    y = simulate(_scalar(Fraction(2), 0, 1), np.zeros((200, 1), dtype=object))
    return True, all(v == 2 ** (k + 1) for k, v in enumerate(y[:, 0]))


CHECKS: dict[str, Callable[[], tuple[bool, bool]]] = {
    "similarity": _similar,
    "non-expansive": _non_expansive,
    "gradient": _gradient,
    "bounded states": _states,
    "expansive": _expansive,
}
MEASURES: dict[str, Callable[[Evidence, Given, Given], Found]] = {
    f.__name__: f for f in (contrast, curve, divergence, within, accuracy)
}
