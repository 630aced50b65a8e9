"""The GPU back end: every student of a fit in one Triton launch, the whole time loop inside.

One program holds one student's weights and up to sixteen of its sequences; states go to memory on
the way forward and come back on the way back, up to sixteen units in 1 KiB a step: 1 MB for each
student and 1000 steps. Students of different sizes share a launch: a unit whose weights
are all 0 stays at 0 and gets no gradient, so Θ is padded. Triton's interpreter runs it, slowly, on
the CPU.

LSTMs go through the reference on the same device, all at once too, and not through cuDNN, which
takes one network's weights a call: its launches grow with the number of students, the reference's
do not (some fifty small ones a step, forward and back). By that count cuDNN is ahead for a few
students alone, and the figures have 330; neither has been timed.
"""

# triton's functions are compiled from their source and carry no types
# mypy: disable-error-code="no-untyped-call, no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from companion.training.reference import NewtonSchulz, Tensor
from companion.training.students import Group

ROWS = 16  # sequences of a program: the least that a matrix product takes


@triton.jit
def passes(
    theta,
    x,
    y,
    states,
    gradient,
    losses,
    B,
    T,
    n,
    m: tl.constexpr,
    p: tl.constexpr,
    BP: tl.constexpr,
    NP: tl.constexpr,
    MP: tl.constexpr,
    PP: tl.constexpr,
    BACKWARD: tl.constexpr,
):
    """Σ e² of ``BP`` sequences of one student and, if asked, the gradient of half of it in Θ."""
    student, part = tl.program_id(0), tl.program_id(1)
    program = (student * tl.num_programs(1) + part).to(tl.int64)
    row = tl.arange(0, BP)
    unit, feature, output = tl.arange(0, NP), tl.arange(0, MP), tl.arange(0, PP)
    sequence = part * BP + row
    w = n + m + 1
    at = theta + student * (n + p) * w
    real, real_x, real_y = unit < n, feature < m, output < p
    W_at = unit[:, None] * w + unit[None, :]
    F_at = unit[:, None] * w + n + feature[None, :]
    C_at = (n + output[:, None]) * w + unit[None, :]
    W_mask = real[:, None] & real[None, :]
    F_mask = real[:, None] & real_x[None, :]
    C_mask = real_y[:, None] & real[None, :]
    W = tl.load(at + W_at, W_mask, 0.0)
    W_t = tl.trans(W)
    F = tl.load(at + F_at, F_mask, 0.0)
    C = tl.load(at + C_at, C_mask, 0.0)
    b = tl.load(at + unit * w + n + m, real, 0.0)
    c = tl.load(at + (n + output) * w + n + m, real_y, 0.0)
    first = (student.to(tl.int64) * B + sequence[:, None]) * T
    x_at, y_at = x + first * m + feature[None, :], y + first * p + output[None, :]
    x_mask = (sequence < B)[:, None] & real_x[None, :]
    y_mask = (sequence < B)[:, None] & real_y[None, :]
    h_at = states + program * T * BP * NP + row[:, None] * NP + unit[None, :]

    h = tl.zeros((BP, NP), tl.float32)
    loss = tl.zeros((BP, PP), tl.float32)
    for t in range(T):
        x_t = tl.load(x_at + t * m, x_mask, 0.0)
        z = tl.dot(h, W_t, input_precision="ieee") + b[None, :]
        z += tl.sum(x_t[:, None, :] * F[None, :, :], 2)
        h = tl.where(z <= 0, 0.0, z)  # in this order a NaN stays one, and is found
        if BACKWARD:
            tl.store(h_at + t * BP * NP, h)
        else:
            e = tl.sum(h[:, None, :] * C[None, :, :], 2) + c[None, :]
            e = tl.where(y_mask, e - tl.load(y_at + t * p, y_mask, 0.0), 0.0)
            loss += e * e
    if BACKWARD:
        tl.debug_barrier()  # the states are read by other threads than wrote them
        gW = tl.zeros((NP, NP), tl.float32)
        gF = tl.zeros((BP, NP, MP), tl.float32)
        gC = tl.zeros((BP, PP, NP), tl.float32)
        gb = tl.zeros((BP, NP), tl.float32)
        gc = tl.zeros((BP, PP), tl.float32)
        delta = tl.zeros((BP, NP), tl.float32)
        for k in range(T):
            t = T - 1 - k
            before = tl.load(h_at + (t - 1) * BP * NP, (row >= 0)[:, None] & (t > 0), 0.0)
            x_t = tl.load(x_at + t * m, x_mask, 0.0)
            e = tl.sum(h[:, None, :] * C[None, :, :], 2) + c[None, :]
            e = tl.where(y_mask, e - tl.load(y_at + t * p, y_mask, 0.0), 0.0)
            loss += e * e
            dh = tl.dot(delta, W, input_precision="ieee")
            dh += tl.sum(e[:, :, None] * C[None, :, :], 1)
            delta = tl.where(h > 0, dh, 0.0)
            gW += tl.dot(tl.trans(delta), before, input_precision="ieee")
            gF += delta[:, :, None] * x_t[:, None, :]
            gC += e[:, :, None] * h[:, None, :]
            gb += delta
            gc += e
            h = before
        to = gradient + program * (n + p) * w
        tl.store(to + W_at, gW, W_mask)
        tl.store(to + F_at, tl.sum(gF, 0), F_mask)
        tl.store(to + C_at, tl.sum(gC, 0), C_mask)
        tl.store(to + unit * w + n + m, tl.sum(gb, 0), real)
        tl.store(to + (n + output) * w + n + m, tl.sum(gc, 0), real_y)
    tl.store(losses + program, tl.sum(tl.sum(loss, 1), 0))


class Cuda(NewtonSchulz):
    """The reference engine with its gradients by `passes`, and Newton-Schulz on all at once."""

    def __init__(self, group: Group, device: str = "cuda") -> None:
        super().__init__(group, device)

    def _passes(self, theta: Tensor, x: Tensor, y: Tensor, backward: bool) -> tuple[Tensor, Tensor]:
        (k, B, T, m), p = x.shape, y.shape[-1]
        n, parts = theta.shape[1] - p, -(-B // ROWS)
        padded = {name: triton.next_power_of_2(size) for name, size in (("MP", m), ("PP", p))}
        NP = max(16, triton.next_power_of_2(n))
        states = theta.new_empty(k * parts * T * ROWS * NP if backward else 1)
        g, losses = theta.new_zeros(k, parts, *theta.shape[1:]), theta.new_empty(k, parts)
        grid: Any = (k, parts)
        passes[grid](
            theta.contiguous(), x.contiguous(), y.contiguous(), states, g, losses,
            B, T, n, m, p, ROWS, NP, **padded, BACKWARD=backward,
            # one warp needs no barriers between its threads; larger tiles need more registers
            num_warps=1 if NP == 16 else 4,
        )  # fmt: skip
        count = B * T * p
        return losses.sum(1) / count, g.sum(1) * (2 / count)

    def gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and gradients in one launch."""
        if self.group.sizes[0] == 4:
            return super().gradient(theta, x, y)
        return self._passes(theta, x, y, backward=True)

    def error(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Losses in one launch."""
        if self.group.sizes[0] == 4:
            return super().error(theta, x, y)
        return self._passes(theta, x, y, backward=False)[0]
