"""Evaluating a ReLU network in parallel over time: Newton's method on the whole trajectory.

All states are unknowns at once. One Newton step (DEER, Lim et al. 2024) fixes which units are
active, at the current guess, and solves the linear recurrence that is left, by a prefix sum. Equal
networks take equally many steps, which is this project's: see `newton_guesses`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from companion.theory.network import RNN, Array


def prefix_solve(A: Float[Array, "T n n"], c: Float[Array, "T n"]) -> Float[Array, "T n"]:
    """Solve h₀ = c₀, hₖ = Aₖ hₖ₋₁ + cₖ for all k in ⌈log₂ T⌉ rounds, each parallel over k.

    Examples
    --------
    >>> prefix_solve(np.full((4, 1, 1), 2.0), np.ones((4, 1))).ravel().tolist()
    [1.0, 3.0, 7.0, 15.0]
    """
    A, c, reach = A.copy(), c.copy(), 1
    while reach < len(c):
        c[reach:] += (A[reach:] @ c[:-reach, :, None])[..., 0]
        A[reach:] = A[reach:] @ A[:-reach]
        reach *= 2
    return c


def newton_guesses(rnn: RNN, x: Float[Array, "T m"]) -> Iterator[Float[Array, "T n"]]:
    """Yield Newton's guesses of all states of a ReLU network, from the one after 0 on, endlessly.

    A step replaces h by the solution of h⁽ᵏ⁾ = D_k (W h⁽ᵏ⁻¹⁾ + F x⁽ᵏ⁾ + b), where D_k has a 1 for
    each unit that is active at the guess. So if ‖W‖ < 1 every guess stays in the ball of radius R
    of theorem 1, its new units stay off if M ≥ R, and the two networks have the same guesses.
    """
    theta = rnn.astype(np.float64)
    drive = np.asarray(x, dtype=np.float64) @ theta.F.T + theta.b
    guess = np.zeros_like(drive)
    while True:
        before = np.concatenate([theta.h_init[None], guess[:-1]])
        active = before @ theta.W.T + drive > 0
        constant = active * drive
        constant[0] += active[0] * (theta.W @ theta.h_init)
        guess = prefix_solve(active[:, :, None] * theta.W, constant)
        yield guess


def newton_states(
    rnn: RNN, x: Float[Array, "T m"], *, most: int = 200
) -> tuple[Float[Array, "T n"], int]:
    """Compute all states of a ReLU network, and the number of Newton steps that it took.

    The last step moved the guess by rounding only: by at most 10 n T eps times its largest entry.

    Raises
    ------
    ValueError : for another activation.
    ArithmeticError : if ``most`` steps are not enough, or a guess overflows.
    """
    if rnn.activation != "relu":
        raise ValueError(f"the network has activation {rnn.activation!r}; allowed: 'relu'.")
    last: Array | float = 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # reported just below
        for step, guess in zip(range(1, most + 1), newton_guesses(rnn, x), strict=False):
            moved = np.abs(guess - last).max()
            if not np.isfinite(moved):
                raise ArithmeticError(f"the guess of Newton step {step} overflows.")
            if moved <= 10 * guess.size * np.finfo(np.float64).eps * np.abs(guess).max():
                return guess, step
            last = guess
    raise ArithmeticError(f"no convergence within {most} Newton steps.")


def largest_exponent(rnn: RNN, states: Float[Array, "T n"]) -> float:
    """Return (1/T) log ‖D_T W ⋯ D_1 W‖ along the states of a ReLU network; −inf if that is 0."""
    product, total = np.eye(rnn.n), 0.0
    for active in states > 0:
        product = active[:, None] * (rnn.W @ product)
        size = np.sqrt((product * product).sum())  # any norm will do to keep it in range
        if size == 0:
            return -np.inf
        product, total = product / size, total + np.log(size)
    return float(total + np.log(np.linalg.norm(product, 2))) / len(states)
