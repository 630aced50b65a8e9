"""Theorem 1 as a tool: a trained torch RNN becomes an equal one with orthogonal recurrence."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex, TypeVar, cast

import numpy as np

from companion.theory.checks import size_of
from companion.theory.contractive import cut_at, endings, require_numbers, require_parameter
from companion.theory.layers import named_arrays, read_layers, unitary_layers
from companion.theory.network import RNN

if TYPE_CHECKING:
    import torch

    Recurrent = torch.nn.RNN | torch.nn.RNNCell
    Kind = TypeVar("Kind", torch.nn.RNN, torch.nn.RNNCell)

_SHORT, _CALLS = 200, 100  # a check costs over 2% of a call of fewer steps; how many of them get it


def to_unitary(
    module: Kind,
    input_bound: SupportsFloat,
    *,
    horizon: SupportsIndex | None = None,
    initial_bound: SupportsFloat = 0.0,
    rescale: bool = False,
    check: bool = True,
) -> Kind:
    """Convert a `torch.nn.RNN` or `RNNCell` into an equal one with orthogonal recurrent matrices.

    Every layer becomes its unitary equivalent (theorem 1), for inputs within the state bound of the
    layer below. torch has one hidden size: a layer of fewer new units gets others, which stay 0.

    Parameters
    ----------
    module : with nonlinearity "relu", float32 or float64, one direction, any number of layers, no
        dropout in effect; as it is, or trained under `contractive`.
    input_bound : X with ‖x⁽ᵏ⁾‖₂ ≤ X at every step.
    horizon : number of steps, for a layer with ‖W‖₂ = 1.
    initial_bound : bound on ‖h₋₁‖₂ of each layer, for callers who pass their own initial state
        (padded with zeros to the new size); 0 for torch's default.
    rescale : let a layer with ‖W‖₂ ≥ 0.99 be scaled by a diagonal D where that lowers the norm.
        Its first n units are then D h: divide by ``result.state_scale[layer]`` (1 elsewhere).
    check : let the result warn, once, of an input or an initial state beyond its bound, or of more
        steps than the horizon (in several calls, where the state is handed on). Calls of under 200
        steps are checked 100 times. False: no hook, for torch.jit.script and torch.func.

    Returns
    -------
    New module of the same class, dtype, device, mode and ``requires_grad``, of N = n + max r hidden
    units, r = rank(I − WᵀW) of a layer. Units [:n] of its output and hidden state are those of
    ``module``, the others 0; outputs and their gradients agree to rounding. ``weight_hh_l*`` can go
    straight to `torch.nn.utils.parametrizations.orthogonal`.

    Raises
    ------
    NotContractiveError : for a layer with ‖W‖₂ > 1; says what is known, and the ways on.
    TypeError, ValueError : for another module, or a bad bound or horizon.

    Examples
    --------
    >>> import torch
    >>> from companion import contractive
    >>> to_unitary(contractive(torch.nn.RNN(2, 3, nonlinearity="relu")), input_bound=1.0)
    RNN(2, 6)
    """
    import torch

    _require_fit(module)
    arrays = {name: value.numpy(force=True) for name, value in _weights(module).items()}
    given = read_layers(arrays, endings(module), module.nonlinearity)
    layers, scales = unitary_layers(given, input_bound, horizon, initial_bound, rescale)
    result = _module(module, layers)
    scale = torch.tensor(np.array(scales)).to(next(result.parameters()).device)
    result.register_buffer("state_scale", scale, persistent=False)  # not in the state dict
    if check:
        hook = BoundCheck(input_bound, initial_bound, scale, horizon)
        result.register_forward_pre_hook(hook, with_kwargs=True)
    return cast("Kind", result.train(module.training))


def _weights(module: Recurrent) -> dict[str, torch.Tensor]:
    """Name a module's weights and biases; those that are parametrised as they are now."""
    kinds = ("weight_hh", "weight_ih", *(("bias_ih", "bias_hh") if module.bias else ()))
    names = [kind + end for end in endings(module) for kind in kinds]
    return {name: getattr(module, name) for name in names}


def _module(module: Recurrent, layers: list[RNN]) -> Any:
    """Make the torch module of the given layers, otherwise as ``module``."""
    import torch

    old = _weights(module)
    like, size = next(iter(old.values())), max(layer.n for layer in layers)
    # On meta no random weights are drawn, which would shift the caller's seed.
    options: Any = {"nonlinearity": "relu", "dtype": like.dtype, "device": "meta"}
    result: Any = (
        torch.nn.RNN(module.input_size, size, module.num_layers,
                     batch_first=module.batch_first, **options)
        if isinstance(module, torch.nn.RNN)
        else torch.nn.RNNCell(module.input_size, size, **options)
    ).to_empty(device=like.device)  # fmt: skip
    state = named_arrays(layers, endings(module)).items()
    result.load_state_dict({name: torch.tensor(array) for name, array in state})
    for name, parameter in result.named_parameters():
        source = name if name in old else re.sub("bias_.h", "weight_hh", name)
        parameter.requires_grad_(old[source].requires_grad)
    return result


def _require_fit(module: Any) -> None:
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
    if getattr(module, "bidirectional", False):
        way = "convert each direction of each layer as a one-way module of one layer"
        raise ValueError(f"module is bidirectional; {way}.")
    if getattr(module, "dropout", 0) and module.training:
        raise ValueError(
            f"dropout is {module.dropout}: its random masks would fall on other units. Call "
            "module.eval() first; the result has no dropout."
        )
    for name, value in _weights(module).items():
        if cut_at(module, name) is None:
            require_parameter(module, name)
        require_numbers(name, value)
    for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
        if not isinstance(hook, BoundCheck):
            raise ValueError(
                f"the module has the hook {getattr(hook, '__name__', type(hook).__name__)}, which "
                "may change its outputs; first call remove() of the handle it came with."
            )


class BoundCheck:
    """Warn once when a converted module is fed more than its equality covers; a forward hook."""

    def __init__(self, bound: Any, start: Any, scale: torch.Tensor, horizon: Any) -> None:
        self.input_bound, self.horizon = size_of("input_bound", bound), horizon and int(horizon)
        self.initial_bound = size_of("initial_bound", start) * float(scale.max())
        self.short, self.steps = _CALLS, 0  # short calls left, steps since the state was last new

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look at the input of one call, unless torch traces it; go when all is said."""
        import torch

        given, state = [*args, *(kwargs.get(name) for name in ("input", "hx")[len(args) :])][:2]
        if given is None or torch.compiler.is_compiling() or torch._C._is_tracing():
            return
        x = given.data  # of a tensor, and of a packed sequence
        steps = len(getattr(given, "batch_sizes", "1"))
        if isinstance(given, torch.Tensor) and hasattr(module, "num_layers"):
            steps = x.shape[1 if module.batch_first and x.ndim == 3 else 0]
        state = x.new_zeros(0) if state is None else state.detach()
        norm, start = (float((v.square() @ v.new_ones(v.shape[-1])).max()) ** 0.5
                       if v.numel() else 0.0 for v in (x, state))  # fmt: skip
        slack = 1 + 10 * max(x.shape[-1], module.hidden_size) * torch.finfo(x.dtype).eps
        bound, first, said = self.initial_bound, not self.steps, ""
        carried = start > bound * slack
        self.steps = steps + self.steps * carried
        if norm > self.input_bound * slack:
            said = f"an input of norm {norm:.4g} is above the input bound {self.input_bound:.4g}"
        elif first and carried:
            said = f"a state of norm {start:.4g} is above the initial bound {bound:.4g}"
        elif self.horizon is not None and self.steps > self.horizon:
            said = f"{self.steps} steps are more than the horizon {self.horizon}"
        self.short -= steps < _SHORT
        if said or not self.short:
            key = next(k for k, hook in module._forward_pre_hooks.items() if hook is self)
            del module._forward_pre_hooks[key], module._forward_pre_hooks_with_kwargs[key]
        if said:
            warnings.warn(
                f"{said} that this network was converted for: beyond it outputs may differ from "
                "the original's. Convert again with a larger one (check=False: without this "
                "warning).",
                stacklevel=5,
            )
