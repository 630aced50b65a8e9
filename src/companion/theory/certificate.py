"""Certificates: what is printed, proved in exact or ball arithmetic, re-checkable from a file.

Two kinds. *difference*: the outputs of a student and of the memoryless teacher on one input lie in
disjoint intervals. *equality*: a network and a unitary one have equal outputs, in exact rational
arithmetic, on one long input, and where the bias −M can be shown to suffice, on every bounded one.
A certificate holds every number it speaks about: as hexadecimal floats, or as fractions "p/q".
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from companion.theory.exact import (
    ball_outputs,
    dyadic,
    float_below,
    fraction,
    parameters,
    rational,
    rational_matrix,
)
from companion.theory.files import write_whole
from companion.theory.network import ACTIVATIONS, RNN, spectral_norm
from companion.theory.theorem1 import state_bound
from companion.theory.theorem2 import Witness, memoryless_teacher

if TYPE_CHECKING:
    from flint import arb, fmpq_mat

Array = np.ndarray

FORMAT, VERSION = "companion certificate", 1
# A file from anywhere must not be able to keep the checker busy for long.
MAX_BYTES, MAX_STATES, MAX_STEPS, MAX_DIGITS, MAX_BITS = 8_000_000, 512, 4096, 4000, 2**13
MAX_WORK = 5e10  # bit operations, roughly; under a minute
_LONGEST = 13_000  # bits after the point: under MAX_DIGITS digits
_SHARP = 0.999999  # enclose a gap this tightly before printing it
_NUMBER = re.compile(r"-?0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4}|-?[0-9]+(/[1-9][0-9]*)?")


class CertificateError(ValueError):
    """The certificate is malformed, was altered, or claims what does not hold."""


@dataclass(frozen=True, eq=False)
class Certificate:
    """A proved statement with everything needed to prove it again.

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
        """Hash of kind, statement and body."""
        content = [FORMAT, VERSION, self.kind, self.statement, self.body]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the certificate as JSON, whole or not at all."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "statement": self.statement,
            "body": self.body,
            "sha256": self.sha256,
        }
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
    teacher = memoryless_teacher(student.m, student.activation)
    bits = 64
    while bits <= MAX_BITS:
        _limit_work(student, len(witness.input), bits)
        found = _clearest(teacher, student, witness.input, bits)
        if found is not None:
            break
        bits *= 2
    else:
        raise CertificateError(f"no difference is visible at {MAX_BITS} bits of precision.")
    k, c, (t_low, t_high), (s_low, s_high) = found
    apart = _apart((s_low, s_high), (t_low, t_high))
    gap = Fraction(float_below(rational(apart))) or Fraction(2) ** _exponent(apart)
    body = {
        "student": _network(student),
        "input": _encode(witness.input),
        "input_bound": None if input_bound is None else _text(fraction(rational(input_bound))),
        "step": k,
        "output": c,
        "bits": bits,
        "teacher_interval": [_text(t_low), _text(t_high)],
        "student_interval": [_text(s_low), _text(s_high)],
        "gap_above": _text(gap),
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
        "network": _network(rnn),
        "unitary": _network(unitary),
        "input": _encode(np.asarray(x)),
        "input_bound": None,
    }
    if input_bound is not None:
        bound = state_bound(rnn, float(input_bound))
        body["input_bound"] = _text(fraction(rational(input_bound)))
        body["state_norm"] = _text(Fraction(bound.norm))
        body["state_upper"] = [_text(Fraction(v)) for v in bound.upper.tolist()]
    return _checked("equality", body)


def recheck(path: str | os.PathLike[str]) -> Certificate:
    """Read a certificate and prove its statement again, from nothing but the file.

    Raises
    ------
    CertificateError : if the file is too large, malformed or altered, if the work it asks for is
        beyond the limits, or if its claim does not hold.
    OSError : if the file cannot be read.
    """
    source = Path(path)
    if source.stat().st_size > MAX_BYTES:
        raise CertificateError(f"{source} is larger than {MAX_BYTES} bytes.")
    try:
        content = json.loads(source.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CertificateError(f"{source} is not JSON: {error}") from error
    keys = {"format", "version", "kind", "statement", "body", "sha256"}
    if not isinstance(content, dict) or set(content) != keys or content["format"] != FORMAT:
        raise CertificateError(
            f"{source} is not a certificate: it must have the keys {sorted(keys)}."
        )
    if content["version"] != VERSION:
        raise CertificateError(f"version is {content['version']!r}; this program reads {VERSION}.")
    kind, statement, body = content["kind"], content["statement"], content["body"]
    if kind not in _PROOFS or not isinstance(body, dict) or not isinstance(statement, str):
        raise CertificateError(f"kind is {kind!r}; allowed: {', '.join(_PROOFS)}.")
    try:
        sha256 = Certificate(kind, statement, body).sha256
    except RecursionError as error:
        raise CertificateError(f"{source} is nested too deeply.") from error
    if content["sha256"] != sha256:
        raise CertificateError(f"{source} was altered: its hash does not match its content.")
    certificate = _checked(kind, body)
    if statement != certificate.statement:
        raise CertificateError(f"the statement is not what was proved: {certificate.statement}")
    return certificate


def _checked(kind: str, body: dict[str, Any]) -> Certificate:
    """The certificate, its statement proved from ``body`` alone: the one way to make one."""
    return Certificate(kind, _PROOFS[kind](body), body)


def _prove_difference(body: dict[str, Any]) -> str:
    _keys(body, "student", "input", "input_bound", "step", "output", "bits", "teacher_interval",
          "student_interval", "gap_above")  # fmt: skip
    student = _parse_network(body["student"], "student")
    x = _parse(body["input"], "input", 2)
    steps, n = x.shape
    if student.m != n or student.p != n:
        raise CertificateError(f"student maps {student.m} inputs to {student.p}; input has {n}.")
    k, c = _integer(body["step"], "step", steps), _integer(body["output"], "output", n)
    bits = _integer(body["bits"], "bits", MAX_BITS + 1)
    _limit_work(student, steps, 2 * bits)
    largest = max(abs(v) for v in x.flat)
    within = f"max |x| = {float(largest):.6g}"
    if body["input_bound"] is not None:
        bound = _parse_number(body["input_bound"], "input_bound")
        if largest > bound:
            raise CertificateError(
                f"input reaches {float(largest)}, above the bound {float(bound)}."
            )
        within = f"|x| ≤ {float(bound):.6g}"
    teacher = memoryless_teacher(n, student.activation)
    intervals = []
    # At twice the precision the balls lie well inside intervals that were honestly rounded out.
    for name, rnn in (("teacher", teacher), ("student", student)):
        low, high = _parse(body[f"{name}_interval"], f"{name}_interval", 1, 2)
        least, most = _ends(ball_outputs(rnn, x[: k + 1], 2 * bits)[k][c], 2 * bits)
        if not low <= least <= most <= high:
            raise CertificateError(f"the {name}'s output is not inside [{low}, {high}].")
        intervals.append((low, high))
    (t_low, t_high), (s_low, s_high) = intervals
    gap, apart = _parse_number(body["gap_above"], "gap_above"), _apart(*intervals)
    if apart <= 0 or not 0 <= gap <= apart:
        raise CertificateError("the intervals are not disjoint, or not as far apart as claimed.")
    shown = f"{float(gap):.6g}" if gap >= Fraction(5e-324) else f"2^{_exponent(gap)}"
    return (
        f"At step {k}, output {c}, the memoryless {student.activation} teacher gives "
        f"{_interval(t_low, t_high)} and this student of {student.n} states "
        f"{_interval(s_low, s_high)}: they differ by at least {shown} "
        f"(input of {steps} × {n}, {within}; proved at {bits} bits)."
    )


def _prove_equality(body: dict[str, Any]) -> str:
    bounded = body.get("input_bound") is not None
    extra = ("state_norm", "state_upper") if bounded else ()
    _keys(body, "network", "unitary", "input", "input_bound", *extra)
    rnn = _parse_network(body["network"], "network").astype(object)
    unitary = _parse_network(body["unitary"], "unitary").astype(object)
    x = _parse(body["input"], "input", 2)
    if {rnn.activation, unitary.activation} != {"relu"} or (rnn.m, rnn.p) != (unitary.m, unitary.p):
        raise CertificateError("the two must be ReLU networks with the same inputs and outputs.")
    if x.shape[1] != rnn.m:
        raise CertificateError(f"input has {x.shape[1]} columns; the networks take {rnn.m}.")
    for candidate in (rnn, unitary):
        _limit_exact_work(candidate, x)
    a, b = parameters(rnn), parameters(unitary)
    if b.W.transpose() * b.W != _identity(unitary.n):
        raise CertificateError("the recurrent matrix of the unitary network is not orthogonal.")
    h, s = a.h_init, b.h_init
    for k, row in enumerate(x):
        u = rational_matrix(row)
        h, s = a.step(h, u), b.step(s, u)
        if a.C * h != b.C * s:
            raise CertificateError(f"the outputs differ at step {k}.")
    scope = ""
    if bounded:
        X = _parse_number(body["input_bound"], "input_bound")
        _prove_for_all_inputs(rnn, unitary, X, body)
        scope = f"; and on every input with |x(k)| ≤ {float(X):.6g}, over every horizon"
    return (
        f"A ReLU network of {rnn.n} states and a unitary one of {unitary.n} (U'U = I exactly) have "
        f"equal outputs, in exact rational arithmetic, on an input of {len(x)} steps{scope}."
    )


def _prove_for_all_inputs(rnn: RNN, unitary: RNN, X: Fraction, body: dict[str, Any]) -> None:
    """Theorem 1's hypotheses, over the rationals: form, invariant ball and box, size of M."""
    n, r = rnn.n, unitary.n - rnn.n
    R = _parse_number(body["state_norm"], "state_norm")
    upper = _parse(body["state_upper"], "state_upper", 1, n)
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
    W = parameters(rnn).W
    eps = float(np.finfo(float).eps)  # margins of half those in `state_bound`, whose R is checked
    omega = rational(spectral_norm(rnn) + 5 * n * eps)
    if not _positive_definite(_identity(n) * (omega * omega) - W.transpose() * W):
        raise CertificateError("‖W‖₂ could not be bounded.")
    # ‖F‖ ≤ Frobenius would be too coarse for the M of theorem 1: bound its square as W's.
    F_norm = float(np.linalg.norm(rnn.F.astype(float), 2))
    f = rational(F_norm * (1 + 5 * (n + rnn.m) * eps))
    F = parameters(rnn).F
    if not _positive_definite(_identity(rnn.m) * (f * f) - F.transpose() * F):
        raise CertificateError("‖F‖₂ could not be bounded.")
    h_low = -_positive_part(-rnn.h_init)
    push = fraction(f) * X + _norm_above(rnn.b)
    if _norm_above(rnn.h_init) > R or fraction(omega) * R + push > R:
        raise CertificateError("the ball of states is not mapped into itself.")
    plus, minus = _positive_part(rnn.W), _positive_part(-rnn.W)
    drive = np.array([_norm_above(row) * X for row in rnn.F]) + rnn.b - minus @ h_low
    for i, reach in enumerate(plus @ upper + drive):
        if upper[i] < max(rnn.h_init[i], 0) or (upper[i] < reach and upper[i] < R):
            raise CertificateError(f"the box of states is not mapped into itself (state {i}).")
    K = unitary.W[n:, :n]
    boxed = _positive_part(K) @ upper - _positive_part(-K) @ h_low
    for i in range(r):
        if -unitary.b[n + i] < min(boxed[i], _norm_above(K[i]) * R):
            raise CertificateError(f"M is too small in new state {i}: it may switch on.")


_PROOFS: dict[str, Callable[[dict[str, Any]], str]] = {
    "difference": _prove_difference,
    "equality": _prove_equality,
}

Ends = tuple[Fraction, Fraction]


def _clearest(a: RNN, b: RNN, x: Array, bits: int) -> tuple[int, int, Ends, Ends] | None:
    """Step, output and enclosures of the output with the largest proved difference, if any."""
    from flint import arb, ctx

    ya, yb = ball_outputs(a, x, bits), ball_outputs(b, x, bits)
    with ctx.workprec(bits):
        gaps = {
            (k, c): abs(u - v)
            for k, (ra, rb) in enumerate(zip(ya, yb, strict=True))
            for c, (u, v) in enumerate(zip(ra, rb, strict=True))
        }
        k, c = max(gaps, key=lambda at: gaps[at].lower())
        if not gaps[k, c].lower() > gaps[k, c].upper() * arb(_SHARP):
            return None
    sides = [_ends(y[k][c], bits) for y in (ya, yb)]
    as_floats = [
        (Fraction(float_below(rational(low))), -Fraction(float_below(rational(-high))))
        for low, high in sides
        if max(abs(low), abs(high)) < 2**1000
    ]
    if len(as_floats) == 2 and _apart(*as_floats) > Fraction(_SHARP) * _apart(*sides):
        sides = as_floats  # short to print, when that costs next to nothing of the gap
    return (k, c, sides[0], sides[1]) if _apart(*sides) > 0 else None


def _ends(ball: arb, bits: int) -> Ends:
    """Rational ends of an interval around the ball, none of them too long to write down."""
    from flint import arb, ctx

    with ctx.workprec(bits):  # the end points are rounded outwards to the working precision
        low, high, least = ball.lower(), ball.upper(), arb((1, -_LONGEST))
        low = low if abs(low) >= least else (arb(0) if low >= 0 else -least)
        high = high if abs(high) >= least else (arb(0) if high <= 0 else least)
    return dyadic(low), dyadic(high)


def _apart(one: Ends, other: Ends) -> Fraction:
    """The distance of two intervals, negative if they overlap."""
    return max(one[0] - other[1], other[0] - one[1])


def _interval(low: Fraction, high: Fraction) -> str:
    return f"[{float(low):.17g}, {float(high):.17g}]"


def _exponent(value: Fraction) -> int:
    """The largest e with 2^e ≤ value."""
    e = value.numerator.bit_length() - value.denominator.bit_length()
    return e if Fraction(2) ** e <= value else e - 1


def _identity(n: int) -> fmpq_mat:
    from flint import fmpq_mat

    return fmpq_mat(n, n, [int(i == j) for i in range(n) for j in range(n)])


def _positive_part(a: Array) -> Array:
    return ACTIVATIONS["relu"](a)


def _positive_definite(A: fmpq_mat) -> bool:
    rows = A.tolist()
    for k, pivot_row in enumerate(rows):
        if pivot_row[k] <= 0:
            return False
        for row in rows[k + 1 :]:
            factor = row[k] / pivot_row[k]
            row[k:] = [v - factor * p for v, p in zip(row[k:], pivot_row[k:], strict=True)]
    return True


def _norm_above(v: Array) -> Fraction:
    """A rational upper bound of ‖v‖₂, within 2⁻¹⁰⁰ relatively."""
    from flint import arb, ctx

    square = rational(sum((Fraction(a) ** 2 for a in v), Fraction(0)))
    with ctx.workprec(128):
        return dyadic(arb(square).sqrt().upper())


def _network(rnn: RNN) -> dict[str, Any]:
    arrays = {name: _encode(getattr(rnn, name)) for name in ("W", "F", "b", "C", "h_init")}
    return {"activation": rnn.activation, **arrays}


def _text(value: Fraction) -> str:
    """Hexadecimal where float64 holds the number, "p/q" elsewhere: exact either way."""
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 3.32 * MAX_DIGITS:
        raise CertificateError(f"a number has more than {MAX_DIGITS} digits.")
    try:
        return float(value).hex() if Fraction(float(value)) == value else str(value)
    except OverflowError:
        return str(value)


def _encode(a: Array) -> list[Any]:
    if a.ndim > 1:
        return [_encode(row) for row in a]
    return [_text(fraction(rational(v))) for v in a.tolist()]


def _keys(data: Any, *keys: str) -> None:
    if not isinstance(data, dict) or set(data) != set(keys):
        raise CertificateError(f"expected exactly the entries {', '.join(keys)}.")


def _integer(value: Any, name: str, below: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < below:
        raise CertificateError(f"{name} is {value!r}; it must be an integer from 0 to {below - 1}.")
    return value


def _parse_number(value: Any, name: str) -> Fraction:
    if not isinstance(value, str) or len(value) > MAX_DIGITS or not _NUMBER.fullmatch(value):
        raise CertificateError(f'{name} holds {str(value)[:40]!r}; allowed: hex floats and "p/q".')
    try:
        return Fraction(float.fromhex(value)) if "x" in value else Fraction(value)
    except OverflowError as error:
        raise CertificateError(f"{name} holds {value!r}, beyond float64.") from error


def _parse(value: Any, name: str, dimensions: int, length: int | None = None) -> Array:
    """Nested lists of numbers as an object array of Fractions, sizes checked first."""
    rows = value if dimensions == 2 else [value]
    if not isinstance(rows, list) or not 1 <= len(rows) <= max(MAX_STEPS, MAX_STATES):
        raise CertificateError(f"{name} must be a list of 1 to {MAX_STEPS} rows.")
    if any(not isinstance(row, list) or not 1 <= len(row) <= MAX_STATES for row in rows):
        raise CertificateError(f"{name} must hold lists of 1 to {MAX_STATES} numbers.")
    if len({len(row) for row in rows}) > 1 or (length is not None and len(rows[0]) != length):
        raise CertificateError(f"{name} has rows of wrong or different lengths.")
    flat = np.empty(len(rows) * len(rows[0]), dtype=object)
    flat[:] = [_parse_number(v, name) for v in chain.from_iterable(rows)]
    return flat.reshape(len(rows), -1) if dimensions == 2 else flat


def _parse_network(data: Any, name: str) -> RNN:
    _keys(data, "activation", "W", "F", "b", "C", "h_init")
    arrays = {
        key: _parse(data[key], f"{name}.{key}", 1 if key in ("b", "h_init") else 2)
        for key in ("W", "F", "b", "C", "h_init")
    }
    numbers = chain.from_iterable(a.flat for a in arrays.values())
    if all("x" in _text(v) for v in numbers):
        arrays = {key: a.astype(float) for key, a in arrays.items()}
    try:
        return RNN(**arrays, activation=data["activation"])
    except (TypeError, ValueError) as error:
        raise CertificateError(f"{name} is not a network: {error}") from error


def _limit_work(rnn: RNN, steps: int, bits: int) -> None:
    work = float(steps) * rnn.n * (rnn.n + rnn.m + 100) * bits
    if work > MAX_WORK or steps > MAX_STEPS:
        raise CertificateError(
            f"the check would take {work:.3g} bit operations; {MAX_WORK:.3g} allowed."
        )


def _limit_exact_work(rnn: RNN, x: Array) -> None:
    # The denominators of h(k) divide lcm(W)^k lcm(F) lcm(b) lcm(x) lcm(h_init).
    bits = {}
    for name, a in {
        "W": rnn.W,
        "F": rnn.F,
        "b": rnn.b,
        "h": rnn.h_init,
        "C": rnn.C,
        "x": x,
    }.items():
        denominator, largest = 1, 1
        for v in a.flat:
            denominator = lcm(denominator, v.denominator)
            largest = max(largest, v.numerator.bit_length())
            if denominator.bit_length() > 20_000:
                raise CertificateError(f"{name} has denominators too long for an exact run.")
        bits[name] = denominator.bit_length() + largest
    T, N = float(len(x)), float(rnn.n)
    work = N**2 * T * (T * bits["W"] / 2 + sum(bits.values())) + N**4 * bits["W"]
    if work > MAX_WORK:
        raise CertificateError(
            f"the check would take {work:.3g} bit operations; {MAX_WORK:.3g} allowed."
        )


__all__ = ["Certificate", "CertificateError", "certify_equivalence", "certify_witness", "recheck"]
