"""How small can an equal unitary network be? Results of this project, past the poster.

*Proved*: n + rank(I − WᵀW) states suffice (theorem 1); 2n − 1 for a non-diagonal contraction, by a
scaling that brings one singular value to 1; n + d₀ are needed over all of ℝⁿ, d₀ = min over D ≻ 0
diagonal of #{σᵢ(DWD⁻¹) < 1}; n complex states suffice. *Observed*, and proved teacher by teacher by
interval Newton: scalings that bring q singular values to 1, hence 2n − q states. *Open*: when such
scalings exist, and whether d₀ is attained on bounded inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, SupportsFloat, SupportsIndex

import numpy as np
from jaxtyping import Complex, Float, Shaped

from companion.theory.arithmetic import determinant, fractions, positive_definite, solve
from companion.theory.balls import ball, balls, precision
from companion.theory.dilation import (
    defect_rank,
    minimal_scaling,
    norm_tolerance,
    scaled,
    unit_norm_scaling,
)
from companion.theory.network import RNN, Array, enlarged, is_unitary, recurrent, spectral_norm
from companion.theory.similarity import rescaled
from companion.theory.theorem1 import state_bound, unitary_equivalent

Verdict = Literal["found", "impossible", "unknown"]


@dataclass(frozen=True, eq=False)
class Smallest:
    """Hold the smallest equal unitary network found, and how well that is known.

    ``proved`` says that some D within 1e-9 of ``scale``, relatively, is proved to have exactly q
    singular values 1 and the others below: by the intermediate value for q = 1, where a scaling
    brings a value to 1, by interval Newton beyond. ``lower_bound`` is proved for the very numbers
    in W; W rounded from an orthogonal one may need one state more than ``unitary`` has, which then
    is equal to rounding only.
    """

    unitary: RNN  # equal for ‖x⁽ᵏ⁾‖₂ ≤ the bound given
    scale: Float[Array, " n"]  # d, float64: its dilation is that of DWD⁻¹, D = diag(d)
    unit_values: int  # q, how many singular values of DWD⁻¹ are 1; unitary has 2n − q states
    residual: float  # largest |σᵢ² − 1| of those q, in float64
    proved: bool
    lower_bound: int  # states needed for equality on all of ℝⁿ (F = C = I), `states_needed`(W)


def smallest_unitary(
    rnn: RNN, input_bound: SupportsFloat, *, horizon: SupportsIndex | None = None,
    starts: int = 20, most: int | None = None,
) -> Smallest:  # fmt: skip
    """Search the smallest equal unitary network that diagonal scalings yield. **Ours.**

    q singular values of DWD⁻¹ at 1 are q(q + 1)/2 equations for n − 1 free scales, so q is tried
    from the largest that this count allows; a miss proves nothing. From random starts, least
    squares bring the q largest to 1; Newton's method on the Schur complement of DWD⁻¹ᵀDWD⁻¹ − I,
    which is smooth there as singular values are not, finishes; interval Newton in 400-bit balls
    proves that an exact solution is there.

    Parameters
    ----------
    rnn : float ReLU network with ‖DWD⁻¹‖₂ ≤ 1 for some D.
    input_bound, horizon : as for `unitary_equivalent`.
    starts : random starts for each q.
    most : largest q to try; by default the largest with q(q + 1)/2 ≤ n − 1.

    Raises
    ------
    NotContractiveError, ValueError : as `unitary_equivalent`.

    Examples
    --------
    >>> W = np.array([[0.5, 0.2], [0.1, 0.4]])
    >>> eye = np.eye(2)
    >>> found = smallest_unitary(RNN(W, eye, np.zeros(2), eye, np.zeros(2)), input_bound=1.0)
    >>> found.unitary.n, found.lower_bound
    (3, 3)
    """
    given, n = rnn.W.astype(np.float64), rnn.n
    base = np.ones(n)
    if spectral_norm(given) > 1 + norm_tolerance(given):
        base = minimal_scaling(given)
    W = scaled(given, base)
    d, q = base, n - defect_rank(W)  # refuses what no scaling makes contractive
    proved = q == 0 or prove_unit_values(given, d, q)
    allowed = int((np.sqrt(8 * (n - 1) + 1) - 1) / 2)
    rng = np.random.default_rng(0)
    for wanted in range(allowed if most is None else most, max(q, 1), -1):
        found = unit_singular_values(W, wanted, rng=rng, starts=starts)
        if found is not None:
            d, q = base * found, wanted
            proved = prove_unit_values(given, d, wanted)
            break
    if q == 0 and (np.diag(np.diag(W)) != W).any():
        d, q = base * unit_norm_scaling(W), 1
    values = np.linalg.svd(scaled(given, d), compute_uv=False)[:q]
    residual = float(np.abs(values**2 - 1).max(initial=0))
    unitary = unitary_equivalent(rescaled(rnn, base), input_bound, horizon=horizon, scale=d / base)
    return Smallest(unitary, d, q, residual, proved, states_needed(given))


def states_needed(W: Shaped[Array, "n n"]) -> int:
    """Count states that an equal unitary network needs, for inputs in all of ℝⁿ. **Ours.**

    The theorem: N ≥ n + min_D #{σᵢ(DWD⁻¹) < 1} for the teacher ReLU(Wh + x). Scalings keep the
    determinant of every block of a block diagonal W, so each block with |det| < 1 counts at least
    one: n + 1 for an irreducible contraction, 2n for a diagonal one. The determinants are exact, so
    the count is proved for the very numbers in W; rounding alone makes some orthogonal matrices
    need n + 1. `fewest_below_one` searches for the minimum itself.

    Examples
    --------
    >>> states_needed(np.array([[0.5, 0.2], [0.1, 0.4]])), states_needed(np.diag([0.5, 0.4]))
    (3, 4)
    """
    from scipy.sparse.csgraph import connected_components

    W = recurrent(W)
    count, label = connected_components(W != 0, connection="weak")
    blocks = [W[np.ix_(label == i, label == i)] for i in range(count)]
    return len(W) + sum(abs(determinant(fractions(block))) < 1 for block in blocks)


def fewest_below_one(
    W: Float[Array, "n n"], *, starts: int = 2000, seed: int = 0
) -> tuple[int, Float[Array, " n"]]:
    """Search D ≻ 0, of any norm, for the least #{σᵢ(DWD⁻¹) < 1}; give it and that D. **Ours.**

    Where it equals `states_needed`(W) − n the minimum is known.
    """
    rng, n = np.random.default_rng(seed), len(W)
    best, best_d = int((np.linalg.svd(W, compute_uv=False) < 1).sum()), np.ones(n)
    for width in rng.uniform(0.0, 8.0, starts):
        d = np.exp(width * rng.standard_normal(n))
        below = int((np.linalg.svd(scaled(W, d), compute_uv=False) < 1).sum())
        if below < best:
            best, best_d = below, d
    return best, best_d


def unit_singular_values(
    W: Float[Array, "n n"], q: int, *, rng: np.random.Generator, starts: int = 20
) -> Float[Array, " n"] | None:
    """Search scales d that bring the q largest singular values of DWD⁻¹ to 1; None if not found."""
    from scipy.optimize import least_squares

    n = len(W)

    def excess(log_d: Array) -> Array:
        return np.asarray(np.linalg.svd(scaled(W, np.exp(log_d)), compute_uv=False)[:q] - 1)

    def slope(log_d: Array) -> Array:
        P, s, Qt = np.linalg.svd(scaled(W, np.exp(log_d)))
        return np.asarray((s * (P**2 - Qt.T**2)).T[:q])

    for _ in range(starts):
        start = rng.standard_normal(n) * rng.uniform(0.2, 2.5)
        rough = least_squares(excess, start, jac=slope, max_nfev=60)
        if np.abs(rough.fun).max() > 0.05:
            continue
        d = _newton(W, np.exp(rough.x - rough.x.mean()), q)
        if d is not None:
            return d
    return None


def _complement(S: Any, T: Any, q: int, solve: Any) -> tuple[Any, Any, Any]:
    """Compute the Schur complement of the trailing block of TᵀAT, with A = SᵀS − I, S = DWD⁻¹.

    It is ZᵀAZ, and with G = SᵀS its slopes ∂/∂ log dᵢ are Zᵀ(2 SᵀEᵢS − EᵢG − GEᵢ)Z: Z needs no
    derivative. Gives its q(q + 1)/2 entries, their slopes in all dᵢ, and the trailing block.
    """
    upper, G = np.triu_indices(q), S.T @ S
    A, top, rest = G - np.eye(len(S)), T[:, :q], T[:, q:]
    trailing = rest.T @ A @ rest
    Z = top - rest @ solve(trailing, rest.T @ A @ top)
    SZ, cross = S @ Z, Z[:, :, None] * (G @ Z)[:, None, :]
    slopes = 2 * SZ[:, :, None] * SZ[:, None, :] - cross - cross.transpose(0, 2, 1)
    return (Z.T @ A @ Z)[upper], slopes[:, *upper].T, trailing


@np.errstate(over="ignore", invalid="ignore")  # what overflows is given up
def _newton(W: Array, d: Array, q: int) -> Array | None:
    """Solve for DWD⁻¹ᵀDWD⁻¹ − I of corank q by Newton's method; None unless it reaches norm 1."""
    for _ in range(30):
        S = scaled(W, d)
        try:
            excess, slopes, _ = _complement(S, np.linalg.svd(S)[2].T, q, np.linalg.solve)
        except np.linalg.LinAlgError:  # a further singular value is 1 to the last bit
            return None
        if not np.isfinite(excess).all() or np.ptp(np.log(d)) > 14:
            return None
        step = np.linalg.lstsq(slopes, -excess, rcond=1e-10)[0]
        d = d * np.exp(np.clip(step, -0.5, 0.5))
        if np.abs(step).max() < 1e-15:
            break
    values = np.linalg.svd(scaled(W, d), compute_uv=False)
    tolerance = norm_tolerance(W)
    fits = np.abs(values[:q] - 1).max() <= tolerance and values[q:].max(initial=0) < 1 - tolerance
    return d if fits else None


def prove_unit_values(W: Float[Array, "n n"], d: Float[Array, " n"], q: int) -> bool:
    """Try to prove that a D near ``d`` has exactly q singular values 1, the others below.

    With A = W̃ᵀW̃ − I and an invertible T, the complement of the trailing block of TᵀAT vanishes
    exactly where A has corank q, provided that block is negative definite; then ‖W̃‖ = 1. The
    complement has q(q + 1)/2 entries: as many scales are freed, the others stay. If the Newton
    image of a box of radius 2⁻¹²⁰ lies inside the box, it contains a solution, for the exact W.
    """
    from scipy.linalg import qr

    count = q * (q + 1) // 2
    if count > len(W) - 1:
        return False
    S = scaled(W, d)
    T = np.linalg.svd(S)[2].T
    try:
        slopes = _complement(S, T, q, np.linalg.solve)[1]
    except np.linalg.LinAlgError:  # more than q singular values are 1 to the last bit
        return False
    free = qr(slopes, pivoting=True)[2][:count]

    def enclosed(x: Array) -> tuple[Array, Array, Array]:
        e = balls(d)
        e[free] = [a * v.exp() for a, v in zip(e[free], x, strict=True)]
        return _complement(scaled(balls(W), e), balls(T), q, solve)

    def newton(over: Array, at: Array) -> tuple[Array, Array]:
        entries, slopes, trailing = enclosed(over)
        if over is not at:
            entries = enclosed(at)[0]
        return at - solve(slopes[:, free], entries[:, None])[:, 0], trailing

    with precision(400):
        try:
            x = balls(np.zeros(count))
            for _ in range(6):  # to the full precision, then once over a box
                x = np.array([v.mid() for v in newton(x, x)[0]], dtype=object)
            box = x + ball(0, 2.0**-120)
            image, trailing = newton(box, x)
        except ZeroDivisionError:
            return False
        inside = all(b.contains_interior(v) for b, v in zip(box, image, strict=True))
        near = all(abs(v) < ball(1e-9) for v in box)
        return inside and near and positive_definite(-trailing)


def nonnegative_factor(
    W: Float[Array, "n n"], *, starts: int = 5
) -> tuple[Verdict, Float[Array, "k n"] | None]:
    """Search K ≥ 0 with KᵀK = I − WᵀW: then M = 0 will do for inputs of any size. **Ours.**

    Impossible if I − WᵀW has a negative entry. Closed form for a diagonally dominant one (diagonal
    among them); otherwise searched for by least squares with n, 2n and n(n + 1)/2 rows. Deciding
    complete positivity is NP-hard: "unknown" means that the search missed.
    """
    from scipy.optimize import least_squares

    n, tolerance = len(W), norm_tolerance(W)
    P = np.eye(n) - W.T @ W
    if P.min() < -tolerance:
        return "impossible", None
    P = np.maximum(P, 0)
    slack = 2 * np.diag(P) - P.sum(1)
    if slack.min() >= 0:
        pairs = [np.sqrt(P[i, j]) * (np.eye(n)[i] + np.eye(n)[j])
                 for i in range(n) for j in range(i) if P[i, j] > tolerance]  # fmt: skip
        K = np.array([*pairs, *np.diag(np.sqrt(slack))[slack > tolerance]]).reshape(-1, n)
        return "found", K
    rng, (i, j) = np.random.default_rng(0), np.triu_indices(n)
    # Scaled to 1 and with exact slopes the residual reaches rounding; differences stop above it.
    size, entry = P.max(), np.arange(len(i))

    def excess(k: Array) -> Array:
        L = k.reshape(-1, n)
        return np.asarray((L.T @ L - P / size)[i, j])

    def slope(k: Array) -> Array:
        L = k.reshape(-1, n)
        J = np.zeros((len(i), *L.shape))
        J[entry, :, i] += L.T[j]
        J[entry, :, j] += L.T[i]
        return J.reshape(len(i), -1)

    for rows in sorted({n, min(2 * n, len(i)), len(i)}):  # fewest first
        for _ in range(starts):
            start = rng.random((rows, n)).ravel() / np.sqrt(rows)
            fit = least_squares(excess, start, jac=slope, bounds=(0, np.inf), max_nfev=100,
                                ftol=1e-15, xtol=1e-15, gtol=1e-15)  # fmt: skip
            if size * np.abs(fit.fun).max() <= tolerance:
                return "found", np.sqrt(size) * fit.x.reshape(rows, n)
    return "unknown", None


def unbounded_unitary(rnn: RNN) -> tuple[Verdict, RNN | None]:
    """Build a unitary network that is equal for every input, from a factor K ≥ 0. **Ours.**

    [W; −K] has orthonormal columns; completed to an orthogonal matrix, with M = 0, its new states
    stay 0 since −Kh ≤ 0. The size is n + rows of K. Needs Kh₋₁ ≥ 0 ("unknown" otherwise).
    """
    verdict, K = nonnegative_factor(rnn.W.astype(np.float64))
    if K is None:
        return verdict, None
    columns = np.concatenate([rnn.W.astype(np.float64), -K])
    complete = np.linalg.svd(columns, full_matrices=True)[0][:, rnn.n :]
    U = np.concatenate([columns, complete], axis=1).astype(rnn.dtype)
    if (K @ rnn.h_init < 0).any() or not is_unitary(U):
        return "unknown", None
    return verdict, enlarged(rnn, U, np.pad(rnn.b, (0, len(K))))


@dataclass(frozen=True, eq=False)
class ComplexRNN:
    """Hold a network with complex states, a unitary U and ReLU on real and imaginary parts."""

    U: Complex[Array, "n n"]
    F: Float[Array, "n m"]
    b: Complex[Array, " n"]
    C: Float[Array, "p n"]
    h_init: Float[Array, " n"]

    def simulate(self, x: Float[Array, "T m"]) -> Complex[Array, "T p"]:
        """Run it: y⁽ᵏ⁾ = C s⁽ᵏ⁾, with imaginary parts 0 where the construction holds."""
        s, outputs = self.h_init.astype(complex), []
        for row in np.asarray(x, dtype=np.float64):
            z = self.U @ s + self.F @ row + self.b
            s = np.maximum(z.real, 0) + 1j * np.maximum(z.imag, 0)
            outputs.append(self.C @ s)
        return np.array(outputs)


def complex_unitary(
    rnn: RNN, input_bound: SupportsFloat, *, horizon: int | None = None
) -> ComplexRNN:
    """Build an equal network of n complex states, U = P(S + i√(1 − S²))Qᵀ. **Ours.**

    U is unitary and has real part W. The bias b − iM keeps the imaginary parts at 0, M bounding
    (Im U)h as in theorem 1. So theorem 2 is about real orthogonal matrices.
    """
    bound = state_bound(rnn, input_bound, horizon=horizon)
    P, s, Qt = np.linalg.svd(rnn.W.astype(np.float64))
    s = np.minimum(s, 1.0)
    defect = (P * np.sqrt((1 - s) * (1 + s))) @ Qt
    M = np.maximum(bound.supremum(defect), 0) * (1 + 1e-12)
    theta = rnn.astype(np.float64)
    return ComplexRNN(theta.W + 1j * defect, theta.F, theta.b - 1j * M, theta.C, theta.h_init)
