"""The CPU back end: sixteen students of one model and size side by side, one to a vector lane.

Every array is [row][lane], so nothing is gathered and nothing summed across lanes. One pass over S
sequences at a time runs forward through all T steps and back in chunks of 16, each followed by the
sums over it that make the gradient. With q = 0 … T the rows are

    u[q] = [h_{q−1}, x_q],     d[q] = [∂/∂z_q, e_{q−1}],     e = ŷ − y, z the pre-activation,

so that d[q] is carried back to h_{q−1} by the first columns of Θ (see `students`), and the gradient
of Θ is Σ_q d[q] ⊗ [u[q], 1]. Each size is compiled once a process, in about a second.
"""

# numba's interfaces and the functions it compiles carry no types
# mypy: disable-error-code="no-untyped-call, no-untyped-def"

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numba import cfunc, njit, types

from companion.training.engines.lanes import (
    LANES,
    add,
    call,
    contraction,
    fma,
    load,
    mul,
    prefetch,
    sigmoid,
    store,
    sub,
    tanh,
    zero,
)
from companion.training.students import Group, Sequences, State

Array = np.ndarray
CHUNK = 16  # steps of the backward pass between sums; their rows stay in the first-level cache
AHEAD = 48  # steps ahead of use that data are asked for; the data are larger than any cache
PARALLEL = 2  # sequences run together at most: independent sums hide each other’s latency

# numba.njit is untyped. No disk cache: it does not see the closures that make one size of another.
compiled: Callable[..., Any] = njit(nogil=True, error_model="numpy")
inlined: Callable[..., Any] = njit(inline="always")
VECTORS = types.CPointer(types.float32)


def relu_cell(
    n: int, m: int, p: int, S: int, shared: bool = False
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The two steps of an RNN; backward takes ``terms`` rows of d from ``first`` to the row above.

    With ``shared``, Θ is one student's, and the lanes are sequences.
    """
    w, U, D = n + m + 1, n + m, n + p
    of_theta: dict[str, Any] = {"b": (U, 1), "out": (1, U), "initial": (w, 0), "shared": shared}
    state_step = contraction(n, S, a=(w, 1), relu=True, **of_theta)
    delta_step = contraction(
        n, S, a=(1, w), b=(D, 1), out=(1, D), where_positive=(1, U), shared=shared
    )

    @inlined
    def forward(theta, u, cells, q):
        state_step(u, (q + 1) * S * U, theta, 0, u, q * S * U, theta, U, U)

    @inlined
    def backward(theta, u, cells, q, d, row, first, terms):
        below, above = (row - 1) * S * D, row * S * D + first
        delta_step(d, below, theta, first * w, d, above, u, q * S * U, terms)

    return forward, backward


def lstm_cell(
    n: int, m: int, p: int, S: int, shared: bool = False
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Cells: S rows [∂h, ∂c] of scratch, then by q and s rows [i, f, g, o, c, tanh c] of q − 1."""
    w, U, D, V = n + m + 1, n + m, 4 * n + p, 6 * n
    of_theta: dict[str, Any] = {"b": (U, 1), "out": (1, V), "initial": (w, 0), "shared": shared}
    gate_step = contraction(4 * n, S, a=(w, 1), **of_theta)
    carry_step = contraction(n, S, a=(1, w), b=(D, 1), out=(1, 2 * n), shared=shared)

    @inlined
    def forward(theta, u, cells, q):
        base = S * 2 * n + (q + 1) * S * V
        gate_step(cells, base, theta, 0, u, q * S * U, theta, U, U)
        for s in range(S):
            for k in range(n):
                at = base + s * V + k
                i, f = sigmoid(load(cells, at)), sigmoid(load(cells, at + n))
                g, o = tanh(load(cells, at + 2 * n)), sigmoid(load(cells, at + 3 * n))
                c = fma(f, load(cells, at + 4 * n - S * V), mul(i, g))
                tanh_c = tanh(c)
                store(cells, at, i)
                store(cells, at + n, f)
                store(cells, at + 2 * n, g)
                store(cells, at + 3 * n, o)
                store(cells, at + 4 * n, c)
                store(cells, at + 5 * n, tanh_c)
                store(u, ((q + 1) * S + s) * U + k, mul(o, tanh_c))

    @inlined
    def backward(theta, u, cells, q, d, row, first, terms):
        carry_step(cells, 0, theta, first * w, d, row * S * D + first, theta, 0, terms)
        for s in range(S):
            for k in range(n):
                at, out = S * 2 * n + (q * S + s) * V + k, ((row - 1) * S + s) * D + k
                i, f, g = load(cells, at), load(cells, at + n), load(cells, at + 2 * n)
                o, tanh_c = load(cells, at + 3 * n), load(cells, at + 5 * n)
                dh, dc_at = load(cells, s * 2 * n + k), s * 2 * n + n + k
                o_dh = mul(o, dh)
                dc = add(load(cells, dc_at), sub(o_dh, mul(o_dh, mul(tanh_c, tanh_c))))
                i_dc, f_dc = mul(i, dc), mul(f, dc)
                gi_dc = mul(g, i_dc)
                fc_dc = mul(load(cells, at + 4 * n - S * V), f_dc)
                do = mul(tanh_c, o_dh)
                store(cells, dc_at, f_dc)
                store(d, out, sub(gi_dc, mul(gi_dc, i)))
                store(d, out + n, sub(fc_dc, mul(fc_dc, f)))
                store(d, out + 2 * n, sub(i_dc, mul(i_dc, mul(g, g))))
                store(d, out + 3 * n, sub(do, mul(do, o)))

    return forward, backward


@functools.cache
def kernel(gates: int, n: int, m: int, p: int, S: int) -> int:
    """Address of the compiled passes of one model and size, in which the sizes are constants."""
    rows, w, U, D = gates * n, n + m + 1, n + m, gates * n + p
    cell_forward, cell_backward = (lstm_cell if gates == 4 else relu_cell)(n, m, p, S)
    readout = contraction(p, S, a=(w, 1), b=(U, 1), out=(1, D), initial=(w, 0))
    by_state = contraction(D, n, a=(1, D), b=(1, U), out=(w, 1), initial=(w, 1))
    by_input = contraction(rows, m, a=(1, D), b=(1, U), out=(w, 1), initial=(w, 1))
    by_one = contraction(D, 1, a=(1, D), b=None, out=(w, 1), initial=(w, 1))

    @inlined
    def forward(theta, x, y, sequences, T, u, cells):
        for q in range(T):
            for s in range(S):
                for j in range(m):
                    at = (sequences[s] * T + q) * m + j
                    prefetch(x, at + AHEAD * m)
                    store(u, (q * S + s) * U + n + j, load(x, at))
                for k in range(p):  # the backward pass will find it near
                    prefetch(y, (sequences[s] * T + q) * p + k)
            cell_forward(theta, u, cells, q)

    @inlined
    def errors(theta, y, sequences, T, u, d, first, last):
        """Fill in e_{q−1} for first ≤ q < last, rows 1, 2, … of d, and return the sum of e²."""
        loss = zero()
        for q in range(first, last):
            row = (q - first + 1) * S
            readout(d, row * D + rows, theta, rows * w, u, q * S * U, theta, rows * w + U, n)
            for s in range(S):
                for k in range(p):
                    at = (sequences[s] * T + max(q - 1, 0)) * p + k
                    e = sub(load(d, (row + s) * D + rows + k), load(y, at))
                    e = e if q > 0 else zero()
                    store(d, (row + s) * D + rows + k, e)
                    loss = fma(e, e, loss)
        return loss

    @cfunc(types.void(*[VECTORS] * 8, types.CPointer(types.intp), types.intp, types.intp))
    def passes(theta, x, y, u, d, cells, g, loss, sequences, T, backwards):
        """Add Σ e² over S sequences to loss and, if wanted, the gradient of half of it to g."""
        forward(theta, x, y, sequences, T, u, cells)
        for i in range(S * D):
            store(d, i, zero())
        if gates == 4:
            for i in range(S * 2 * n):
                store(cells, i, zero())
        last = T + 1
        while last > 0:
            first = max(0, last - CHUNK)
            count = last - first
            for s in range(S):
                for i in range(rows):  # what the chunk above left for the top row of this one
                    store(d, (count * S + s) * D + i, load(d, s * D + i))
            chunk_loss = errors(theta, y, sequences, T, u, d, first, last)
            store(loss, 0, add(load(loss, 0), chunk_loss))
            if backwards:
                for row in range(count, int(first == 0), -1):
                    cell_backward(theta, u, cells, first + row - 1, d, row, 0, D)
                by_state(g, 0, d, S * D, u, first * S * U, g, 0, count * S)
                by_input(g, n, d, S * D, u, first * S * U + n, g, n, count * S)
                by_one(g, U, d, S * D, u, 0, g, U, count * S)
            last = first

    return int(passes.address)  # type: ignore[arg-type]  # None only before compilation


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
def train(
    passes,
    S,
    theta,
    mean,
    second,
    diverged,
    batches,
    data,
    scratch,
    sizes,
    options,
    updates,
    outside,
):
    """Updates in place, one for each row of ``batches``, up to one whose W needs the SVD.

    Returns how many updates were made, and marks in ``outside`` the lanes whose W is still to be
    projected after the last of them.
    """
    x, y, T = data
    u, d, cells, g, work = scratch
    n, p, w, rows = sizes
    projection, output_bias, clip, beta_1, beta_2 = options
    first_update, rates, alphas, epsilons, losses = updates
    loss, norm = np.empty(LANES, dtype=np.float32), np.empty(LANES, dtype=np.float32)
    factor = np.empty(LANES, dtype=np.float32)
    one, scale = np.float32(1), np.float32(1 / (batches.shape[1] * T * p))
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
        store(norm, 0, zero())
        for i in range(len(g)):
            for lane in range(LANES):
                g[i, lane] *= np.float32(2) * scale
                norm[lane] += g[i, lane] * g[i, lane]
        for lane in range(LANES):
            losses[update, lane] = loss[lane] * scale
            finite = np.isfinite(norm[lane]) and np.isfinite(losses[update, lane])
            if not finite and diverged[lane] < 0:
                diverged[lane] = first_update + update
            factor[lane] = min(one, clip / np.sqrt(norm[lane]))
        for i in range(len(g)):
            for lane in range(LANES):
                if diverged[lane] < 0:
                    step = g[i, lane] * factor[lane]
                    mean[i, lane] = beta_1 * mean[i, lane] + (one - beta_1) * step
                    second[i, lane] = beta_2 * second[i, lane] + (one - beta_2) * step * step
                    step = mean[i, lane] / (np.sqrt(second[i, lane]) + epsilons[update])
                    theta[i, lane] -= rates[lane] * alphas[update] * step
        if projection == 3:
            rotate(theta, n, w, work)  # exact but for rounding, which would add up:
        if projection in (1, 3) and orthogonalise(theta, n, w, work, diverged, outside) > 0:
            return update + 1
        if projection == 2:
            for lane in range(LANES):
                outside[lane] = diverged[lane] < 0
            return update + 1
    return len(batches)


@compiled
def evaluate(passes, S, theta, data, scratch):
    """Σ e² of each lane over all sequences, in float64."""
    x, y, T, count = data
    u, d, cells = scratch
    total, loss = np.zeros(LANES), np.zeros(LANES, dtype=np.float32)
    sequences = np.arange(count)
    for first in range(0, count, S):
        store(loss, 0, zero())
        call(passes, (theta, x, y, u, d, cells, theta, loss, sequences[first:]), (T, 0))
        for lane in range(LANES):
            total[lane] += loss[lane]
    return total


def aligned(vectors: int) -> Float[Array, "vectors lanes"]:
    """Zeros that start at a multiple of 64 bytes, so that no vector lies across two cache lines."""
    store_ = np.zeros((vectors + 1) * LANES, dtype=np.float32)
    first = -store_.ctypes.data // 4 % LANES
    return store_[first : first + vectors * LANES].reshape(vectors, LANES)


class Cpu:
    """The engine of up to sixteen students over the compiled passes."""

    def __init__(self, group: Group, packed: dict[Any, tuple[Array, Array]]) -> None:
        self.group, self.packed = group, packed
        # idle lanes repeat the first student: its data and, below, its parameters
        self.lanes = np.array([*range(len(group.students)), *[0] * LANES])[:LANES]

    def _pack(self, data: Sequences) -> tuple[Array, Array]:
        """Inputs and outputs as [sequence][step][feature][lane], kept for other groups."""
        realisations = np.array(self.group.data)[self.lanes]
        key = (id(data), *realisations)
        if key not in self.packed:
            arrays = []
            for a in (data.x, data.y):
                lanes_last = aligned(a[0].size)
                for lane, realisation in enumerate(realisations):
                    lanes_last[:, lane] = a[realisation].ravel()
                arrays.append(lanes_last)
            self.packed[key] = (arrays[0], arrays[1])
        return self.packed[key]

    def _prepare(self, data: Sequences, together: int) -> tuple[int, int, tuple[Array, ...]]:
        """The compiled passes, the number S of sequences in each, and their scratch."""
        S = max(S for S in range(1, PARALLEL + 1) if together % S == 0)
        (G, n, m, p), T = self.group.sizes, data.x.shape[2]
        cells = S * (2 * n + (T + 1) * 6 * n) if G == 4 else 1
        vectors = ((T + 1) * S * (n + m), (CHUNK + 1) * S * (G * n + p), cells)
        return kernel(G, n, m, p, S), S, tuple(aligned(v) for v in vectors)

    def _to_lanes(self, a: Float[Array, "k rows columns"]) -> Float[Array, "vectors lanes"]:
        out = aligned(a[0].size)
        out[:] = a.reshape(len(a), -1)[self.lanes].T
        return out

    def advance(
        self, state: State, batches: Int[Array, "updates batch"]
    ) -> tuple[State, Float[Array, "k updates"]]:
        """The state after these batches, and the training loss of each."""
        students, options = self.group.students, self.group.options
        _, n, _, p = self.group.sizes
        k, rows, w = state.theta.shape
        passes, S, scratch = self._prepare(self.group.train, batches.shape[1])
        theta, mean, second = map(self._to_lanes, (state.theta, state.mean, state.square))
        diverged = state.diverged[self.lanes]
        losses = np.empty((len(batches), LANES), dtype=np.float32)
        schedule = options.schedule(state.update, state.update + len(batches))
        alphas, epsilons = schedule.astype(np.float32)
        rates = np.array([s.learning_rate for s in students], dtype=np.float32)[self.lanes]
        how = 2 if students[0].model in ("urnn", "contractive") else 0  # by the SVD, outside
        if students[0].model == "urnn" and options.projection == "newton-schulz":
            how = 1
        settings = (
            3 if self.group.rotating[0] else how,
            options.output_bias,
            np.float32(np.inf if options.clip is None else options.clip),
            *map(np.float32, options.decay),
        )
        made, outside = 0, np.zeros(LANES, dtype=np.bool_)
        while made < len(batches):
            outside[:] = False
            made += train(
                passes,
                S,
                theta,
                mean,
                second,
                diverged,
                np.ascontiguousarray(batches[made:], dtype=np.int64),
                (*self._pack(self.group.train), self.group.train.x.shape[2]),
                (*scratch, aligned(rows * w), aligned(5 * n * n)),
                (n, p, w, rows),
                settings,
                (state.update + made, rates, alphas[made:], epsilons[made:], losses[made:]),
                outside,
            )
            if outside.any():
                blocks = theta.reshape(rows, w, LANES)[:n, :n, outside].transpose(2, 0, 1)
                U, s, Vt = np.linalg.svd(blocks)
                if students[0].model == "contractive":
                    U *= np.minimum(s, 1)[:, None, :]
                theta.reshape(rows, w, LANES)[:n, :n, outside] = (U @ Vt).transpose(1, 2, 0)
        theta, mean, second = (a.T[:k].reshape(k, rows, w).copy() for a in (theta, mean, second))
        return State(theta, mean, second, diverged[:k], state.update + made), losses.T[:k]

    def evaluate(
        self, theta: Float[Array, "k rows columns"], held_out: Sequences
    ) -> Float[Array, " k"]:
        """The mean squared error of each student on other data."""
        count, T = held_out.x.shape[1:3]
        passes, S, scratch = self._prepare(held_out, count)
        data = (*self._pack(held_out), T, count)
        total = evaluate(passes, S, self._to_lanes(theta), data, scratch)
        return np.asarray(total[: len(theta)] / held_out.y[0].size)
