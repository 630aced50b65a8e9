"""The reference back end: torch autograd, any float type, any device. The others are held to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from companion.theory.network import Array
from companion.training.students import (
    Batches,
    Errors,
    Group,
    Loss,
    Losses,
    Model,
    Sequences,
    Stack,
    State,
    blocks,
)

Tensor = torch.Tensor
Thetas = Float[Tensor, "k rows columns"]  # of k students
Inputs = Float[Tensor, "k B T m"]
Answers = Float[Tensor, "k B S p"]  # and what they should be; S is T, or 1 for the last step alone
Each = Float[Tensor, " k"]
Now = tuple[Tensor, ...]  # what `State` holds, on the device: Θ, m, v, diverged, update
EVALUATED = 128  # sequences at a time


def outputs(
    theta: Thetas, x: Inputs, p: int, gates: int, last: bool = False,
    states: list[Tensor] | None = None,
) -> Answers:  # fmt: skip
    """Compute what k students answer to B sequences each, at every step or at the last alone.

    The states h of each step, shape (k, B, n), are added to ``states``.
    """
    n = (theta.shape[1] - p) // gates
    part = blocks(theta, n, p)
    W_t, F_t, C_t = part["W"].mT, part["F"].mT, part["C"].mT
    b, c = part["b"][:, None], part["c"][:, None]
    h = cell = x.new_zeros(x.shape[0], x.shape[1], n)
    y = []
    steps = x.unbind(2)
    for t, x_t in enumerate(steps):  # backward through indexing, x[:, :, t], costs 16 times as much
        z = torch.baddbmm(b, h, W_t) + x_t @ F_t
        if gates == 1:
            h = torch.relu(z)
        else:
            i, f, g, o = z.chunk(4, dim=-1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(cell)
        if states is not None:
            states.append(h)
        if not last or t == len(steps) - 1:
            y.append(torch.baddbmm(c, h, C_t))
    return torch.stack(y, 2)


def losses(
    theta: Thetas, x: Inputs, y: Answers, gates: int, kind: Loss = "mean-square",
    states: list[Tensor] | None = None,
) -> tuple[Each, Each]:  # fmt: skip
    """Measure each student's loss, and what it is judged by: that, or its share of wrong answers.

    An answer is wrong where the largest output is not the right one, or one is not finite.
    """
    estimate = outputs(theta, x, y.shape[-1], gates, kind == "cross-entropy", states)
    if kind == "mean-square":
        loss = (estimate - y).square().mean((1, 2, 3))
        return loss, loss
    loss = -(y * torch.log_softmax(estimate, -1)).sum(-1).mean((1, 2))
    right = (estimate.argmax(-1) == y.argmax(-1)) & estimate.isfinite().all(-1)
    return loss, (~right).to(estimate.dtype).mean((1, 2))


def gradients(
    theta: Thetas, x: Inputs, y: Answers, gates: int, kind: Loss = "mean-square"
) -> tuple[Each, Thetas]:
    """Compute each student's mean loss and its gradient in Θ (0 in the block that is always 0)."""
    theta = theta.detach().requires_grad_()
    loss = losses(theta, x, y, gates, kind)[0]
    # students do not meet, so the gradient of the sum is each one's own
    return loss.detach(), torch.autograd.grad(loss.sum(), theta)[0]


def project(theta: Thetas, model: Model, n: int) -> Thetas:
    """Replace W = U diag(s) Vᵀ in Θ by U Vᵀ (urnn) or by U diag(min(s, 1)) Vᵀ (contractive)."""
    if model in ("rnn", "lstm"):
        return theta
    U, s, Vt = torch.linalg.svd(theta[:, :n, :n])
    theta = theta.clone()
    theta[:, :n, :n] = (U if model == "urnn" else U * s.clamp(max=1)[:, None, :]) @ Vt
    return theta


def first_non_finite(
    theta: Float[Array, "rows columns"], x: Float[Array, "B T m"], y: Float[Array, "B S p"],
    gates: int, kind: Loss = "mean-square",
) -> str:  # fmt: skip
    """Say where the first inf or NaN of a student on a batch arises, in the type of Θ."""
    at, x_, y_ = (torch.from_numpy(a.astype(theta.dtype))[None] for a in (theta, x, y))
    p = y.shape[-1]
    wrong = (~outputs(at, x_, p, gates)[0].isfinite()).any(2).nonzero()
    if len(wrong):
        sequence, step = min(wrong.tolist(), key=lambda place: place[1])
        return f"output at step {step} of sequence {sequence} of the batch"
    loss, gradient = gradients(at, x_, y_, gates, kind)
    if not loss.isfinite().all():
        return "loss"
    parts = blocks(gradient, (len(theta) - p) // gates, p)
    bad = [name for name, g in parts.items() if not g.isfinite().all()]
    return f"gradient of {', '.join(bad)}" if bad else "sum of squares of the gradient"


class Reference:
    """The engine over `gradients`: Adam or RMSprop and the projection, in plain torch."""

    def __init__(self, group: Group, dtype: torch.dtype, device: str = "cpu") -> None:
        self.group, self.dtype, self.device = group, dtype, device
        self.realisation = torch.tensor(group.data)[:, None]
        rates = np.array([s.learning_rate for s in group.students])
        self.rate = self._tensor(rates)[:, None, None]
        self.data: dict[int, tuple[Tensor, Tensor]] = {}
        exponential = group.options.projection == "exponential"
        rotates = [exponential and s.model == "urnn" for s in group.students]
        self.rotates = any(rotates)
        self.rotating = torch.tensor(rotates, device=device)[:, None, None]

    def _tensor(self, a: Array) -> Tensor:
        kind = np.float64 if self.dtype == torch.float64 else np.float32
        return torch.from_numpy(np.ascontiguousarray(a, dtype=kind)).to(self.device)

    def _held(self, data: Sequences) -> tuple[Tensor, Tensor]:
        if id(data) not in self.data:
            self.data[id(data)] = (self._tensor(data.x), self._tensor(data.y))
        return self.data[id(data)]

    def _batch(self, data: Sequences, index: Int[Array, " B"]) -> tuple[Tensor, ...]:
        x, y = self._held(data)
        sequence = torch.from_numpy(index)
        return x[self.realisation, sequence], y[self.realisation, sequence]

    def gradient(self, theta: Thetas, x: Inputs, y: Answers) -> tuple[Each, Thetas]:
        """Compute losses and gradients; an engine with a faster way replaces this."""
        return gradients(theta, x, y, self.group.sizes[0], self.group.options.loss)

    def error(self, theta: Thetas, x: Inputs, y: Answers) -> Each:
        """Compute the mean squared errors, or shares of wrong answers, alone."""
        with torch.no_grad():
            return losses(theta, x, y, self.group.sizes[0], self.group.options.loss)[1]

    def norm(self, g: Thetas) -> Tensor:
        """Compute the norm of each gradient, shape (k, 1, 1)."""
        return g.square().sum((1, 2), keepdim=True).sqrt()

    def projected(self, theta: Thetas, n: int) -> Thetas:
        """Project W after an update; engines that mix models replace this."""
        return project(theta, self.group.students[0].model, n)

    def update(self, now: Now, index: Any, alpha: Any, epsilon: Any) -> tuple[Now, Each]:
        """Make one update on the sequences of ``index``; the state after it, and each loss.

        On a GPU nothing here waits for a number, unless W is rotated or projected by its SVD.
        """
        group, options, (_, n, _, p) = self.group, self.group.options, self.group.sizes
        theta, mean, square, diverged, number = now
        loss, g = self.gradient(theta, *self._batch(group.train, index))
        if not options.output_bias:
            g[:, -p:, -1] = 0
        if self.rotates:
            A = theta[:, :n, :n].mT @ g[:, :n, :n]
            g[:, :n, :n] = torch.where(self.rotating, A - A.mT, g[:, :n, :n])
        norm = self.norm(g)
        finite = torch.isfinite(norm[:, 0, 0]) & torch.isfinite(loss)
        diverged = torch.where(~finite & (diverged < 0), number, diverged)
        going = (diverged < 0)[:, None, None]
        if options.clip is not None:
            g = g * (options.clip / norm).clamp(max=1)
        beta_1, beta_2 = options.decay
        new_mean = beta_1 * mean + (1 - beta_1) * g
        new_square = beta_2 * square + (1 - beta_2) * g * g
        step = self.rate * alpha * new_mean / (new_square.sqrt() + epsilon)
        moved = theta - step
        if self.rotates:
            rotated = theta[:, :n, :n] @ torch.matrix_exp(-step[:, :n, :n])
            moved[:, :n, :n] = torch.where(self.rotating, rotated, moved[:, :n, :n])
        theta = torch.where(going, moved, theta)
        theta = torch.where(going, self.projected(theta, n), theta)
        mean = torch.where(going, new_mean, mean)
        square = torch.where(going, new_square, square)
        return (theta, mean, square, diverged, number + 1), loss

    def started(self, state: State) -> Now:
        """Put a state where it is computed on."""
        theta, mean, square = map(self._tensor, (state.theta, state.mean, state.square))
        diverged = torch.from_numpy(state.diverged.copy()).to(self.device)
        return theta, mean, square, diverged, torch.tensor(state.update, device=self.device)

    def ended(self, now: Now, recorded: Tensor) -> tuple[State, Losses]:
        """Take a state from there, and the losses."""
        theta, mean, square, diverged, number = (a.cpu().numpy() for a in now)
        return State(theta, mean, square, diverged, int(number)), recorded.cpu().numpy()

    def advance(self, state: State, batches: Batches) -> tuple[State, Losses]:
        """Make the updates on these batches; the state after them, and the loss of each."""
        now, recorded = self.started(state), []
        schedule = self.group.options.schedule(state.update, state.update + len(batches)).T
        for index, (alpha, epsilon) in zip(batches, schedule, strict=True):
            now, loss = self.update(now, index, alpha, epsilon)
            recorded.append(loss)
        return self.ended(now, torch.stack(recorded, 1))

    def evaluate(self, theta: Stack, held_out: Sequences) -> Errors:
        """Measure the error of each student, some hundred sequences at a time."""
        at, count = self._tensor(theta), held_out.x.shape[1]
        total = at.new_zeros(len(at))
        for index in np.split(np.arange(count), range(EVALUATED, count, EVALUATED)):
            total += self.error(at, *self._batch(held_out, index)) * (len(index) / count)
        return np.asarray(total.cpu().numpy())
