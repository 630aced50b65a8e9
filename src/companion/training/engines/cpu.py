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
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numba import cfunc, types

from companion.theory.network import Array
from companion.training.engines import step
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
from companion.training.engines.step import compiled, inlined
from companion.training.students import Batches, Errors, Group, Losses, Sequences, Stack, State

CHUNK = 16  # steps of the backward pass between sums; their rows stay in the first-level cache
AHEAD = 48  # steps ahead of use that data are asked for; the data are larger than any cache
PARALLEL = 2  # sequences run together at most: independent sums hide each other’s latency
VECTORS = types.CPointer(types.float32)
Cell = tuple[Callable[..., Any], Callable[..., Any]]  # a step forward, a step backward


def relu_cell(n: int, m: int, p: int, S: int, shared: bool = False) -> Cell:
    """Write the two steps of an RNN; backward takes ``terms`` rows of d from ``first`` upwards.

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


def lstm_cell(n: int, m: int, p: int, S: int, shared: bool = False) -> Cell:
    """Write an LSTM's; cells: S rows [∂h, ∂c], then by q and s [i, f, g, o, c, tanh c] of q − 1."""
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
    """Compile the passes of one model and size, in which sizes are constants; their address."""
    rows, w, U, D = gates * n, n + m + 1, n + m, gates * n + p
    cell_forward, cell_backward = (lstm_cell if gates == 4 else relu_cell)(n, m, p, S)
    readout = contraction(p, S, a=(w, 1), b=(U, 1), out=(1, D), initial=(w, 0))
    of_gradient: dict[str, Any] = {"a": (1, D), "out": (w, 1), "initial": (w, 1)}
    by_state = contraction(D, n, b=(1, U), **of_gradient)
    by_input = contraction(rows, m, b=(1, U), **of_gradient)
    by_one = contraction(D, 1, b=None, **of_gradient)

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


@compiled
def sum_of_squares(passes, S, theta, count, data, scratch):
    """Add up e² of each lane over ``count`` sequences, in float64."""
    (x, y, T), (u, d, cells) = data, scratch
    total, loss = np.zeros(LANES), np.zeros(LANES, dtype=np.float32)
    sequences = np.arange(count)
    for first in range(0, count, S):
        loss[:] = 0
        call(passes, (theta, x, y, u, d, cells, theta, loss, sequences[first:]), (T, 0))
        total += loss
    return total


def aligned(*shape: int) -> Array:
    """Make zeros from a multiple of 64 bytes on, so that no vector lies across two cache lines."""
    size = math.prod(shape) * LANES
    room = np.zeros(size + LANES, dtype=np.float32)
    first = -room.ctypes.data // 4 % LANES
    return room[first : first + size].reshape(*shape, LANES)


class Cpu:
    """The engine of up to sixteen students over the compiled passes.

    ``packed`` keeps data in lanes for all groups on the same realisations.
    """

    def __init__(self, group: Group, packed: dict[Any, list[Array]]) -> None:
        self.group, self.packed = group, packed
        # idle lanes repeat the first student: its data and, below, its parameters
        self.lanes = np.array([*range(len(group.students)), *[0] * LANES])[:LANES]

    def _to_lanes(self, arrays: Sequence[Array] | Array) -> Float[Array, "vectors lanes"]:
        """Put the entries of each student's array below each other, in its lane."""
        out = aligned(arrays[0].size)
        for lane, i in enumerate(self.lanes):
            out[:, lane] = arrays[i].ravel()
        return out

    def _prepare(self, data: Sequences, together: int) -> tuple[Any, ...]:
        """Prepare the compiled passes, the sequences S in each, data in lanes, and scratch."""
        S = max(S for S in range(1, PARALLEL + 1) if together % S == 0)
        (G, n, m, p), T, own = self.group.sizes, data.x.shape[2], self.group.data
        key = (id(data), *own)
        if key not in self.packed:
            self.packed[key] = [self._to_lanes([a[i] for i in own]) for a in (data.x, data.y)]
        cells = S * (2 * n + (T + 1) * 6 * n) if G == 4 else 1
        vectors = ((T + 1) * S * (n + m), (CHUNK + 1) * S * (G * n + p), cells)
        return kernel(G, n, m, p, S), S, (*self.packed[key], T), tuple(map(aligned, vectors))

    def advance(self, state: State, batches: Batches) -> tuple[State, Losses]:
        """Make the updates on these batches; the state after them, and the loss of each."""
        students, options, (_, n, _, p) = self.group.students, self.group.options, self.group.sizes
        (k, rows, w), model = state.theta.shape, students[0].model
        passes, S, data, scratch = self._prepare(self.group.train, batches.shape[1])
        scratch = (*scratch, aligned(rows * w), aligned(5, n * n))
        theta, mean, square = map(self._to_lanes, (state.theta, state.mean, state.square))
        diverged = state.diverged[self.lanes]
        rates = np.array([s.learning_rate for s in students], dtype=np.float32)[self.lanes]
        losses = np.empty((len(batches), LANES), dtype=np.float32)
        schedule = options.schedule(state.update, state.update + len(batches))
        alphas, epsilons = schedule.astype(np.float32)
        settings = (
            {"urnn": step.PROJECTIONS[options.projection], "contractive": step.SVD}.get(model, 0),
            options.output_bias,
            np.float32(np.inf if options.clip is None else options.clip),
            *map(np.float32, options.decay),
        )
        W, outside = theta.reshape(rows, w, LANES)[:n, :n], np.zeros(LANES, dtype=np.bool_)
        batches, made = np.ascontiguousarray(batches, dtype=np.int64), 0
        while made < len(batches):
            outside[:] = False
            made += step.train(
                passes, (n, p, w, S), settings, (theta, mean, square, diverged), batches[made:],
                data, scratch,
                (state.update + made, rates, alphas[made:], epsilons[made:], losses[made:]),
                outside,
            )  # fmt: skip
            if outside.any():
                U, s, Vt = np.linalg.svd(W[..., outside].transpose(2, 0, 1))
                if model == "contractive":
                    U *= np.minimum(s, 1)[:, None, :]
                W[..., outside] = (U @ Vt).transpose(1, 2, 0)
        theta, mean, square = (a.T[:k].reshape(k, rows, w).copy() for a in (theta, mean, square))
        return State(theta, mean, square, diverged[:k], state.update + made), losses.T[:k]

    def evaluate(self, theta: Stack, held_out: Sequences) -> Errors:
        """Measure the mean squared error of each student on other data."""
        count = held_out.x.shape[1]
        passes, S, data, scratch = self._prepare(held_out, count)
        total = sum_of_squares(passes, S, self._to_lanes(theta), count, data, scratch)
        return np.asarray(total[: len(theta)] / held_out.y[0].size)
