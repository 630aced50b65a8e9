"""Certificates: what is printed, proved in exact or ball arithmetic, re-checkable from a file.

*difference*: the outputs of a student and of the memoryless teacher on one input lie in disjoint
intervals. *linear difference*: those of a linear student and of a linear teacher do. *equality*: a
network and a unitary one have equal outputs, in exact rational arithmetic, on one long input, and
where the bias −M can be shown to suffice, on every bounded one. A certificate holds every number it
speaks about, as hexadecimal floats or fractions "p/q". Its sentence is part of what is proved:
every number in it is exact, or rounded in the safe direction.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from companion.theory import reading as read
from companion.theory.arithmetic import float_above, floor_log2
from companion.theory.checks import exact_size
from companion.theory.exact import Trial, clearest_gap
from companion.theory.files import no_twins, write_whole
from companion.theory.linear import linear_teacher
from companion.theory.network import RNN, Array
from companion.theory.proving import MAX_BITS, PROOFS, admit, apart, enclosures
from companion.theory.reading import CertificateError as CertificateError
from companion.theory.theorem1 import state_bound
from companion.theory.theorem2 import Witness

FORMAT, VERSION = "companion certificate", 2
MAX_BYTES = 2_000_000  # of a file
_FINE = 48  # an interval is rounded outwards to multiples of 2^-48 of the gap


@dataclass(frozen=True, eq=False)
class Certificate:
    """Hold a proved statement with everything needed to prove it again.

    Parameters
    ----------
    kind : "difference", "linear difference" or "equality".
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
    student: RNN,
    witness: Witness,
    *,
    input_bound: float | Fraction | None = None,
    W: Shaped[Array, "n n"] | None = None,
) -> Certificate:
    """Prove that the student and its teacher differ on the witness.

    Both outputs are enclosed in balls, at growing precision until two of them are disjoint. The
    statement is about the exact binary (or rational) values of Θ and of the input.

    Parameters
    ----------
    student : network as given to the finder.
    witness : from `find_witness`, `find_sigmoid_witness` or `find_linear_witness`.
    input_bound : also certify that every input entry is at most this in modulus.
    W : recurrent matrix of the linear teacher, for a witness of `find_linear_witness`; without it
        the teacher is the memoryless one.

    Returns
    -------
    Certificate of kind "difference", or "linear difference" with ``W``.

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
    bound = None if input_bound is None else exact_size("input_bound", input_bound)
    trial = Trial(student, x, None if W is None else linear_teacher(W))
    while (found := clearest_gap(trial, bits, admit)) is None:
        if (bits := 2 * bits) > MAX_BITS / 2:
            raise CertificateError(f"no difference is visible at {MAX_BITS // 2} bits.")
    (k, c), gap, bits = found
    unit = Fraction(2) ** (floor_log2(gap) - _FINE)
    first, second = (
        (low // unit * unit, -(-high // unit) * unit) for low, high in enclosures(trial, k, c, bits)
    )
    body = {
        "student": student, "input": x, "input_bound": bound, "step": k, "output": c, "bits": bits,
        "teacher_interval": first, "student_interval": second, "gap_above": apart(first, second),
    }  # fmt: skip
    if trial.teacher is None:
        return _made("difference", body)
    return _made("linear difference", body | {"teacher": trial.teacher.W})


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
    body = {"network": rnn, "unitary": unitary, "input": np.asarray(x), "input_bound": None}
    if input_bound is not None:
        X = exact_size("input_bound", input_bound)
        try:
            bound = state_bound(rnn, float_above(X))
        except (ValueError, ArithmeticError) as error:
            raise CertificateError(f"the states could not be bounded: {error}") from error
        body |= {"input_bound": X, "state_norm": Fraction(bound.norm), "state_upper": bound.upper}
    return _made("equality", body)


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
        data = file.read(MAX_BYTES)  # even if it grows
    try:
        at = read.entries(
            _parsed(data), "file", format=read.one_of(FORMAT), version=read.one_of(VERSION),
            kind=read.one_of(*PROOFS), statement=read.text, body=lambda v, path: v,
            sha256=read.text,
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


def _parsed(data: bytes) -> Any:
    """Parse JSON in which no name is there twice and no whole number is long."""

    def integer(text: str) -> int:
        if len(text) > 20:
            raise CertificateError(f"a whole number has {len(text)} digits; at most 20 are read.")
        return int(text)

    try:
        return json.loads(data.decode(), object_pairs_hook=no_twins, parse_int=integer)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CertificateError(f"it is not JSON: {error}") from error


def _made(kind: str, body: dict[str, Any]) -> Certificate:
    return _checked(kind, {key: read.write(value) for key, value in body.items()})


def _checked(kind: str, body: Any) -> Certificate:
    """Prove the statement from ``body`` alone: the one way to make a certificate."""
    try:
        return Certificate(kind, PROOFS[kind](body), body)
    except ArithmeticError as error:
        raise CertificateError(f"the numbers are beyond what is computed: {error}") from error
