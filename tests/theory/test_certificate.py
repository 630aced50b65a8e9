"""Certificates prove what they say, prove it again from the file, and refuse what is false."""

from __future__ import annotations

import json
import os
import random
import resource
import time
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
from companion.theory.linear import find_linear_witness, linear_teacher, window_student
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
    low_t, high_t = map(number, c.body["teacher_interval"])
    low_s, high_s = map(number, c.body["student_interval"])
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


@pytest.mark.wrong_types
@pytest.mark.parametrize("bound", [float("nan"), float("inf"), -1.0, True, "1"])
def test_bounds_that_are_no_numbers_are_refused(bound):
    student, rng = float_student(), np.random.default_rng(0)
    with pytest.raises(ValueError, match="input_bound is"):
        certify_witness(student, find_witness(student, 1.0), input_bound=bound)
    rnn, unitary = exact_pair(2, rng)
    with pytest.raises(ValueError, match="input_bound is"):
        certify_equivalence(rnn, unitary, fractions(rng, 3, 2), input_bound=bound)
    with pytest.raises(CertificateError, match="no finite number"):
        certify_equivalence(rnn, unitary, np.full((2, 2), np.nan))


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


def number(text):
    return Fraction(float.fromhex(text)) if "x" in text else Fraction(text)


def bump(body, *keys):
    *most, last = keys
    for key in most:
        body = body[key]
    body[last] = str(number(body[last]) + 1)


def bump_by(row, at, by):
    row[at] = str(number(row[at]) + by)


DIFFERENCE_FORGERIES = {
    "weight": lambda c: c["body"]["student"].update(b=["0x1.0p+20"] * 5),
    "input": lambda c: bump(c["body"], "input", 0, 0),
    "gap": lambda c: bump(c["body"], "gap_above"),
    "no gap": lambda c: c["body"].update(gap_above="0"),
    "no bits": lambda c: c["body"].update(bits=0),
    "a list for a kind": lambda c: c.update(kind=[]),
    "a huge fraction": lambda c: bump_by(c["body"]["student"]["C"][0], 0, 10**400),
    "the ends exchanged": lambda c: (
        c["body"]["teacher_interval"].reverse() or bump(c["body"], "teacher_interval", 0)
    ),
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
LINEAR_FORGERIES = {
    "teacher": lambda c: bump(c["body"], "teacher", 1, 1),
    "no teacher": lambda c: c["body"].pop("teacher"),
    "memoryless": lambda c: c.update(kind="difference"),
    "both": lambda c: c["body"].pop("teacher") and c.update(kind="difference"),
    "a network for a teacher": lambda c: c["body"].update(teacher=c["body"]["student"]),
    "a wide teacher": lambda c: c["body"]["teacher"].append(["0", "0"]),
    "a small teacher": lambda c: c["body"].update(teacher=[["1/2"]]),
    "activation": lambda c: c["body"]["student"].update(activation="relu"),
    "h": lambda c: bump(c["body"], "student", "h_init", 0),
    "input": lambda c: bump(c["body"], "input", 0, 1),
    "gap": lambda c: bump(c["body"], "gap_above"),
    "step": lambda c: c["body"].update(step=5),
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


@pytest.mark.wrong_types
@pytest.mark.parametrize("name", DIFFERENCE_FORGERIES)
@pytest.mark.parametrize("rehash", [False, True])
def test_forged_differences_are_refused(difference, name, rehash):
    recheck(difference)
    rewrite(difference, DIFFERENCE_FORGERIES[name], rehash=rehash and name != "body")
    with pytest.raises(CertificateError):
        recheck(difference)


@pytest.mark.wrong_types
@pytest.mark.parametrize("name", LINEAR_FORGERIES)
def test_forged_linear_differences_are_refused(tmp_path, name):
    path, W = tmp_path / "linear.json", np.array([[0.5, 1.0], [0.0, -0.25]])
    student = window_student(W, 4)
    certify_witness(student, find_linear_witness(student, W), W=W).save(path)
    assert "linear teacher of 2 states, h = Wh + x from 0, gives" in str(recheck(path))
    rewrite(path, LINEAR_FORGERIES[name], rehash=True)
    with pytest.raises(CertificateError):
        recheck(path)


@pytest.mark.wrong_types
def test_a_teacher_of_another_size_or_kind_is_refused():
    student, x = linear_teacher(np.eye(2) / 4), np.ones((3, 2), dtype=int)
    witness = Witness(x, x.copy(), x.copy(), 1.0, 2, 0)
    for W in (np.eye(3), np.eye(1)):
        with pytest.raises(CertificateError, match=f"linear, of {len(W)} inputs"):
            certify_witness(student, witness, W=W)
    with pytest.raises(CertificateError, match="activation 'relu'"):
        certify_witness(replace(student, activation="relu"), witness, W=np.eye(2))
    with pytest.raises(ValueError, match="square"):
        certify_witness(student, witness, W=np.ones((2, 3)))
    with pytest.raises(CertificateError, match="no difference"):
        certify_witness(student, witness, W=np.eye(2) / 4)
    x, W = np.ones((4000, 200), dtype=int), np.eye(200)
    with pytest.raises(CertificateError, match="s of work"):
        certify_witness(linear_teacher(W), Witness(x, x.copy(), x.copy(), 1.0, 0, 0), W=W)


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


def test_the_path_inside_the_file_is_named(difference):
    rewrite(difference, lambda c: c["body"]["student"]["W"][2].__setitem__(1, "1e5"), rehash=True)
    with pytest.raises(CertificateError, match=r"body\.student\.W\[2\]\[1\] is '1e5'; it must be"):
        recheck(difference)
    rewrite(difference, lambda c: c.update(kind=[]), rehash=False)
    with pytest.raises(CertificateError, match=r"file\.kind is list; it must be 'difference'"):
        recheck(difference)


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path / "pipe", tmp_path):
        with pytest.raises(CertificateError, match="regular file"):
            recheck(path)


def network(N, m, p, activation="relu", W=None, entry=None):
    draw = random.Random(0)  # noqa: S311
    entry = entry or (lambda: f"0x1.{draw.getrandbits(52):013x}p-{draw.randrange(1, 9)}")
    rows = {"W": (N, N), "F": (N, m), "C": (p, N)}
    arrays = {k: [[entry() for _ in range(j)] for _ in range(i)] for k, (i, j) in rows.items()}
    vectors = {k: [entry() for _ in range(N)] for k in ("b", "h_init")}
    return {"activation": activation, **arrays, **vectors, **({"W": W} if W else {})}


def claim(student, steps, bits=128):
    inputs = [["1"] * len(student["F"][0])] * steps
    return "difference", {
        "student": student, "input": inputs, "input_bound": None, "step": steps - 1, "output": 0,
        "bits": bits, "teacher_interval": ["-1", "9"], "student_interval": ["-9", "-8"],
        "gap_above": "1",
    }  # fmt: skip


def linear_claim(student, steps):
    """Beside a teacher of a state for each input."""
    kind, body = claim(student, steps)
    size = len(student["F"][0])
    return f"linear {kind}", body | {"teacher": [["1/3"] * size] * size}


def same(rnn, inputs, bound=None):
    extra = {"state_norm": "9", "state_upper": ["9"] * len(rnn["W"])} if bound else {}
    body = {"network": rnn, "unitary": rnn, "input": inputs, "input_bound": bound, **extra}
    return "equality", body


def rotation(N, r=5):
    """An orthogonal matrix of Fractions, of longer ones for a long r."""
    p, q, r = ("3", "4", "5") if r == 5 else (r * r - 1, 2 * r, r * r + 1)
    W = [["0"] * N for _ in range(N)]
    for i in range(0, N, 2):
        W[i][i] = W[i + 1][i + 1] = f"{p}/{r}"
        W[i][i + 1], W[i + 1][i] = f"-{q}/{r}", f"{q}/{r}"
    return W


def seventh(start=1):
    return lambda: f"{start}/7"


HOSTILE = {
    "inputs": lambda: claim(network(1, 512, 512, entry=seventh()), 480),
    "outputs": lambda: claim(network(2, 200, 200), 100),
    "states": lambda: claim(network(200, 1, 1), 100),
    "steps": lambda: claim(network(150, 1, 1), 4096),
    "bits": lambda: claim(network(1, 1, 1, "tanh"), 4096, bits=2**14),
    "bits and fewer steps": lambda: claim(network(2, 1, 1, "sigmoid"), 200, bits=2**14),
    "large numbers": lambda: claim(network(3, 1, 1, entry=lambda: "0x1.0p+1023"), 3000),
    "large numbers, tanh": lambda: claim(network(3, 1, 1, "tanh", entry=lambda: "0x1.0p+1023"),
                                         3000),
    "small numbers": lambda: claim(network(3, 1, 1, "tanh", entry=lambda: "0x1.0p-1022"), 3000),
    "long numbers": lambda: claim(network(14, 1, 1, entry=lambda: "1/" + "7" * 3990), 200),
    "a wide teacher": lambda: linear_claim(network(1, 300, 300, "identity", entry=seventh()), 9),
    "a teacher's steps": lambda: linear_claim(network(1, 40, 40, "identity"), 4096),
    "wide F": lambda: same(network(2, 512, 1, W=rotation(2)), [["1"] * 512] * 2, "1"),
    "square F": lambda: same(network(200, 200, 1, W=rotation(200), entry=seventh()),
                             [["1"] * 200] * 2, "1"),
    "exact steps": lambda: same(network(2, 1, 1, W=rotation(2), entry=seventh()), [["1/3"]] * 4096),
    "exact outputs": lambda: same(network(2, 1, 99, W=rotation(2), entry=seventh()),
                                  [["1/3"]] * 1500),
    "exact states": lambda: same(network(100, 1, 1, W=rotation(100), entry=seventh()),
                                 [["1/3"]] * 50),
    "long rotation": lambda: same(network(2, 1, 1, W=rotation(2, 2**2000), entry=seventh()),
                                  [["1/3"]] * 80),
    "long inputs": lambda: same(network(2, 1, 1, W=rotation(2), entry=seventh()),
                                [["1/" + str(3**4000)]] * 900),
    "different inputs": lambda: same(network(2, 1, 1, W=rotation(2)),
                                     [[f"1/{i + 2}"] for i in range(4096)]),
}  # fmt: skip


@pytest.fixture(scope="module")
def arithmetic():
    """Seconds that 300 000 products of Fractions take here, about one."""
    begun = time.process_time()
    for i in range(300_000):
        Fraction(i, 7) * Fraction(7, i + 1)
    return time.process_time() - begun


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_sizes_end_soon_and_in_little_memory(tmp_path, arithmetic, name):
    kind, body = HOSTILE[name]()
    Certificate(kind, "?", body).save(tmp_path / "c.json")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    with pytest.raises(CertificateError):  # of work, or since the sentence is not "?"
        recheck(tmp_path / "c.json")
    assert time.process_time() - begun < 15 * arithmetic
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB


def test_the_work_of_a_maker_is_bounded_too():
    student = float_student(n=40, N=79)
    x = np.ones((4000, 40))
    with pytest.raises(CertificateError, match="s of work"):
        certify_witness(student, Witness(x, x.copy(), x.copy(), 1.0, 0, 0))


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


@pytest.mark.parametrize("zero", ["F", "W", "b", "C", "h_init"])
def test_equality_of_a_network_with_a_zero_parameter(tmp_path, zero):
    rng = np.random.default_rng(0)
    W, U = rational_contraction(2, rng)
    if zero == "W":
        W, U = 0 * W, np.roll(np.eye(4, dtype=int), 2, axis=0).astype(object)
    rnn = RNN(W, fractions(rng, 2, 1), fractions(rng, 2), fractions(rng, 1, 2), fractions(rng, 2))
    rnn = replace(rnn, **{zero: 0 * getattr(rnn, zero)})
    unitary = unitary_equivalent(rnn, 3, dilation=U)
    certify_equivalence(rnn, unitary, fractions(rng, 9, 1), input_bound=3).save(tmp_path / "c.json")
    assert "every horizon" in str(recheck(tmp_path / "c.json"))


@pytest.mark.wrong_types
def test_a_bound_that_is_no_float_is_covered(tmp_path):
    # ⅓ rounds down to a float; what is proved and printed holds for ⅓ all the same.
    rng = np.random.default_rng(5)
    rnn, unitary = exact_pair(2, rng, Fraction(1, 3) * (1 + Fraction(1, 10**6)))
    c = certify_equivalence(rnn, unitary, fractions(rng, 3, 2), input_bound=Fraction(1, 3))
    assert "|x(k)| ≤ 0.33333333333333333," in str(c)
    assert number(c.body["input_bound"]) == Fraction(1, 3)


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
