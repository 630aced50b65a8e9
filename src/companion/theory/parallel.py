"""Evaluating a ReLU network in parallel over time: Newton's method on the whole trajectory.

All states are unknowns at once. One Newton step (DEER) fixes which units are active, at the current
guess, and solves the linear recurrence that is left; a prefix sum does so in log₂ T rounds. Equal
networks take equally many steps (ours): see `newton_states`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from companion.theory.network import RNN

Array = np.ndarray


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


def newton_states(
    rnn: RNN, x: Float[Array, "T m"], *, most: int = 200
) -> tuple[Float[Array, "T n"], int]:
    """Compute all states of a ReLU network by Newton's method from the guess 0.

    A step replaces h by the solution of h⁽ᵏ⁾ = D_k (W h⁽ᵏ⁻¹⁾ + F x⁽ᵏ⁾ + b), where D_k has a 1 for
    each unit that is active at the guess. So if ‖W‖ < 1 every guess stays in the ball of radius R
    of theorem 1, its new units stay off if M ≥ R, and the two networks have the same guesses.

    Returns
    -------
    states : float64 array, shape (T, n).
    steps : Newton steps taken until the guess moves by rounding only: by at most
        10 n T eps times its largest entry.

    Raises
    ------
    ValueError : for another activation.
    ArithmeticError : if ``most`` steps are not enough, or a guess overflows.

    References
    ----------
    Lim et al. (2024); that equal networks take the same steps is this project's.
    """
    if rnn.activation != "relu":
        raise ValueError(f"the network has activation {rnn.activation!r}; allowed: 'relu'.")
    theta = rnn.astype(np.float64)
    drive = np.asarray(x, dtype=np.float64) @ theta.F.T + theta.b
    guess = np.zeros_like(drive)
    for step in range(1, most + 1):
        before = np.concatenate([theta.h_init[None], guess[:-1]])
        active = before @ theta.W.T + drive > 0
        constant = np.where(active, drive, 0)
        constant[0] += np.where(active[0], theta.W @ theta.h_init, 0)
        with np.errstate(over="ignore", invalid="ignore"):  # reported just below
            new = prefix_solve(active[:, :, None] * theta.W, constant)
            moved = np.abs(new - guess).max()
        if not np.isfinite(moved):
            raise ArithmeticError(f"the guess of Newton step {step} overflows.")
        if moved <= 10 * new.size * np.finfo(np.float64).eps * np.abs(new).max():
            return new, step
        guess = new
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
