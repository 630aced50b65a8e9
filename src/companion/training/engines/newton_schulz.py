"""The reference without an SVD for an orthogonal W, while Newton and Schulz's steps converge."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from companion.training.reference import Reference, Thetas, project
from companion.training.students import Group


@np.errstate(over="ignore", invalid="ignore")  # of one that has not converged
def newton_schulz(X: Any, units: Any) -> tuple[Any, Any]:
    """Repeat X ← X (3 I − XᵀX)/2, in NumPy or torch; return X, and which have converged."""
    gram = X.mT @ X
    # further away X may converge to another orthogonal matrix, see `step.orthogonalise`
    near = ((gram - units) ** 2).sum((1, 2)) < 1
    for _ in range(4):
        X = 1.5 * X - 0.5 * X @ gram
        gram = X.mT @ X
    # from an error of 1e-4 the last step goes below rounding
    return 1.5 * X - 0.5 * X @ gram, near & (abs(gram - units) < 1e-4).all((1, 2))


def cut(W: torch.Tensor, units: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut singular values at 1 by products alone; return W, and for which that worked.

    With E = WᵀW − I and E₊ = (E + E sign E)/2 that is W (I + E₊)^(−1/2). Steps of fifth degree take
    each eigenvalue of E towards its sign, the small ones 3.4-fold (the coefficients are Jordan's,
    of the optimiser Muon, 2024). One that is not there yet is below 2e-5, and matters as little.
    """
    E = torch.baddbmm(units, W.mT, W, beta=-1)
    S = E
    for _ in range(9):
        square = S @ S
        S = torch.baddbmm(S, S, torch.baddbmm(square, square, square, beta=-4.775, alpha=2.0315),
                          beta=3.4445)  # fmt: skip
    for _ in range(4):
        S = torch.baddbmm(S, S, S @ S, beta=1.5, alpha=-0.5)
    above = torch.baddbmm(E, E, S, beta=0.5, alpha=0.5)
    grown, Z = units + above, torch.baddbmm(units - above / 2, above, above, alpha=0.375)
    for _ in range(2):
        Z = torch.baddbmm(Z, Z, Z @ (Z @ grown), beta=1.5, alpha=-0.5)
    wrong = abs(Z @ Z @ grown - units) + abs(E - E @ S @ S)
    return W @ Z, (wrong < 1e-4).all((1, 2))


class NewtonSchulz(Reference):
    """The reference engine with W made orthogonal by Newton and Schulz's steps, on all at once."""

    def __init__(self, group: Group, device: str = "cpu") -> None:
        super().__init__(group, torch.float32, device)
        models, n = [s.model for s in group.students], group.sizes[1]
        sizes = torch.tensor([s.hidden_units for s in group.students])
        # 1 on the diagonal of real units, 0 on that of padding, which Newton-Schulz keeps at 0
        self.units = torch.diag_embed((torch.arange(n) < sizes[:, None]).float()).to(device)
        self.constrained = torch.tensor([m in ("urnn", "contractive") for m in models]).to(device)
        self.free = not self.constrained.any()
        self.orthogonal = torch.tensor([m == "urnn" for m in models]).to(device)

    def projected(self, theta: Thetas, n: int) -> Thetas:
        """Make each urnn's W orthogonal where `newton_schulz` converges, else by its SVD."""
        if self.free:
            return theta
        outside, theta = self.constrained, theta.clone()
        if self.group.options.projection != "svd":
            W = theta[:, :n, :n]
            # on the CPU by NumPy: torch would wake all its threads at each product
            both = [a.numpy() if self.device == "cpu" else a for a in (W, self.units)]
            X, converged = map(torch.as_tensor, newton_schulz(*both))
            done = self.orthogonal & converged
            theta[:, :n, :n] = torch.where(done[:, None, None], X, W)
            outside = outside & ~done
        for i in outside.nonzero()[:, 0].tolist():
            student = self.group.students[i]
            theta[i : i + 1] = project(theta[i : i + 1], student.model, student.hidden_units)
        return theta
