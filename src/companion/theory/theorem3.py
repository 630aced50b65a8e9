"""Theorem 3: no finite unitary network for a sigmoid teacher, sharply; and what is still possible.

With an activation whose derivative never vanishes an invertible recurrence cannot forget: equality
with the memoryless teacher over T steps costs N ≥ nT states. `find_sigmoid_witness` runs the proof
on a student, `delay_chain` attains nT, `approximate_unitary` comes as close as one likes with 2n.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from companion.theory.arithmetic import float_below, fractions
from companion.theory.balls import ball, balls, ends, precision
from companion.theory.checks import whole_number
from companion.theory.dilation import orthogonal_dilation
from companion.theory.exact import Trial, activation_balls, clearest, clearest_gap
from companion.theory.network import ACTIVATIONS, RNN, SMOOTH, Array, enlarged, eps_of, simulate
from companion.theory.theorem2 import Witness, check_student, memoryless_teacher

_LIPSCHITZ = {"sigmoid": 0.25, "tanh": 1.0}
_MOST_BITS = 2**13
_CLEAR = 1e-3  # a gap that needs no search for a larger one


def _require_smooth(rnn: RNN, what: str) -> None:
    if rnn.activation not in SMOOTH:
        raise ValueError(
            f"{what} needs activation 'sigmoid' or 'tanh'; this network has {rnn.activation!r}."
        )


def delay_chain(rnn: RNN, horizon: int) -> RNN:
    """Build a unitary network with the outputs of ``rnn`` for T steps, for any input. **Ours.**

    Egerváry's finite dilation: what leaves W enters a chain of T − 1 blocks of r states, moves one
    block a step, and returns to the first n states only at step T:

        U = [ W    0 … 0   B ]        [ W  B ]
            [ K    0 … 0   S ]   with [ K  S ]  an orthogonal dilation of W.
            [ 0    I … 0   0 ]

    Each block rests at v = φ(v + β) (logistic v = ½, β = −½; tanh v = β = 0). The bias of the first
    n states takes −Bv off; that of block 1 absorbs Kh₋₁, so that the chain is at rest at step 0.

    Parameters
    ----------
    rnn : logistic or tanh network with ‖W‖₂ ≤ 1 and any initial state; `NotContractiveError` above.
    horizon : T ≥ 1.

    Returns
    -------
    RNN of n + r(T − 1) ≤ nT states, r = rank(I − WᵀW), with an orthogonal recurrent matrix; equal
    to ``rnn`` at steps k < T up to rounding.

    Examples
    --------
    >>> chain = delay_chain(memoryless_teacher(2, "sigmoid"), horizon=3)
    >>> x = np.arange(8.0).reshape(4, 2)
    >>> (simulate(chain, x) != simulate(memoryless_teacher(2, "sigmoid"), x)).any(axis=1).tolist()
    [False, False, False, True]
    """
    _require_smooth(rnn, "delay_chain")
    T, dilation, n = whole_number("horizon", horizon, 1), orthogonal_dilation(rnn.W), rnn.n
    if T == 1:  # no past: any orthogonal matrix will do
        P, _, Qt = np.linalg.svd(rnn.W)
        return replace(rnn, W=P @ Qt, b=rnn.b + (rnn.W - P @ Qt) @ rnn.h_init)
    r = len(dilation) - n
    N, v = n + r * (T - 1), rnn.dtype.type(0.5 if rnn.activation == "sigmoid" else 0)
    U = np.zeros((N, N), dtype=rnn.dtype)
    U[: n + r, :n], U[: n + r, N - r :] = dilation[:, :n], dilation[:, n:]
    U[n + r :, n : N - r] = np.eye(N - n - r)
    b = np.full(N, -v, dtype=rnn.dtype)
    b[: n + r] = -dilation[:, n:].sum(1) * v
    b[:n] += rnn.b
    b[n : n + r] -= dilation[n:, :n] @ rnn.h_init
    return enlarged(rnn, U, b, rest=v)


def approximate_unitary(rnn: RNN, M: float) -> tuple[RNN, float]:
    """Build a unitary network of n + r ≤ 2n states, and bound its error at every step. **Ours.**

    Theorem 1's dilation with bias −M on the new block, whose units then stay within
    ℓ = σ(cR − M) (logistic) or 2σ(2(cR − M)) (tanh, around −1) of their resting value, R bounding
    the states. With L = ¼ or 1 the Lipschitz constant of φ the outputs differ by at most

        ‖C‖ L (‖B‖ √r ℓ + ρ) / (1 − L‖W‖)    in the Euclidean norm, for every input.

    ρ = 0 for the logistic function; for tanh it is the rounding of the bias that takes up what the
    resting block feeds back. From M ≈ 37 on float64 cannot see the difference, which is there.

    Parameters
    ----------
    rnn : logistic or tanh network with any initial state and ‖W‖₂ ≤ 1 (`NotContractiveError`
        above), for tanh below 1.
    M : finite; the bound is useful from M > c max(√n, ‖h₋₁‖) on, c = √(1 − s_min²).

    Returns
    -------
    unitary : RNN with an orthogonal recurrent matrix, dtype of ``rnn``.
    bound : of ‖y⁽ᵏ⁾ − ŷ⁽ᵏ⁾‖₂, in exact arithmetic on the float parameters; 0.0 if W is orthogonal.

    Examples
    --------
    >>> unitary, bound = approximate_unitary(memoryless_teacher(2, "sigmoid"), M=20.0)
    >>> unitary.n, f"{bound:.1e}"
    (4, '3.0e-09')
    """
    _require_smooth(rnn, "approximate_unitary")
    if not np.isfinite(M):
        raise ValueError(f"M is {M!r}; it must be finite.")
    U, n, L = orthogonal_dilation(rnn.W), rnn.n, _LIPSCHITZ[rnn.activation]
    r, eps = len(U) - n, eps_of(rnn.W)
    if r == 0:
        return rnn, 0.0
    B, K = U[:n, n:], U[n:, :n]
    W_norm, B_norm, C_norm = (float(np.linalg.norm(a.astype(float), 2)) for a in (rnn.W, B, rnn.C))
    gain = L * (W_norm + 10 * n * np.finfo(float).eps)
    if gain >= 1:
        raise ValueError("‖W‖₂ is 1; with tanh the errors of all steps would add up without bound.")
    rest = 0 if rnn.activation == "sigmoid" else -1
    b = np.concatenate([rnn.b, np.full(r, -M, dtype=rnn.dtype)]) - U[:, n:].sum(1) * rest
    unitary = enlarged(rnn, U, b, rest=rest)
    # What the rounded biases really do to the first block (ρ) and to the new one (instead of −M).
    drift = fractions(b) + fractions(U[:, n:]).sum(1) * rest
    drift[:n] -= fractions(rnn.b)
    rounding = drift.astype(float)
    rho, push = float(np.linalg.norm(rounding[:n])), float(rounding[n:].max())
    R = max(np.sqrt(n), float(np.linalg.norm(rnn.h_init)))
    top = float(np.linalg.norm(K.astype(float), axis=1).max()) * R * (1 + 10 * n * eps) + push
    level = (1.0 if rest == 0 else 2.0) * np.exp(-np.logaddexp(0, -top if rest == 0 else -2 * top))
    bound = C_norm * L * (B_norm * np.sqrt(r) * level + rho) / (1 - gain)
    # The last factor covers the rounding of this formula, whose exponent is known to |top|·eps.
    bound *= 1 + 1e-13 * (abs(top) + n + r)
    return unitary, max(float(bound), 5e-324)


def find_sigmoid_witness(student: RNN) -> Witness:
    """Find an input of at most ⌊N/n⌋ + 1 steps on which ``student`` differs from φ(x).

    Were all derivatives ∂y⁽ᵏ⁾/∂x⁽ᵗ⁾, t ≤ k < T, those of the teacher (diag φ′ for t = k, 0 for
    t < k) at a single input, then dim span{∂s⁽ᵏ⁾/∂x⁽ᵗ⁾ : t ≤ k} would grow by n every step, since
    U and diag φ′ are invertible, and N ≥ nT. So for T = ⌊N/n⌋ + 1 at any input one of them differs:
    if the outputs do not differ there, they do a little way along it. Outputs and derivatives are
    enclosed in balls of growing precision, so the difference is proved, however small. Besides, a
    few larger steps are tried and the clearest input is returned.

    Parameters
    ----------
    student : logistic or tanh network, m = p = n, any N, invertible recurrent matrix (`ValueError`
        for another).

    Returns
    -------
    Witness with a proved lower bound of the gap; `certify_witness` makes a certificate of it.
    `ArithmeticError` if the gap is below about 2⁻⁸¹⁹², as with biases of −10⁴.

    References
    ----------
    Theorem 3 of Emami et al. (2019) in this project's finite-horizon form.

    Examples
    --------
    >>> teacher = memoryless_teacher(2, "sigmoid")
    >>> w = find_sigmoid_witness(delay_chain(teacher, horizon=4))
    >>> w.input.shape, w.step, w.gap > 1e-4
    ((5, 2), 4, True)
    """
    _require_smooth(student, "find_sigmoid_witness")
    check_student(student)
    base, bits = np.zeros((student.n // student.m + 1, student.m)), 128
    while bits <= _MOST_BITS:
        best = _proved(student, base, bits)
        if best is None or best.gap < _CLEAR:
            for x in _along(student, base, bits):
                found = _proved(student, x, bits)
                # A near tie must not be decided by the last bits of an enclosure.
                if found and (best is None or found.gap > best.gap * (1 + Fraction(1, 2**20))):
                    best = found
        if best is not None:
            return best
        bits *= 2
    raise ArithmeticError(
        f"the student differs from the teacher by less than {_MOST_BITS} bits of precision show."
    )


def _along(student: RNN, base: Array, bits: int) -> list[Array]:
    """Choose inputs along one coordinate: the clearest in float64, and ever shorter steps."""
    direction = _differing_derivative(student, base, bits)
    if direction is None:
        return []
    sizes = [2.0**e * sign for e in (3, 2, 1, 0, -2, -6) for sign in (1, -1)]
    # So short that the derivative decides, yet well within the precision; a float32 in any case.
    sizes += [2.0 ** -min(bits // 8, 120), 2.0**-4]
    moved = np.repeat(base[None], len(sizes), axis=0)
    moved[(slice(None), *direction)] += sizes
    wanted = simulate(memoryless_teacher(student.m, student.activation), moved[:-2])
    gaps = abs(simulate(student, moved[:-2]) - wanted).max(axis=(1, 2))
    return [moved[gaps.argmax()], *moved[-2:]]


def _proved(student: RNN, x: Array, bits: int) -> Witness | None:
    """Cut an input after the step of the clearest proved difference; None if there is none."""
    found = clearest_gap(Trial(student, x), bits)
    if found is None:
        return None
    (k, c), gap, bits = found
    x = x[: k + 1]
    with precision(bits):
        middle = np.vectorize(lambda v: float(sum(ends(v)) / 2), otypes=[float])
        wanted, y = map(middle, Trial(student, x).outputs(bits))
    return Witness(x.astype(student.dtype), wanted, y, float_below(gap) or gap, k, c)


def _differing_derivative(student: RNN, x: Array, bits: int) -> tuple[int, int] | None:
    """Find (t, i) of the input entry along which an output provably moves unlike the teacher's."""
    phi, slope = activation_balls(student.activation)
    (T, m), parameters = x.shape, (student.W, student.F, student.b, student.C, student.h_init)
    with precision(bits):
        W, F, b, C, s = (balls(a) for a in parameters)
        V = np.zeros((student.n, 0), dtype=object)  # ∂s/∂x⁽⁰⁾, …, ∂s/∂x⁽ᵏ⁾ side by side
        excess = np.full((T, m, T * m), ball(0))
        for k, u in enumerate(balls(x)):
            z = W @ s + F @ u + b
            V = slope(z)[:, None] * np.concatenate([W @ V, F], axis=1)
            s = phi(z)
            excess[k, :, : V.shape[1]] = C @ V
            excess[k, :, k * m : (k + 1) * m] -= np.diag(slope(u))
        at = clearest(excess)
        return divmod(at[2], m) if excess[at].abs_lower() > 0 else None


def _slope(activation: str, z: Array) -> Array:
    """Compute φ′(z), without cancellation in the tails."""
    if activation == "tanh":
        return np.asarray(np.exp(-2 * np.logaddexp(z, -z)) * 4)
    if activation == "sigmoid":
        return np.asarray(np.exp(-np.logaddexp(0, z) - np.logaddexp(0, -z)))
    return np.asarray(z > 0, dtype=float) if activation == "relu" else np.ones_like(z)


def derivative_spans(student: RNN, x: Shaped[Array, "T m"]) -> tuple[int, ...]:
    """Count dim span{range ∂s⁽ᵏ⁾/∂x⁽ᵗ⁾ : t ≤ k} at each step, as theorem 3's proof does.

    For a smooth activation and an invertible W it never shrinks, and it must grow by n a step while
    the outputs are the teacher's. Under ReLU diag φ′ may be singular and it need not.

    Parameters
    ----------
    student : any network.
    x : array, shape (T, m): where to differentiate.

    Returns
    -------
    Numerical ranks: directions count down to 10·N·eps of the longest, in float64, each span being
    carried on by an orthonormal basis.

    Examples
    --------
    >>> from companion.theory.theorem1 import unitary_equivalent
    >>> x = np.ones((4, 2))
    >>> derivative_spans(delay_chain(memoryless_teacher(2, "tanh"), horizon=3), x)
    (2, 4, 6, 6)
    >>> derivative_spans(unitary_equivalent(memoryless_teacher(2), input_bound=2.0), x)
    (2, 2, 2, 2)
    """
    theta = student.astype(np.float64)
    u = np.asarray(x, dtype=np.float64)
    states = simulate(theta, u, return_states=True)[1]
    basis = np.zeros((student.n, 0))
    previous, dimensions = theta.h_init, []
    for row, state in zip(u, states, strict=True):
        D = _slope(student.activation, theta.W @ previous + theta.F @ row + theta.b)
        columns = D[:, None] * np.concatenate([theta.W @ basis, theta.F], axis=1)
        lengths = np.linalg.norm(columns, axis=0)
        P, s, _ = np.linalg.svd(columns[:, lengths > 0] / lengths[lengths > 0])
        rank = int((s > 10 * student.n * np.finfo(float).eps * s.max(initial=0)).sum())
        basis, previous = P[:, :rank], state
        dimensions.append(rank)
    return tuple(dimensions)


class Linearisation(NamedTuple):
    """A network near the fixed point ``state`` of a constant input: δs ↦ A δs + B δx, δy = C δs."""

    state: Float[Array, " N"]
    A: Float[Array, "N N"]
    B: Float[Array, "N m"]
    C: Float[Array, "p N"]

    def markov_parameters(self, count: int) -> Float[Array, "count p m"]:
        """Compute C Aʲ B, the response at lag j < count; the teacher's is 0 for j ≥ 1."""
        return np.array([self.C @ np.linalg.matrix_power(self.A, j) @ self.B for j in range(count)])


def linearise(rnn: RNN, x: Shaped[Array, " m"]) -> Linearisation:
    """Linearise a network at the fixed point of a constant input x: a second way to theorem 3.

    A = D W and B = D F with D = diag φ′ there. `ValueError` if the states do not settle; they do
    where L‖W‖₂ < 1, L = ¼ for the logistic function and 1 for tanh.
    """
    theta, u = rnn.astype(np.float64), np.asarray(x, dtype=np.float64)
    phi, state = ACTIVATIONS[rnn.activation], theta.h_init
    for _ in range(10_000):
        previous, state = state, phi(theta.W @ state + theta.F @ u + theta.b)
        if np.abs(state - previous).max() <= 2 * eps_of(state) * max(1.0, np.abs(state).max()):
            D = _slope(rnn.activation, theta.W @ state + theta.F @ u + theta.b)[:, None]
            return Linearisation(state, D * theta.W, D * theta.F, theta.C)
    raise ValueError("the states do not settle under this constant input within 10000 steps.")


def identity_from_powers(A: Float[Array, "N N"]) -> Float[Array, " N"]:
    """Compute c with I = c₁A + c₂A² + … + c_N A^N for an invertible A, by Cayley-Hamilton.

    Examples
    --------
    >>> identity_from_powers(np.array([[0.0, 1.0], [-1.0, 0.0]])).tolist()
    [-0.0, -1.0]
    """
    p: Any = np.poly(A)  # λ^N + p₁λ^(N−1) + … + p_N
    if p[-1] == 0:
        raise ValueError("A is singular; the identity is then no combination of its powers.")
    return np.asarray(-p[-2::-1] / p[-1])
