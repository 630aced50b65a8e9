"""The poster's second experiment: a digit told from its 784 pixels, shown one by one in one fixed
random order.

The poster names the models, RMSprop and early stopping on validation; the authors' program adds
batches of 64, the rates, Keras' constants and the permutation, but validates on the test set. Here
a validation set is held out of the training images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from companion.experiments.mnist import Digits
from companion.theory.network import Array
from companion.training import Fit, Sequences, Student, initial_theta

STEPS, CLASSES, BATCH, VALIDATION = 784, 10, 64, 5000


def permutation() -> Int[Array, " 784"]:
    """Draw the order in which the pixels are shown, that of the authors' program.

    Examples
    --------
    >>> permutation()[:5].tolist(), sorted(permutation()) == list(range(784))
    ([319, 576, 323, 107, 355], True)
    """
    return np.random.RandomState(92916).permutation(STEPS)


def sequences(images: Array, labels: Array) -> Sequences:
    """Write images as permuted sequences of one grey level in [0, 1], labels as 1 among zeros."""
    x = images.reshape(-1, STEPS)[:, permutation()].astype(np.float32) / np.float32(255)
    y = np.eye(CLASSES, dtype=np.float32)[labels]
    return Sequences(x[None, ..., None], y[None, :, None])


def split(digits: Digits, train_images: int, seeds: Sequence[int] = (0,)) -> dict[str, Sequences]:
    """Make sequences "train", "validation" (5000 of the training images) and "test" (10 000).

    Each seed draws a realisation: which images are held out, and which others are trained on.

    Raises
    ------
    ValueError : if there are not so many images besides those held out.
    """
    count = len(digits.train_images) - VALIDATION
    if not BATCH <= train_images <= count:
        raise ValueError(f"train_images is {train_images}; it must be from {BATCH} to {count}.")
    every = sequences(digits.train_images, digits.train_labels)
    orders = [np.random.default_rng(s).permutation(len(digits.train_images)) for s in seeds]
    drawn = {
        "validation": np.stack([order[:VALIDATION] for order in orders]),
        "train": np.stack([order[VALIDATION:][:train_images] for order in orders]),
    }
    found = {name: Sequences(every.x[0][at], every.y[0][at]) for name, at in drawn.items()}
    test = sequences(digits.test_images, digits.test_labels)
    x, y = (np.repeat(a, len(orders), axis=0) for a in (test.x, test.y))
    return found | {"test": Sequences(x, y)}


def curves(
    models: Sequence[str], hidden_units: Sequence[int], learning_rate: float, seeds: Sequence[int]
) -> list[Student]:
    """Make one student of each seed, model and size; those of one seed and size start alike.

    Parameters
    ----------
    models : kinds of students; "rnn/10" is "rnn" at a tenth of the learning rate.
    seeds : each draws weights and batches; its data are the realisation of its place.
    """
    made = []
    for data, seed in enumerate(seeds):
        start = int(np.random.SeedSequence(seed).generate_state(1)[0])
        for name in models:
            kind, _, divisor = name.partition("/")
            rate, model = learning_rate / float(divisor or 1), cast("Any", kind)
            of: dict[str, Any] = {"data": data, "learning_rate": rate, "order": seed}
            made += [Student(model, n, seed=start + n, **of) for n in hidden_units]
    return made


def stopped(fit: Fit) -> Int[Array, " students"]:
    """Find the record at which each student's validation accuracy was best: where training stops.

    One that diverged or has no finite accuracy counts as it was before.
    """
    accuracy = np.nan_to_num(fit.accuracy["validation"], nan=-1.0)
    return np.asarray(accuracy.argmax(axis=1))


def singular_values(thetas: Float[Array, "records rows columns"]) -> Float[Array, "records n"]:
    """Compute those of W at each record, the largest first; an LSTM stacks its G blocks."""
    n = thetas.shape[2] - 2
    return np.asarray(np.linalg.svd(thetas[:, :-CLASSES, :n], compute_uv=False))


def gradient_norms(
    thetas: Float[Array, "k rows columns"], data: Sequences
) -> Float[Array, "k steps"]:
    """Compute ‖∂loss/∂h⁽ᵏ⁾‖₂ for each network and step k, a mean over the first 100 sequences."""
    import torch

    from companion.training.reference import losses

    n = thetas.shape[2] - 2
    gates = (thetas.shape[1] - CLASSES) // n
    at = torch.from_numpy(np.array(thetas, dtype=np.float64)).requires_grad_()
    x, y = (
        torch.from_numpy(a[:, :100].astype(np.float64)).expand(len(at), -1, -1, -1)
        for a in (data.x, data.y)
    )
    states: list[torch.Tensor] = []
    loss, _ = losses(at, x, y, gates, "cross-entropy", states)
    found = torch.autograd.grad(loss.sum() * x.shape[1], states)
    return np.stack([g.norm(dim=-1).mean(-1).numpy() for g in found], axis=1)


def curve(student: Student, learning_rate: float) -> str:
    """Return the name that `curves` made a student from."""
    divisor = round(learning_rate / student.learning_rate)
    return student.model if divisor == 1 else f"{student.model}/{divisor}"


def epochs(fit: Fit, seed: int) -> pd.DataFrame:
    """Add the seed and the singular values of W to the table of a fit that kept its history."""
    table, sets = fit.table(), len(fit.score)
    values = np.concatenate(
        [np.quantile(singular_values(t), (1, 0.5, 0), 1).T for t in fit.history]
    ).astype(np.float32)
    table["fit_seed"] = seed
    table.attrs["fit_seed"] = "seed of the split and of the batches"
    for j, name in enumerate(("largest", "median", "least")):
        table[f"singular_{name}"] = np.repeat(values[:, j], sets)
        table.attrs[f"singular_{name}"] = f"{name} singular value of W at this update"
    return table


def gradients(fit: Fit, data: Sequences, seed: int) -> pd.DataFrame:
    """Write `gradient_norms` of each student as it started and where it stopped, a row a step.

    As logarithms: through 784 steps a norm can fall below what a float32 holds.
    """
    tables, m, p = [], data.x.shape[-1], data.y.shape[-1]
    for k, (student, best) in enumerate(zip(fit.students, stopped(fit), strict=True)):
        ends = np.stack([initial_theta(student, m, p), fit.history[k][best]])
        with np.errstate(divide="ignore"):  # of a gradient that is exactly 0
            both = np.log10(gradient_norms(ends, data)).astype(np.float32)
        for when, norms in zip(("start", "stop"), both, strict=True):
            columns = {
                "student": k,
                "model": student.model,
                "hidden_units": student.hidden_units,
                "learning_rate": student.learning_rate,
                "fit_seed": seed,
                "when": when,
                "step": np.arange(len(norms)),
                "log10_norm": norms,
            }
            tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)
