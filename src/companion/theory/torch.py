"""Theorem 1 as a tool: a trained torch RNN becomes an equal one with orthogonal recurrence."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from companion.theory.checks import size_of, whole_number
from companion.theory.contractive import require_plain
from companion.theory.dilation import (
    NotContractiveError,
    best_scaling,
    contracting_scaling,
    norm_tolerance,
    scaling_words,
)
from companion.theory.network import RNN, Array, is_contractive, spectral_norm
from companion.theory.similarity import rescaled
from companion.theory.theorem1 import state_bound, unitary_equivalent

if TYPE_CHECKING:
    import torch

    Recurrent = torch.nn.RNN | torch.nn.RNNCell
    Kind = TypeVar("Kind", torch.nn.RNN, torch.nn.RNNCell)

_NEAR_ONE = 0.99  # from this norm on a bias of 1/(1 − ‖W‖) is worth a scaling, where one is allowed
_CELL_CALLS = 100  # steps of a cell that are checked: a hook costs more than 2% of so short a call


def to_unitary(
    module: Kind,
    input_bound: float,
    *,
    horizon: int | None = None,
    initial_bound: float = 0.0,
    rescale: bool = False,
    check: bool = True,
) -> Kind:
    """Convert a `torch.nn.RNN` or `RNNCell` into an equal one with orthogonal recurrent matrices.

    Every layer is replaced by its unitary equivalent (theorem 1); the state bound of a layer is the
    input bound of the next. torch keeps one hidden size for all layers, so a layer that needs fewer
    new units is padded with units that stay 0 behind an identity block.

    Parameters
    ----------
    module : with nonlinearity "relu", float32 or float64, one direction, any number of layers, no
        dropout in effect; as it is, or trained under `contractive`.
    input_bound : X with ‖x⁽ᵏ⁾‖₂ ≤ X at every step.
    horizon : number of steps, for a layer with ‖W‖₂ = 1.
    initial_bound : bound on ‖h₋₁‖₂ of each layer, for callers who pass their own initial state
        (padded with zeros to the new size); 0 for torch's default.
    rescale : let a layer with ‖W‖₂ ≥ 0.99 be scaled by a diagonal D where that lowers the norm
        enough. Its first n units are then D h: divide by ``result.state_scale[layer]`` (1
        elsewhere). torch's output is the state itself, so this is never done unasked.
    check : let the result warn, once, of inputs beyond the bound or the horizon (an RNNCell in its
        first 100 steps). False leaves the forward hook that does it out.

    Returns
    -------
    New module of the same class, dtype, device, mode and ``requires_grad``, of N = n + max r hidden
    units, r = rank(I − WᵀW) of a layer. Units [:n] of its output and hidden state are those of
    ``module``, the others 0; outputs and their gradients agree to rounding. ``weight_hh_l*`` can go
    straight to `torch.nn.utils.parametrizations.orthogonal`.

    Raises
    ------
    NotContractiveError : for a layer with ‖W‖₂ > 1; says what is known, and the ways on.
    TypeError, ValueError : for a module that is not such a one, or a bad bound or horizon.

    Examples
    --------
    >>> import torch
    >>> from companion import contractive
    >>> to_unitary(contractive(torch.nn.RNN(2, 3, nonlinearity="relu")), input_bound=1.0)
    RNN(2, 6)
    """
    require_fit(module)
    X, start = size_of("input_bound", input_bound), size_of("initial_bound", initial_bound)
    horizon = None if horizon is None else whole_number("horizon", horizon, least=1)
    layers, scales = unitary_layers(layers_of(module), X, horizon, start, rescale)
    result = _module(module, padded_layers(layers))
    # Not in the state dict, which stays that of a plain torch.nn.RNN.
    scale = _tensor_like(module, np.array(scales))
    result.register_buffer("state_scale", scale, persistent=False)
    if check:
        hook = BoundCheck(X, horizon, None if hasattr(module, "num_layers") else _CELL_CALLS)
        result.register_forward_pre_hook(hook, with_kwargs=True)
    return cast("Kind", result.train(module.training))


def suffixes(module: Recurrent) -> list[str]:
    """List what follows weight_hh in the names of a module's layers; "" for a cell."""
    return [f"_l{k}" for k in range(getattr(module, "num_layers", 0))] or [""]


def require_fit(module: Any) -> None:
    """Refuse what theorem 1 does not convert, with what to do instead."""
    import torch

    kinds = (torch.nn.RNN, torch.nn.RNNCell)
    if not isinstance(module, kinds):
        inner = [n for n, m in getattr(module, "named_modules", list)() if isinstance(m, kinds)]
        held = f"; this one has some, such as its {inner[0]!r}" if inner else ""
        raise TypeError(
            f"module is {type(module).__name__}; to_unitary takes a torch.nn.RNN or RNNCell{held}."
        )
    if "forward" in vars(module) or type(module).forward not in [kind.forward for kind in kinds]:
        raise TypeError(f"{type(module).__name__} has a forward of its own; allowed: torch's.")
    require_relu(module.nonlinearity)
    if getattr(module, "bidirectional", False):
        raise ValueError("module is bidirectional; convert its directions as two one-way modules.")
    if getattr(module, "dropout", 0) and module.training:
        raise ValueError(
            f"dropout is {module.dropout}: its random masks would fall on other units. Call "
            "module.eval() first; the result has no dropout."
        )
    names = [name for names in parameter_names(module) for name in names]
    require_plain(module, names)
    for name in names:
        dtype = getattr(module, name).dtype
        if dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"{name} is {dtype}; allowed: float32, float64. Call module.float() first."
            )


def require_relu(nonlinearity: str) -> None:
    """Refuse another nonlinearity than "relu"."""
    if nonlinearity != "relu":
        raise ValueError(
            f"nonlinearity is {nonlinearity!r}; it must be 'relu': by theorem 3 no finite "
            "unitary network equals a tanh one. approximate_unitary comes close."
        )


def parameter_names(module: Recurrent) -> list[list[str]]:
    """List the names of each layer's parameters: W, F, and the two biases if there are any."""
    kinds = ("weight_hh", "weight_ih", *(("bias_ih", "bias_hh") if module.bias else ()))
    return [[kind + suffix for kind in kinds] for suffix in suffixes(module)]


def layers_of(module: Recurrent) -> list[RNN]:
    """Read the layers of a torch module, biases added; the outputs of each are its states."""
    layers = []
    for names in parameter_names(module):
        W, F, *b = (np.asarray(getattr(module, name).numpy(force=True)) for name in names)
        zeros = np.zeros(len(W), dtype=W.dtype)
        with np.errstate(over="ignore"):  # RNN refuses what is then infinite
            layers.append(RNN(W, F, sum(b, zeros), np.eye(len(W), dtype=W.dtype), zeros))
    return layers


def unitary_layers(
    layers: list[RNN], X: float, horizon: int | None, initial: float, rescale: bool
) -> tuple[list[RNN], list[Array]]:
    """Convert layer by layer; give the networks, and by which d the states of each are scaled."""
    unitary: list[RNN] = []
    scales: list[Array] = []
    d = np.ones(layers[0].m, dtype=layers[0].dtype)
    for index, layer in enumerate(layers):
        try:
            # The layer below delivers D h: its D⁻¹ is folded into the input matrix.
            layer = replace(layer, F=layer.F / d)
            d = _scaling(layer) if rescale else np.ones(layer.n, dtype=layer.dtype)
            layer = rescaled(layer, d)
            _require_norm(layer, horizon, rescale)
            start = initial * float(d.max())
            unitary.append(unitary_equivalent(layer, X, horizon=horizon, initial_bound=start))
            bound = state_bound(layer, X, horizon=horizon, initial_bound=start)
        except (TypeError, ValueError) as error:
            raise type(error)(f"layer {index}: {error}") from None
        scales.append(d)
        X = min(bound.norm, float(np.linalg.norm(np.maximum(bound.upper, -bound.lower))))
    return unitary, scales


def padded_layers(layers: list[RNN]) -> list[RNN]:
    """Give all layers the size of the largest; outputs of each are its states.

    Units added rest below ReLU's kink, behind an identity block.
    """
    size, made = max(layer.n for layer in layers), []
    for index, layer in enumerate(layers):
        W = np.eye(size, dtype=layer.dtype)
        F = np.zeros((size, size if index else layer.m), dtype=layer.dtype)
        b = np.full(size, -1, dtype=layer.dtype)
        W[: layer.n, : layer.n], F[: layer.n, : layer.m], b[: layer.n] = layer.W, layer.F, layer.b
        made.append(RNN(W, F, b, np.eye(size, dtype=layer.dtype), np.zeros_like(b)))
    return made


def _scaling(layer: RNN) -> Array:
    """Find d that brings a norm at, near or above 1 down; 1 where nothing is gained."""
    norm, ones = spectral_norm(layer), np.ones(layer.n, dtype=layer.dtype)
    if norm < _NEAR_ONE or np.abs(np.linalg.eigvals(layer.W)).max() >= 1:
        return ones
    d = contracting_scaling(layer.W).astype(layer.dtype)
    after = spectral_norm(rescaled(layer, d))
    gains = after < 1 and (norm >= 1 or 1 - after > 2 * (1 - norm))
    return d if gains else ones


def _require_norm(layer: RNN, horizon: int | None, rescaled_already: bool) -> None:
    """Refuse a layer that has no bounded states or no dilation, and say what is known of it."""
    norm = spectral_norm(layer)
    over = norm > 1 + norm_tolerance(layer.W)
    if is_contractive(layer) or (horizon is not None and not over):
        return
    radius, least = best_scaling(layer.W)
    ways = []
    if least < min(1, norm) and not rescaled_already:
        ways += [f"rescale=True (--rescale), which brings it down to {least:.4g}"]
    if not over:
        ways += ["horizon=T (--horizon T), the number of steps for which the equality must hold"]
    if ways:
        why = "" if over else ", not below 1 beyond rounding, so states may grow for ever"
        raise NotContractiveError(f"‖W‖₂ is {norm:.6g}{why}. Give {'; or '.join(ways)}.")
    raise NotContractiveError(
        f"‖W‖₂ is {norm:.6g}. {scaling_words(radius, least)} No unitary network of any size is "
        "known to be equal for all steps; over T steps one exists, of a size that grows with T, "
        "which is not built here. Two ways on: train under companion.contractive(module), or take "
        "companion.nearest_contraction(module, data=x), which says how far the outputs move."
    )


def _tensor_like(module: Recurrent, values: Array) -> torch.Tensor:
    """Make a tensor of the module's dtype and device."""
    import torch

    return torch.tensor(values).to(getattr(module, parameter_names(module)[0][0]).detach())


def _module(module: Recurrent, layers: list[RNN]) -> Any:
    """Make the torch module of the given layers, otherwise as ``module``."""
    import torch

    size = layers[0].n
    like = getattr(module, parameter_names(module)[0][0])
    factory = {"nonlinearity": "relu", "device": like.device, "dtype": like.dtype}
    with torch.random.fork_rng(devices=[]):  # its random weights must not shift the caller's seed
        result: Any = (
            torch.nn.RNNCell(module.input_size, size, **factory)
            if isinstance(module, torch.nn.RNNCell)
            else torch.nn.RNN(module.input_size, size, module.num_layers,
                              batch_first=module.batch_first, **factory)
        )  # fmt: skip
    for layer, old, new in zip(
        layers, parameter_names(module), parameter_names(result), strict=True
    ):
        W, F, b, zero = (getattr(result, name) for name in new)
        for parameter, name in zip((W, F, b, zero), (old * 2)[:4], strict=True):
            parameter.requires_grad_(getattr(module, name).requires_grad)
        with torch.no_grad():
            for parameter, array in ((W, layer.W), (F, layer.F), (b, layer.b), (zero, 0 * layer.b)):
                parameter.copy_(_tensor_like(module, array))
    return result


class BoundCheck:
    """Warn once when a converted module is fed more than its equality covers; a forward hook."""

    changes_nothing = True

    def __init__(self, input_bound: float, horizon: int | None, calls: int | None) -> None:
        self.input_bound, self.horizon, self.calls = input_bound, horizon, calls

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look at the input of one call, unless torch traces it; go when all is said."""
        import torch

        if torch.compiler.is_compiling() or torch._C._is_tracing():
            return
        given = args[0] if args else kwargs["input"]
        x = given.data  # of a tensor, and of a packed sequence
        steps = len(getattr(given, "batch_sizes", ()))
        if not steps and hasattr(module, "num_layers"):
            steps = x.shape[1 if module.batch_first and x.ndim == 3 else 0]
        norm = float(torch.linalg.vector_norm(x, dim=-1).max()) if x.numel() else 0.0
        slack = 1 + 10 * x.shape[-1] * torch.finfo(x.dtype).eps
        said = ""
        if norm > self.input_bound * slack:
            said = f"an input of norm {norm:.4g} is above the input bound {self.input_bound:.4g}"
        elif self.horizon is not None and steps > self.horizon:
            said = f"{steps} steps are more than the horizon {self.horizon}"
        self.calls = None if self.calls is None else self.calls - 1
        if said or self.calls == 0:
            key = next(k for k, hook in module._forward_pre_hooks.items() if hook is self)
            del module._forward_pre_hooks[key], module._forward_pre_hooks_with_kwargs[key]
        if said:
            warnings.warn(
                f"{said} that this network was converted for: beyond it outputs may differ from "
                "the original's. Convert again with a larger one (check=False: without this "
                "warning).",
                stacklevel=5,
            )
