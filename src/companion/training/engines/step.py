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


@inlined
def product(A, B, n, out, w):
    """The product A B of two n by n matrices goes to ``out``, in rows of w vectors."""
    for i in range(n):
        for j in range(n):
            total = zero()
            for k in range(n):
                total = fma(load(A, i * n + k), load(B, k * n + j), total)
            store(out, i * w + j, total)


@compiled
def orthogonalise(theta, n, w, work, diverged, outside):
    """W ← the nearest orthogonal matrix, X ← X (3 I − XᵀX)/2; counts and marks lanes it fails in.

    The error e = max |XᵀX − I| falls as ¾ e²; from 1e-4 one more step takes it below rounding. From
    ‖XᵀX − I‖_F < 1 on, every singular value is below √2 and goes to 1; from √3 on one would change
    its sign, and X converge to another orthogonal matrix.
    """
    X, G, Y = work[: n * n], work[n * n : 2 * n * n], work[2 * n * n :]
    for i in range(n):
        for j in range(n):
            store(X, i * n + j, load(theta, i * w + j))
    error, done = np.ones(LANES, dtype=np.float32), np.zeros(LANES, dtype=np.bool_)
    far = np.zeros(LANES, dtype=np.float32)
    for turn in range(8):
        for lane in range(LANES):
            done[lane] = error[lane] < 1e-4
            error[lane] = 0
        for i in range(n):
            for j in range(n):
                total = zero()
                for k in range(n):
                    total = fma(load(X, k * n + i), load(X, k * n + j), total)
                store(G, i * n + j, total)
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
        product(X, G, n, Y, n)
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
    """The gradient G of W ← WᵀG − GᵀW, that of W exp(K) in K at K = 0; keeps W in work."""
    A, W = work[: n * n], work[2 * n * n : 3 * n * n]
    for i in range(n):
        for j in range(n):
            store(W, i * n + j, load(theta, i * w + j))
            total = zero()
            for k in range(n):
                total = fma(load(theta, k * w + i), load(g, k * w + j), total)
            store(A, i * n + j, total)
    for i in range(n):
        for j in range(n):
            store(g, i * w + j, sub(load(A, i * n + j), load(A, j * n + i)))


@compiled
def rotate(theta, n, w, work):
    """W − K, as the optimiser left it, becomes W exp(−K), W as kept in work.

    exp(−K) = exp(−K/2ˢ)^(2ˢ), the inner one by its series, with s so large in each lane that
    ‖K/2ˢ‖_F ≤ 2, where sixteen terms are beyond rounding.
    """
    E, K, W = work[: n * n], work[n * n : 2 * n * n], work[2 * n * n : 3 * n * n]
    X, Y = work[3 * n * n : 4 * n * n], work[4 * n * n :]
    square, halvings = np.zeros(LANES), np.zeros(LANES, dtype=np.int64)
    for i in range(n):
        for j in range(n):
            store(K, i * n + j, sub(load(theta, i * w + j), load(W, i * n + j)))
            for lane in range(LANES):
                square[lane] += K[i * n + j, lane] ** 2
    for lane in range(LANES):
        while square[lane] > 4:
            square[lane] /= 4
            halvings[lane] += 1
    for i in range(n):
        for j in range(n):
            for lane in range(LANES):
                K[i * n + j, lane] *= np.float32(0.5) ** halvings[lane]
                X[i * n + j, lane] = E[i * n + j, lane] = np.float32(i == j)
    for power in range(1, 17):
        product(X, K, n, Y, n)
        for i in range(n * n):
            for lane in range(LANES):
                Y[i, lane] /= np.float32(power)
                E[i, lane] += Y[i, lane]
        X, Y = Y, X
    for turn in range(max(halvings)):
        product(E, E, n, X, n)
        for i in range(n * n):
            for lane in range(LANES):
                if turn < halvings[lane]:  # so that no lane depends on the others
                    E[i, lane] = X[i, lane]
    product(W, E, n, theta, w)


@compiled
def measure(g, loss, scale, clip, update, diverged, losses, factor):
    """Turn sums into means, freeze lanes whose loss or gradient is not finite, and clip the others.

    ``g`` holds half of the gradient of the sum of e², and ``factor`` is what clips it.
    """
    one, norm = np.float32(1), np.empty(LANES, dtype=np.float32)
    store(norm, 0, zero())
    for i in range(len(g)):
        for lane in range(LANES):
            g[i, lane] *= np.float32(2) * scale
            norm[lane] += g[i, lane] * g[i, lane]
    for lane in range(LANES):
        losses[lane] = loss[lane] * scale
        finite = np.isfinite(norm[lane]) and np.isfinite(losses[lane])
        if not finite and diverged[lane] < 0:
            diverged[lane] = update
        factor[lane] = min(one, clip / np.sqrt(norm[lane]))


@compiled
def descend(theta, mean, second, g, factor, diverged, beta_1, beta_2, rates, alpha, epsilon):
    """Move Θ and the optimiser's moments of the lanes that have not diverged."""
    one = np.float32(1)
    for i in range(len(g)):
        for lane in range(LANES):
            if diverged[lane] < 0:
                step = g[i, lane] * factor[lane]
                mean[i, lane] = beta_1 * mean[i, lane] + (one - beta_1) * step
                second[i, lane] = beta_2 * second[i, lane] + (one - beta_2) * step * step
                step = mean[i, lane] / (np.sqrt(second[i, lane]) + epsilon)
                theta[i, lane] -= rates[lane] * alpha * step


@compiled
def train(
    passes, S, theta, mean, second, diverged, batches, data, scratch, sizes, options, updates,
    outside,
):  # fmt: skip
    """Updates in place, one for each row of ``batches``, up to one whose W needs the SVD.

    Returns how many updates were made, and marks in ``outside`` the lanes whose W is still to be
    projected after the last of them.
    """
    (x, y, T), (u, d, cells, g, work) = data, scratch
    n, p, w, rows = sizes
    projection, output_bias, clip, beta_1, beta_2 = options
    first_update, rates, alphas, epsilons, losses = updates
    loss, factor = np.empty(LANES, dtype=np.float32), np.empty(LANES, dtype=np.float32)
    scale = np.float32(1 / (batches.shape[1] * T * p))
    for update in range(len(batches)):
        for i in range(len(g)):
            store(g, i, zero())
        store(loss, 0, zero())
        for s in range(0, batches.shape[1], S):
            call(passes, (theta, x, y, u, d, cells, g, loss, batches[update, s:]), (T, 1))
        if not output_bias:
            for k in range(rows - p, rows):
                store(g, k * w + w - 1, zero())
        if projection == 3:
            skew_gradient(theta, g, n, w, work)
        measure(g, loss, scale, clip, first_update + update, diverged, losses[update], factor)
        descend(
            theta, mean, second, g, factor, diverged, beta_1, beta_2, rates, alphas[update],
            epsilons[update],
        )  # fmt: skip
        if projection == 3:
            rotate(theta, n, w, work)  # exact but for rounding, which would add up:
        if projection in (1, 3) and orthogonalise(theta, n, w, work, diverged, outside) > 0:
            return update + 1
        if projection == 2:
            for lane in range(LANES):
                outside[lane] = diverged[lane] < 0
            return update + 1
    return len(batches)
