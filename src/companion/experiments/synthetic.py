"""The poster's random contractive system and its data, every disputed choice a named parameter.

Teacher: h⁽ᵏ⁾ = ReLU(W h⁽ᵏ⁻¹⁾ + F x⁽ᵏ⁾ + b), y⁽ᵏ⁾ = C h⁽ᵏ⁾ + c + noise, h₋₁ = 0, W = I − ε AᵀA/‖A‖²
(poster) or I − ε AᵀA (the authors' program), A, F, C, b, c and x i.i.d. standard Gaussian, and b
then moved until each unit is on 60% of the time. The two presets are different experiments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from companion.theory.checks import whole_number
from companion.theory.network import RNN, Array, simulate, spectral_norm
from companion.training import Fit, Sequences, Student
from companion.training.students import Model, require


@dataclass(frozen=True)
class Setting:
    """What a realisation of the experiment is drawn from.

    Parameters
    ----------
    hidden_units, inputs, outputs : sizes n, m and p of the teacher.
    epsilon : ε in W, about one over its time constant in steps.
    normalised : whether AᵀA is divided by ‖A‖² (poster) or not (the authors' program).
    output_bias : whether the teacher adds a Gaussian constant c to its output.
    on_fraction : the share of time steps at which each unit is to be on.
    on_threshold : a unit counts as on when its state is above this.
    bias_steps, bias_rate, bias_sequences : bias_steps times, b is moved by −bias_rate
        (mean(h > on_threshold) − on_fraction) on bias_sequences sequences drawn for this alone.
    snr_db : 10 log₁₀ of mean(y²) over the variance of the output noise.
    T : time steps of a sequence.
    train, test : numbers of sequences.
    validation : number of further sequences, drawn after the others, which stay as they are.

    References
    ----------
    Emami et al. (2019), "Data Generation"; the constants of the bias adjustment, the numbers of
    inputs, outputs and sequences are those of the authors' program, on which the poster is silent.
    """

    hidden_units: int = 4
    inputs: int = 2
    outputs: int = 2
    epsilon: float = 0.01
    normalised: bool = True
    output_bias: bool = False
    on_fraction: float = 0.6
    on_threshold: float = 0.001
    bias_steps: int = 100
    bias_rate: float = 0.1
    bias_sequences: int = 100
    snr_db: float = 20.0
    T: int = 1000
    train: int = 700
    test: int = 300
    validation: int = 0

    def __post_init__(self) -> None:
        for name in ("hidden_units", "inputs", "outputs", "bias_sequences", "T", "train", "test"):
            whole_number(name, getattr(self, name), 1)
        for name in ("bias_steps", "validation"):
            whole_number(name, getattr(self, name), 0)
        on, epsilon, snr = self.on_fraction, self.epsilon, self.snr_db
        require(0 < on < 1, f"on_fraction is {on}; it must be between 0 and 1.")
        require(0 <= epsilon <= 1, f"epsilon is {epsilon}; it must be in [0, 1].")
        # beyond, the noise or the signal is rounded away
        require(abs(snr) <= 300, f"snr_db is {snr}; it must be in [-300, 300].")
        for name in ("bias_rate", "on_threshold"):
            value = getattr(self, name)
            require(np.isfinite(value), f"{name} is {value}; it must be finite.")


PRESETS = {"poster": Setting(), "released": Setting(normalised=False, output_bias=True)}


@dataclass(frozen=True, eq=False)
class Teacher:
    """A network and the constant c that is added to its output."""

    rnn: RNN
    output_bias: Float[Array, " p"]

    def __call__(self, x: Float[Array, "S T m"]) -> Float[Array, "S T p"]:
        """Compute the noiseless outputs C h⁽ᵏ⁾ + c."""
        return np.asarray(simulate(self.rnn, x) + self.output_bias)


@dataclass(frozen=True, eq=False)
class Realisation:
    """A teacher and its noisy data, float32: what one student of each kind is trained on."""

    setting: Setting
    teacher: Teacher
    x_train: Float[Array, "S T m"] = field(repr=False)
    y_train: Float[Array, "S T p"] = field(repr=False)
    x_test: Float[Array, "R T m"] = field(repr=False)
    y_test: Float[Array, "R T p"] = field(repr=False)
    x_validation: Float[Array, "V T m"] = field(repr=False)
    y_validation: Float[Array, "V T p"] = field(repr=False)


def draw_teacher(setting: Setting, rng: np.random.Generator) -> Teacher:
    """Draw a teacher, its biases adjusted so that each unit is on ``on_fraction`` of the time.

    Raises
    ------
    ValueError : if the W drawn is not contractive, which without the division by ‖A‖² can happen
        when ε is large: says the norm.
    """
    n, m, p = setting.hidden_units, setting.inputs, setting.outputs
    A = rng.standard_normal((n, n))
    gram = A.T @ A
    size = np.linalg.norm(gram, 2) if setting.normalised else 1.0
    W = np.eye(n) - setting.epsilon * (gram / size)
    if spectral_norm(W) > 1:
        raise ValueError(
            f"the W drawn has norm {spectral_norm(W):.3g} > 1 at epsilon = {setting.epsilon}; "
            "allowed: a smaller epsilon, another seed, or the preset poster (normalised=True)."
        )
    F, C = rng.standard_normal((n, m)), rng.standard_normal((p, n))
    b, c = rng.standard_normal(n), rng.standard_normal(p)
    x = rng.standard_normal((setting.T, setting.bias_sequences, m))
    drive, W_t = x @ F.T, np.ascontiguousarray(W.T)
    for _ in range(setting.bias_steps):
        states, before = drive + b, np.zeros(n)
        for h in states:  # in place, as `simulate` does not: half the time
            h += before @ W_t
            before = np.maximum(h, 0, out=h)
        on = np.cumsum((states > setting.on_threshold).mean(1), axis=0)[-1]  # in the order of steps
        b -= setting.bias_rate * (on / setting.T - setting.on_fraction)
    return Teacher(RNN(W, F, b, C, np.zeros(n)), c * setting.output_bias)


def draw(setting: Setting, seed: int) -> Realisation:
    """Draw a teacher and its data; a seed names the same teacher and inputs at every SNR.

    Examples
    --------
    >>> small = replace(PRESETS["poster"], T=50, train=20, test=10, bias_sequences=5)
    >>> draw(small, seed=1).y_test.shape
    (10, 50, 2)
    """
    rng = np.random.default_rng(seed)
    teacher = draw_teacher(setting, rng)
    x = rng.standard_normal((setting.train + setting.test, setting.T, setting.inputs))
    x = x.astype(np.float32)
    y = teacher(x)
    noise = np.sqrt(np.mean(y**2) * 10 ** (-setting.snr_db / 10))
    y = (y + noise * rng.standard_normal(y.shape)).astype(np.float32)
    more = rng.standard_normal((setting.validation, *x.shape[1:])).astype(np.float32)
    answers = noise * rng.standard_normal((setting.validation, *y.shape[1:]))
    if setting.validation:
        answers += teacher(more)
    k = setting.train
    parts = (x[:k], y[:k], x[k:], y[k:], more, answers.astype(np.float32))
    return Realisation(setting, teacher, *parts)


def r_squared(y: Float[Array, "*shape"], estimate: Float[Array, "*shape"]) -> float:
    """Compute R² = 1 − mean((y − ŷ)²)/mean(y²), not centred: so the poster's optimum lines are."""
    return float(1 - np.mean((y - estimate) ** 2) / np.mean(y**2))


def optimum(snr_db: float) -> float:
    """Compute the R² of the teacher itself, 1/(1 + 10^(−SNR/10)): noise is all that is left.

    Examples
    --------
    >>> round(optimum(20.0), 4), round(optimum(15.0), 4)
    (0.9901, 0.9693)
    """
    return float(1 / (1 + 10 ** (-snr_db / 10)))


def describe(realisation: Realisation) -> dict[str, float | list[float]]:
    """Measure what the draw came out as, on the test sequences: the notebook's checks.

    Returns
    -------
    norm : ‖W‖₂. time_constants : −1/log|λ| of the eigenvalues of W (symmetric): the steps in which
    a mode falls to 1/e.
    on : share of time on, per unit. memory : per unit, the first lag, in steps, at which the
    autocorrelation of its state is below 1/e. snr_db : as realised. r2_teacher : R² of the teacher.
    r2_identity : R² of the teacher with W replaced by I and nothing else (orthogonal, no training).
    """
    teacher, s = realisation.teacher, realisation.setting
    x, y = realisation.x_test, realisation.y_test
    clean = teacher(x)
    _, h = simulate(teacher.rnn, x, return_states=True)
    centred = h - h.mean((0, 1))
    spectrum = np.abs(np.fft.rfft(centred, 2 * s.T, axis=1)) ** 2
    correlation = np.fft.irfft(spectrum.mean(0), axis=0)[: s.T]
    below = np.vstack([correlation < correlation[0] / np.e, np.ones(s.hidden_units, dtype=bool)])
    modulus = np.abs(np.linalg.eigvalsh(teacher.rnn.W))
    with np.errstate(divide="ignore"):  # a mode at 1 never falls; rounding can put it just above
        steps = np.where(modulus < 1, -1 / np.log(modulus), np.inf)
    identity = replace(teacher, rnn=replace(teacher.rnn, W=np.eye(s.hidden_units)))
    return {
        "norm": spectral_norm(teacher.rnn),
        "time_constants": steps.tolist(),
        "on": (h > s.on_threshold).mean((0, 1)).tolist(),
        "memory": below.argmax(0).tolist(),
        "snr_db": float(10 * np.log10(np.mean(clean**2) / np.mean((y - clean) ** 2))),
        "r2_teacher": r_squared(y, clean),
        "r2_identity": r_squared(y, identity(x)),
    }


def restart(realisation: Realisation) -> int:
    """Count steps until the teacher, restarted from 0 midway, answers as if it had run throughout.

    That is the memory of its answers: the first step from which on the R² of the restarted teacher
    against the other, over the test sequences, stays at 0.99.
    """
    teacher, x = realisation.teacher, realisation.x_test
    at = x.shape[1] // 2
    known, again = teacher(x)[:, at:], teacher(x[:, at:])
    missed = np.mean((known - again) ** 2, axis=(0, 2)) / np.mean(known**2, axis=(0, 2))
    below = np.flatnonzero(missed > 1 - 0.99)
    return int(below[-1] + 1) if below.size else 0


def experiment(
    setting: Setting,
    *,
    realisations: int,
    models: Sequence[Model],
    hidden_units: Sequence[int],
    seed: int,
    **student: Any,
) -> tuple[list[Realisation], list[Student], Sequences, Sequences]:
    """Draw all that `companion.training.fit` takes for one panel of Figures 2 and 3.

    One student of each model and size is made for each realisation; those of one realisation and
    size start from the same seed, so that models are compared in pairs.

    Parameters
    ----------
    setting, realisations, models, hidden_units : what to draw and to train.
    seed : of everything; different seeds share nothing.
    student : further fields of `companion.training.Student`, such as ``learning_rate``.

    Returns
    -------
    the realisations, the students, and the train and test sequences.
    """
    whole_number("realisations", realisations, 1)
    for name, given in (("models", models), ("hidden_units", hidden_units)):
        once = len(set(given)) == len(given) > 0
        require(once, f"{name} is {given}; there must be at least one, and none twice.")
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(realisations)]
    students = [
        Student(model, n, data=i, seed=s + n, **student)
        for (i, s), n, model in product(enumerate(seeds), hidden_units, models)
    ]
    drawn = [draw(setting, s) for s in seeds]
    train = Sequences.stack([(r.x_train, r.y_train) for r in drawn])
    return drawn, students, train, Sequences.stack([(r.x_test, r.y_test) for r in drawn])


def outcomes(fit: Fit) -> pd.DataFrame:
    """Write a row a student, in float32, of a fit held against "test" and "validation".

    Returns
    -------
    model, hidden_units, data : the student. diverged : the update that could not be made, or -1.
    r2 : on test at the last update. r2_chosen : on test at the record where that on validation is
    best, the first of equals, which is update ``chosen``. r2_best : the best on test itself.
    """
    least = np.finfo(np.float32).min  # an R² below it is as lost as one at it
    test, validation = (np.maximum(fit.r2[name], least) for name in ("test", "validation"))
    at = np.nan_to_num(validation, nan=-np.inf).argmax(1)
    columns = {
        "model": [s.model for s in fit.students],
        "hidden_units": np.array([s.hidden_units for s in fit.students], dtype=np.int16),
        "data": np.array([s.data for s in fit.students], dtype=np.int16),
        "diverged": fit.diverged.astype(np.int32),
        "chosen": fit.updates[at].astype(np.int32),
        "r2": test[:, -1].astype(np.float32),
        "r2_chosen": test[np.arange(len(at)), at].astype(np.float32),
        "r2_best": np.fmax.reduce(test, axis=1).astype(np.float32),
    }
    return pd.DataFrame(columns)
