"""The GPU back end: passes over time by Triton's kernels, and a whole update as one CUDA graph.

The launches are in `kernels`. What is around them, the optimiser and the projection, is the
reference's, a hundred small launches. On a GPU they are recorded once with the kernels, and
replayed. A replay can't choose, so it projects by products alone. Where these don't converge, the
updates since the last record are made again as the reference makes them.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from companion.training.engines.kernels import backward, forward, gathered
from companion.training.engines.newton_schulz import NewtonSchulz, cut, newton_schulz
from companion.training.reference import Now, Tensor, Thetas
from companion.training.students import Batches, Errors, Group, Losses, Sequences, Stack, State

ROWS = 16  # sequences of a program: the least that a matrix product takes
# one warp needs no barriers between its threads; larger tiles need more registers
WARPS = {16: 1, 32: 2, 64: 4, 128: 8}

# Fits and groups go side by side, each on a stream of its own, since one does not fill a GPU. While
# one records its graph, no other may ask for memory.
LOCK = threading.RLock()


def padded(units: int) -> int:
    """Find the power of two that units are filled up to."""
    return max(16, 1 << (units - 1).bit_length())


def fits(gates: int, units: int) -> bool:
    """Say whether a processor of this GPU holds such a student: its registers, and its memory."""
    size = padded(units)
    # W of each gate in two halves, and a quarter for what meets them
    wanted = (10 + gates / 8) * gates * size**2 + 1024
    here = torch.cuda.get_device_properties(0).shared_memory_per_multiprocessor
    return size <= (64 if gates == 4 else 128) and wanted <= here


class Cuda(NewtonSchulz):
    """The reference engine with its passes over time by `forward` and `backward`."""

    def __init__(self, group: Group, device: str = "cuda") -> None:
        super().__init__(group, device)
        self.realisation = self.realisation[:, 0].to(self.device)
        self.last = group.options.loss == "cross-entropy"
        self.graph: Any = None
        self.stream: Any = None
        if self.device != "cpu":
            self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch's own
        self.aside: Any = torch.cuda.stream(self.stream) if self.stream else nullcontext()
        self.recording = False  # an update, as a graph
        chosen = self.orthogonal, self.constrained & ~self.orthogonal
        kinds = zip(chosen, (newton_schulz, cut), strict=True)
        self.projections = [(of.nonzero()[:, 0], by) for of, by in kinds if of.any()]
        self.astray = torch.zeros((), dtype=torch.bool, device=self.device)
        if self.stream:
            self.stream.wait_stream(torch.cuda.current_stream())

    def _batch(self, data: Sequences, index: Any) -> tuple[Tensor, ...]:
        """Give the data as they are, where the kernels read the sequences of ``index``."""
        return (*self._held(data), torch.as_tensor(index, device=self.device))

    def _of(self, index: Tensor) -> tuple[Tensor, Tensor, int]:
        """Say where a kernel finds its sequences: one row for all students, or a row for each."""
        return self.realisation, index, index.shape[-1] * (index.ndim - 1)

    def gradient(self, theta: Thetas, *batch: Tensor) -> tuple[Tensor, Tensor]:
        """Compute losses and gradients by three launches, and sums over the programs of each."""
        (k, *shape), (G, n, m, _), B = theta.shape, self.group.sizes, batch[2].shape[-1]
        parts, T, NP = -(-B // ROWS), batch[0].shape[2], padded(n)
        pieces = max(1, min(T // 16, 512 // (k * parts)))  # so that all processors have some
        theta = theta.contiguous()
        kept = theta.new_empty(k, parts, T, 5 if G == 4 else 2, ROWS, NP)
        loss, g = theta.new_empty(k, parts), theta.new_zeros(k, parts * pieces, *shape)
        with LOCK:
            self._launch(forward, theta, batch, kept, loss, KEEP=True)
            self._launch(backward, theta, batch, kept, loss, g, PIECES=pieces)
            (x, _, index), (_, rows, w) = batch, theta.shape
            RP = min(32, NP)
            gathered[(k, parts, pieces * G * (NP // RP))](
                x, *self._of(index), kept, g, x.shape[1], B, T, n, m, w, rows, LSTM=G == 4,
                PIECES=pieces, STEPS=2, BP=ROWS, NP=NP, MP=padded(m + 1), RP=RP,
                num_warps=min(4, WARPS[NP]),
            )  # fmt: skip
        return loss.sum(1), g.sum(1)

    def _launch(self, kernel: Any, theta: Tensor, batch: Any, *out: Tensor, **how: int) -> None:
        (x, y, index), (G, n, m, p), (k, rows, w) = batch, self.group.sizes, theta.shape
        NP, B = padded(n), index.shape[-1]
        scale = 1 / (B if self.last else B * x.shape[2] * p)
        sizes = (x.shape[1], B, x.shape[2], n, m, p, w, rows, scale)
        kernel[(k, -(-B // ROWS))](
            theta, x, y, *self._of(index), *out, *sizes, LSTM=G == 4, LAST=self.last, **how,
            BP=ROWS, NP=NP, MP=padded(m + 1), PP=padded(p), num_warps=WARPS[NP],
        )  # fmt: skip

    def evaluate(self, theta: Stack, held_out: Sequences) -> Errors:
        """Measure the error of each student on all sequences, in one launch that keeps nothing."""
        with self.aside, LOCK:
            at, batch = self._tensor(theta), self._batch(held_out, np.arange(held_out.x.shape[1]))
            score = at.new_empty(len(at), -(-len(batch[2]) // ROWS))
            self._launch(forward, at, batch, score, score, KEEP=False)
            return np.asarray(score.sum(1).cpu().numpy())

    def projected(self, theta: Thetas, n: int) -> Thetas:
        """Project by products alone while an update is recorded, and note where that fails."""
        if not self.recording:
            return super().projected(theta, n)
        theta = theta.clone()
        for students, by in self.projections:
            W, converged = by(theta[students, :n, :n], self.units[students])
            theta[students, :n, :n] = W
            self.astray |= ~converged.all()
        return theta

    def advance(self, state: State, batches: Batches) -> tuple[State, Losses]:
        """Make the updates by replays where they can be recorded, else as the reference does."""
        if self.device == "cpu" or self.group.options.projection != "newton-schulz":
            return super().advance(state, batches)
        with self.aside:
            after = self._replayed(state, batches)
            if not self.astray:
                return after
            with LOCK:
                return super().advance(state, batches)

    def _replayed(self, state: State, batches: Batches) -> tuple[State, Losses]:
        with LOCK:
            now, index = self.started(state), torch.as_tensor(batches, device=self.device)
            schedule = self.group.options.schedule(state.update, state.update + len(batches)).T
            rates = self._tensor(schedule)
            if self.graph is None:
                self._record(now, index[0], rates[0])
            for held, start in zip(self.held, now, strict=True):
                held.copy_(start)
            self.astray.zero_()
            recorded = rates.new_empty(len(batches), len(self.group.students))
        for j in range(len(batches)):
            self.index.copy_(index[j])
            self.rates.copy_(rates[j])
            self.graph.replay()
            recorded[j] = self.loss
        return self.ended(tuple(self.held), recorded.T)

    def _record(self, now: Now, index: Tensor, rates: Tensor) -> None:
        """Put an update into a graph, which reads and writes ``held``."""
        self.held, self.index, self.rates = [a.clone() for a in now], index.clone(), rates.clone()
        self.recording = True
        self.update(tuple(self.held), self.index, *self.rates)  # once before, to compile
        self.graph = torch.cuda.CUDAGraph()
        mode = "thread_local"
        with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode=mode):
            after, self.loss = self.update(tuple(self.held), self.index, *self.rates)
            for held, a in zip(self.held, after, strict=True):
                held.copy_(a)
        self.recording = False
