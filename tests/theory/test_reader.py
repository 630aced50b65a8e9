"""No accepted sentence is false: thousands of forgeries, judged by a second reader."""

from __future__ import annotations

import copy
import json
import random
import re
import resource
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import reader

from companion import (
    RNN,
    Certificate,
    CertificateError,
    Witness,
    certify_equivalence,
    certify_witness,
    find_linear_witness,
    find_sigmoid_witness,
    find_witness,
    near_miss,
    random_rnn,
    rational_contraction,
    recheck,
    unitary_equivalent,
    window_student,
)

PUBLISHED = sorted((Path(__file__).parents[2] / "book/results/certificates").glob("*.json"))
TRIES = 6000
KINDS = ["difference", "linear difference", "equality"]


def exact(a):
    return np.vectorize(Fraction, otypes=[object])(np.asarray(a, dtype=object))


def equality(n, steps, bound, seed, inputs=1):
    rng = np.random.default_rng(seed)
    W, U = rational_contraction(n, rng)
    F, b, C, h = (exact(rng.integers(-3, 4, s)) for s in ((n, inputs), n, (1, n), n))
    rnn = RNN(W, F, b, C, abs(h))
    unitary = unitary_equivalent(rnn, float(bound), dilation=U)
    x = rng.integers(-1, 2, (steps, inputs)).astype(object)
    return certify_equivalence(rnn, unitary, x, input_bound=bound)


def small_certificates():
    rng = np.random.default_rng(0)
    for activation, n, N in (("tanh", 1, 2), ("sigmoid", 2, 3)):
        s = random_rnn(N, inputs=n, outputs=n, norm=0.9, rng=rng, activation=activation)
        yield certify_witness(s, find_sigmoid_witness(s), input_bound=10.0)
    s = random_rnn(3, inputs=2, outputs=2, norm=0.9, rng=rng)
    yield certify_witness(s, find_witness(s, 0.3), input_bound=0.3)
    s = near_miss(2, Fraction(1, 1000), Fraction(1, 3), dtype=object)
    yield certify_witness(s, find_witness(s, Fraction(1, 3)))
    hair = RNN([[Fraction(1)]], [[1]], [Fraction(1, 2**1400)], [[1]], [0])
    x = np.array([[Fraction(1)]], dtype=object)
    yield certify_witness(hair, Witness(x, x.copy(), x.copy(), Fraction(1), 0, 0))
    W = exact([[1, 4], [0, -3]]) / 8
    s = window_student(W, 3)
    yield certify_witness(s, find_linear_witness(s, W), W=W, input_bound=1)
    s = random_rnn(3, inputs=2, outputs=2, norm=1.0, rng=rng, activation="identity")
    yield certify_witness(s, find_linear_witness(s, W), W=W)
    yield equality(1, 3, 2, 0)
    yield equality(2, 4, Fraction(1, 3), 1, inputs=2)
    yield equality(2, 5, 0.3, 2)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    for i, certificate in enumerate(small_certificates()):
        certificate.save(folder / f"{i}.json")
    return [*sorted(folder.iterdir()), *PUBLISHED]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda p: p.stem)
def test_the_published_certificates_are_true(path):
    assert len(PUBLISHED) >= 7
    recheck(path)
    assert reader.judge(path) is None


def nudged(text, rng):
    """Another number in the same notation, near or far."""
    try:
        q = reader.number(text)
    except (ValueError, ZeroDivisionError):
        return text[:-1]  # it was altered before
    e = rng.choice([-60, -52, -30, -10, -3, -1, 0, 3, 60])
    change = rng.choice([
        lambda: q + Fraction(2) ** e, lambda: q - Fraction(2) ** e, lambda: -q,
        lambda: q * Fraction(2) ** e, lambda: q * (1 + Fraction(2) ** e),
        lambda: q * (1 - Fraction(2) ** e), lambda: Fraction(0),
        lambda: q.limit_denominator(10 ** rng.randrange(1, 7)),
    ])()  # fmt: skip
    try:
        return float(change).hex() if Fraction(float(change)) == change else str(change)
    except OverflowError:
        return str(change)


ODD = [
    "", "0", "-0", "1", "1/3", "-7/2", "1e5", "0.5", "nan", "inf", "-inf", "0x1.0p+1023",
    "0x1.fffffffffffffp+1023", "0x1.0p+1024", "0x1.0p-1074", "0x0.0p+0", "1/0", "0/1", "١", "1 ",
    "9" * 400, "1/" + "9" * 3000, "9" * 5000, "\x1b[31m1", "\ud800", None, True, 0, 1.5, -1, 10**30,
    [], {}, ["0x1.0p+0"], {"a": 1},
]  # fmt: skip


def leaves(value, path=()):
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))
    else:
        yield path


def at(value, path):
    for key in path:
        value = value[key]
    return value


def put(value, path, new):
    at(value, path[:-1])[path[-1]] = new


def forged(content, rng):
    """The content with one to three alterations, most of them plausible."""
    content = copy.deepcopy(content)
    body = content["body"]
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        paths = list(leaves(body))
        special = [p for p in paths if len(p) < 3 and p[0] not in ("student", "network", "unitary")]
        path = rng.choice(paths if rng.random() < 0.6 or not special else special)
        old, kind = at(body, path), rng.random()
        if kind < 0.6 and isinstance(old, str) and re.match(r"-?[0-9]", old):
            put(body, path, nudged(old, rng))
        elif kind < 0.7 and isinstance(old, int) and not isinstance(old, bool):
            put(body, path, old + rng.choice([-1, 1, 2, 63, 10**6]))
        elif kind < 0.8:
            other = rng.choice(paths)
            one, two = at(body, path), at(body, other)
            put(body, path, two)
            put(body, other, one)
        elif kind < 0.86:
            put(body, path, rng.choice(ODD))
        elif kind < 0.9 and len(path) > 1:
            if rng.random() < 0.5:
                at(body, path[:-1]).pop(path[-1])
            else:
                put(body, path[:-1], old)
        elif kind < 0.94:
            keys = rng.choice(paths)[:1] + rng.choice(paths)[:1]
            body[keys[0]], body[keys[1]] = body[keys[1]], body[keys[0]]
        elif kind < 0.96:
            content["kind"] = rng.choice([*KINDS, [], {}, None, 1, "truth"])
        elif kind < 0.98 and isinstance(old, str):
            put(body, path, old[:-1] if rng.random() < 0.5 else old + old[-1:])
        elif isinstance(body.get("input"), list):
            body["input"] = body["input"] * rng.choice([2, 3, 40])
        if not isinstance(content["body"], dict):
            break
    return content


def outcome(path, content):
    """The sentence that is accepted from a signed file, or None; it says what the checker asks."""
    for _ in range(2):
        content["sha256"] = Certificate(*(content[k] for k in ("kind", "statement", "body"))).sha256
        path.write_text(json.dumps(content))
        try:
            return recheck(path).statement
        except CertificateError as error:
            refusal = str(error)
        assert "\x1b" not in refusal
        if not (asked := re.search(r"not what is proved: (.*)$", refusal, re.DOTALL)):
            return None
        content["statement"] = asked[1]
    raise AssertionError("the sentence that was asked for is refused")


@pytest.mark.wrong_types
def test_of_thousands_of_forgeries_none_is_accepted_with_a_false_sentence(tmp_path, bases):
    rng, path, accepted = random.Random(0), tmp_path / "forged.json", 0  # noqa: S311
    originals = [json.loads(p.read_text()) for p in bases]
    weights = [1 / (1 + p.stat().st_size / 1000) ** 2 for p in bases]  # long ones take long
    slowest, before = 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(TRIES):
        content = forged(rng.choices(originals, weights)[0], rng)
        begun = time.process_time()
        statement = outcome(path, content)
        slowest = max(slowest, time.process_time() - begun)
        if statement is not None:
            accepted += 1
            assert reader.judge(path) is None, (statement, path.read_text())
    assert accepted > TRIES / 50  # the forger is good enough to matter
    assert slowest < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB


def test_the_reader_refuses_sentences_that_say_too_much(tmp_path, bases):
    path = tmp_path / "told.json"
    for base in bases:
        content = json.loads(base.read_text())
        said = content["statement"]
        digits = re.finditer(r"(?<![\w^.])-?\d[\d.]*(?:e-?\d+)?(?![\w^])", said)
        places = [m.span() for m in digits]
        refused = 0
        for begin, end in places:
            q = Fraction(said[begin:end])
            for moved in (q + 1, q * 2, q - 1):
                told = f"{said[:begin]}{float(moved):g}{said[end:]}"
                path.write_text(json.dumps({**content, "statement": told}))
                try:
                    refused += reader.judge(path) is not None
                except (IndexError, ValueError):  # such as step −1
                    refused += 1
        assert refused >= len(places)  # each number can be moved to make the sentence false


TEXTS = {
    "truncated": lambda text: text[: len(text) // 2],
    "nested": lambda text: text.replace('"body": {', '"body": ' + "[" * 100_000, 1),
    "nested objects": lambda text: text.replace('"body": {', '"body": ' + '{"a":' * 100_000, 1),
    "a huge integer": lambda text: text.replace('"version": 2', '"version": ' + "9" * 5000),
    "twice": lambda text: text.replace("{", '{"statement": "They differ by at least 10.", ', 1),
    "a kind that is a list": lambda text: re.sub(r'"kind": "\w+"', '"kind": []', text),
    "infinity": lambda text: text.replace('"version": 2', '"version": Infinity'),
    "empty": lambda text: "",
    "a number": lambda text: "1",
    "escapes": lambda text: text.replace('"format": "', '"format": "\\u001b[31m'),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_are_no_certificates_are_refused_in_words(tmp_path, bases, name):
    for base in bases[:9:4]:
        path = tmp_path / "text.json"
        path.write_text(TEXTS[name](base.read_text()))
        with pytest.raises(CertificateError) as refusal:
            recheck(path)
        assert len(str(refusal.value)) < 500
        assert "\x1b" not in str(refusal.value)
