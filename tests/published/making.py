"""What makes the published certificates and the short run, the same on every machine.

``python -m tests.published.making`` writes those that are missing; it replaces none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from companion import (
    RNN,
    Certificate,
    certify_equivalence,
    certify_witness,
    delay_chain,
    find_linear_witness,
    find_sigmoid_witness,
    find_witness,
    memoryless_teacher,
    near_miss,
    rational_contraction,
    unitary_equivalent,
    window_student,
)
from companion.experiments.synthetic import PRESETS, experiment
from companion.training import Options, draw_batches, fit, initial_theta
from companion.training.reference import Reference
from companion.training.students import Group, State

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "book/results"
SHORT = 50  # updates: long float32 trajectories are chaotic, these are not yet


def _equality(n: int, steps: int) -> Certificate:
    rng = np.random.default_rng(n)
    W, U = rational_contraction(n, rng)
    shapes = ((n, 2), n, (2, n), n)
    F, b, C, h = (rng.integers(-3, 4, s).astype(object) for s in shapes)
    rnn = RNN(W, F, b, C, abs(h))
    unitary = unitary_equivalent(rnn, 2.0, dilation=U)
    return certify_equivalence(rnn, unitary, rng.integers(-1, 2, (steps, 2)), input_bound=2)


def _refuted(student: RNN) -> Certificate:
    smooth = student.activation != "relu"
    witness = find_sigmoid_witness(student) if smooth else find_witness(student, 1.0)
    return certify_witness(student, witness, input_bound=None if smooth else 1.0)


def _linear_refuted(W: np.ndarray, horizon: int) -> Certificate:
    """The student of a window is right for as long as its states allow, and then wrong."""
    student = window_student(W, horizon)
    return certify_witness(student, find_linear_witness(student, W), W=W, input_bound=1)


def _one_less(n: int) -> RNN:
    """The true network of 2n states less one, whose neighbour then keeps the past."""
    N = 2 * n - 1
    U = np.roll(np.eye(2 * n), n, axis=0)[:N, :N]
    U[n - 1, n - 1] = 1
    b = np.r_[np.zeros(n), -2.0 * np.ones(n - 1)]
    return RNN(U, np.eye(N, n), b, np.eye(n, N), np.zeros(N))


CERTIFICATES: dict[str, Callable[[], Certificate]] = {  # no random floats, no linear algebra
    "T1": lambda: _equality(3, 1000),
    "T1-large": lambda: _equality(6, 100),
    "T2": lambda: _refuted(_one_less(3)),
    "T2-near": lambda: _refuted(near_miss(3, 2.0**-10, 1.0)),
    "T3": lambda: _refuted(
        RNN(np.eye(2), np.eye(2), np.zeros(2), np.eye(2), np.zeros(2), "sigmoid")
    ),
    "linear": lambda: _linear_refuted(np.array([[0.5, 1.0], [0.0, -0.25]]), 4),
    "T3-chain": lambda: _refuted(delay_chain(memoryless_teacher(2, "sigmoid"), 4)),
}


def short_run(engine: str) -> np.ndarray:
    """Test R² and training loss after `SHORT` updates of RNN, URNN and LSTM of 2 and 4 units.

    On the first system of `companion run synthetic` at seed 2019, by a back end of `fit`, or in
    "float64" by its reference. (At 14 units the RNN is chaotic within 50 updates already: float32
    and float64 are then 5e-4 apart.)
    """
    _, students, train, test = experiment(
        PRESETS["released"], realisations=1, models=["rnn", "urnn", "lstm"], hidden_units=[2, 4],
        seed=2019,
    )  # fmt: skip
    options = Options(output_bias=True)
    if engine != "float64":
        found = fit(
            students, train, updates=SHORT, options=options, held_out={"test": test}, seed=2019,
            backend=engine,  # type: ignore[arg-type]
        )  # fmt: skip
        return np.stack([found.r2["test"][:, -1], found.train_loss[:, -1]], axis=1)
    batches = draw_batches(train.x.shape[1], 10, SHORT, np.random.default_rng(2019))
    rows = []
    for student in students:
        theta = initial_theta(student, train.x.shape[-1], train.y.shape[-1])
        reference = Reference(Group((student,), options, train), torch.float64)
        state, losses = reference.advance(State.start(theta[None]), batches)
        error = reference.evaluate(state.theta, test)[0]
        rows.append((1 - error / np.square(test.y, dtype=float).mean(), losses.mean()))
    return np.array(rows)


if __name__ == "__main__":
    for name, make in CERTIFICATES.items():
        if not (path := RESULTS / f"certificates/{name}.json").is_file():
            make().save(path)
            print(path)
    if not (path := RESULTS / "short.json").is_file():
        numbers = short_run("float64").tolist()
        what = f"test R² and training loss after {SHORT} updates, of tests/published/making.py"
        path.write_text(json.dumps({"what": what, "numbers": numbers}, indent=1) + "\n", "utf-8")
        print(path)
