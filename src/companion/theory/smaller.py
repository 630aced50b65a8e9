"""How small can an equal unitary network be? Results of this project, past the poster.

*Proved*: n + rank(I − WᵀW) states suffice (theorem 1); 2n − 1 for a non-diagonal contraction, by a
scaling that brings one singular value to 1; n + d₀ are needed over all of ℝⁿ, d₀ = min over D ≻ 0
diagonal of #{σᵢ(DWD⁻¹) < 1}; n complex states suffice. *Observed*, and proved teacher by teacher by
interval Newton: scalings that bring q singular values to 1, hence 2n − q states. *Open*: when such
scalings exist, and whether d₀ is attained on bounded inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Complex, Float

from companion.theory.dilation import (
    defect_rank,
    minimal_scaling,
    norm_tolerance,
    unit_norm_scaling,
)
from companion.theory.exact import rational
from companion.theory.network import RNN, is_unitary, spectral_norm
from companion.theory.theorem1 import rescaled, state_bound, unitary_equivalent

if TYPE_CHECKING:
    from flint import arb, arb_mat

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Smallest:
    """The smallest equal unitary network found, and how well that is known.

    Attributes
    ----------
    unitary : the network, equal for ‖x⁽ᵏ⁾‖₂ ≤ the bound given.
    scale : d, float64, shape (n,): its dilation is that of DWD⁻¹, D = diag(d).
    unit_values : q, how many singular values of DWD⁻¹ are 1; ``unitary`` has 2n − q states.
    residual : largest |σᵢ² − 1| of those q, in float64.
    proved : whether interval Newton proves that some D within 1e-9 of ``scale``, relatively, has
        exactly q singular values 1 and the others below. Always so for q ≤ 1.
    lower_bound : a number of states needed for equality on all of ℝⁿ (F = C = I); proved.
    """

    unitary: RNN
    scale: Float[Array, " n"]
    unit_values: int
    residual: float
    proved: bool
    lower_bound: int


def smallest_unitary(
    rnn: RNN, input_bound: float, *, starts: int = 20, seed: int = 0, most: int | None = None
) -> Smallest:
    """The smallest equal unitary network that diagonal scalings yield. **Ours.**

    q singular values of DWD⁻¹ at 1 are q(q + 1)/2 equations for n − 1 free scales, so q is tried
    from the largest that this count allows; a miss proves nothing. From random starts, least
    squares bring the q largest to 1; Newton's method on the Schur complement of DWD⁻¹ᵀDWD⁻¹ − I,
    which is smooth there as singular values are not, finishes; interval Newton in 400-bit balls
    proves that an exact solution is there.

    Parameters
    ----------
    rnn : float ReLU network with ‖DWD⁻¹‖₂ < 1 for some D, and bounded states.
    input_bound : X ≥ 0 with ‖x⁽ᵏ⁾‖₂ ≤ X.
    starts : random starts for each q.
    seed : of the starts.
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
    W, n = rnn.W.astype(np.float64), rnn.n
    base = np.ones(n)
    if spectral_norm(W) > 1 + norm_tolerance(W):
        base = minimal_scaling(W)
        W = base[:, None] * W / base
    rank = defect_rank(W)  # refuses what no scaling makes contractive
    d, q, proved = np.ones(n), n - rank, True
    allowed = int((np.sqrt(8 * (n - 1) + 1) - 1) / 2)
    rng = np.random.default_rng(seed)
    for wanted in range(allowed if most is None else most, max(q, 1), -1):
        found = unit_singular_values(W, wanted, rng=rng, starts=starts)
        if found is not None:
            d, q, proved = found, wanted, prove_unit_values(W, found, wanted)
            break
    if q == 0 and (np.diag(np.diag(W)) != W).any():
        d, q = unit_norm_scaling(W), 1
    scaled = d[:, None] * W / d
    values = np.linalg.svd(scaled, compute_uv=False)[:q]
    residual = float(np.abs(values**2 - 1).max(initial=0))
    unitary = unitary_equivalent(rescaled(rnn, base), input_bound, scale=d)
    return Smallest(unitary, base * d, q, residual, proved, states_needed(rnn.W))


def states_needed(W: Float[Array, "n n"]) -> int:
    """States that an equal unitary network needs, for inputs in all of ℝⁿ. Proved; **ours.**

    The theorem: N ≥ n + min_D #{σᵢ(DWD⁻¹) < 1} for the teacher ReLU(Wh + x). Scalings keep the
    determinant of every block of a block diagonal W, so each block with |det| < 1 counts at least
    one: n + 1 for an irreducible contraction, 2n for a diagonal one.
    `fewest_below_one` searches for the minimum itself.
    """
    from scipy.sparse.csgraph import connected_components

    W = np.asarray(W, dtype=np.float64)
    count, label = connected_components(W != 0, connection="weak")
    blocks = [W[np.ix_(label == i, label == i)] for i in range(count)]
    log_dets = [float(np.linalg.slogdet(block)[1]) for block in blocks]
    return len(W) + sum(v < -norm_tolerance(W) for v in log_dets)


def fewest_below_one(
    W: Float[Array, "n n"], *, starts: int = 2000, seed: int = 0
) -> tuple[int, Float[Array, " n"]]:
    """The least #{σᵢ(DWD⁻¹) < 1} found over random D ≻ 0, of any norm, and that D. **Ours.**

    An upper estimate of the minimum in the lower bound; where it equals `states_needed`(W) − n the
    minimum is known.
    """
    rng, n = np.random.default_rng(seed), len(W)
    best, best_d = int((np.linalg.svd(W, compute_uv=False) < 1).sum()), np.ones(n)
    for width in rng.uniform(0.0, 8.0, starts):
        d = np.exp(width * rng.standard_normal(n))
        below = int((np.linalg.svd(d[:, None] * W / d, compute_uv=False) < 1).sum())
        if below < best:
            best, best_d = below, d
    return best, best_d


def unit_singular_values(
    W: Float[Array, "n n"], q: int, *, rng: np.random.Generator, starts: int = 20
) -> Float[Array, " n"] | None:
    """Scales d that bring the q largest singular values of DWD⁻¹ to 1; None if none were found."""
    from scipy.optimize import least_squares

    n = len(W)

    def excess(log_d: Array) -> Array:
        e = np.exp(log_d)
        return np.asarray(np.linalg.svd(e[:, None] * W / e, compute_uv=False)[:q] - 1)

    def slope(log_d: Array) -> Array:
        e = np.exp(log_d)
        P, s, Qt = np.linalg.svd(e[:, None] * W / e)
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


def _schur(G_minus_I: Any, T: Any, q: int, solve: Any) -> tuple[Any, Any]:
    """Schur complement of the trailing block of TᵀAT, and Z with complement = ZᵀAZ."""
    top, rest = T[:, :q], T[:, q:]
    Z = top - rest @ solve(rest.T @ G_minus_I @ rest, rest.T @ G_minus_I @ top)
    return Z.T @ G_minus_I @ Z, Z


def _newton(W: Array, d: Array, q: int) -> Array | None:
    """Newton's method for DWD⁻¹ᵀDWD⁻¹ − I of corank q; None unless it converges to norm 1."""
    upper = np.triu_indices(q)
    for _ in range(30):
        scaled = d[:, None] * W / d
        G = scaled.T @ scaled
        T = np.linalg.svd(scaled)[2].T
        try:
            S, Z = _schur(G - np.eye(len(W)), T, q, np.linalg.solve)
        except np.linalg.LinAlgError:  # a further singular value is 1 to the last bit
            return None
        if not np.isfinite(S).all() or np.ptp(np.log(d)) > 14:
            return None
        J = _schur_slopes(scaled, G, Z)[:, *upper].T
        step = np.linalg.lstsq(J, -S[upper], rcond=1e-10)[0]
        d = d * np.exp(np.clip(step, -0.5, 0.5))
        if np.abs(step).max() < 1e-15:
            break
    values = np.linalg.svd(d[:, None] * W / d, compute_uv=False)
    tolerance = norm_tolerance(W)
    fits = np.abs(values[:q] - 1).max() <= tolerance and values[q:].max(initial=0) < 1 - tolerance
    return d if fits else None


def _schur_slopes(scaled: Array, G: Array, Z: Array) -> Array:
    """∂(ZᵀAZ)/∂ log dᵢ = Zᵀ(2 W̃ᵀEᵢW̃ − EᵢG − GEᵢ)Z for every i; Z needs no derivative."""
    WZ, GZ = scaled @ Z, G @ Z
    cross = Z[:, :, None] * GZ[:, None, :]
    return np.asarray(2 * WZ[:, :, None] * WZ[:, None, :] - cross - cross.transpose(0, 2, 1))


def prove_unit_values(W: Float[Array, "n n"], d: Float[Array, " n"], q: int) -> bool:
    """Whether interval Newton proves a D near ``d`` with exactly q singular values 1, others below.

    With A = W̃ᵀW̃ − I and an invertible T, the complement of the trailing block of TᵀAT vanishes
    exactly where A has corank q, provided that block is negative definite; then ‖W̃‖ = 1. The
    complement has q(q + 1)/2 entries: as many scales are freed, the others stay. If the Newton
    image of a box of radius 2⁻¹²⁰ lies inside the box, it contains a solution, for the exact W.
    """
    from flint import arb, arb_mat, ctx
    from scipy.linalg import qr

    n, upper = len(W), np.triu_indices(q)
    scaled = d[:, None] * W / d
    T = np.linalg.svd(scaled)[2].T
    G = scaled.T @ scaled
    Z = _schur(G - np.eye(n), T, q, np.linalg.solve)[1]
    J = _schur_slopes(scaled, G, Z)[:, *upper].T
    if len(upper[0]) > n - 1:
        return False
    free = qr(J, pivoting=True)[2][: len(upper[0])].tolist()

    def balls(a: Array) -> arb_mat:
        return arb_mat(len(a), a.shape[1], [arb(rational(v)) for v in a.ravel().tolist()])

    def complement(x: list[arb]) -> tuple[list[arb], arb_mat, arb_mat]:
        e = [arb(rational(v)) for v in d.tolist()]
        for i, v in zip(free, x, strict=True):
            e[i] = e[i] * v.exp()
        S = arb_mat([[e[i] * v / e[j] for j, v in enumerate(row)] for i, row in enumerate(w)])
        A = S.transpose() * S - eye
        lower_block = rest.transpose() * A * rest
        Z = top - rest * lower_block.solve(rest.transpose() * A * top)
        C = Z.transpose() * A * Z
        WZ, GZ, z = (S * Z).tolist(), ((A + eye) * Z).tolist(), Z.tolist()
        slopes = arb_mat(
            [
                [2 * WZ[i][a] * WZ[i][b] - z[i][a] * GZ[i][b] - GZ[i][a] * z[i][b] for i in free]
                for a, b in zip(*upper, strict=True)
            ]
        )
        return [C[int(a), int(b)] for a, b in zip(*upper, strict=True)], slopes, lower_block

    with ctx.workprec(400):
        w, eye = balls(W).tolist(), balls(np.eye(n))
        top, rest = balls(T[:, :q]), balls(T[:, q:])
        try:
            x = [arb(0)] * len(free)
            for _ in range(6):  # to the full precision, then once over a box
                value, slopes, _ = complement(x)
                step = slopes.solve(arb_mat(len(free), 1, value)).entries()
                x = [(u - v).mid() for u, v in zip(x, step, strict=True)]
            value = complement(x)[0]
            box = [u + arb(0, 2.0**-120) for u in x]
            _, slopes, lower_block = complement(box)
            step = slopes.solve(arb_mat(len(free), 1, value)).entries()
        except ZeroDivisionError:
            return False
        image = [u - v for u, v in zip(x, step, strict=True)]
        inside = all(b.contains_interior(v) for b, v in zip(box, image, strict=True))
        near = all(abs(v) < 1e-9 for v in box)
        return inside and near and _negative_definite(lower_block)


def _negative_definite(A: arb_mat) -> bool:
    rows = A.tolist()
    for k, pivot in enumerate(rows):
        if not pivot[k] < 0:
            return False
        for row in rows[k + 1 :]:
            factor = row[k] / pivot[k]
            row[k:] = [v - factor * p for v, p in zip(row[k:], pivot[k:], strict=True)]
    return True


Verdict = Literal["found", "impossible", "unknown"]


def nonnegative_factor(
    W: Float[Array, "n n"], *, starts: int = 5, seed: int = 0
) -> tuple[Verdict, Float[Array, "k n"] | None]:
    """K ≥ 0 with KᵀK = I − WᵀW: then M = 0 will do, and no bound on the inputs is needed. **Ours.**

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
    rng, (i, j) = np.random.default_rng(seed), np.triu_indices(n)
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
            fit = least_squares(
                excess, start, jac=slope, bounds=(0, np.inf),
                ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=100,
            )  # fmt: skip
            if size * np.abs(fit.fun).max() <= tolerance:
                return "found", np.sqrt(size) * fit.x.reshape(rows, n)
    return "unknown", None


def unbounded_unitary(rnn: RNN, *, seed: int = 0) -> tuple[Verdict, RNN | None]:
    """An equal unitary network for every input, where a factor K ≥ 0 is found. **Ours.**

    [W; −K] has orthonormal columns; completed to an orthogonal matrix, with M = 0, its new states
    stay 0 since −Kh ≤ 0. The size is n + rows of K. Needs Kh₋₁ ≥ 0 ("unknown" otherwise).
    """
    verdict, K = nonnegative_factor(rnn.W.astype(np.float64), seed=seed)
    if K is None:
        return verdict, None
    if (K @ rnn.h_init < 0).any():
        return "unknown", None
    n, k = rnn.n, len(K)
    columns = np.concatenate([rnn.W.astype(np.float64), -K])
    complete = np.linalg.svd(columns, full_matrices=True)[0][:, n:]
    U = np.concatenate([columns, complete], axis=1).astype(rnn.dtype)
    if not is_unitary(U):
        return "unknown", None

    def grow(a: Array) -> Array:
        return np.concatenate([a, np.zeros((k, *a.shape[1:]), dtype=rnn.dtype)])

    return verdict, RNN(U, grow(rnn.F), grow(rnn.b), grow(rnn.C.T).T, grow(rnn.h_init), "relu")


@dataclass(frozen=True, eq=False)
class ComplexRNN:
    """A network with complex states and the split ReLU, on real and imaginary parts; U unitary."""

    U: Complex[Array, "n n"]
    F: Float[Array, "n m"]
    b: Complex[Array, " n"]
    C: Float[Array, "p n"]
    h_init: Float[Array, " n"]

    def simulate(self, x: Float[Array, "T m"]) -> Complex[Array, "T p"]:
        """y⁽ᵏ⁾ = C s⁽ᵏ⁾, complex; the imaginary parts are 0 where the construction holds."""
        s, outputs = self.h_init.astype(complex), []
        for row in np.asarray(x, dtype=np.float64):
            z = self.U @ s + self.F @ row + self.b
            s = np.maximum(z.real, 0) + 1j * np.maximum(z.imag, 0)
            outputs.append(self.C @ s)
        return np.array(outputs)


def complex_unitary(rnn: RNN, input_bound: float, *, horizon: int | None = None) -> ComplexRNN:
    """N complex states suffice: U = P(S + i√(1 − S²))Qᵀ has real part W. **Ours.**

    The bias b − iM keeps the imaginary parts at 0, M bounding (Im U)h as in theorem 1. So theorem 2
    is about real orthogonal matrices.
    """
    bound = state_bound(rnn, input_bound, horizon=horizon)
    P, s, Qt = np.linalg.svd(rnn.W.astype(np.float64))
    s = np.minimum(s, 1.0)
    defect = (P * np.sqrt((1 - s) * (1 + s))) @ Qt
    M = np.maximum(bound.supremum(defect), 0) * (1 + 1e-12)
    theta = rnn.astype(np.float64)
    return ComplexRNN(theta.W + 1j * defect, theta.F, theta.b - 1j * M, theta.C, theta.h_init)
