"""Certificates: what is printed, proved in exact or ball arithmetic, re-checkable from a file.

Two kinds. *difference*: the outputs of a student and of the memoryless teacher on one input lie in
disjoint intervals. *equality*: a network and a unitary one have equal outputs, in exact rational
arithmetic, on one long input, and where the bias −M can be shown to suffice, on every bounded one.
A certificate holds every number it speaks about: as hexadecimal floats, or as fractions "p/q". Its
sentence is part of what is proved: every number in it is exact, or rounded in the safe direction.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from companion.theory import reading as read
from companion.theory.arithmetic import (
    at_least,
    at_most,
    decimal,
    float_above,
    floor_log2,
    positive_definite,
    product,
    root_above,
)
from companion.theory.balls import balls_are, ends, precision
from companion.theory.exact import integer_outputs, teacher_and_student
from companion.theory.files import write_whole
from companion.theory.network import ACTIVATIONS, RNN, is_unitary
from companion.theory.reading import CertificateError
from companion.theory.theorem1 import state_bound
from companion.theory.theorem2 import Witness

Array = np.ndarray

FORMAT, VERSION = "companion certificate", 2
# A file from anywhere must not be able to keep the checker busy for long.
MAX_BYTES = 2_000_000
MAX_BITS = 2**14  # of the balls
MAX_WORK = 5e9  # nanoseconds of one core, as reckoned below
_FINE = 48  # an interval is rounded outwards to multiples of 2^-48 of the gap


@dataclass(frozen=True, eq=False)
class Certificate:
    """Hold a proved statement with everything needed to prove it again.

    Parameters
    ----------
    kind : "difference" or "equality".
    statement : one line; ``str(certificate)``.
    body : the numbers, as strings, and sizes; JSON-ready.
    """

    kind: str
    statement: str
    body: dict[str, Any]

    def __str__(self) -> str:
        return self.statement

    @property
    def sha256(self) -> str:
        """Hash kind, statement and body."""
        content = [FORMAT, VERSION, self.kind, self.statement, self.body]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the certificate as JSON, whole or not at all."""
        content = {"format": FORMAT, "version": VERSION} | vars(self) | {"sha256": self.sha256}
        write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def certify_witness(
    student: RNN, witness: Witness, *, input_bound: float | Fraction | None = None
) -> Certificate:
    """Prove that the student and the memoryless teacher differ on the witness.

    Both outputs are enclosed in balls, at growing precision until two of them are disjoint. The
    statement is about the exact binary (or rational) values of Θ and of the input.

    Parameters
    ----------
    student : ReLU, logistic or tanh network, as given to the finder.
    witness : from `find_witness` or `find_sigmoid_witness`.
    input_bound : also certify that every input entry is at most this in modulus.

    Returns
    -------
    Certificate of kind "difference".

    Raises
    ------
    CertificateError : if the outputs do not differ, differ by less than 2^−8192 can show, or the
        input exceeds the bound.

    Examples
    --------
    >>> from companion.theory.theorem2 import find_witness
    >>> student = RNN([[0.5]], [[1.0]], [0.0], [[1.0]], [0.0])
    >>> print(certify_witness(student, find_witness(student, 1.0)))  # doctest: +ELLIPSIS
    At step 1, output 0, the memoryless relu teacher gives [...] and this student of 1 states...
    """
    x, bits = np.asarray(witness.input), 64
    if x.shape[1:] != (student.m,) or student.p != student.m:
        raise CertificateError(
            f"the student maps {student.m} inputs to {student.p} outputs and the input has shape "
            f"{x.shape}; it must have (T, {student.m}), and as many outputs as inputs."
        )
    while (found := _clearest_output(student, x, bits)) is None:
        if (bits := 2 * bits) > MAX_BITS / 2:
            raise CertificateError(f"no difference is visible at {MAX_BITS // 2} bits.")
    (k, c), gap = found
    # Twice the precision at which the gap is seen: then the rounding outwards decides, not the
    # last bits of an enclosure, and every kind of balls gives the same certificate.
    unit = Fraction(2) ** (floor_log2(gap) - _FINE)
    intervals = [
        (low // unit * unit, -(-high // unit) * unit)
        for low, high in _enclosures(student, x, k, c, 2 * bits)
    ]
    body = {
        "student": read.write_network(student),
        "input": read.write_array(x),
        "input_bound": None if input_bound is None else read.write_number(Fraction(input_bound)),
        "step": k,
        "output": c,
        "bits": 2 * bits,
        "teacher_interval": [read.write_number(v) for v in intervals[0]],
        "student_interval": [read.write_number(v) for v in intervals[1]],
        "gap_above": read.write_number(_apart(*intervals)),
    }
    return _checked("difference", body)


def certify_equivalence(
    rnn: RNN, unitary: RNN, x: Shaped[Array, "T m"], *, input_bound: float | Fraction | None = None
) -> Certificate:
    """Prove theorem 1's equality for two exact networks: over T steps, and for all bounded inputs.

    Always proved, over the rationals: UᵀU = I, and equal outputs on ``x`` at every step. With
    ``input_bound`` X also, for every input with ‖x⁽ᵏ⁾‖₂ ≤ X and every horizon: ``unitary`` has the
    form of theorem 1, the states of ``rnn`` stay in a ball and a box that one step maps into
    themselves, and on those the pre-activations of the new states are at most 0.

    Parameters
    ----------
    rnn, unitary : exact ReLU networks (dtype object), the second as from `unitary_equivalent`
        with a ``dilation`` of `rational_contraction`.
    x : array of Fractions or ints, shape (T, m); T up to 1000 and more.
    input_bound : X, Euclidean; needs ‖W‖₂ < 1.

    Returns
    -------
    Certificate of kind "equality".

    Raises
    ------
    CertificateError : if any of it fails; says which part.
    """
    if not (rnn.is_exact and unitary.is_exact):
        raise CertificateError(
            "equality is certified for exact networks (dtype object); a float U is orthogonal only "
            "up to rounding. rational_contraction(n, rng) draws exact ones."
        )
    body: dict[str, Any] = {
        "network": read.write_network(rnn),
        "unitary": read.write_network(unitary),
        "input": read.write_array(np.asarray(x)),
        "input_bound": None,
    }
    if input_bound is not None:
        try:
            X = Fraction(input_bound)
            bound = state_bound(rnn, float_above(X))
        except (ValueError, ArithmeticError) as error:
            raise CertificateError(f"the states could not be bounded: {error}") from error
        body["input_bound"] = read.write_number(X)
        body["state_norm"] = read.write_number(Fraction(bound.norm))
        body["state_upper"] = read.write_array(bound.upper)
    return _checked("equality", body)


def recheck(path: str | os.PathLike[str]) -> Certificate:
    """Read a certificate and prove its statement again, from nothing but the file.

    Raises
    ------
    CertificateError : if the file is no regular one or too large, malformed or altered, if the work
        it asks for is beyond the limits, or if its claim does not hold.
    OSError : if the file cannot be read.
    """
    source = Path(path)
    what = source.stat()
    if not stat.S_ISREG(what.st_mode) or what.st_size > MAX_BYTES:
        raise CertificateError(f"{source} is not a regular file of at most {MAX_BYTES} bytes.")
    with source.open("rb") as file:
        data = file.read(MAX_BYTES)
    try:
        content = json.loads(data.decode(), object_pairs_hook=_no_name_twice)
        at = read.entries(
            content, "file", format=read.one_of(FORMAT), version=read.one_of(VERSION),
            kind=read.one_of(*_PROOFS), statement=read.line, body=lambda v, path: v,
            sha256=read.line,
        )  # fmt: skip
        claimed = Certificate(at["kind"], at["statement"], at["body"])
        if at["sha256"] != claimed.sha256:
            raise CertificateError("it was altered: its hash does not match its content.")
        certificate = _checked(claimed.kind, claimed.body)
        if claimed.statement != certificate.statement:
            raise CertificateError(f"the statement is not what is proved: {certificate.statement}")
    except RecursionError:
        raise CertificateError(f"{source} is nested too deeply.") from None
    except ValueError as error:
        raise CertificateError(f"{source}: {error}") from error
    return certificate


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(entries := dict(pairs)) < len(pairs):
        raise CertificateError("an entry is there twice.")
    return entries


def _checked(kind: str, body: Any) -> Certificate:
    """Prove the statement from ``body`` alone: the one way to make a certificate."""
    try:
        return Certificate(kind, _PROOFS[kind](body), body)
    except ArithmeticError as error:
        raise CertificateError(f"the numbers are beyond what is computed: {error}") from error


# --- difference


def _prove_difference(body: Any) -> str:
    at = read.entries(
        body, "body", student=read.network, input=read.matrix, input_bound=read.number_or_null,
        step=read.whole(0, read.MAX_STEPS), output=read.whole(0, read.MAX_STATES),
        bits=read.whole(2, MAX_BITS),
        teacher_interval=read.interval, student_interval=read.interval, gap_above=read.number,
    )  # fmt: skip
    student, x, k, c, bits = (at[key] for key in ("student", "input", "step", "output", "bits"))
    steps, n = x.shape
    if (student.m, student.p) != (n, n) or k >= steps or c >= n:
        raise CertificateError(
            f"body.student maps {student.m} inputs to {student.p} outputs, body.input is {steps} × "
            f"{n}, and the claim is about step {k}, output {c}: these do not fit together."
        )
    largest = max(abs(v) for v in x.flat)
    bound = largest if at["input_bound"] is None else at["input_bound"]
    if largest > bound:
        raise CertificateError(
            f"the input reaches {at_least(largest)}, above the bound {at_most(bound)}."
        )
    intervals = at["teacher_interval"], at["student_interval"]
    for name, (low, high), (least, most) in zip(
        ("teacher", "student"), intervals, _enclosures(student, x, k, c, bits), strict=True
    ):
        if not low <= least <= most <= high:
            raise CertificateError(f"the {name}'s output is not inside body.{name}_interval.")
    if not 0 < at["gap_above"] <= _apart(*intervals):
        raise CertificateError("body.gap_above is not above 0, or not proved by the intervals.")
    teacher_text, student_text = (
        f"[{decimal(low, 17, up=False)}, {decimal(high, 17, up=True)}]" for low, high in intervals
    )
    return (
        f"At step {k}, output {c}, the memoryless {student.activation} teacher gives "
        f"{teacher_text} and this student of {student.n} states {student_text}: they differ by at "
        f"least {at_least(at['gap_above'])} (input of {steps} × {n}, |x| ≤ {at_most(bound)}; "
        f"proved at {bits} bits)."
    )


Ends = tuple[Fraction, Fraction]


def _enclosures(student: RNN, x: Array, k: int, c: int, bits: int) -> tuple[Ends, Ends]:
    """Enclose output c at step k of the teacher and of the student."""
    _limit_ball_work(student, k + 1, bits)
    wanted, y, _ = teacher_and_student(student, x[: k + 1], bits)
    with precision(bits):
        return ends(wanted[k, c]), ends(y[k, c])


def _clearest_output(student: RNN, x: Array, bits: int) -> tuple[tuple[int, int], Fraction] | None:
    """Find step and output with the largest proved gap, and the gap to 2⁻²⁰; None if none shows."""
    _limit_ball_work(student, len(x), bits)
    wanted, y, at = teacher_and_student(student, x, bits)
    with precision(bits):
        low, high = ends(abs(y[at] - wanted[at]))
    return (at, low) if low > high * (1 - Fraction(1, 2**20)) else None


def _apart(one: Ends, other: Ends) -> Fraction:
    """Measure the distance of two intervals; negative if they overlap."""
    return max(one[0] - other[1], other[0] - one[1])


def _limit_ball_work(rnn: RNN, steps: int, bits: int) -> None:
    N, m, slower = rnn.n, rnn.m, 30 if balls_are() == "python" else 1
    smooth = 1500 + bits**2 / 300 if rnn.activation in ("sigmoid", "tanh") else 0
    _limit_work(
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


# --- equality


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
        scope = f"; and on every input with |x(k)| ≤ {at_least(X, 17)}, over every horizon"
    return (
        f"A ReLU network of {rnn.n} states and a unitary one of {unitary.n} (U'U = I exactly) have "
        f"equal outputs, in exact rational arithmetic, on an input of {len(x)} steps{scope}."
    )


def _prove_for_all_inputs(rnn: RNN, unitary: RNN, X: Fraction, R: Fraction, upper: Array) -> None:
    """Check theorem 1's hypotheses over the rationals: form, invariant ball and box, size of M."""
    n, r = rnn.n, unitary.n - rnn.n
    if X < 0 or len(upper) != n:
        raise CertificateError(f"body.input_bound must be at least 0, body.state_upper hold {n}.")
    form = r >= 0 and all(
        (np.asarray(left) == right).all()
        for left, right in (
            (unitary.W[:n, :n], rnn.W), (unitary.F[:n], rnn.F), (unitary.F[n:], 0),
            (unitary.b[:n], rnn.b), (unitary.C[:, :n], rnn.C), (unitary.C[:, n:], 0),
            (unitary.h_init[:n], rnn.h_init), (unitary.h_init[n:], 0),
        )
    )  # fmt: skip
    if not form:
        raise CertificateError("the unitary network is not of the form of theorem 1.")
    push = _norm_above(rnn.F) * X + _length_above(rnn.b)
    if _length_above(rnn.h_init) > R or _norm_above(rnn.W) * R + push > R:
        raise CertificateError("the ball of states is not mapped into itself.")
    relu = ACTIVATIONS["relu"]
    h_low = -relu(-rnn.h_init)
    drive = np.array([_length_above(row) * X for row in rnn.F]) + rnn.b - relu(-rnn.W) @ h_low
    for i, reach in enumerate(relu(rnn.W) @ upper + drive):
        if upper[i] < max(rnn.h_init[i], 0) or (upper[i] < reach and upper[i] < R):
            raise CertificateError(f"the box of states is not mapped into itself (state {i}).")
    K = unitary.W[n:, :n]
    boxed = relu(K) @ upper - relu(-K) @ h_low
    for i in range(r):
        if -unitary.b[n + i] < min(boxed[i], _length_above(K[i]) * R):
            raise CertificateError(f"M is too small in new state {i}: it may switch on.")


def _length_above(v: Array) -> Fraction:
    """Bound ‖v‖₂ from above, within 2⁻¹⁰⁰ relatively."""
    return root_above(sum((a * a for a in v), Fraction(0)))


def _norm_above(A: Array) -> Fraction:
    """Bound ‖A‖₂ from above: by LAPACK and a margin, then c²I − AAᵀ ≻ 0 (or AᵀA) is proved."""
    largest = max(abs(v) for v in A.flat)
    if not largest:
        return Fraction(0)
    unit = Fraction(2) ** floor_log2(largest)  # so that no float overflows
    scaled = A / unit
    # Half the margin of `state_bound`, whose ball is to be confirmed.
    eps = 5 * sum(A.shape) * float(np.finfo(float).eps)
    c = Fraction(float(np.linalg.norm(scaled.astype(float), 2)) * (1 + eps))
    if A.shape[0] > A.shape[1]:
        scaled = scaled.T
    if not positive_definite(np.diag([c * c] * len(scaled)) - product(scaled, scaled.T)):
        raise CertificateError("the norm of a matrix could not be bounded.")
    return c * unit


def _run_work(rnn: RNN, x: Array) -> Any:
    """Reckon the nanoseconds of an exact run, whose states lengthen by W's bits at every step."""
    W, F, b, C, h, u = (_bits(a) for a in (rnn.W, rnn.F, rnn.b, rnn.C, rnn.h_init, x))
    T, N, drive = len(x), rnn.n, F + b + h + u
    digits = (T * W + C + drive) / 30  # of the last state, as Python's integers have them
    step = N * (N + rnn.p) * (80 + digits * (W / 30 + 1) / 2) + N * digits * drive / 60
    turned = N**3 * (100 + (W / 30) ** 1.6)  # UᵀU
    return turned + T * (step + 1.2 * rnn.p * digits**1.6 + (N + rnn.p) * rnn.m * (100 + F + u))


def _norm_work(A: Array) -> Any:
    """Reckon the nanoseconds of `_norm_above`: minors of k rows have k times the digits."""
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


_PROOFS: dict[str, Callable[[Any], str]] = {
    "difference": _prove_difference,
    "equality": _prove_equality,
}


__all__ = ["Certificate", "CertificateError", "certify_equivalence", "certify_witness", "recheck"]
