"""The GPU back end of classification: the recurrence in Triton, the sums over time in torch.

One program holds one student's W, up to 128 by 128, and sixteen sequences of the batch, which so
spreads over multiprocessors. Going forward it leaves the states h, going back δ = ∂/∂z; what is not
recurrent, the answers and the gradients Σ δ ⊗ [h, x, 1], are large products that torch does best.
Θ is padded, and LSTMs go through the reference, as in `cuda`. Run so far in Triton's interpreter
and compiled for compute capability 9.0; not yet timed on a GPU.
"""

# triton's functions are compiled from their source and carry no types
# mypy: disable-error-code="no-untyped-call, no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from companion.training.engines.cuda import ROWS
from companion.training.reference import NewtonSchulz, Tensor
from companion.training.students import Group


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
        if group.sizes[0] == 1 and group.sizes[1] > 128:
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
        if self.group.sizes[0] == 4:
            return super().gradient(theta, x, y)
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
        if self.group.sizes[0] == 4:
            return super().error(theta, x, y)
        answer = self._forward(theta, x, y)[2]
        return (answer.argmax(-1) != y[:, :, 0].argmax(-1)).float().mean(1)
