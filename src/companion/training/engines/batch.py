"""The CPU back end of classification: one student at a time, a sequence of the batch to a lane.

For students too large and too few to be put side by side as in `cpu`. The cells are those of `cpu`,
Θ being one number for all lanes, and so are the rows u and d; but the answer is asked for after the
last step only, so e = softmax(ŷ) − y comes in once, and d[q] = ∂/∂z_q goes with u[q] = [h_{q−1},
x_q]. The gradient is summed over the lanes at the end. All else is the reference's.
"""

# numba's interfaces and the functions it compiles carry no types
# mypy: disable-error-code="no-untyped-call, no-untyped-def"

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numba import cfunc, types

from companion.theory.network import Array
from companion.training.engines.cpu import CHUNK, VECTORS, aligned, lstm_cell, relu_cell
from companion.training.engines.lanes import LANES, call, contraction, load, prefetch, store, zero
from companion.training.engines.newton_schulz import NewtonSchulz
from companion.training.engines.step import compiled
from companion.training.reference import Tensor
from companion.training.students import Group, Sequences

NEAR = 64  # units up to which the states are asked for ahead; larger ones take as long to work on
NOTHING = np.zeros(0, dtype=np.float32)


@functools.cache
def kernels(gates: int, n: int, m: int, p: int) -> tuple[int, int]:
    """Compile the forward and backward passes over a vector of sequences; their addresses."""
    # with two or four vectors a pass was slower or as fast, at 16 to 128 units
    rows, w, U, D = gates * n, n + m + 1, n + m, gates * n + p
    cell_forward, cell_backward = (lstm_cell if gates == 4 else relu_cell)(n, m, p, 1, shared=True)
    readout = contraction(p, 1, a=(w, 1), b=(U, 1), out=(1, D), initial=(w, 0), shared=True)
    of_gradient: dict[str, Any] = {"a": (1, D), "out": (w, 1), "initial": (w, 1)}
    by_row = contraction(rows, U, b=(1, U), **of_gradient)
    by_one = contraction(rows, 1, b=None, **of_gradient)
    by_state = contraction(p, n, b=(1, U), **of_gradient)
    by_last = contraction(p, 1, b=None, **of_gradient)

    @cfunc(types.void(*[VECTORS] * 4, types.intp, types.intp))
    def forward(theta, u, d, cells, T, top):
        """Fill in the states, and the answers ŷ in row ``top`` of d."""
        for q in range(T):
            cell_forward(theta, u, cells, q)
        readout(d, top * D + rows, theta, rows * w, u, T * U, theta, rows * w + U, n)

    @cfunc(types.void(*[VECTORS] * 5, types.intp))
    def backward(theta, u, d, cells, g, T):
        """Add the gradient to g, from e in the row of d where forward left the answers."""
        if gates == 4:
            for i in range(2 * n):
                store(cells, i, zero())
        last = T
        while last > 0:
            first = max(0, last - CHUNK)
            count = last - first
            if last == T:
                by_state(g, rows * w, d, count * D + rows, u, T * U, g, rows * w, 1)
                by_last(g, rows * w + U, d, count * D + rows, u, 0, g, rows * w + U, 1)
                cell_backward(theta, u, cells, T, d, count, rows, p)
            else:
                for i in range(rows):  # what the chunk above left
                    store(d, count * D + i, load(d, i))
                cell_backward(theta, u, cells, last, d, count, 0, rows)
            for row in range(count - 1, 0, -1):
                for i in range(U if n <= NEAR else 0):
                    prefetch(u, (first + row - 2) * U + i)
                cell_backward(theta, u, cells, first + row, d, row, 0, rows)
            by_row(g, 0, d, 0, u, first * U, g, 0, count)
            by_one(g, U, d, 0, u, 0, g, U, count)
            last = first

    return int(forward.address), int(backward.address)  # type: ignore[arg-type]


@compiled
def run(passes, theta, x, y, sizes, scratch, gradient):
    """Compute mean cross-entropy and share of errors; add the gradient of the former's sum."""
    u, d, cells, g = scratch
    (forward, backward), (rows, n) = passes, sizes
    B, T, m = x.shape
    p, U, D, top = y.shape[1], n + m, rows + y.shape[1], min(CHUNK, T)
    loss, wrong = 0.0, 0
    for first in range(0, B, LANES):
        for q in range(T):
            for lane in range(LANES):
                b = min(first + lane, B - 1)
                for j in range(m):
                    u[q * U + n + j, lane] = x[b, q, j]
        call(forward, (theta, u, d, cells), (T, top))
        for lane in range(LANES):
            at, b = top * D + rows, first + lane
            answer, total, right = d[at : at + p, lane], np.float32(0), np.float32(0)
            if b >= B:
                answer[:] = 0
                continue
            best = answer.argmax()
            largest = answer[best]
            for k in range(p):
                right += y[b, k] * answer[k]
                total += np.exp(answer[k] - largest)
            loss += np.log(total) + largest - right
            wrong += y[b, best] == 0 or not np.isfinite(total)
            for k in range(p):
                answer[k] = np.exp(answer[k] - largest) / total - y[b, k]
        if len(gradient):
            g[:] = 0
            call(backward, (theta, u, d, cells, g), (T,))
            for i in range(len(g)):
                total = np.float32(0)
                for lane in range(LANES):
                    total += g[i, lane]
                gradient[i] += total
    return loss / B, wrong / B


class Batch(NewtonSchulz):
    """The engine of one student over the compiled passes."""

    def __init__(self, group: Group) -> None:
        super().__init__(group)
        self.scratch: dict[int, tuple[Array, ...]] = {}

    def _run(self, theta: Array, x: Array, y: Array, gradient: Array) -> tuple[float, float]:
        """Compute the mean loss and error on a batch, and the gradient, unless that is empty."""
        (G, n, m, p), T = self.group.sizes, x.shape[1]
        if T not in self.scratch:
            states = 2 * n + (T + 1) * 6 * n if G == 4 else 1
            deltas = (min(CHUNK, T) + 1) * (G * n + p)
            vectors = ((T + 1) * (n + m), deltas, states, theta.size)
            self.scratch[T] = tuple(map(aligned, vectors))  # h₋₁ and c₋₁ stay the zeros they are
        scratch, passes, sizes = self.scratch[T], kernels(G, n, m, p), (G * n, n)
        loss, error = run(passes, theta.ravel(), x, y, sizes, scratch, gradient.ravel())
        return loss, error

    def _batch(self, data: Sequences, index: Array) -> tuple[Tensor, Tensor]:
        """Gather by NumPy, which wakes no threads of torch; answers without the axis of steps."""
        of = self.group.students[0].data
        x, y = (np.asarray(a, np.float32) for a in (data.x[of, index], data.y[of, index, 0]))
        return torch.from_numpy(x), torch.from_numpy(y)

    def norm(self, g: Tensor) -> Tensor:
        """Sum the squares in one order, whatever the processor."""
        return torch.from_numpy(np.sqrt(np.cumsum(g.numpy() ** 2)[-1:, None, None]))

    def gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute loss and gradient by the compiled passes."""
        g = np.zeros(theta.shape, dtype=np.float32)
        loss, _ = self._run(theta.numpy(), x.numpy(), y.numpy(), g)
        return torch.tensor([loss]), torch.from_numpy(g) / len(x)

    def error(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Compute the share of wrong answers by the compiled forward pass."""
        return torch.tensor([self._run(theta.numpy(), x.numpy(), y.numpy(), NOTHING)[1]])
