"""What a certificate's numbers prove: the sentence, or the refusal, of either kind.

Every number in a sentence is exact, or rounded so that the sentence stays true: gaps down, bounds
on inputs down for an equality and up for a difference, intervals outwards. The work is reckoned
before it starts.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from math import lcm
from typing import Any

import numpy as np

from companion.theory import reading as read
from companion.theory.arithmetic import at_least, at_most, decimal, length_above, norm_above
from companion.theory.balls import balls_are, ends, precision
from companion.theory.exact import Trial, integer_outputs
from companion.theory.linear import linear_teacher
from companion.theory.network import ACTIVATIONS, RNN, SMOOTH, Array, enlarged, is_unitary
from companion.theory.reading import CertificateError

MAX_BITS = 2**14  # of the balls
MAX_WORK = 5e9  # nanoseconds of one core, as reckoned below


def _prove_difference(body: Any, *, linear: bool = False) -> str:
    extra = {"teacher": read.matrix} if linear else {}
    at = read.entries(
        body, "body", student=read.network, input=read.matrix, input_bound=read.number_or_null,
        step=read.whole(0, read.MAX_STEPS), output=read.whole(0, read.MAX_STATES),
        bits=read.whole(2, MAX_BITS),
        teacher_interval=read.interval, student_interval=read.interval, gap_above=read.number,
        **extra,
    )  # fmt: skip
    student, x, k, c, bits = (at[key] for key in ("student", "input", "step", "output", "bits"))
    trial = Trial(student, x, linear_teacher(at["teacher"]) if linear else None)
    largest = max(abs(v) for v in x.flat)
    bound = largest if at["input_bound"] is None else at["input_bound"]
    if largest > bound:
        raise CertificateError(
            f"the input reaches {at_least(largest)}, above the bound {at_most(bound)}."
        )
    intervals = at["teacher_interval"], at["student_interval"]
    for name, (low, high), (least, most) in zip(
        ("teacher", "student"), intervals, enclosures(trial, k, c, bits), strict=True
    ):
        if not low <= least <= most <= high:
            raise CertificateError(f"the {name}'s output is not inside body.{name}_interval.")
    if not 0 < at["gap_above"] <= apart(*intervals):
        raise CertificateError("body.gap_above is not above 0, or not proved by the intervals.")
    teacher_text, student_text = (
        f"[{decimal(low, 17, up=False)}, {decimal(high, 17, up=True)}]" for low, high in intervals
    )
    T, n = x.shape
    teacher, kind = f"memoryless {student.activation} teacher", ""
    if linear:
        teacher, kind = f"linear teacher of {n} states, h = Wh + x from 0,", "linear "
    return (
        f"At step {k}, output {c}, the {teacher} gives {teacher_text} and this {kind}student of "
        f"{student.n} states {student_text}: they differ by at least {at_least(at['gap_above'])} "
        f"(input of {T} × {n}, |x| ≤ {at_most(bound)}; proved at {bits} bits)."
    )


Ends = tuple[Fraction, Fraction]


def enclosures(trial: Trial, k: int, c: int, bits: int) -> tuple[Ends, Ends]:
    """Enclose output c at step k of the teacher and of the student."""
    T, n = trial.x.shape
    if k >= T or c >= n:
        raise CertificateError(f"an input of {T} × {n} has no step {k} and output {c}.")
    trial = trial._replace(x=trial.x[: k + 1])
    admit(trial, bits)
    wanted, y = trial.outputs(bits)
    with precision(bits):
        return ends(wanted[k, c]), ends(y[k, c])


def apart(one: Ends, other: Ends) -> Fraction:
    """Measure the distance of two intervals; negative if they overlap."""
    return max(one[0] - other[1], other[0] - one[1])


def admit(trial: Trial, bits: int) -> None:
    """Refuse a trial whose parts do not fit, and one whose enclosures would take too long."""
    student, teacher, shape = trial.student, trial.teacher, trial.x.shape
    if not (shape[1:] == (student.m,) == (student.p,)):
        raise CertificateError(
            f"the student maps {student.m} inputs to {student.p} outputs and the input has shape "
            f"{shape}; it must have (T, {student.m}), and as many outputs as inputs."
        )
    if teacher is not None and (teacher.m, "identity") != (student.m, student.activation):
        raise CertificateError(
            f"the student has activation {student.activation!r} and {student.m} inputs; beside a "
            f"linear teacher it must be linear, of {teacher.m} inputs."
        )
    runs = [student] if teacher is None else [student, teacher]
    _limit_work(sum(_ball_work(rnn, len(trial.x), bits) for rnn in runs))


def _ball_work(rnn: RNN, steps: int, bits: int) -> float:
    """Reckon the nanoseconds of a run in balls."""
    N, m, slower = rnn.n, rnn.m, 30 if balls_are() == "python" else 1
    smooth = 1500 + bits**2 / 300 if rnn.activation in SMOOTH else 0
    return (
        6000 * (N * (N + m + rnn.p) + steps * (m + 4))  # every number is made a ball once
        + slower * steps * N * (N + m + rnn.p) * (150 + 0.4 * bits)
        + slower * steps * (N + m) * smooth  # the teacher has a state for each output
    )


def _limit_work(nanoseconds: float) -> None:
    if nanoseconds > MAX_WORK:
        raise CertificateError(
            f"the check would take about {nanoseconds / 1e9:.3g} s of work; {MAX_WORK / 1e9:.0f} s "
            "are allowed: fewer steps, states or bits."
        )


def _prove_equality(body: Any) -> str:
    bounded = isinstance(body, dict) and body.get("input_bound") is not None
    extra = {"state_norm": read.number, "state_upper": read.vector} if bounded else {}
    at = read.entries(body, "body", network=read.network, unitary=read.network, input=read.matrix,
                  input_bound=read.number_or_null, **extra)  # fmt: skip
    rnn, unitary, x = at["network"], at["unitary"], at["input"]
    if {rnn.activation, unitary.activation} != {"relu"}:
        raise CertificateError("body.network and body.unitary must be ReLU networks.")
    if (rnn.m, rnn.p) != (unitary.m, unitary.p) or x.shape[1] != rnn.m:
        raise CertificateError("body.network, body.unitary and body.input do not fit together.")
    norms = _norm_work(rnn.W) + _norm_work(rnn.F) if bounded else 0
    _limit_work(_run_work(rnn, x) + _run_work(unitary, x) + norms)
    if not is_unitary(unitary):
        raise CertificateError("the recurrent matrix of the unitary network is not orthogonal.")
    runs = zip(integer_outputs(rnn, x), integer_outputs(unitary, x), strict=True)
    for k, ((y, d), (y_unitary, d_unitary)) in enumerate(runs):
        if (y * d_unitary != y_unitary * d).any():
            raise CertificateError(f"the outputs differ at step {k}.")
    scope = ""
    if bounded:
        X = at["input_bound"]
        _prove_for_all_inputs(rnn, unitary, X, at["state_norm"], at["state_upper"])
        scope = f"; and on every input with |x(k)| ≤ {decimal(X, 17, up=False)}, over every horizon"
    return (
        f"A ReLU network of {rnn.n} states and a unitary one of {unitary.n} (U'U = I exactly) have "
        f"equal outputs, in exact rational arithmetic, on an input of {len(x)} steps{scope}."
    )


def _prove_for_all_inputs(rnn: RNN, unitary: RNN, X: Fraction, R: Fraction, upper: Array) -> None:
    """Check theorem 1's hypotheses over the rationals: form, invariant ball and box, size of M."""
    n, r = rnn.n, unitary.n - rnn.n
    if X < 0 or len(upper) != n:
        raise CertificateError(f"body.input_bound must be at least 0, body.state_upper hold {n}.")
    form = r >= 0 and (unitary.W[:n, :n] == rnn.W).all() and (unitary.b[:n] == rnn.b).all()
    if form:  # nothing drives the new states, which start at 0, and nothing reads them
        like = enlarged(rnn, unitary.W, unitary.b)
        form = all((getattr(unitary, a) == getattr(like, a)).all() for a in ("F", "C", "h_init"))
    if not form:
        raise CertificateError("the unitary network is not of the form of theorem 1.")
    push = norm_above(rnn.F) * X + length_above(rnn.b)
    if length_above(rnn.h_init) > R or norm_above(rnn.W) * R + push > R:
        raise CertificateError("the ball of states is not mapped into itself.")
    relu = ACTIVATIONS["relu"]
    h_low = -relu(-rnn.h_init)
    drive = np.array([length_above(row) * X for row in rnn.F]) + rnn.b - relu(-rnn.W) @ h_low
    for i, reach in enumerate(relu(rnn.W) @ upper + drive):
        if upper[i] < max(rnn.h_init[i], 0) or (upper[i] < reach and upper[i] < R):
            raise CertificateError(f"the box of states is not mapped into itself (state {i}).")
    K = unitary.W[n:, :n]
    boxed = relu(K) @ upper - relu(-K) @ h_low
    for i in range(r):
        if -unitary.b[n + i] < min(boxed[i], length_above(K[i]) * R):
            raise CertificateError(f"M is too small in new state {i}: it may switch on.")


def _run_work(rnn: RNN, x: Array) -> Any:
    """Reckon the nanoseconds of an exact run, whose states lengthen by W's bits at every step."""
    W, F, b, C, h, u = (_bits(a) for a in (rnn.W, rnn.F, rnn.b, rnn.C, rnn.h_init, x))
    T, N, drive = len(x), rnn.n, F + b + h + u
    digits = (T * W + C + drive) / 30  # of the last state, as Python's integers have them
    step = N * (N + rnn.p) * (80 + digits * (W / 30 + 1) / 2) + N * digits * drive / 60
    turned = N**3 * (100 + (W / 30) ** 1.6)  # UᵀU
    return turned + T * (step + 1.2 * rnn.p * digits**1.6 + (N + rnn.p) * rnn.m * (100 + F + u))


def _norm_work(A: Array) -> Any:
    """Reckon the nanoseconds of `norm_above`: minors of k rows have k times the digits."""
    size = min(A.shape)
    return size**2 * (max(A.shape) * 100 + size * (300 + (size * (_bits(A) / 15 + 4)) ** 1.6))


def _bits(a: Array) -> int:
    """Measure the integers over the common denominator of an array."""
    d: int = 1
    for v in {v.denominator for v in a.flat}:
        d = lcm(d, v)
        if d.bit_length() > 20_000:
            raise CertificateError("the denominators are too long for an exact run.")
    return d.bit_length() + int(max(v.numerator.bit_length() for v in a.flat))


PROOFS: dict[str, Callable[[Any], str]] = {
    "difference": _prove_difference,
    "linear difference": partial(_prove_difference, linear=True),
    "equality": _prove_equality,
}
