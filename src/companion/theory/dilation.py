"""From a contraction to an orthogonal matrix of minimal size; and the diagonal scalings of W.

A *dilation* of W is a larger matrix with W as its leading block. An orthogonal one exists exactly
when ‖W‖₂ ≤ 1, and the smallest has size n + r with r = rank(I − WᵀW), the *defect rank*.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from jaxtyping import Float, Shaped

from companion.theory.arithmetic import fractions
from companion.theory.checks import whole_number
from companion.theory.network import Array, eps_of, recurrent, spectral_norm


class NotContractiveError(ValueError):
    """‖W‖₂ exceeds 1, where a construction needs it at most 1 (or below)."""


def norm_tolerance(W: Float[Array, "n n"]) -> float:
    """Allow 4·n·eps: how far a computed singular value may stray from a true one of 1.

    What is nearer to 1 counts as 1. That changes ‖UᵀU − I‖ of a dilation U by at most 8·n·eps,
    inside the tolerance of `is_unitary`.
    """
    return 4 * len(W) * eps_of(W)


def scaled(W: Shaped[Array, "n n"], d: Shaped[Array, " n"]) -> Shaped[Array, "n n"]:
    """Compute DWD⁻¹ for the diagonal matrix D of the entries of ``d``."""
    return np.asarray(d[:, None] * W / d)


def floating(W: Shaped[Array, "n n"]) -> Float[Array, "n n"]:
    """Check a square matrix of floats; Fractions are refused with the way that takes them."""
    W = recurrent(W)
    if W.dtype.kind == "O":
        raise TypeError(
            "W is exact (object dtype); singular values are irrational in general. "
            "rational_contraction(n, rng) draws an exact W together with its exact dilation."
        )
    return W


def _defect_svd(
    W: Float[Array, "n n"],
) -> tuple[Float[Array, "n r"], Float[Array, " r"], Float[Array, " r"], Float[Array, "r n"]]:
    """Decompose: (P_r, s_r, c_r, Q_rᵀ), the singular triples with s < 1, and c = √(1 − s²)."""
    from scipy.linalg import svd  # in W's own dtype; NumPy's takes float32 through float64

    P, s, Qt = svd(W, check_finite=False)
    tol = norm_tolerance(W)
    if s[0] > 1 + tol:
        raise NotContractiveError(
            f"‖W‖₂ is {s[0]:.6g}, above 1 by {s[0] - 1:.2g}. {scaling_advice(W)[0]}"
        )
    below = s < 1 - tol
    # A pair (p, q) is known up to its sign. With Σq ≤ 0 every LAPACK gives the same one, and
    # non-negative states push a new unit down rather than up.
    sign = np.where(Qt[below].sum(axis=1) > 0, -1, 1).astype(W.dtype)
    P, s, Qt = P[:, below] * sign, s[below], Qt[below] * sign[:, None]
    # (1 − s)(1 + s), not 1 − s²: the subtraction 1 − s is exact for s ≥ ½ (Sterbenz).
    return P, s, np.sqrt((1 - s) * (1 + s)), Qt


def defect_rank(W: Float[Array, "n n"]) -> int:
    """Count the singular values of W below 1 − 4·n·eps: r = rank(I − WᵀW).

    A norm above 1 + 4·n·eps raises `NotContractiveError`.

    Examples
    --------
    >>> defect_rank(np.diag([1.0, 0.5, 0.0]))
    2
    """
    return int(_defect_svd(floating(W))[1].size)


def orthogonal_dilation(W: Float[Array, "n n"]) -> Float[Array, "N N"]:
    """Build the smallest orthogonal matrix with the contraction ``W`` as its leading block.

    With the singular value decomposition W = P diag(s) Qᵀ, its r singular values below 1, their
    vectors P_r, Q_r and C_r = diag √((1 − s)(1 + s)), S_r = diag s,

        U = [ W          P_r C_r ]
            [ C_r Q_rᵀ   −S_r    ].

    Parameters
    ----------
    W : float32 or float64 array, shape (n, n), ‖W‖₂ ≤ 1.

    Returns
    -------
    U : array of the dtype of W, shape (n + r, n + r), r = rank(I − WᵀW) (`defect_rank`);
        ``U[:n, :n]`` is W to the bit, ‖UᵀU − I‖₂ ≤ 10 (n + r) eps however close ‖W‖₂ is to 1.

    Raises
    ------
    NotContractiveError : if ‖W‖₂ > 1 + 4·n·eps; says the norm, and whether a scaling would help.
    TypeError : for exact (object) or other dtypes; see `rational_contraction`.

    References
    ----------
    Halmos (1950) and theorem 1 of Emami et al. (2019); the minimal SVD form is this project's.

    Examples
    --------
    >>> orthogonal_dilation(np.array([[0.6]])).round(12).tolist()
    [[0.6, -0.8], [-0.8, -0.6]]
    """
    W = floating(W)
    P, s, c, Qt = _defect_svd(W)
    return np.block([[W, P * c], [c[:, None] * Qt, np.diag(-s)]])


def halmos_dilation(W: Float[Array, "n n"]) -> Float[Array, "2*n 2*n"]:
    """Build the textbook dilation [[W, (I − WWᵀ)^½], [(I − WᵀW)^½, −Wᵀ]], always of size 2n.

    The roots come from the singular values, P C Pᵀ and Q C Qᵀ: `scipy.linalg.sqrtm` of I − WᵀW
    loses half the digits as ‖W‖₂ → 1. Raises as `orthogonal_dilation`.

    References
    ----------
    Halmos (1950), "Normal dilations and extensions of operators".
    """
    W = floating(W)
    P, _, c, Qt = _defect_svd(W)
    return np.block([[W, (P * c) @ P.T], [(Qt.T * c) @ Qt, -W.T]])


def minimal_scaling(W: Float[Array, "n n"], *, spread: float = 1e6) -> Float[Array, " n"]:
    """Find positive d with ‖DWD⁻¹‖₂ as small as a diagonal D = diag(d) makes it. **Ours.**

    log ‖DWD⁻¹‖ is a convex function of log d. It has kinks where singular values meet, so the
    smooth, convex Schatten norms of rising order stand in for it, each from the last one's minimum.
    For W ≥ 0 and irreducible the answer is √(left / right Perron vector), the norm then being the
    spectral radius; that is a test, not a special case here.

    Parameters
    ----------
    W : float array, shape (n, n).
    spread : largest allowed ratio of two entries of d. For a reducible W the infimum lies at
        infinity; the bound keeps D well conditioned.

    Returns
    -------
    d : float64 array, shape (n,), geometric mean 1.

    References
    ----------
    Sezginer and Overton (1990) for the convexity; Stoer and Witzgall (1962) for W ≥ 0.
    """
    from scipy.optimize import minimize

    W = floating(W).astype(np.float64)
    if not 1 <= spread <= 1e300:
        raise ValueError(f"spread is {spread}; it must be in [1, 1e300].")
    W = W / (np.abs(W).max() or 1.0)  # the least norm scales with W, its d does not

    def log_schatten(log_d: Array, order: float) -> tuple[float, Array]:
        P, s, Qt = np.linalg.svd(scaled(W, np.exp(log_d)))
        weights = (s / s[0]) ** order
        # ∂ log sᵢ / ∂ log dⱼ = P²ⱼᵢ − Q²ⱼᵢ
        slope = (P**2 - Qt.T**2) @ (weights / weights.sum())
        return float(np.log(s[0]) + np.log(weights.sum()) / order), slope

    log_d = best = np.zeros(len(W))
    least, box = spectral_norm(W), [(-0.5 * np.log(spread), 0.5 * np.log(spread))] * len(W)
    for order in (2.0, 8.0, 32.0, 128.0, 512.0, 2048.0, 8192.0) if W.any() else ():
        log_d = minimize(log_schatten, log_d, order, jac=True, method="L-BFGS-B", bounds=box).x
        norm = spectral_norm(scaled(W, np.exp(log_d)))
        if norm < least:
            best, least = log_d, norm
    return np.asarray(np.exp(best - best.mean()))


def contracting_scaling(W: Float[Array, "n n"]) -> Float[Array, " n"]:
    """Take the `minimal_scaling` of the least spread that makes ‖DWD⁻¹‖₂ < 1, or of the largest.

    A reducible W may need a large spread, however small the spectral radius.
    """
    for spread in (1e6, 1e12, 1e24, 1e100, 1e300):
        d = minimal_scaling(W, spread=spread)
        inside = d.max() / d.min() < 0.5 * spread  # a minimum, by convexity, in any larger box too
        if inside or spectral_norm(scaled(np.asarray(W, dtype=np.float64), d)) < 1:
            break
    return d


def unit_norm_scaling(W: Float[Array, "n n"]) -> Float[Array, " n"]:
    """Find positive d with ‖DWD⁻¹‖₂ = 1, for a contraction W that is not diagonal. **Ours.**

    Along any axis of log d whose row or column holds an off-diagonal entry the norm is convex,
    below 1 at the start and unbounded, so it crosses 1; of all such crossings the one with the
    least |log d| is taken. The defect rank of DWD⁻¹ is then at most n − 1. A diagonal W, which no
    scaling changes, is refused, and so is a norm above 1.
    """
    from scipy.optimize import brentq

    if defect_rank(W) < len(W):
        return np.ones(len(W))
    W = floating(W).astype(np.float64)

    def stretched(factor: float, i: int, power: int) -> Float[Array, " n"]:
        e = np.ones(len(W))
        e[i] = factor**power
        return e

    def excess(factor: float, i: int, power: int) -> float:
        return spectral_norm(scaled(W, stretched(factor, i, power))) - 1

    off = np.abs(W - np.diag(np.diag(W)))
    crossings = []
    for i in range(len(W)):
        for power, reach in ((1, off[i].max()), (-1, off[:, i].max())):
            if reach > 1e-300:  # at the factor 1/reach one entry alone has modulus 1
                # The factor, not its logarithm, whose rounding grows with it and reaches the norm.
                where, options = (i, power), {"xtol": 1e-15, "maxiter": 2000}
                crossings.append((brentq(excess, 1.0, 1.001 / reach, where, **options), *where))
    if not crossings:
        raise ValueError(
            "W is diagonal (to 1e-300): no diagonal scaling changes it, and 2n − 1 is out of reach."
        )
    return stretched(*min(crossings))


def scaling_advice(W: Float[Array, "n n"]) -> tuple[str, float]:
    """Say in a sentence how far diagonal scalings bring ‖W‖₂ down; give the least norm found.

    No scaling goes below the spectral radius; where that is 1 or more, none is tried.
    """
    radius, norm = float(np.abs(np.linalg.eigvals(W)).max()), spectral_norm(W)
    if radius >= 1:
        helps = "helps" if radius > 1.0001 else "goes below 1. Whether one reaches 1 is not tried"
        return f"Its spectral radius is {radius:.4g}, so no diagonal scaling {helps}.", norm
    least = spectral_norm(scaled(W.astype(np.float64), contracting_scaling(W)))
    if least < 1:
        way = "balance(rnn) applies it, minimal_scaling(W) finds one of moderate size"
        return f"A diagonal scaling brings it down to {least:.4g}: {way}.", least
    known = f"leaves {least:.4g}; the spectral radius is {radius:.4g}"
    return f"The best diagonal scaling found {known}.", least


# Pairs (s, √(1 − s²)) over one denominator, so that products of W stay short fractions.
_HYPOTENUSE = 65
_LEGS = {a: b for a in range(65) for b in range(65) if a * a + b * b == _HYPOTENUSE**2 and a * b}


def _rational_orthogonal(n: int, rng: np.random.Generator) -> Shaped[Array, "n n"]:
    """Draw a signed permutation times a reflection I − 2vvᵀ/vᵀv, v in {−1, 0, 1}ⁿ, in Fractions."""
    v = rng.integers(-1, 2, n)
    v[rng.integers(n)] = 1
    H = np.eye(n, dtype=int) - fractions(np.outer(v, v)) * Fraction(2, int(v @ v))
    signs = 2 * rng.integers(0, 2, n) - 1
    return np.asarray(H[rng.permutation(n)] * signs)


def rational_contraction(
    n: int, rng: np.random.Generator, *, defect: int | None = None
) -> tuple[Shaped[Array, "n n"], Shaped[Array, "N N"]]:
    """Draw an exact contraction W = P diag(s) Qᵀ and its exact orthogonal dilation U.

    P and Q are rational orthogonal; each s below 1 has a rational √(1 − s²), from a Pythagorean
    triple with hypotenuse 65. Denominators are kept small: exact trajectories lengthen by
    log₂(denominator of W) bits a step.

    Parameters
    ----------
    n : number of states, at least 1.
    rng : source of all draws.
    defect : r = rank(I − WᵀW), 0 ≤ r ≤ n; n by default, so that ‖W‖₂ < 1.

    Returns
    -------
    W : array of Fractions, shape (n, n).
    U : array of Fractions, shape (n + r, n + r); UᵀU = I exactly, ``U[:n, :n]`` is W.

    Examples
    --------
    >>> W, U = rational_contraction(3, np.random.default_rng(0))
    >>> bool((U.T @ U == np.eye(6, dtype=int)).all()), bool((U[:3, :3] == W).all())
    (True, True)
    """
    r = n if defect is None else defect
    if whole_number("n", n, least=1) < whole_number("defect", r, least=0):
        raise ValueError(f"defect is {r}; it must be at most n = {n}.")
    P, Q = _rational_orthogonal(n, rng), _rational_orthogonal(n, rng)
    leg = [int(a) for a in rng.choice(list(_LEGS), size=r, replace=r > len(_LEGS))]
    s = np.array([Fraction(a, _HYPOTENUSE) for a in leg] + [Fraction(1)] * (n - r), dtype=object)
    c = np.array([Fraction(_LEGS[a], _HYPOTENUSE) for a in leg], dtype=object)
    W = (P * s) @ Q.T
    return W, np.block([[W, P[:, :r] * c], [(Q[:, :r] * c).T, np.diag(-s[:r])]])
