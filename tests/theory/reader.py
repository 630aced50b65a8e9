"""A second reader of certificates, which shares nothing with the checker.

It reads the printed sentence and the numbers of the file by a parser of its own, computes with
Fractions and mpmath, and says why the sentence is false, or could not be confirmed.
"""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import mpmath
from mpmath import mp, mpf

D = r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
DIFFERENCE = re.compile(
    rf"At step (\d+), output (\d+), the (?:memoryless (relu|sigmoid|tanh|identity) teacher|"
    rf"(linear) teacher of (\d+) states, h = Wh \+ x from 0,) gives "
    rf"\[({D}), ({D})\] and this (linear )?student of (\d+) states \[({D}), ({D})\]: they differ "
    rf"by at least ({D}|2\^-?\d+) \(input of (\d+) × (\d+), \|x\| ≤ ({D}); proved at (\d+) bits\)\."
)
EQUALITY = re.compile(
    rf"A ReLU network of (\d+) states and a unitary one of (\d+) \(U'U = I exactly\) have equal "
    rf"outputs, in exact rational arithmetic, on an input of (\d+) steps"
    rf"(?:; and on every input with \|x\(k\)\| ≤ ({D}), over every horizon)?\."
)


def number(text: str) -> Fraction:
    """A decimal, a power of two, a fraction, or a hexadecimal float, as the number it is."""
    if hexadecimal := re.fullmatch(r"(-?)0x([01])\.([0-9a-f]+)p([+-]\d+)", text):
        sign, lead, digits, exponent = hexadecimal.groups()
        value = Fraction(int(lead + digits, 16), 16 ** len(digits)) * Fraction(2) ** int(exponent)
        return -value if sign else value
    if text.startswith("2^"):
        return Fraction(2) ** int(text[2:])
    return Fraction(text)


def numbers(value):
    return [numbers(v) for v in value] if isinstance(value, list) else number(value)


def network(data: dict) -> dict:
    return {key: v if key == "activation" else numbers(v) for key, v in data.items()}


def times(A, v):
    return [sum((a * x for a, x in zip(row, v, strict=True)), Fraction(0)) for row in A]


def real(q: Fraction) -> mpf:
    return mpf(q.numerator) / mpf(q.denominator)


def phi(name: str, z):
    """Exactly for relu and identity; else to the working precision of mpmath."""
    if name in ("relu", "identity"):
        return max(z, Fraction(0)) if name == "relu" else z
    z = real(z) if isinstance(z, Fraction) else z
    return mpmath.tanh(z) if name == "tanh" else 1 / (1 + mpmath.exp(-z))


def outputs(net: dict, inputs):
    """The outputs step by step: Fractions, or mpf for the smooth activations."""
    smooth = net["activation"] in ("sigmoid", "tanh")
    cast = real if smooth else Fraction
    W, F, C = ([[cast(v) for v in row] for row in net[key]] for key in "WFC")
    h, b = ([cast(v) for v in net[key]] for key in ("h_init", "b"))
    zero = mpf(0) if smooth else Fraction(0)

    def dot(row, v):
        return sum((a * x for a, x in zip(row, v, strict=True) if a and x), zero)

    for x in inputs:
        u = [cast(v) for v in x]
        h = [
            phi(net["activation"], dot(row, h) + dot(drive, u) + bias)
            for row, drive, bias in zip(W, F, b, strict=True)
        ]
        yield [dot(row, h) for row in C]


def judge_difference(said, body) -> str | None:
    k, c, N, T, n = (int(said[i]) for i in (0, 1, 8, 12, 13))
    name, linear = said[2] or "identity", said[3]
    t_low, t_high, s_low, s_high, gap, bound = (number(said[i]) for i in (5, 6, 9, 10, 11, 14))
    student, x = network(body["student"]), numbers(body["input"])
    W = numbers(body["teacher"]) if linear else []
    if bool(linear) != bool(said[7]) or (linear and {int(said[4]), *map(len, [W, *W])} != {n}):
        return "another teacher"
    sizes = (len(student["W"]), len(student["C"]), len(student["F"][0]))
    if (student["activation"], *sizes) != (name, N, n, n):
        return "another student"
    if (len(x), len(x[0])) != (T, n) or not (0 <= k < T and 0 <= c < n):
        return "another input"
    if max(abs(v) for row in x for v in row) > bound:
        return "the input is larger"
    *_, y = outputs(student, x[: k + 1])
    wanted, got = phi(name, x[k][c]), y[c]
    if linear:
        h = [Fraction(0)] * n
        for u in x[: k + 1]:
            h = [past + new for past, new in zip(times(W, h), u, strict=True)]
        wanted = h[c]
    slack = 0 if isinstance(got, Fraction) else mpf(2) ** -(mp.prec - 200)
    cast = Fraction if isinstance(got, Fraction) else real
    ends = [cast(v) for v in (t_low, t_high, s_low, s_high, gap)]
    if not ends[0] <= wanted + slack or not wanted - slack <= ends[1]:
        return "the teacher's output is elsewhere"
    if not ends[2] <= got + slack or not got - slack <= ends[3]:
        return "the student's output is elsewhere"
    if gap <= 0 or abs(wanted - got) + slack < ends[4]:
        return "they do not differ by so much"
    return None


def judge_equality(said, body) -> str | None:
    n, N, T = (int(said[i]) for i in range(3))
    a, b, x = network(body["network"]), network(body["unitary"]), numbers(body["input"])
    if (len(a["W"]), len(b["W"]), len(x)) != (n, N, T):
        return "other sizes"
    if {a["activation"], b["activation"]} != {"relu"}:
        return "no ReLU networks"
    columns = list(zip(*b["W"], strict=True))
    for i, u in enumerate(columns):
        if times(columns, u) != [j == i for j in range(N)]:
            return "not orthogonal"
    if any(y != z for y, z in zip(outputs(a, x), outputs(b, x), strict=True)):
        return "the outputs differ on this input"
    if said[3] is not None:
        return judge_every_input(a, b, number(said[3]), body)
    return None


def norm(A) -> mpf:
    return mpmath.svd_r(mpmath.matrix([[real(v) for v in row] for row in A]), compute_uv=False)[0]


def length(v) -> mpf:
    return mpmath.sqrt(sum(real(a) ** 2 for a in v))


def judge_every_input(a, b, X, body) -> str | None:
    """The new states stay off on inputs up to X: by a ball and a box that no step leaves."""
    n, R = len(a["W"]), real(number(body["state_norm"]))
    upper, X, tiny = [real(number(v)) for v in body["state_upper"]], real(X), mpf(2) ** -60
    old, new = slice(0, n), slice(n, None)
    same = (
        [row[:n] for row in b["W"][old]] == a["W"]
        and b["F"][old] == a["F"] and b["b"][old] == a["b"] and b["h_init"][old] == a["h_init"]
        and [row[:n] for row in b["C"]] == a["C"]
        and not any(v for row in b["F"][new] for v in row)
        and not any(v for row in b["C"] for v in row[n:]) and not any(b["h_init"][new])
    )  # fmt: skip
    if not same:
        return "not of the form of theorem 1"
    start = [real(v) for v in a["h_init"]]
    low = [min(v, mpf(0)) for v in start]
    if max(length(a["h_init"]), norm(a["W"]) * R + norm(a["F"]) * X + length(a["b"])) > R:
        return "states may leave the ball"

    def most(row):
        w = [real(v) for v in row]
        box = sum(max(v, 0) * upper[j] + min(v, 0) * low[j] for j, v in enumerate(w))
        return box, length(row) * R

    for i, row in enumerate(a["W"]):
        reach = most(row)[0] + length(a["F"][i]) * X + real(a["b"][i])
        if upper[i] < max(start[i], 0) or upper[i] + tiny * abs(upper[i]) < min(reach, R):
            return "states may leave the box"
    for row, bias in zip(b["W"][new], b["b"][new], strict=True):
        if min(most(row[:n])) + real(bias) > tiny * (1 + abs(real(bias))):
            return "a new state may switch on"
    # And tried: inputs at the bound that drive each new state up, for 9 steps.
    for row in b["W"][new]:
        pull = times(list(zip(*a["F"], strict=True)), row[:n])
        size = length(pull)
        if size and size < mpf(10) ** 200:
            scale = Fraction(int(X / size * 2**60), 2**60)
            x = [[v * scale for v in pull]] * 9
            if any(y != z for y, z in zip(outputs(a, x), outputs(b, x), strict=True)):
                return "the outputs differ on an input within the bound"
    return None


def judge(path: Path, precision: int = 400) -> str | None:
    """None if the sentence in the file is true of the numbers in the file; else what is wrong."""
    content = json.loads(Path(path).read_text("utf-8"))
    statement, body = content["statement"], content["body"]
    with mp.workprec(precision):
        if said := DIFFERENCE.fullmatch(statement):
            if "2^-" in said[12] or "e-" in said[12]:
                mp.prec = precision + 30_000
            return judge_difference(said.groups(), body)
        if said := EQUALITY.fullmatch(statement):
            return judge_equality(said.groups(), body)
    return "a sentence that this reader does not know"
