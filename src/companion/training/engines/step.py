"""What follows a gradient, sixteen students at a time: clipping, the optimiser, and the projection.

The plain twin of all is `Reference.advance` in `companion.training.reference`.
"""

# numba's interfaces and the functions it compiles carry no types
# mypy: disable-error-code="no-untyped-call, no-untyped-def"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from companion.training.engines.lanes import LANES, call, fma, load, store, sub, zero

# numba.njit is untyped. No disk cache: it does not see the closures that make one size of another.
compiled: Callable[..., Any] = njit(nogil=True, error_model="numpy")
inlined: Callable[..., Any] = njit(inline="always")

NEWTON_SCHULZ, SVD, EXPONENTIAL = 1, 2, 3  # how W is projected; 0 is not at all
PROJECTIONS = {"newton-schulz": NEWTON_SCHULZ, "svd": SVD, "exponential": EXPONENTIAL}


@inlined
def product(A, row, column, B, w, n, out, v):
    """Form A B, n by n; i and k of A_ik go by ``row`` and ``column`` vectors, rows by w and v."""
    for i in range(n):
        for j in range(n):
            total = zero()
            for k in range(n):
                total = fma(load(A, i * row + k * column), load(B, k * w + j), total)
            store(out, i * v + j, total)


@compiled
def orthogonalise(theta, n, w, work, diverged, outside):
    """Make W orthogonal, the nearest, by X ← X (3 I − XᵀX)/2; mark the lanes that it fails in.

    The error e = max |XᵀX − I| falls as ¾ e²; from 1e-4 one more step takes it below rounding. From
    ‖XᵀX − I‖_F < 1 on, every singular value is below √2 and goes to 1; from √3 on one would change
    its sign, and X converge to another orthogonal matrix.
    """
    X, G, Y = work[0], work[1], work[2]
    for i in range(n):
        for j in range(n):
            store(X, i * n + j, load(theta, i * w + j))
    error, done = np.ones(LANES, dtype=np.float32), np.zeros(LANES, dtype=np.bool_)
    far = np.zeros(LANES, dtype=np.float32)
    for turn in range(8):
        for lane in range(LANES):
            done[lane] = error[lane] < 1e-4
            error[lane] = 0
        product(X, 1, n, X, n, n, G, n)
        for i in range(n):
            for j in range(n):
                for lane in range(LANES):
                    value = G[i * n + j, lane]
                    off = value - np.float32(i == j)
                    error[lane] = max(error[lane], abs(off))
                    if turn == 0:
                        far[lane] += off * off
                    if done[lane]:  # no further step, so that no lane depends on the others
                        G[i * n + j, lane] = i == j
                    else:
                        G[i * n + j, lane] = np.float32(1.5 * (i == j)) - np.float32(0.5) * value
        product(X, n, 1, G, n, n, Y, n)
        X, Y = Y, X
        failed = 0
        for lane in range(LANES):
            near = error[lane] < 1e-4 and far[lane] < 1
            outside[lane] = diverged[lane] < 0 and not near
            failed += outside[lane]
        if failed == 0:
            break
    for lane in range(LANES):
        if diverged[lane] < 0 and not outside[lane]:
            for i in range(n):
                for j in range(n):
                    theta[i * w + j, lane] = X[i * n + j, lane]
    return failed


@compiled
def skew_gradient(theta, g, n, w, work):
    """Turn the gradient G of W into WᵀG − GᵀW, that of W exp(K) at K = 0; keep W in work."""
    A, W = work[0], work[2]
    product(theta, 1, w, g, w, n, A, n)
    for i in range(n):
        for j in range(n):
            store(W, i * n + j, load(theta, i * w + j))
            store(g, i * w + j, sub(load(A, i * n + j), load(A, j * n + i)))


@compiled
def rotate(theta, n, w, work):
    """Turn W − K, as the optimiser left it, into W exp(−K), W as kept in work.

    exp(−K) = exp(−K/2ˢ)^(2ˢ), the inner one by its series, with s so large in each lane that
    ‖K/2ˢ‖_F ≤ 2, where sixteen terms are beyond rounding.
    """
    E, K, W, X, Y = work[0], work[1], work[2], work[3], work[4]
    square, halvings = np.zeros(LANES), np.zeros(LANES, dtype=np.int64)
    for i in range(n):
        for j in range(n):
            store(K, i * n + j, sub(load(theta, i * w + j), load(W, i * n + j)))
            for lane in range(LANES):
                X[i * n + j, lane] = E[i * n + j, lane] = np.float32(i == j)
                square[lane] += K[i * n + j, lane] ** 2
    for lane in range(LANES):
        while square[lane] > 4:
            square[lane] /= 4
            halvings[lane] += 1
        for i in range(n * n):
            K[i, lane] *= np.float32(0.5) ** halvings[lane]
    for power in range(1, 17):
        product(X, n, 1, K, n, n, Y, n)
        for i in range(n * n):
            for lane in range(LANES):
                Y[i, lane] /= np.float32(power)
                E[i, lane] += Y[i, lane]
        X, Y = Y, X
    for turn in range(max(halvings)):
        product(E, n, 1, E, n, n, X, n)
        for i in range(n * n):
            for lane in range(LANES):
                if turn < halvings[lane]:  # so that no lane depends on the others
                    E[i, lane] = X[i, lane]
    product(W, n, 1, E, n, n, theta, w)


@compiled
def descend(state, g, loss, losses, settings, rates, update, alpha, epsilon):
    """Move Θ and the moments of the lanes that are not frozen; freeze where a number is not finite.

    ``g`` holds half of the gradient of the sum of e²; it becomes that of the mean.
    """
    theta, mean, square, diverged = state
    scale, clip, beta_1, beta_2 = settings
    one, norm = np.float32(1), np.zeros(LANES, dtype=np.float32)
    for i in range(len(g)):
        for lane in range(LANES):
            g[i, lane] *= np.float32(2) * scale
            norm[lane] += g[i, lane] * g[i, lane]
    for lane in range(LANES):
        losses[lane] = loss[lane] * scale
        finite = np.isfinite(norm[lane]) and np.isfinite(losses[lane])
        if not finite and diverged[lane] < 0:
            diverged[lane] = update
        norm[lane] = min(one, clip / np.sqrt(norm[lane]))  # from now on what clips the gradient
    for i in range(len(g)):
        for lane in range(LANES):
            if diverged[lane] < 0:
                step = g[i, lane] * norm[lane]
                mean[i, lane] = beta_1 * mean[i, lane] + (one - beta_1) * step
                square[i, lane] = beta_2 * square[i, lane] + (one - beta_2) * step * step
                step = mean[i, lane] / (np.sqrt(square[i, lane]) + epsilon)
                theta[i, lane] -= rates[lane] * alpha * step


@compiled
def train(passes, sizes, options, state, batches, data, scratch, updates, outside):
    """Update in place, once for each row of ``batches``, up to one whose W needs the SVD.

    Returns how many updates were made, and marks in ``outside`` the lanes whose W is still to be
    projected after the last of them.
    """
    (n, p, w, S), (x, y, T), (u, d, cells, g, work) = sizes, data, scratch
    (projection, output_bias), theta, diverged = options[:2], state[0], state[3]
    first, rates, alphas, epsilons, losses = updates
    loss, scale = np.empty(LANES, dtype=np.float32), np.float32(1 / (batches.shape[1] * T * p))
    for update in range(len(batches)):
        for i in range(len(g)):
            store(g, i, zero())
        store(loss, 0, zero())
        for s in range(0, batches.shape[1], S):
            call(passes, (theta, x, y, u, d, cells, g, loss, batches[update, s:]), (T, 1))
        if not output_bias:
            for k in range(len(g) // w - p, len(g) // w):
                store(g, k * w + w - 1, zero())
        if projection == EXPONENTIAL:
            skew_gradient(theta, g, n, w, work)
        descend(
            state, g, loss, losses[update], (scale, *options[2:]), rates, first + update,
            alphas[update], epsilons[update],
        )  # fmt: skip
        if projection == EXPONENTIAL:
            rotate(theta, n, w, work)  # exact but for rounding, which would add up:
        if projection in (NEWTON_SCHULZ, EXPONENTIAL):
            if orthogonalise(theta, n, w, work, diverged, outside) > 0:
                return update + 1
        elif projection == SVD:
            for lane in range(LANES):
                outside[lane] = diverged[lane] < 0
            return update + 1
    return len(batches)
