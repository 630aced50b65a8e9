"""The reference back end: torch autograd, any float type, any device. The others are held to it."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

from companion.training.students import Group, Loss, Model, Sequences, State, blocks

Array = np.ndarray
Tensor = torch.Tensor
EVALUATED = 128  # sequences at a time


def outputs(
    theta: Float[Tensor, "k rows columns"],
    x: Float[Tensor, "k B T m"],
    p: int,
    gates: int,
    last: bool = False,
    states: list[Tensor] | None = None,
) -> Float[Tensor, "k B T p"]:
    """What k students answer to B sequences each, at every step or at the last alone.

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
    theta: Float[Tensor, "k rows columns"],
    x: Float[Tensor, "k B T m"],
    y: Float[Tensor, "k B S p"],
    gates: int,
    kind: Loss = "mean-square",
    states: list[Tensor] | None = None,
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Each student's mean loss, and what it is judged by: that, or the share of wrong answers."""
    estimate = outputs(theta, x, y.shape[-1], gates, kind == "cross-entropy", states)
    if kind == "mean-square":
        loss = (estimate - y).square().mean((1, 2, 3))
        return loss, loss
    loss = -(y * torch.log_softmax(estimate, -1)).sum(-1).mean((1, 2))
    return loss, wrong_answers(estimate, y).mean((1, 2))


def wrong_answers(estimate: Float[Tensor, "*shape p"], y: Float[Tensor, "*shape p"]) -> Tensor:
    """1 where the largest output is not the right answer, or the outputs are not finite."""
    right = (estimate.argmax(-1) == y.argmax(-1)) & estimate.isfinite().all(-1)
    return (~right).to(estimate.dtype)


def gradients(
    theta: Float[Tensor, "k rows columns"],
    x: Float[Tensor, "k B T m"],
    y: Float[Tensor, "k B S p"],
    gates: int,
    kind: Loss = "mean-square",
) -> tuple[Float[Tensor, " k"], Float[Tensor, "k rows columns"]]:
    """Each student's mean loss and its gradient in Θ (0 in the block that is always 0)."""
    theta = theta.detach().requires_grad_()
    loss = losses(theta, x, y, gates, kind)[0]
    torch.autograd.backward(
        loss.sum()
    )  # students do not meet, so the gradient of the sum is each one's own
    assert theta.grad is not None  # noqa: S101 # for the type checker
    return loss.detach(), theta.grad


def project(
    theta: Float[Tensor, "k rows columns"], model: Model, n: int
) -> Float[Tensor, "k rows columns"]:
    """Θ with W = U diag(s) Vᵀ replaced by U Vᵀ (urnn) or by U diag(min(s, 1)) Vᵀ (contractive)."""
    if model in ("rnn", "lstm"):
        return theta
    U, s, Vt = torch.linalg.svd(theta[:, :n, :n])
    theta = theta.clone()
    theta[:, :n, :n] = (U if model == "urnn" else U * s.clamp(max=1)[:, None, :]) @ Vt
    return theta


def first_non_finite(
    theta: Float[Array, "rows columns"],
    x: Float[Array, "B T m"],
    y: Float[Array, "B S p"],
    gates: int,
    kind: Loss = "mean-square",
) -> str:
    """Where the first inf or NaN of a student on a batch arises, in words, in the type of Θ."""
    at, x_, y_ = (torch.from_numpy(a.astype(theta.dtype))[None] for a in (theta, x, y))
    estimate = outputs(at, x_, y.shape[-1], gates)[0]
    wrong = (~torch.isfinite(estimate)).any(2).nonzero()
    if len(wrong):
        sequence, step = min(wrong.tolist(), key=lambda place: place[1])
        return f"output at step {step} of sequence {sequence} of the batch"
    loss, gradient = gradients(at, x_, y_, gates, kind)
    if not torch.isfinite(loss).all():
        return "loss"
    n = (theta.shape[0] - y.shape[-1]) // gates
    bad = [
        name for name, g in blocks(gradient, n, y.shape[-1]).items() if not torch.isfinite(g).all()
    ]
    return f"gradient of {', '.join(bad)}" if bad else "sum of squares of the gradient"


class Reference:
    """The engine over `gradients`: Adam or RMSprop and the projection, in plain torch."""

    def __init__(self, group: Group, dtype: torch.dtype, device: str = "cpu") -> None:
        self.group, self.dtype, self.device = group, dtype, device
        self.realisation = torch.tensor(group.data)[:, None]
        self.data: dict[int, tuple[Tensor, Tensor]] = {}

    def _tensor(self, a: Array) -> Tensor:
        kind = np.float64 if self.dtype == torch.float64 else np.float32
        return torch.from_numpy(np.ascontiguousarray(a, dtype=kind)).to(self.device)

    def _batch(self, data: Sequences, index: Int[Array, " B"]) -> tuple[Tensor, Tensor]:
        if id(data) not in self.data:
            self.data[id(data)] = (self._tensor(data.x), self._tensor(data.y))
        x, y = self.data[id(data)]
        sequence = torch.from_numpy(index)
        return x[self.realisation, sequence], y[self.realisation, sequence]

    def gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """What an engine with a faster gradient replaces."""
        return gradients(theta, x, y, self.group.sizes[0], self.group.options.loss)

    def error(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Mean squared errors, or shares of wrong answers, alone."""
        with torch.no_grad():
            return losses(theta, x, y, self.group.sizes[0], self.group.options.loss)[1]

    def advance(
        self, state: State, batches: Int[Array, "updates batch"]
    ) -> tuple[State, Float[Array, "k updates"]]:
        """The state after these batches, and the training loss of each."""
        group, options, (_, n, _, p) = self.group, self.group.options, self.group.sizes
        theta, mean, square = map(self._tensor, (state.theta, state.mean, state.square))
        diverged = torch.from_numpy(state.diverged.copy()).to(self.device)
        rate = self._tensor(np.array([s.learning_rate for s in group.students]))[:, None, None]
        beta_1, beta_2 = options.decay
        rotating = torch.tensor(group.rotating, device=self.device)[:, None, None]
        history = []
        schedule = options.schedule(state.update, state.update + len(batches)).T
        for update, (index, (alpha, epsilon)) in enumerate(
            zip(batches, schedule, strict=True), start=state.update
        ):
            loss, g = self.gradient(theta, *self._batch(group.train, index))
            if not options.output_bias:
                g[:, -p:, -1] = 0
            if rotating.any():
                A = theta[:, :n, :n].mT @ g[:, :n, :n]
                g[:, :n, :n] = torch.where(rotating, A - A.mT, g[:, :n, :n])
            norm = g.square().sum((1, 2), keepdim=True).sqrt()
            finite = torch.isfinite(norm[:, 0, 0]) & torch.isfinite(loss)
            diverged[~finite & (diverged < 0)] = update
            going = (diverged < 0)[:, None, None]
            if options.clip is not None:
                g = g * (options.clip / norm).clamp(max=1)
            new_mean = beta_1 * mean + (1 - beta_1) * g
            new_square = beta_2 * square + (1 - beta_2) * g * g
            step = rate * alpha * new_mean / (new_square.sqrt() + epsilon)
            moved = theta - step
            if rotating.any():
                rotated = theta[:, :n, :n] @ torch.matrix_exp(-step[:, :n, :n])
                moved[:, :n, :n] = torch.where(rotating, rotated, moved[:, :n, :n])
            theta = torch.where(going, moved, theta)
            theta = torch.where(going, self.projected(theta, n), theta)
            mean = torch.where(going, new_mean, mean)
            square = torch.where(going, new_square, square)
            history.append(loss)
        at, m, v, frozen = (a.cpu().numpy() for a in (theta, mean, square, diverged))
        losses = torch.stack(history, 1).cpu().numpy()
        return State(at, m, v, frozen, state.update + len(batches)), losses

    def projected(self, theta: Tensor, n: int) -> Tensor:
        """What is projected after each update, and how."""
        return project(theta, self.group.students[0].model, n)

    def evaluate(
        self, theta: Float[Array, "k rows columns"], held_out: Sequences
    ) -> Float[Array, " k"]:
        """The error of each student, some hundred sequences at a time."""
        at, count = self._tensor(theta), held_out.x.shape[1]
        total = at.new_zeros(len(at))
        for first in range(0, count, EVALUATED):
            index = np.arange(first, min(first + EVALUATED, count))
            total += self.error(at, *self._batch(held_out, index)) * (len(index) / count)
        return np.asarray(total.cpu().numpy())


class NewtonSchulz(Reference):
    """The reference engine with W made orthogonal by Newton and Schulz's steps, on all at once."""

    def __init__(self, group: Group, device: str = "cpu") -> None:
        super().__init__(group, torch.float32, device)
        models, n = [s.model for s in group.students], group.sizes[1]
        sizes = torch.tensor([s.hidden_units for s in group.students])
        # 1 on the diagonal of real units, 0 on that of padding, which Newton-Schulz keeps at 0
        self.units = torch.diag_embed((torch.arange(n) < sizes[:, None]).float()).to(device)
        self.constrained = torch.tensor([m in ("urnn", "contractive") for m in models]).to(device)
        fast = group.options.projection != "svd"
        self.newton_schulz = torch.tensor([fast and m == "urnn" for m in models]).to(device)

    def projected(
        self, theta: Float[Tensor, "k rows columns"], n: int
    ) -> Float[Tensor, "k rows columns"]:
        """X ← X (3 I − XᵀX)/2 for every urnn at once, where it converges; else the SVD."""
        outside, theta = self.constrained, theta.clone()
        if self.newton_schulz.any():
            X = theta[:, :n, :n]
            gram = X.mT @ X
            # further away X may converge to another orthogonal matrix, see `step.orthogonalise`
            near = (gram - self.units).square().sum((1, 2)) < 1
            for _ in range(4):
                X = 1.5 * X - 0.5 * X @ gram
                gram = X.mT @ X
            X = 1.5 * X - 0.5 * X @ gram
            # from an error of 1e-4 the last step went below rounding
            done = self.newton_schulz & near & ((gram - self.units).abs().amax((1, 2)) < 1e-4)
            theta[:, :n, :n] = torch.where(done[:, None, None], X, theta[:, :n, :n])
            outside = outside & ~done
        for i in outside.nonzero()[:, 0].tolist():
            student = self.group.students[i]
            theta[i : i + 1] = project(theta[i : i + 1], student.model, student.hidden_units)
        return theta
