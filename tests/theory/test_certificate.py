"""Certificates prove what they say, prove it again from the file, and refuse what is false."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.theory.certificate import (
    MAX_BYTES,
    Certificate,
    CertificateError,
    certify_equivalence,
    certify_witness,
    recheck,
)
from companion.theory.dilation import rational_contraction
from companion.theory.network import RNN, random_rnn
from companion.theory.theorem1 import unitary_equivalent
from companion.theory.theorem2 import Witness, find_witness, memoryless_teacher


def fractions(rng, *shape):
    out = np.empty(shape, dtype=object)
    for i in np.ndindex(shape):
        out[i] = Fraction(int(rng.integers(-32, 33)), 16)
    return out


def exact_pair(n, rng, bound=3, m=2):
    W, U = rational_contraction(n, rng)
    rnn = RNN(W, fractions(rng, n, m), fractions(rng, n), fractions(rng, 2, n), fractions(rng, n))
    return rnn, unitary_equivalent(rnn, bound, dilation=U)


def float_student(seed=0, n=3, N=5):
    rng = np.random.default_rng(seed)
    return random_rnn(N, inputs=n, outputs=n, norm=0.9, rng=rng)


@pytest.fixture
def difference(tmp_path):
    student = float_student()
    certificate = certify_witness(student, find_witness(student, 0.3), input_bound=0.3)
    certificate.save(tmp_path / "c.json")
    return tmp_path / "c.json"


@pytest.fixture
def equality(tmp_path):
    rng = np.random.default_rng(0)
    rnn, unitary = exact_pair(2, rng)
    certify_equivalence(rnn, unitary, fractions(rng, 20, 2), input_bound=3).save(
        tmp_path / "e.json"
    )
    return tmp_path / "e.json"


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 5),
    dtype=st.sampled_from([np.float32, np.float64, object]),
)
def test_every_witness_is_certified_and_rechecks(tmp_path_factory, seed, n, dtype):
    student = float_student(seed, n, 2 * n - 1).astype(dtype)
    w = find_witness(student, 1.0)
    c = certify_witness(student, w, input_bound=1.0)
    low_t, high_t = (Fraction(float.fromhex(v)) for v in c.body["teacher_interval"])
    low_s, high_s = (Fraction(float.fromhex(v)) for v in c.body["student_interval"])
    apart = max(low_s - high_t, low_t - high_s)
    assert 0 < apart <= Fraction(w.gap) * (1 + Fraction(1, 2**50))
    assert apart >= Fraction(w.gap) * (1 - Fraction(1, 2**20))
    path = tmp_path_factory.mktemp("c") / "c.json"
    c.save(path)
    assert str(recheck(path)) == str(c)
    assert "\n" not in str(c)


def test_a_gap_far_below_float64_is_certified(tmp_path):
    # The student is off by 2^-1400 and exact, so no float can tell the two outputs apart.
    student = RNN(
        np.array([[Fraction(1)]], dtype=object),
        np.array([[1]]),
        np.array([Fraction(1, 2**1400)], dtype=object),
        np.array([[1]]),
        np.array([Fraction(0)], dtype=object),
    )
    x = np.array([[Fraction(1)]], dtype=object)
    w = Witness(x, x.copy(), x.copy(), Fraction(1, 2**1400), 0, 0)
    c = certify_witness(student, w)
    c.save(tmp_path / "c.json")
    assert "at least 2^-1400 " in str(recheck(tmp_path / "c.json"))


def test_no_certificate_without_a_difference():
    teacher = memoryless_teacher(2)
    x = np.ones((1, 2))
    with pytest.raises(CertificateError, match="no difference"):
        certify_witness(teacher, Witness(x, x.copy(), x.copy(), 1.0, 0, 0))


def test_input_outside_the_bound_is_refused():
    student = float_student()
    with pytest.raises(CertificateError, match="above the bound"):
        certify_witness(student, find_witness(student, 1.0), input_bound=0.01)


def rewrite(path, change, *, rehash):
    """Change a certificate file as a forger would: with or without a fresh hash."""
    content = json.loads(path.read_text())
    change(content)
    if rehash:
        c = Certificate(content["kind"], content["statement"], content["body"])
        content["sha256"] = c.sha256
    path.write_text(json.dumps(content))


def bump(body, *keys):
    *most, last = keys
    for key in most:
        body = body[key]
    value = body[last]
    body[last] = (float.fromhex(value) + 1).hex() if "x" in value else str(Fraction(value) + 1)


DIFFERENCE_FORGERIES = {
    "weight": lambda c: c["body"]["student"].update(b=["0x1.0p+20"] * 5),
    "input": lambda c: bump(c["body"], "input", 0, 0),
    "gap": lambda c: bump(c["body"], "gap_above"),
    "negative gap": lambda c: c["body"].update(gap_above="-0x1.0p+0"),
    "interval": lambda c: c["body"].update(teacher_interval=["0x1.8p+2", "0x1.9p+2"]),
    "wide interval": lambda c: c["body"].update(student_interval=["-0x1.0p+9", "0x1.0p+9"]),
    "bound": lambda c: c["body"].update(input_bound="0x1.0p-9"),
    "statement": lambda c: c.update(statement="They differ by at least 10."),
    "step": lambda c: c["body"].update(step=7),
    "boolean": lambda c: c["body"].update(step=True),
    "missing": lambda c: c["body"].pop("gap_above"),
    "extra": lambda c: c["body"].update(more="0x1.0p+0"),
    "kind": lambda c: c.update(kind="equality"),
    "no kind": lambda c: c.update(kind="truth"),
    "activation": lambda c: c["body"]["student"].update(activation="softplus"),
    "nan": lambda c: c["body"].update(gap_above="nan"),
    "float": lambda c: c["body"].update(gap_above=0.5),
    "infinite": lambda c: c["body"].update(gap_above="0x1.0p+9999"),
    "zero denominator": lambda c: c["body"].update(gap_above="1/0"),
    "long number": lambda c: c["body"].update(gap_above="1/" + "9" * 5000),
    "ragged": lambda c: c["body"]["student"]["W"][0].append("0x0.0p+0"),
    "empty": lambda c: c["body"].update(input=[]),
    "body": lambda c: c.update(body=[1]),
    "bits": lambda c: c["body"].update(bits=10**9),
    "work": lambda c: c["body"].update(bits=2**16, input=c["body"]["input"] * 4096),
}
EQUALITY_FORGERIES = {
    "U": lambda c: bump(c["body"], "unitary", "W", 0, 0),
    "C": lambda c: bump(c["body"], "unitary", "C", 0, 0),
    "h": lambda c: bump(c["body"], "unitary", "h_init", 3),
    "M": lambda c: c["body"]["unitary"]["b"].__setitem__(3, "-0x1.0p-20"),
    "bound": lambda c: bump(c["body"], "input_bound"),
    "norm": lambda c: c["body"].update(state_norm="0x1.0p-2"),
    "box": lambda c: c["body"].update(state_upper=["0x1.0p-9"] * 2),
    "no box": lambda c: c["body"].pop("state_upper"),
    "shape": lambda c: [row.pop() for row in c["body"]["input"]],
    "tanh": lambda c: c["body"]["network"].update(activation="tanh"),
    "work": lambda c: c["body"]["network"]["W"][0].__setitem__(0, "1/" + "7" * 3999),
    "long inputs": lambda c: c["body"].update(
        input=[["1/1" + f"{k:03d}" * 1300, "0x1.0p+0"] for k in range(200)]
    ),
}


@pytest.mark.parametrize("name", DIFFERENCE_FORGERIES)
@pytest.mark.parametrize("rehash", [False, True])
def test_forged_differences_are_refused(difference, name, rehash):
    recheck(difference)
    rewrite(difference, DIFFERENCE_FORGERIES[name], rehash=rehash and name != "body")
    with pytest.raises(CertificateError):
        recheck(difference)


@pytest.mark.parametrize("name", EQUALITY_FORGERIES)
@pytest.mark.parametrize("rehash", [False, True])
def test_forged_equalities_are_refused(equality, name, rehash):
    recheck(equality)
    rewrite(equality, EQUALITY_FORGERIES[name], rehash=rehash)
    with pytest.raises(CertificateError):
        recheck(equality)


def test_the_hash_is_said_to_be_wrong(difference):
    rewrite(difference, DIFFERENCE_FORGERIES["weight"], rehash=False)
    with pytest.raises(CertificateError, match="hash"):
        recheck(difference)


def test_files_that_are_no_certificates(tmp_path):
    path = tmp_path / "x.json"
    for text in ("", "{", "[]", "{}", "[" * 100_000, "1" * 5000, '{"format": "other"}'):
        path.write_text(text)
        with pytest.raises(CertificateError):
            recheck(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CertificateError):
        recheck(path)
    path.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(CertificateError, match="at most"):
        recheck(path)
    with pytest.raises(FileNotFoundError):
        recheck(tmp_path / "absent.json")


def test_another_version_is_refused(difference):
    rewrite(difference, lambda c: c.update(version=1), rehash=True)
    with pytest.raises(CertificateError, match="version"):
        recheck(difference)


def test_equality_over_1000_steps_and_all_bounded_inputs(tmp_path):
    rng = np.random.default_rng(1)
    for n in (1, 3, 4):
        rnn, unitary = exact_pair(n, rng)
        c = certify_equivalence(rnn, unitary, fractions(rng, 1000, 2), input_bound=3)
        assert "1000 steps" in str(c)
        assert "every horizon" in str(c)
        c.save(tmp_path / "c.json")
        assert str(recheck(tmp_path / "c.json")) == str(c)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 5), bound=st.sampled_from([1, 3, 0.1]))
def test_the_bias_of_theorem_1_is_provably_enough(seed, n, bound):
    rng = np.random.default_rng(seed)
    rnn, unitary = exact_pair(n, rng, bound)
    certify_equivalence(rnn, unitary, fractions(rng, 2, 2), input_bound=bound)
    # and the proof notices when it is not
    low = replace(unitary, b=np.concatenate([rnn.b, [Fraction(1)] * (unitary.n - n)]))
    x = np.zeros((1, 2), dtype=int)
    with pytest.raises(CertificateError, match=r"M is too small|outputs differ"):
        certify_equivalence(rnn, low, x, input_bound=bound)


def test_hypotheses_of_the_equality_are_checked():
    rng = np.random.default_rng(0)
    rnn, unitary = exact_pair(3, rng)
    x = fractions(rng, 5, 2)
    with pytest.raises(CertificateError, match="exact networks"):
        certify_equivalence(rnn.astype(float), unitary.astype(float), x)
    with pytest.raises(CertificateError, match="not orthogonal"):
        certify_equivalence(rnn, rnn, x)
    with pytest.raises(CertificateError, match="outputs differ at step"):
        certify_equivalence(replace(rnn, C=rnn.C + 1), unitary, x)
    # The form of theorem 1 is only needed for the statement about all inputs.
    turned = np.r_[np.arange(3, 6), np.arange(3)]
    other = RNN(
        unitary.W[np.ix_(turned, turned)], unitary.F[turned], unitary.b[turned],
        unitary.C[:, turned], unitary.h_init[turned],
    )  # fmt: skip
    assert "every horizon" not in str(certify_equivalence(rnn, other, x))
    with pytest.raises(CertificateError, match="form of theorem 1"):
        certify_equivalence(rnn, other, x, input_bound=3)
