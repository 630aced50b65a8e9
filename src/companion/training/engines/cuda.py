"""The GPU back end: all students in one Triton launch each way, the whole time loop inside.

One program of `recur` holds one student's W and sixteen of its sequences. Going forward it turns
z = F x + b into the states h, going back ∂loss/∂h into δ = ∂loss/∂z, both in place; what is not
recurrent, z, the answers and the gradients Σ δ ⊗ [h, x, 1], are large products that torch does
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
from jaxtyping import Float

from companion.training.engines.newton_schulz import NewtonSchulz
from companion.training.reference import Tensor, judge
from companion.training.students import Group

ROWS = 16  # sequences of a program: the least that a matrix product takes


@triton.jit
def recur(
    theta, h, delta, B, T, n, w, rows,
    BP: tl.constexpr, NP: tl.constexpr, BACKWARD: tl.constexpr,
):  # fmt: skip
    """Turn F x + b in ``h`` into the states, in place; or ∂loss/∂h in ``delta`` into ∂loss/∂z.

    Arrays are [student][step][sequence][unit], ``h`` with a step of zeros before the first. Of
    ∂loss/∂h comes in what the answer at that step gives, and the step after it is added here.
    """
    student = tl.program_id(0).to(tl.int64)
    sequence, unit = tl.program_id(1) * BP + tl.arange(0, BP), tl.arange(0, NP)
    real = (unit < n)[None, :]
    mask = (sequence < B)[:, None] & real
    at = sequence[:, None] * n + unit[None, :]
    W_at = theta + student * rows * w + unit[:, None] * w + unit[None, :]
    W = tl.load(W_at, (unit < n)[:, None] & real, 0.0)
    W = W if BACKWARD else tl.trans(W)
    h += (student * (T + 1) + 1) * B * n + at
    delta += student * T * B * n + at
    last = tl.zeros((BP, NP), tl.float32)  # h of the step before, or δ of the step after
    for k in range(T):
        if BACKWARD:
            t = (T - 1 - k) * B * n
            dh = tl.load(delta + t, mask, 0.0) + tl.dot(last, W, input_precision="ieee")
            last = tl.where(tl.load(h + t, mask, 0.0) > 0, dh, 0.0)
            tl.store(delta + t, last, mask)
        else:
            t = k * B * n
            z = tl.load(h + t, mask, 0.0) + tl.dot(last, W, input_precision="ieee")
            last = tl.where(z <= 0, 0.0, z)  # in this order a NaN stays one, and is found
            tl.store(h + t, last, mask)


def times(a: Float[Tensor, "k T B i"], b: Float[Tensor, "k i j"]) -> Float[Tensor, "k T B j"]:
    """Multiply once for each student, not once for each step."""
    return (a.flatten(1, 2) @ b).view(*a.shape[:3], b.shape[-1])


def summed(a: Float[Tensor, "k T B i"], b: Float[Tensor, "k T B j"]) -> Float[Tensor, "k i j"]:
    """Add up a ⊗ b over steps and sequences."""
    return a.flatten(1, 2).mT @ b.flatten(1, 2)


class Cuda(NewtonSchulz):
    """The reference engine with its recurrences by `recur`."""

    def __init__(self, group: Group, device: str = "cuda") -> None:
        super().__init__(group, device)
        if group.sizes[1] > 128:
            raise ValueError(f"a student has {group.sizes[1]} units; on the GPU at most 128.")

    def _recur(self, theta: Tensor, h: Tensor, delta: Tensor, backward: bool) -> None:
        (k, rows, w), (_, steps, B, n) = theta.shape, h.shape
        NP = max(16, triton.next_power_of_2(n))
        grid: Any = (k, -(-B // ROWS))
        # one warp needs no barriers between its threads; larger tiles need more registers
        recur[grid](
            theta.contiguous(), h, delta, B, steps - 1, n, w, rows, ROWS, NP, BACKWARD=backward,
            num_warps=NP // 16,
        )  # fmt: skip

    def _forward(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the states by step, and the answers at the steps that ``y`` has."""
        (k, B, T, _), S, n = x.shape, y.shape[2], theta.shape[1] - y.shape[-1]
        h = x.new_zeros(k, T + 1, B, n)
        h[:, 1:] = times(x.transpose(1, 2), theta[:, :n, n:-1].mT)
        h[:, 1:] += theta[:, None, None, :n, -1]
        self._recur(theta, h, h, backward=False)
        answers = times(h[:, -S:], theta[:, n:, :n].mT) + theta[:, None, None, n:, -1]
        return h, answers.transpose(1, 2)

    def gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute losses and gradients by two launches and the products around them."""
        h, answers = self._forward(theta, x, y)
        loss = judge(answers.requires_grad_(), y, self.group.options.loss)[0]
        e = torch.autograd.grad(loss.sum(), answers)[0].transpose(1, 2)
        n, S = h.shape[-1], y.shape[2]
        delta = torch.zeros_like(h[:, 1:])
        delta[:, -S:] = times(e, theta[:, n:, :n])
        self._recur(theta, h, delta, backward=True)
        g = torch.zeros_like(theta)
        g[:, :n, :n], g[:, :n, n:-1] = summed(delta, h[:, :-1]), summed(delta, x.transpose(1, 2))
        g[:, n:, :n] = summed(e, h[:, -S:])
        g[:, :n, -1], g[:, n:, -1] = delta.sum((1, 2)), e.sum((1, 2))
        return loss.detach(), g

    def error(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Compute mean squared errors or shares of wrong answers, by one launch."""
        return judge(self._forward(theta, x, y)[1], y, self.group.options.loss)[1]
