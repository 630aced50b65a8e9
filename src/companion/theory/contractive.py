"""Contractive by construction: train a torch RNN so that theorem 1 always applies to it.

The singular values of W are cut at a norm c:  W = P S Qᵀ  ↦  P min(S, c) Qᵀ, the matrix of norm at
most c that is nearest to W, in the Frobenius and in every other unitarily invariant norm.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from companion.theory.checks import size_of

if TYPE_CHECKING:
    import torch


@cache
def cut_class() -> type[torch.nn.Module]:
    """Make the parametrisation's class; torch is imported when the first module asks for it."""
    import torch
    from torch.autograd.function import once_differentiable

    class Cut(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(W: torch.Tensor, norm: float) -> tuple[torch.Tensor, ...]:
            P, s, Qt = torch.linalg.svd(W)
            # What rounding puts above the norm (2·n·eps was seen) counts as inside: a matrix once
            # cut stays itself to the bit, and its values at the norm still get their gradients. A
            # dilation allows 4·n·eps, so at norm 1 it takes whatever stays.
            outside = s > norm * (1 + 3 * len(W) * torch.finfo(W.dtype).eps)
            cut = torch.where(outside.any(), (P * s.clamp(max=norm)) @ Qt, W)
            return cut, P, s, Qt, outside

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
            ctx.mark_non_differentiable(*output[1:])
            ctx.save_for_backward(*output[1:])
            ctx.norm = inputs[1]

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, gradient: torch.Tensor, *_: Any) -> tuple[torch.Tensor, None]:
            # With A = Pᵀ dW Q and g = min(s, c), Pᵀ d(cut W) Q is the symmetric part of A times
            # (gᵢ − gⱼ)/(sᵢ − sⱼ) plus its skew part times (gᵢ + gⱼ)/(sᵢ + sⱼ), a map that is its
            # own adjoint. Equal singular values, and zeros, divide nothing by 0 here.
            P, s, Qt, outside = ctx.saved_tensors
            g = torch.where(outside, ctx.norm, s)
            both, one = outside[:, None] & outside, outside[:, None] ^ outside
            apart = torch.where(one, s[:, None] - s, 1)
            even = torch.where(one, (g[:, None] - g) / apart, torch.where(both, 0.0, 1.0))
            total = torch.where(both | one, s[:, None] + s, 1)
            odd = torch.where(both | one, (g[:, None] + g) / total, 1)
            A = P.mT @ gradient @ Qt.mT
            return P @ (even * (A + A.mT) + odd * (A - A.mT)) @ Qt / 2, None

    class CutSingularValues(torch.nn.Module):
        def __init__(self, norm: float) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, W: torch.Tensor) -> torch.Tensor:
            with torch.autocast(W.device.type, enabled=False):  # half precision exceeds the norm
                cut: torch.Tensor = Cut.apply(W, self.norm)[0]  # type: ignore[no-untyped-call]
            return cut

        right_inverse = forward

        def extra_repr(self) -> str:
            return f"norm={self.norm}"

    return CutSingularValues


def endings(module: torch.nn.Module) -> list[str]:
    """List what follows weight_hh in the names of an RNN's layers and directions; "" for a cell."""
    ways = ("", "_reverse") if getattr(module, "bidirectional", False) else ("",)
    return [f"_l{k}{way}" for k in range(getattr(module, "num_layers", 0)) for way in ways] or [""]


def recurrent_weights(module: torch.nn.Module) -> list[tuple[torch.nn.Module, str, str]]:
    """List the recurrent weights of all torch.nn.RNN and RNNCell in a module: owner, name, path."""
    import torch

    parts: Any = getattr(module, "named_modules", list)()
    kinds = (torch.nn.RNN, torch.nn.RNNCell)
    if not (inside := [(path, part) for path, part in parts if isinstance(part, kinds)]):
        raise TypeError(f"{type(module).__name__} has no torch.nn.RNN or RNNCell in it.")
    return [(part, f"weight_hh{end}", path) for path, part in inside for end in endings(part)]


def contractive(module: torch.nn.Module, norm: float = 0.99) -> torch.nn.Module:
    """Keep the recurrent weights of a module contractive: singular values are cut at ``norm``.

    A parametrisation in the style of `torch.nn.utils.parametrizations.orthogonal`: train as
    before, and ``module.weight_hh_l0`` never has a norm above ``norm``. Gradients are those of the
    cut itself (once differentiable), also where singular values coincide. A singular value pushed
    past the cut gets no gradient along itself; its directions still do. As with torch's own, copy
    an RNN in mid-training by its ``state_dict()``, since `copy.deepcopy` refuses it.

    Parameters
    ----------
    module : `torch.nn.RNN` or `torch.nn.RNNCell`, or a model that has some; each recurrent weight
        (every layer and direction) is parametrised in place.
    norm : c, above 0 and at most 1. Weights of a larger norm are cut at once, to the nearest of
        norm c. At 1, to 10·n·eps, a conversion needs a horizon.

    Returns
    -------
    ``module`` itself. `torch.nn.utils.parametrize.remove_parametrizations(module, "weight_hh_l0")`
    takes it off and keeps the weights; `to_unitary` takes the module with it on. Asked again with
    the same norm nothing happens.

    Examples
    --------
    >>> import torch
    >>> rnn = contractive(torch.nn.RNN(2, 8, nonlinearity="relu"), norm=0.9)
    >>> bool(torch.linalg.matrix_norm(rnn.weight_hh_l0, 2) < 0.90001)
    True
    """
    from torch.nn.utils import parametrize

    if not 0 < (norm := size_of("norm", norm)) <= 1:
        raise ValueError(f"norm is {norm!r}; it must be above 0 and at most 1.")
    found = [at for at in recurrent_weights(module) if cut_at(*at[:2]) != norm]
    for at in found:
        require_parameter(*at)
        require_numbers(at[1], getattr(*at[:2]))
    for part, name, _ in found:
        parametrize.register_parametrization(part, name, cut_class()(norm))
    return module


def cut_at(module: torch.nn.Module, name: str) -> float | None:
    """Give the norm at which `contractive`, and nothing else, cuts a weight; None without it."""
    from torch.nn.utils import parametrize

    if not parametrize.is_parametrized(module, name):
        return None
    stack: list[Any] = list(module.parametrizations[name])  # type: ignore[index]
    return stack[0].norm if [type(part) for part in stack] == [cut_class()] else None


_REMOVERS = {"WeightNorm": "remove_weight_norm", "SpectralNorm": "remove_spectral_norm"}


def require_parameter(module: torch.nn.Module, name: str, path: str = "") -> None:
    """Refuse a weight that is made of other values, with the call that leaves a Parameter."""
    from torch.nn.utils import parametrize

    at = f"module.get_submodule({path!r})" if path else "module"
    if parametrize.is_parametrized(module, name):
        way = f"torch.nn.utils.parametrize.remove_parametrizations({at}, {name!r})"
    elif name not in module._parameters:
        way = f"{at}.{name} = torch.nn.Parameter({at}.{name}.detach())"
        for hook in module._forward_pre_hooks.values():  # the older ways to the same
            if getattr(hook, "name", getattr(hook, "_tensor_name", None)) == name:
                remover = _REMOVERS.get(type(hook).__name__, "prune.remove")
                way = f"torch.nn.utils.{remover}({at}, {name!r})"
    else:
        return
    raise ValueError(f"{name} is no plain Parameter but made of other values; first call {way}.")


def require_numbers(name: str, value: torch.Tensor) -> None:
    """Refuse weights that are neither float32 nor float64, or not finite."""
    if str(value.dtype) not in ("torch.float32", "torch.float64"):
        allowed = "allowed: float32, float64. Call module.float() first"
        raise TypeError(f"{name} is {value.dtype}; {allowed}.")
    if not value.isfinite().all():
        raise ValueError(f"{name} has entries that are infinite or nan; all must be finite.")


@dataclass(frozen=True, eq=False)
class Projection:
    """Hold a module of nearest contractions, and how far it is from the one projected."""

    module: torch.nn.Module  # a copy with plain weights, every recurrent norm at most that given
    norms: tuple[float, ...]  # ‖W‖₂ of each recurrent weight before
    distance: float  # largest ‖W − W'‖₂ of a recurrent weight
    moved: float  # largest change of an output on the data; without data nan, as the next two
    rms: float  # its root mean square
    scale: float  # root mean square of the outputs before, to compare with

    def __str__(self) -> str:
        return (
            f"norms before {', '.join(f'{v:.4g}' for v in self.norms)}; weights moved by at most "
            f"{self.distance:.3g}; outputs moved by at most {self.moved:.3g}, by {self.rms:.3g} in "
            f"the root mean square, where their own is {self.scale:.3g}"
        )


def nearest_contraction(
    module: torch.nn.Module, norm: float = 0.99, *, data: Any = None
) -> Projection:
    """Replace the recurrent weights of a trained module by the nearest of at most ``norm``.

    For networks trained freely, whose norm no scaling brings below 1. The projection changes the
    network: ``data`` shows by how much.

    Parameters
    ----------
    module : as for `contractive`; left as it is.
    norm : c, above 0 and at most 1.
    data : what ``module`` is called with, a tensor or a tuple of arguments. A cell takes a
        sequence, (T, batch, inputs), step by step.

    Examples
    --------
    >>> import torch
    >>> rnn = torch.nn.RNN(1, 1, nonlinearity="relu", bias=False)
    >>> with torch.no_grad():
    ...     _ = rnn.weight_hh_l0.fill_(1.5), rnn.weight_ih_l0.fill_(1.0)
    >>> near = nearest_contraction(rnn, 0.5, data=torch.ones(2, 1, 1))
    >>> near.norms, near.moved  # the second state is 1.5 instead of 2.5
    ((1.5,), 1.0)
    """
    import torch
    from torch.nn.utils.parametrize import remove_parametrizations

    given = recurrent_weights(module)
    for at in given:
        require_parameter(*at)
    near, norms, distances = contractive(copy.deepcopy(module), norm), [], []
    for (old, name, _), (new, *_) in zip(given, recurrent_weights(near), strict=True):
        remove_parametrizations(new, name)
        W = getattr(old, name).detach()
        norms.append(float(torch.linalg.matrix_norm(W, 2)))
        distances.append(float(torch.linalg.matrix_norm(W - getattr(new, name).detach(), 2)))
    moved = rms = scale = float("nan")
    if data is not None:
        y, z = _outputs(module, data), _outputs(near, data)
        moved = float((z - y).abs().max())
        rms, scale = (float(a.square().mean().sqrt()) for a in (z - y, y))
    return Projection(near, tuple(norms), max(distances), moved, rms, scale)


def _outputs(module: torch.nn.Module, data: Any) -> torch.Tensor:
    """Run a copy of a module in eval mode, without gradients; of what it returns take the first."""
    import torch

    still = copy.deepcopy(module).eval()
    x, *rest = data if type(data) is tuple else (data,)  # a packed sequence is no plain tuple
    with torch.no_grad():
        if isinstance(still, torch.nn.RNNCell) and x.ndim == 3:
            states = accumulate(x[1:], lambda h, step: still(step, h), initial=still(x[0], *rest))
            return torch.stack(list(states))
        y = still(x, *rest)
    first: torch.Tensor = y[0] if isinstance(y, tuple) else y
    return first.data  # of a packed sequence, too
