"""Nothing is lost: elimination and rounding against Fractions, balls against flint and mpmath."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.theory.arithmetic import (
    at_least,
    at_most,
    determinant,
    float_above,
    float_below,
    floor_log2,
    fractions,
    integers,
    invertible,
    positive_definite,
    product,
    root_above,
    solve,
)
from companion.theory.balls import Ball, ball, balls, balls_are, ends, moduli, precision
from companion.theory.certificate import certify_witness
from companion.theory.exact import ball_outputs, integer_outputs, output_gap
from companion.theory.linear import find_linear_witness, window_student
from companion.theory.network import RNN, random_rnn, simulate
from companion.theory.smaller import smallest_unitary
from companion.theory.theorem2 import find_witness, memoryless_teacher, near_miss
from companion.theory.theorem3 import approximate_unitary, delay_chain, find_sigmoid_witness

RATIONAL = st.fractions(max_denominator=10**6) | st.floats(
    allow_nan=False, allow_infinity=False
).map(Fraction)
SMALL = st.fractions(-9, 9, max_denominator=9)
PRECISION = st.sampled_from([30, 64, 128, 700])


@pytest.fixture(params=["flint", "python"], scope="module")
def kind(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPANION_BALLS", request.param)
        yield request.param


@pytest.fixture
def either(monkeypatch):
    """Runs what it is given with balls of both kinds."""

    def run(compute):
        results = []
        for one in ("flint", "python"):
            monkeypatch.setenv("COMPANION_BALLS", one)
            results.append(compute())
        return results

    return run


def matrix(n, m=None):
    row = st.lists(SMALL, min_size=m or n, max_size=m or n)
    return st.lists(row, min_size=n, max_size=n)


@settings(max_examples=60, deadline=None)
@given(A=st.integers(1, 5).flatmap(matrix), data=st.data())
def test_elimination_is_exact(A, data):
    # Outside the strategy: where types are enforced, calls draw from Python's global randomness.
    A = fractions(A)
    n = len(A)
    B = fractions(data.draw(matrix(n, 2)))
    det = determinant(A)
    assert float(det) == pytest.approx(np.linalg.det(A.astype(float)), abs=1e-6, rel=1e-9)
    assert invertible(A) == (det != 0)
    if det:
        X = solve(A, B)
        assert (product(A, X) == B).all()
        assert (A @ X == B).all()
    else:
        with pytest.raises(ZeroDivisionError):
            solve(A, B)
    G = product(A.T, A)
    assert positive_definite(G) == (det != 0)
    assert not positive_definite(-G)


def test_a_determinant_that_a_prime_divides_is_still_not_zero():
    p = 2**31 - 1
    assert invertible(fractions([[p, 0], [0, 1]]))
    assert not invertible(fractions([[p, p], [1, 1]]))
    N, d = integers(fractions([Fraction(1, 6), Fraction(-3, 4)]))
    assert (N.tolist(), d) == ([2, -9], 12)


@given(q=RATIONAL, digits=st.integers(1, 17))
def test_printed_numbers_are_on_the_safe_side_and_near(q, digits):
    low, high = at_least(q, digits), at_most(q, digits)
    low_value = Fraction(2) ** int(low[2:]) if low.startswith("2^") else Fraction(low)
    assert low_value <= q <= Fraction(high)
    assert Fraction(high) - q <= abs(q) * Fraction(10) ** (1 - digits)
    assert Fraction(float_below(q)) <= q or float_below(q) == -math.inf
    assert float_above(q) >= q
    if q > 0:
        assert Fraction(2) ** floor_log2(q) <= q < Fraction(2) ** (floor_log2(q) + 1)
        assert q <= root_above(q) ** 2 <= q * (1 + Fraction(1, 2**99))


def test_what_the_old_sentences_got_wrong():
    assert at_least(1.9999996) == "1.99999"
    assert at_most(1.9999996) == "2"
    assert at_most(Fraction("1.9999996")) == "1.9999996"  # exact: 17 digits are enough
    assert at_most(Fraction(5, 3), 3) == "1.67"
    assert at_least(Fraction(1, 2**1400)) == "2^-1400"
    assert at_least(0) == at_most(0) == "0"
    assert at_most(Fraction(10) ** 30) == "1e+30"


def holds(b, value, slack=Fraction(0)):
    low, high = ends(b)
    return low - slack <= value <= high + slack


@settings(max_examples=150, deadline=None)
@given(x=RATIONAL, y=RATIONAL, bits=PRECISION, wide=st.sampled_from([0, 2.0**-40, 1.0]),
       inside=st.fractions(-1, 1, max_denominator=99))  # fmt: skip
def test_balls_hold_every_result(kind, x, y, bits, wide, inside):
    assert balls_are() == kind
    with precision(bits):
        a, b = ball(x, wide), ball(y)
        v = x + Fraction(wide) * inside  # any number in the ball
        results = [(a + b, v + y), (a - b, v - y), (a * b, v * y), (-a, -v), (abs(a), abs(v)),
                   (a + 1, v + 1), (2 - a, 2 - v)]  # fmt: skip
        if y:
            results.append((a / b, v / y))
        tiny = Fraction(1, 2**13_000)
        assert all(holds(got, exact, tiny) for got, exact in results)
        assert ends(a.abs_lower())[0] <= abs(v) <= moduli(a)[1]
        assert moduli(a)[0] <= abs(v)
        assert not (a < ball(v) and ends(ball(v))[0] == ends(ball(v))[1])
        assert (ball(x) < ball(y)) == (x < y) or ends(ball(x))[0] != ends(ball(x))[1]


@settings(max_examples=100, deadline=None)
@given(x=st.fractions(-700, 700, max_denominator=2**20) | st.sampled_from(
           [Fraction(s * m, 2**e) for s in (1, -1) for m in (1, 3) for e in (1, 30, 300, 1000)]),
       bits=PRECISION, wide=st.sampled_from([0, 2.0**-50, 3.0]))  # fmt: skip
def test_exp_and_tanh_hold_what_mpmath_finds(kind, x, bits, wide):
    with precision(bits), mpmath.workprec(3000):
        b = ball(x, wide)
        for name in ("exp", "tanh"):
            for v in (x, x + Fraction(wide), x - Fraction(wide)):
                value = getattr(mpmath, name)(mpmath.mpf(v.numerator) / v.denominator)
                sign, m, e, _ = value._mpf_
                exact = (-1) ** sign * Fraction(int(m)) * Fraction(2) ** int(e)
                slack = abs(exact) / 2**2900
                assert holds(getattr(b, name)(), exact, slack), (name, v)
            low, high = ends(getattr(ball(Fraction(math.floor(x * 2**9), 2**9)), name)())
            assert high - low <= max(abs(low), abs(high)) * Fraction(64, 2**bits)


def test_balls_in_plain_python_at_the_edges():
    with precision(64):
        assert ends(Ball(0).exp()) == (1, 1)
        assert ends(Ball(0).tanh()) == (0, 0)
        far = Ball(-(10**300)).exp()  # positive, and smaller than can be written
        assert far > 0 or ends(far)[0] == 0
        assert ends(far)[1] <= Fraction(1, 2**12_000)
        assert ends(Ball(10**300).tanh())[1] >= 1
        with pytest.raises(OverflowError):
            Ball(2**70).exp()
        with pytest.raises(ZeroDivisionError):
            Ball(1) / (Ball(1) - Ball(1) / 3 * 3)
        with pytest.raises(OverflowError, match="2\\^"):
            ends(Ball(2) * Fraction(2) ** 200_000)
        unit = Ball(1) - Ball(1) / 3 * 3  # holds 0, and no more is known
        assert not unit > 0
        assert not unit < 0
        assert (Ball(0) + unit).contains_interior(Ball(0))
        assert not unit.contains_interior(unit)


def test_ball_matrices_are_solved_and_definite(kind):
    rng = np.random.default_rng(0)
    A = fractions(rng.integers(-9, 10, (5, 5)))
    B = fractions(rng.integers(-9, 10, (5, 2)))
    exact = solve(A, B)
    with precision(200):
        X = solve(balls(A), balls(B))
        assert all(holds(x, v) for x, v in zip(X.flat, exact.flat, strict=True))
        assert max(high - low for low, high in map(ends, X.flat)) < Fraction(1, 2**150)
        assert positive_definite(balls(product(A.T, A)))
        assert not positive_definite(-balls(product(A.T, A)))
        with pytest.raises(ZeroDivisionError):
            solve(balls(A) * ball(0, 1.0), balls(B))  # every entry may be 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 4), T=st.integers(1, 6))
def test_integer_runs_are_the_fractions(seed, n, T):
    rng = np.random.default_rng(seed)
    exact = random_rnn(n, inputs=2, outputs=2, norm=0.9, rng=rng).astype(object)
    x = fractions(rng.standard_normal((T, 2)))
    outputs = [[Fraction(int(v), d) for v in y] for y, d in integer_outputs(exact, x)]
    assert (np.array(outputs) == simulate(exact, x)).all()


def test_both_kinds_of_balls_give_the_same_certificates_and_verdicts(either):
    rng = np.random.default_rng(0)
    relu = random_rnn(5, inputs=3, outputs=3, norm=0.9, rng=rng)
    tanh = random_rnn(4, inputs=2, outputs=2, norm=0.9, rng=rng, activation="tanh")
    chain = delay_chain(memoryless_teacher(2, "sigmoid"), 4)
    hidden = approximate_unitary(memoryless_teacher(1, "sigmoid"), 300.0)[0]
    for student in (relu, near_miss(3, 2.0**-10, 1.0), tanh, chain, hidden):
        find = find_sigmoid_witness if student.activation != "relu" else _boxed
        one, two = either(lambda s=student, f=find: certify_witness(s, f(s)))
        assert (one.statement, one.sha256) == (two.statement, two.sha256)
    W = np.array([[0.5, 0.3], [0.0, -0.25]])
    linear = window_student(W, 3)
    one, two = either(lambda: certify_witness(linear, find_linear_witness(linear, W), W=W))
    assert (one.statement, one.sha256) == (two.statement, two.sha256)
    gaps = either(lambda: output_gap(tanh, memoryless_teacher(2, "tanh"), np.ones((4, 2))))
    assert gaps[0] == gaps[1]
    W = np.linalg.qr(rng.standard_normal((4, 4)))[0] * 0.99
    eye, zero = np.eye(4), np.zeros(4)
    found = either(lambda: smallest_unitary(RNN(W, eye, zero, eye, zero), 1.0, starts=3))
    assert (found[0].unitary.n, found[0].proved) == (found[1].unitary.n, found[1].proved)


def _boxed(student):
    return find_witness(student, 1.0)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_students_with_huge_weights_are_refuted_all_the_same(kind, activation):
    rng = np.random.default_rng(0)
    for scale in (1e20, 1e100, 1e300):
        s = random_rnn(3, inputs=1, outputs=1, norm=1.0, rng=rng, activation=activation)
        s = RNN(s.W * scale, s.F * scale, s.b, s.C, s.h_init, activation)
        w = find_sigmoid_witness(s)
        assert certify_witness(s, w).body["gap_above"]
        # Too few bits to know anything but the range of the activation: the balls still hold it.
        rough = [ends(v) for v in ball_outputs(s, w.input, 30).flat]
        fine = [ends(v) for v in ball_outputs(s, w.input, 4000).flat]
        assert all(a <= c <= d <= b for (a, b), (c, d) in zip(rough, fine, strict=True))


def test_importing_the_package_imports_no_flint_and_works_without_one():
    code = """
import sys
import companion
assert not {"flint", "mpmath", "torch", "matplotlib"} & set(sys.modules), sys.modules
sys.modules["flint"] = None  # as if it were not installed
from importlib.machinery import PathFinder
import importlib.util
importlib.util.find_spec = lambda name, *a: None if name == "flint" else PathFinder.find_spec(name)
from companion import *
import numpy as np
s = delay_chain(memoryless_teacher(1, "tanh"), 2)
print(certify_witness(s, find_sigmoid_witness(s)))
s = RNN([[0.5]], [[1.0]], [0.0], [[1.0]], [0.0])
print(certify_witness(s, find_witness(s, 1.0)))
assert states_needed(np.diag([0.5, 0.4])) == 4
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("differ by at least") == 2
