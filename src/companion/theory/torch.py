"""Theorem 1 as a tool: a trained `torch.nn.RNN` becomes an equal one with orthogonal recurrence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from companion.theory.dilation import NotContractiveError, contracting_scaling
from companion.theory.files import whole
from companion.theory.network import RNN, Array, eps_of, orthogonality_error, spectral_norm
from companion.theory.similarity import rescaled
from companion.theory.theorem1 import state_bound, unitary_equivalent

if TYPE_CHECKING:
    import torch


def _refuse_unfit(module: torch.nn.RNN) -> None:
    import torch

    if not isinstance(module, torch.nn.RNN):
        raise TypeError(f"module is {type(module).__name__}; to_unitary takes a torch.nn.RNN.")
    if module.nonlinearity != "relu":
        raise ValueError(
            f"nonlinearity is {module.nonlinearity!r}; it must be 'relu': by theorem 3 no finite "
            "unitary network equals a tanh one. approximate_unitary comes close."
        )
    if module.bidirectional:
        raise ValueError("module is bidirectional; convert its directions as two one-way modules.")
    if module.dropout:
        raise ValueError(
            f"dropout is {module.dropout}: its random masks would fall on other units. Set "
            "module.dropout = 0 first (in eval mode it has no effect)."
        )
    if torch.nn.utils.parametrize.is_parametrized(module):
        raise ValueError(
            "module has parametrized weights; make them plain first, with "
            "torch.nn.utils.parametrize.remove_parametrizations."
        )
    if module.weight_hh_l0.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"module is {module.weight_hh_l0.dtype}; allowed: float32, float64.")


def _layer(module: torch.nn.RNN, layer: int) -> RNN:
    """One layer of a torch module, its two biases added; its outputs are its states."""

    def array(name: str) -> Array:
        return np.asarray(getattr(module, f"{name}_l{layer}").numpy(force=True))

    W, F = array("weight_hh"), array("weight_ih")
    zeros = np.zeros(len(W), dtype=W.dtype)
    b = array("bias_ih") + array("bias_hh") if module.bias else zeros
    return RNN(W, F, b, np.eye(len(W), dtype=W.dtype), zeros)


def to_unitary(
    module: torch.nn.RNN,
    input_bound: float,
    *,
    horizon: int | None = None,
    initial_bound: float = 0.0,
    rescale: bool = False,
) -> torch.nn.RNN:
    """An equal `torch.nn.RNN` whose recurrent matrices are orthogonal.

    Every layer is replaced by its unitary equivalent (theorem 1); the state bound of a layer is the
    input bound of the next. torch keeps one hidden size for all layers, so a layer that needs fewer
    new units is padded with units that stay 0 behind an identity block.

    Parameters
    ----------
    module : ``torch.nn.RNN(nonlinearity="relu")``, float32 or float64, any number of layers,
        ``batch_first`` either way, one direction, no dropout.
    input_bound : X with ‖x⁽ᵏ⁾‖₂ ≤ X at every step.
    horizon : number of steps, for a layer with ‖W‖₂ = 1.
    initial_bound : bound on ‖h₋₁‖₂ of each layer, for callers who pass their own initial state
        (padded with zeros to the new size); 0 for torch's default.
    rescale : let a layer with ‖W‖₂ > 1 be scaled by a diagonal D where that makes it contractive.
        Its first n units are then D h: divide by ``result.state_scale[layer]`` (1 elsewhere).
        Without it such a layer is refused, since torch's output is the state itself.

    Returns
    -------
    New module of the same dtype, device and mode (train or eval), hidden size N = n + max r,
    r = rank(I − WᵀW) of a layer. Units [:n] of its output and hidden state are those of ``module``,
    the others are 0. Outputs, and their gradients with respect to the input, agree to rounding. Its
    ``weight_hh_l*`` can go straight to `torch.nn.utils.parametrizations.orthogonal`.

    Raises
    ------
    NotContractiveError : for a layer with ‖W‖₂ > 1; says whether a scaling would help. A trained
        network may well be such a one.
    TypeError, ValueError : for another module, nonlinearity or dtype, two directions, dropout,
        parametrized weights, or a bad bound or horizon.

    Examples
    --------
    >>> import torch
    >>> rnn = torch.nn.RNN(2, 3, nonlinearity="relu")
    >>> with torch.no_grad():
    ...     _ = rnn.weight_hh_l0.mul_(0.9 / torch.linalg.matrix_norm(rnn.weight_hh_l0, 2))
    >>> unitary = to_unitary(rnn, input_bound=1.0)
    >>> unitary.hidden_size
    6
    """
    import torch

    _refuse_unfit(module)
    layers: list[RNN] = []
    scales: list[Array] = []
    X, d = input_bound, np.ones(module.input_size)
    for index in range(module.num_layers):
        layer = _layer(module, index)
        # The layer below delivers D h: fold its D⁻¹ into the input matrix.
        layer = RNN(layer.W, (layer.F / d).astype(layer.dtype), layer.b, layer.C, layer.h_init)
        d = np.ones(layer.n)
        if rescale and spectral_norm(layer) > 1:
            scale = contracting_scaling(layer.W)
            if spectral_norm(rescaled(layer, scale)) <= 1:
                d, layer = scale, rescaled(layer, scale)
        start = initial_bound * float(d.max())
        try:
            layers.append(unitary_equivalent(layer, X, horizon=horizon, initial_bound=start))
        except NotContractiveError as error:
            advice = str(error).replace(
                "minimal_scaling(W) finds it", "give to_unitary rescale=True"
            )
            raise NotContractiveError(f"layer {index}: {advice}") from None
        except (TypeError, ValueError) as error:
            raise type(error)(f"layer {index}: {error}") from None
        scales.append(d)
        bound = state_bound(layer, X, horizon=horizon, initial_bound=start)
        X = min(bound.norm, float(np.linalg.norm(np.maximum(bound.upper, -bound.lower))))

    size = max(layer.n for layer in layers)
    like = module.all_weights[0][0]
    with torch.random.fork_rng(devices=[]):  # its random weights must not shift the caller's seed
        result = torch.nn.RNN(
            module.input_size,
            size,
            module.num_layers,
            nonlinearity="relu",
            batch_first=module.batch_first,
            dtype=like.dtype,
        ).to(like.device)
    with torch.no_grad():
        for parameter in result.parameters():
            parameter.zero_()
        for index, layer in enumerate(layers):
            W, F, b = (
                getattr(result, f"{name}_l{index}")
                for name in ("weight_hh", "weight_ih", "bias_ih")
            )
            W.copy_(torch.eye(size))
            W[: layer.n, : layer.n] = torch.tensor(layer.W)
            F[: layer.n, : layer.m] = torch.tensor(layer.F)
            b.fill_(-1.0)  # a padding unit rests below ReLU's kink
            b[: layer.n] = torch.tensor(layer.b)
    # Not in the state dict, which stays that of a plain torch.nn.RNN.
    result.register_buffer("state_scale", torch.tensor(np.array(scales)).to(like), persistent=False)
    return result.train(module.training)


@dataclass(frozen=True)
class Conversion:
    """What `convert_file` did, with what it measured; prints as a short report.

    Attributes
    ----------
    destination : file written.
    norms : ‖W‖₂ of each layer before.
    hidden_size, unitary_size : states a layer before and after.
    input_bound : X of the equality.
    orthogonality : largest ‖WᵀW − I‖₂ after; ``orthogonality_limit`` is 10·N·eps.
    difference : largest difference of outputs on random inputs with ‖x⁽ᵏ⁾‖₂ ≤ X, over the
        largest output.
    copied : other tensors of the file, copied as they are.
    """

    destination: Path
    norms: tuple[float, ...]
    hidden_size: int
    unitary_size: int
    input_bound: float
    orthogonality: float
    orthogonality_limit: float
    difference: float
    copied: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"norm           {', '.join(f'{v:.6g}' for v in self.norms)} (‖W‖₂ of each layer)",
            f"size           {self.hidden_size} -> {self.unitary_size} states a layer",
            f"input bound    {self.input_bound:g} (Euclidean, every step)",
            f"orthogonality  {self.orthogonality:.2g} (limit {self.orthogonality_limit:.2g})",
            f"difference     {self.difference:.2g} (largest, relative to the largest output)",
        ]
        if self.copied:
            lines.append(
                f"copied as is   {', '.join(self.copied)} (a readout reads the first "
                f"{self.hidden_size} units)"
            )
        return "\n".join([*lines, f"written to     {self.destination}"])


def convert_file(
    source: str | Path,
    destination: str | Path,
    input_bound: float,
    *,
    nonlinearity: str | None = None,
    horizon: int | None = None,
    overwrite: bool = False,
) -> Conversion:
    """`to_unitary` for the state dict of a `torch.nn.RNN` in a safetensors file.

    Parameters
    ----------
    source : .safetensors file with weight_ih_l0, weight_hh_l0, … of one RNN, under any one prefix.
        Pickled files (.pt, .pth) are refused: loading one runs code from it.
    destination : .safetensors file to write, by a temporary name and a rename.
    input_bound, horizon : as for `to_unitary`.
    nonlinearity : "relu" or "tanh", when the file's metadata names none; never assumed.
    overwrite : replace an existing destination.

    Raises
    ------
    ValueError, TypeError, OSError : for an unreadable or unfit file, a missing or contradictory
        nonlinearity, an existing destination, or as `to_unitary`. Nothing is then written.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    source, destination = Path(source), Path(destination)
    for role, path in (("source", source), ("destination", destination)):
        if path.suffix != ".safetensors":
            raise ValueError(
                f"{role} is {path}; it must be a .safetensors file. Pickles (.pt, .pth, .bin) can "
                "run code: save with safetensors.torch.save_file(module.state_dict(), PATH, "
                'metadata={"nonlinearity": "relu"}).'
            )
    if not source.is_file():
        raise FileNotFoundError(f"source {source} does not exist or is no file.")
    if not destination.parent.is_dir() or destination.is_dir():
        raise ValueError(f"destination is {destination}; it must be a file in an existing folder.")
    if destination.exists() and not overwrite:
        raise FileExistsError(f"destination {destination} exists; name another, or use --force.")
    try:
        with safe_open(source, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except SafetensorError as error:
        raise ValueError(f"{source} is not a safetensors file: {error}") from None
    module, prefix = _rnn_of(tensors, _nonlinearity_of(metadata, nonlinearity))
    unitary = to_unitary(module, input_bound, horizon=horizon)

    old = {prefix + name for name in module.state_dict()}
    copied = {name: value for name, value in tensors.items() if name not in old}
    n, layers = module.hidden_size, range(module.num_layers)
    recurrent = [getattr(unitary, f"weight_hh_l{i}").detach().numpy() for i in layers]
    report = Conversion(
        destination=destination,
        norms=tuple(spectral_norm(_layer(module, i)) for i in layers),
        hidden_size=n,
        unitary_size=unitary.hidden_size,
        input_bound=float(input_bound),
        orthogonality=max(orthogonality_error(W) for W in recurrent),
        orthogonality_limit=10 * unitary.hidden_size * eps_of(recurrent[0]),
        difference=_measured_difference(module, unitary, float(input_bound)),
        copied=tuple(copied),
    )
    new = {prefix + name: value.contiguous() for name, value in unitary.state_dict().items()}
    note = {"nonlinearity": "relu", "units": str(n), "input_bound": repr(float(input_bound))}
    try:
        with whole(destination) as temporary:
            save_file({**copied, **new}, temporary, metadata={**metadata, **note})
    except SafetensorError as error:  # its report of a full or read-only disk
        raise OSError(f"cannot write {destination}: {error}") from None
    return report


def _nonlinearity_of(metadata: dict[str, str], given: str | None) -> str:
    stored = metadata.get("nonlinearity")
    if stored and given and stored != given:
        raise ValueError(f"the file says nonlinearity {stored!r}, the call {given!r}.")
    chosen = stored or given
    if chosen is None:
        raise ValueError(
            "the file's metadata names no nonlinearity, and it is never assumed: give "
            "--nonlinearity relu (or tanh) as the network was trained."
        )
    if chosen not in ("relu", "tanh"):
        raise ValueError(f"nonlinearity is {chosen!r}; allowed: relu, tanh.")
    return chosen


def _rnn_of(tensors: dict[str, torch.Tensor], nonlinearity: str) -> tuple[torch.nn.RNN, str]:
    """The RNN whose state dict is in ``tensors``, and the prefix of its names."""
    import torch

    found = [name for name in tensors if name.endswith("weight_hh_l0")]
    if len(found) != 1:
        raise ValueError(
            f"the file holds {len(found)} tensors named …weight_hh_l0 "
            f"({', '.join(found) or 'none'}); it must hold the state dict of just one torch.nn.RNN."
        )
    prefix = found[0].removesuffix("weight_hh_l0")
    own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    if any(name.endswith("_reverse") for name in own):
        raise ValueError("the network is bidirectional; convert its directions as two networks.")
    W, F = own["weight_hh_l0"], own.get("weight_ih_l0")
    if F is None or F.ndim != 2 or W.ndim != 2 or W.shape[0] != W.shape[1]:
        raise ValueError(
            f"weight_hh_l0 has shape {tuple(W.shape)} and weight_ih_l0 "
            f"{None if F is None else tuple(F.shape)}; a torch.nn.RNN has (n, n) and (n, m). "
            "LSTM and GRU files stack several gates and cannot be converted."
        )
    if W.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{prefix}weight_hh_l0 is {W.dtype}; allowed: float32, float64.")
    layers = sum(name.startswith("weight_hh_l") for name in own)
    bias = any(name.startswith("bias_") for name in own)
    module = torch.nn.RNN(F.shape[1], W.shape[0], layers, nonlinearity, bias, dtype=W.dtype)
    expected = module.state_dict()
    for name, value in expected.items():
        if name not in own or own[name].shape != value.shape or own[name].dtype != W.dtype:
            have = f"{tuple(own[name].shape)}, {own[name].dtype}" if name in own else "missing"
            raise ValueError(
                f"{prefix}{name} is {have}; it must be {tuple(value.shape)}, {W.dtype}."
            )
    if odd := sorted(
        name for name in own.keys() - expected if re.match(r"(weight|bias)_[ih]", name)
    ):
        raise ValueError(
            f"{prefix}{odd[0]} has no place in a torch.nn.RNN of {layers} layers "
            f"{'with' if bias else 'without'} biases; remove it, or complete its layer."
        )
    module.load_state_dict({name: own[name] for name in expected})
    return module.eval(), prefix


def _measured_difference(module: torch.nn.RNN, unitary: torch.nn.RNN, input_bound: float) -> float:
    """Largest relative difference of outputs on 16 random sequences of 200 steps in the ball."""
    import torch

    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 16, module.input_size))
    x *= input_bound * rng.random((200, 16, 1)) / np.linalg.norm(x, axis=-1, keepdims=True)
    inputs = torch.tensor(x).to(module.all_weights[0][0])
    with torch.no_grad():
        y = module(inputs)[0]
        z = unitary(inputs)[0]
    n = module.hidden_size
    gap = float(torch.cat([z[..., :n] - y, z[..., n:]], dim=-1).abs().max())
    return gap / max(float(y.abs().max()), float(np.finfo(np.float32).tiny))
