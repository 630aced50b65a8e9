"""The GPU back end: every student of a fit in one Triton launch, the whole time loop inside.

One program holds one student's weights and up to sixteen of its sequences. Of students that answer
at every step, `passes` leaves the states in memory on the way forward and takes them back on the
way back, up to sixteen units in 1 KiB a step: 1 MB for each student and 1000 steps. Of those that
answer at the last step, `recur` leaves the states going forward and δ = ∂/∂z going back; what is
not recurrent, the answers and the gradients Σ δ ⊗ [h, x, 1], are large products that torch does
best. Students of different sizes share a launch: a unit whose weights are all 0 stays at 0 and gets
no gradient, so Θ is padded.

LSTMs go through the reference on the same device, all at once too, and not through cuDNN, which
takes one network's weights a call: its launches grow with the number of students, the reference's
do not (some fifty small ones a step, forward and back).

Not run on a GPU yet: tested in Triton's interpreter and compiled for compute capability 9.0.
"""

# triton's functions are compiled from their source and carry no types
# mypy: disable-error-code="no-untyped-call, no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from companion.training.reference import NewtonSchulz, Tensor, wrong_answers
from companion.training.students import Group

ROWS = 16  # sequences of a program: the least that a matrix product takes


@triton.jit
def passes(
    theta, x, y, states, gradient, losses, B, T, n, m: tl.constexpr, p: tl.constexpr,
    BP: tl.constexpr, NP: tl.constexpr, MP: tl.constexpr, PP: tl.constexpr,
    BACKWARD: tl.constexpr,
):  # fmt: skip
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
        return self._passes(theta, x, y, backward=True)

    def error(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Losses in one launch."""
        return self._passes(theta, x, y, backward=False)[0]


@triton.jit
def recur(
    theta, drive, states, deltas, B, T, n, w, rows,
    BP: tl.constexpr, NP: tl.constexpr, BACKWARD: tl.constexpr,
):  # fmt: skip
    """States h⁽⁰⁾ … of ``BP`` sequences from ``drive`` = F x + b; or δ in reverse, from the last.

    Arrays are [student][step][sequence][unit], ``states`` with a step of zeros before the first.
    """
    student = tl.program_id(0).to(tl.int64)
    sequence, unit = tl.program_id(1) * BP + tl.arange(0, BP), tl.arange(0, NP)
    mask = (sequence < B)[:, None] & (unit < n)[None, :]
    at = sequence[:, None] * n + unit[None, :]
    W_mask = (unit < n)[:, None] & (unit < n)[None, :]
    W_at = theta + student * rows * w + unit[:, None] * w + unit[None, :]
    W = tl.load(W_at, W_mask, 0.0)
    drive += student * T * B * n
    deltas += student * T * B * n
    states += student * (T + 1) * B * n
    if BACKWARD:
        delta = tl.load(deltas + (T - 1) * B * n + at, mask, 0.0)
        for k in range(1, T):
            t = T - 1 - k
            h = tl.load(states + (t + 1) * B * n + at, mask, 0.0)
            delta = tl.where(h > 0, tl.dot(delta, W, input_precision="ieee"), 0.0)
            tl.store(deltas + t * B * n + at, delta, mask)
    else:
        W_t = tl.trans(W)
        h = tl.zeros((BP, NP), tl.float32)
        for t in range(T):
            z = tl.load(drive + t * B * n + at, mask, 0.0)
            z += tl.dot(h, W_t, input_precision="ieee")
            h = tl.where(z <= 0, 0.0, z)  # in this order a NaN stays one, and is found
            tl.store(states + (t + 1) * B * n + at, h, mask)


class BatchCuda(NewtonSchulz):
    """The reference engine with its recurrences by `recur`."""

    def __init__(self, group: Group, device: str = "cuda") -> None:
        super().__init__(group, device)
        if group.sizes[1] > 128:
            raise ValueError(f"a student has {group.sizes[1]} units; on the GPU at most 128.")

    def _recur(self, theta: Tensor, buffers: tuple[Tensor, ...], backward: bool) -> None:
        k, rows, w = theta.shape
        _, T, B, n = buffers[0].shape
        NP = max(16, triton.next_power_of_2(n))
        grid: Any = (k, -(-B // ROWS))
        warps = 1 if NP == 16 else NP // 16
        recur[grid](theta, *buffers, B, T, n, w, rows, ROWS, NP, BACKWARD=backward, num_warps=warps)

    def _forward(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """States, inputs by step, and the answers after the last step."""
        p, x = y.shape[-1], x.transpose(1, 2)
        n = theta.shape[1] - p
        drive = x @ theta[:, None, :n, n:-1].mT + theta[:, None, None, :n, -1]
        k, T, B, _ = drive.shape
        states = drive.new_zeros(k, T + 1, B, n)
        self._recur(theta.contiguous(), (drive.contiguous(), states, states), backward=False)
        answer = states[:, -1] @ theta[:, n:, :n].mT + theta[:, None, n:, -1]
        return states, x, answer

    def gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and gradients by two launches and the products around them."""
        states, x, answer = self._forward(theta, x, y)
        (k, T, B, m), n = x.shape, states.shape[-1]
        right = y[:, :, 0]
        loss = -(right * torch.log_softmax(answer, -1)).sum(-1).mean(1)
        e = (torch.softmax(answer, -1) - right) / B
        deltas = states.new_empty(k, T, B, n)
        deltas[:, -1] = torch.where(states[:, -1] > 0, e @ theta[:, n:, :n], 0)
        self._recur(theta.contiguous(), (deltas, states, deltas), backward=True)
        delta = deltas.view(k, T * B, n).mT
        g = torch.zeros_like(theta)
        g[:, :n, :n] = delta @ states[:, :-1].reshape(k, T * B, n)
        g[:, :n, n:-1] = delta @ x.reshape(k, T * B, m)
        g[:, :n, -1] = delta.sum(-1)
        g[:, n:, :n], g[:, n:, -1] = e.mT @ states[:, -1], e.sum(1)
        return loss, g

    def error(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Shares of wrong answers, by one launch."""
        answer = self._forward(theta, x, y)[2]
        return wrong_answers(answer, y[:, :, 0]).mean(1)
