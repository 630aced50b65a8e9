"""What is trained: students, their data, the options of a fit, and the state of one.

All parameters of a student are one matrix

    Θ = [ W  F  b ]     W: (G n, n), F: (G n, m), b: (G n, 1),   G = 1, or 4 for an LSTM,
        [ C  0  c ]     C: (p, n),   c: (p, 1) the output bias,

so that one backward product serves state and output, and every optimiser is one elementwise rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from companion.theory.checks import whole_number
from companion.theory.network import RNN, Array

Stack = Float[Array, "k rows columns"]  # Θ of k students
Batches = Int[Array, "updates *k batch"]  # sequences of each update, of all students or each
Losses = Float[Array, "k updates"]
Errors = Float[Array, " k"]
Model = Literal["rnn", "urnn", "contractive", "lstm"]
Initialisation = Literal["orthogonal", "identity", "glorot"]
Optimiser = Literal["adam", "rmsprop"]
Convention = Literal["keras", "torch"]
Loss = Literal["mean-square", "cross-entropy"]
Projection = Literal["newton-schulz", "svd", "exponential"]


def require(holds: Any, message: str) -> None:
    """Raise a ValueError with this message unless ``holds``."""
    if not holds:
        raise ValueError(message)


def one_of(name: str, value: Any, allowed: Any) -> None:
    """Refuse a value that is none of the words of a Literal type."""
    words = get_args(allowed)
    require(value in words, f"{name} is {value!r}; allowed: {', '.join(words)}.")


@dataclass(frozen=True)
class Student:
    """One network to train.

    Parameters
    ----------
    model : "rnn", ReLU; "urnn", the same with W projected to the nearest orthogonal matrix after
        each update; "contractive", with the singular values of W cut at 1 instead; or "lstm".
    hidden_units : n.
    data : which realisation of the data it is trained on.
    learning_rate : of its optimiser.
    initialisation : of W: "orthogonal" (Haar), "identity" (each gate's, for an LSTM) or "glorot".
        F and C are Glorot uniform and biases 0, as in Keras, where an LSTM forgets with bias 1.
    seed : of its initial weights.
    order : what draws its batches, in place of the seed of the fit.
    """

    model: Model
    hidden_units: int
    data: int = 0
    learning_rate: float = 0.01
    initialisation: Initialisation = "orthogonal"
    seed: int = 0
    order: int | None = None

    def __post_init__(self) -> None:
        one_of("model", self.model, Model)
        one_of("initialisation", self.initialisation, Initialisation)
        own = () if self.order is None else (("order", 0),)
        for name, least in (("hidden_units", 1), ("data", 0), ("seed", 0), *own):
            # as an int, so that equal students are written alike in a checkpoint's name
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least))
        rate = self.learning_rate
        require(0 < rate <= 1e6, f"learning_rate is {rate}; it must be in (0, 1e6].")
        object.__setattr__(self, "learning_rate", float(rate))

    @property
    def gates(self) -> int:
        """G, the number of rows of W for each unit."""
        return 4 if self.model == "lstm" else 1


@dataclass(frozen=True)
class Options:
    """What all students of a fit share.

    Parameters
    ----------
    optimiser, convention : "adam" or "rmsprop" with the constants and the place of ε of "keras"
        (version 2, of 2019, as the original; Adam: α√(1−β₂ᵗ)/(1−β₁ᵗ) m/(√v + ε), ε = 1e-7; RMSprop:
        g/(√v + ε), ρ = 0.9, where Keras 3 has g/√(v + ε)) or "torch" (Adam: ε = 1e-8 added after
        the bias correction; RMSprop: ρ = 0.99).
    clip : scale a student's gradient to this norm, over all its parameters, where it is longer.
    output_bias : whether c is trained; otherwise it stays where it starts, at 0 unless given.
    projection : how the W of a "urnn" stays orthogonal. "svd": the nearest orthogonal matrix after
        each update. "newton-schulz": the same to rounding, faster; falls back on the SVD where it
        does not converge. "exponential": no projection but W ← W exp(−K), with K the optimiser's
        step on the skew-symmetric gradient WᵀG − GᵀW, so that W never leaves the group (ours; the
        retraction of Lezcano-Casado, 2019, based at the current W).
    loss : "mean-square", of the outputs at every step; or "cross-entropy", of the softmax of the
        output at the last step, where y is 1 for the right answer and 0 for the others.
    """

    optimiser: Optimiser = "adam"
    convention: Convention = "keras"
    clip: float | None = None
    output_bias: bool = False
    projection: Projection = "newton-schulz"
    loss: Loss = "mean-square"

    def __post_init__(self) -> None:
        one_of("optimiser", self.optimiser, Optimiser)
        one_of("convention", self.convention, Convention)
        one_of("projection", self.projection, Projection)
        one_of("loss", self.loss, Loss)
        bias, clip = self.output_bias, self.clip
        require(isinstance(bias, bool), f"output_bias is {bias!r}; it must be True or False.")
        allowed = clip is None or 0 < clip < np.inf
        require(allowed, f"clip is {clip}; it must be positive, or None.")

    @property
    def decay(self) -> tuple[float, float]:
        """β₁ and β₂: m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g²; RMSprop is the case β₁ = 0."""
        if self.optimiser == "adam":
            return 0.9, 0.999
        return 0.0, 0.9 if self.convention == "keras" else 0.99

    def schedule(self, first: int, last: int) -> Float[Array, "2 updates"]:
        """Compute (αₜ, εₜ) of Θ ← Θ − rate αₜ m/(√v + εₜ) for updates t = first + 1 … last."""
        keras, t = self.convention == "keras", np.arange(first + 1, last + 1)
        alpha, epsilon = np.ones(len(t)), np.full(len(t), 1e-7 if keras else 1e-8)
        if self.optimiser == "adam":
            beta_1, beta_2 = self.decay
            root = np.sqrt(1 - beta_2**t)
            alpha, epsilon = root / (1 - beta_1**t), epsilon * (1 if keras else root)
        return np.stack([alpha, epsilon])


@dataclass(frozen=True, eq=False)
class Sequences:
    """Inputs x, shape (R, S, T, m), and outputs y, shape (R, S, T, p), of R realisations.

    Or y of shape (R, S, 1, p), for the last step alone.
    """

    x: Float[Array, "R S T m"] = field(repr=False)
    y: Float[Array, "R S steps p"] = field(repr=False)

    def __post_init__(self) -> None:
        x, y = self.x.shape, self.y.shape
        require(
            len(x) == len(y) == 4 and y[:3] in (x[:3], (*x[:2], 1)),
            f"x has shape {x} and y {y}; they must be (R, S, T, m) and (R, S, T, p) or "
            "(R, S, 1, p): realisations, sequences, time steps, features.",
        )
        for name, a in (("x", self.x), ("y", self.y)):
            require(
                a.dtype.kind == "f" and a.size and np.isfinite(a).all(),
                f"{name} has dtype {a.dtype} and shape {a.shape}; it must hold finite floats and "
                "no size may be 0.",
            )

    @classmethod
    def stack(cls, pairs: Sequence[tuple[Array, Array]]) -> Sequences:
        """Join (x, y) of each realisation, shapes (S, T, m) and (S, T, p)."""
        return cls(np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs]))

    def split(self, *counts: int) -> tuple[Sequences, ...]:
        """Cut every realisation into its first ``counts[0]`` sequences, the next …, and the rest.

        Examples
        --------
        >>> data = Sequences(np.zeros((1, 10, 5, 2)), np.zeros((1, 10, 5, 1)))
        >>> [part.x.shape[1] for part in data.split(3, 2)]
        [3, 2, 5]
        """
        x, y = (np.split(a, np.cumsum(counts, dtype=int), axis=1) for a in (self.x, self.y))
        return tuple(map(Sequences, x, y))


@dataclass(frozen=True, eq=False)
class State:
    """Where the training of k students of one kind stands: all that a resumed run needs.

    Parameters
    ----------
    theta, mean, square : Θ and the optimiser's m and v, shape (k, G n + p, n + m + 1).
    diverged : for each student the update whose loss or gradient was not finite and so was not
        made, after which it is frozen; −1 for the others.
    update : the number of updates made.
    """

    theta: Stack
    mean: Stack
    square: Stack
    diverged: Int[Array, " k"]
    update: int = 0

    @classmethod
    def start(cls, theta: Stack) -> State:
        """Begin at these Θ, with moments 0."""
        return cls(theta, theta * 0, theta * 0, np.full(len(theta), -1))


@dataclass(frozen=True, eq=False)
class Group:
    """Students trained side by side: of one model and size, or padded to the largest size."""

    students: tuple[Student, ...]
    options: Options
    train: Sequences = field(repr=False)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """G, n, m, p."""
        largest = max(s.hidden_units for s in self.students)
        return self.students[0].gates, largest, self.train.x.shape[-1], self.train.y.shape[-1]

    @property
    def data(self) -> list[int]:
        """The realisation of each student."""
        return [s.data for s in self.students]

    @property
    def places(self) -> list[tuple[Array, ...]]:
        """Where each student's Θ lies in one of the largest size, whose other entries stay 0."""
        (G, n, m, p), found = self.sizes, []
        for own in (np.arange(s.hidden_units) for s in self.students):
            rows = np.concatenate([*(own + g * n for g in range(G)), np.arange(p) + G * n])
            found.append(np.ix_(rows, np.concatenate([own, np.arange(m + 1) + n])))
        return found

    def padded(self, thetas: Sequence[Float[Array, "_ _"]]) -> Stack:
        """Stack the Θ of each student, filled up with 0 to the largest size."""
        G, n, m, p = self.sizes
        out = np.zeros((len(thetas), G * n + p, n + m + 1), dtype=np.float32)
        for theta, own, inside in zip(out, thetas, self.places, strict=True):
            theta[inside] = own
        return out


class Engine(Protocol):
    """A back end that holds one group's data where it computes."""

    def advance(self, state: State, batches: Batches) -> tuple[State, Losses]:
        """Make the updates on these batches; the state after them, and the loss of each."""

    def evaluate(self, theta: Stack, held_out: Sequences) -> Errors:
        """Measure each student's mean squared error, or share of wrong answers, on other data."""


def is_lost(diverged: Int[Array, "*shape"], r2: Float[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """Say which students are lost: diverged, or with answers worse than the answer 0.

    The one rule by which pages, figures and the ledger leave a student out.

    Parameters
    ----------
    diverged : the update whose gradient was not finite, −1 for none.
    r2 : R² on held-out data, which is 0 for the answer 0; NaN counts as worse.

    Examples
    --------
    >>> is_lost(np.array([-1, 7, -1, -1]), np.array([0.9, 0.8, -0.1, np.nan])).tolist()
    [False, True, True, True]
    """
    return (np.asarray(diverged) >= 0) | ~(np.asarray(r2) > 0)


def blocks(theta: Any, n: int, p: int) -> dict[str, Any]:
    """Give views of W, F, b, C, c in Θ, an array or a tensor, shape (…, rows, columns).

    Examples
    --------
    >>> parts = blocks(np.zeros((4 + 3, 4 + 2 + 1)), n=4, p=3)
    >>> {name: part.shape for name, part in parts.items()}
    {'W': (4, 4), 'F': (4, 2), 'b': (4,), 'C': (3, 4), 'c': (3,)}
    """
    top, bottom = theta[..., :-p, :], theta[..., -p:, :]
    state = {"W": top[..., :n], "F": top[..., n:-1], "b": top[..., -1]}
    return state | {"C": bottom[..., :n], "c": bottom[..., -1]}


def assemble(parts: dict[str, Array]) -> Float[Array, "rows columns"]:
    """Put Θ together from W, F, b, C and, if there is one, c."""
    W, F, C = parts["W"], parts["F"], parts["C"]
    theta = np.zeros((W.shape[0] + C.shape[0], W.shape[1] + F.shape[1] + 1))
    for name, view in blocks(theta, W.shape[1], C.shape[0]).items():
        view[...] = parts.get(name, 0.0)
    return theta


def as_rnn(theta: Float[Array, "rows columns"], n: int, p: int) -> tuple[RNN, Float[Array, " p"]]:
    """Take a trained ReLU student apart into the project's RNN and its output bias."""
    parts = {name: part.astype(np.float64) for name, part in blocks(theta, n, p).items()}
    return RNN(parts["W"], parts["F"], parts["b"], parts["C"], np.zeros(n)), parts["c"]


def initial_theta(student: Student, m: int, p: int) -> Float[Array, "rows columns"]:
    """Draw the initial Θ of a student from its seed, in float64."""
    rng = np.random.default_rng(student.seed)
    n, rows = student.hidden_units, student.gates * student.hidden_units

    def glorot(outputs: int, inputs: int) -> Array:
        limit = np.sqrt(6 / (inputs + outputs))
        return rng.uniform(-limit, limit, (outputs, inputs))

    F, C = glorot(rows, m), glorot(p, n)
    if student.initialisation == "orthogonal":
        Q, R = np.linalg.qr(rng.standard_normal((rows, n)))
        W = Q * np.sign(np.diag(R))  # makes Q uniform on the orthogonal group
    elif student.initialisation == "identity":
        W = np.vstack([np.eye(n)] * student.gates)
    else:
        W = glorot(rows, n)
    b = np.zeros(rows)
    if student.model == "lstm":
        b[n : 2 * n] = 1.0  # gates in the order input, forget, cell, output
    return assemble({"W": W, "F": F, "b": b, "C": C})


def draw_batches(sequences: int, batch: int, updates: int, rng: np.random.Generator) -> Batches:
    """Cut each pass over the data, in a new random order, into batches; leave a remainder out."""
    allowed = 1 <= batch <= sequences
    require(allowed, f"batch is {batch}; it must be from 1 to {sequences}, the sequences.")
    per_pass = sequences // batch
    passes = [
        rng.permutation(sequences)[: per_pass * batch].reshape(per_pass, batch)
        for _ in range(-(-updates // per_pass))
    ]
    return np.concatenate([np.empty((0, batch), dtype=np.int64), *passes])[:updates]
