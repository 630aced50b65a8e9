"""Trained networks in files: the state dict of a torch RNN converted in a safetensors file.

NumPy alone does it, without torch, so that a browser can.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from companion.theory.checks import size_of, whole_number
from companion.theory.files import Tensor, read_tensors, shown, write_tensors
from companion.theory.network import (
    RNN,
    Array,
    eps_of,
    orthogonality_error,
    simulate,
    spectral_norm,
)
from companion.theory.torch import padded_layers, require_relu, unitary_layers

Tensors = dict[str, Tensor]
_KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # of a layer, in torch's names

# What parametrisations, torch's older hooks and pruning store in place of a weight, or beside it.
_RAW = re.compile(
    r"parametrizations\.(weight|bias)_[ih]h\w*\."
    r"|(weight|bias)_[ih]h(_l\d+(_reverse)?)?_(g|v|u|orig|mask)$"
)


@dataclass(frozen=True)
class Conversion:
    """Hold what `convert_file` did, with what it measured; prints as a short report.

    Attributes
    ----------
    destination : file written.
    norms : ‖W‖₂ of each layer before.
    hidden_size, unitary_size : states a layer before and after.
    input_bound : X of the equality.
    orthogonality : largest ‖WᵀW − I‖₂ after; ``orthogonality_limit`` is 10·N·eps.
    difference : largest difference of outputs on random inputs with ‖x⁽ᵏ⁾‖₂ ≤ X, over the
        largest output.
    state_scale : largest and least d of the last layer, where states are scaled; 1, 1 elsewhere.
    padded : tensors widened to read the new state.
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
    state_scale: tuple[float, float]
    padded: tuple[str, ...]
    copied: tuple[str, ...]

    def __str__(self) -> str:
        visible = self.difference > np.sqrt(self.orthogonality_limit)
        lines = [
            f"norm           {', '.join(f'{v:.6g}' for v in self.norms)} (‖W‖₂ of each layer)",
            f"size           {self.hidden_size} -> {self.unitary_size} states a layer",
            f"input bound    {self.input_bound:g} (Euclidean, every step)",
            f"orthogonality  {self.orthogonality:.2g} (limit {self.orthogonality_limit:.2g})",
            f"difference     {self.difference:.2g} (largest, relative to the largest output"
            + ("; LARGE: rounding is amplified, convert in float64)" if visible else ")"),
        ]
        if self.state_scale != (1, 1):
            fits = "the tensors padded undo it" if self.padded else "divide by it before a readout"
            lines.append(
                f"state scale    {self.state_scale[1]:.4g} to {self.state_scale[0]:.4g} ({fits}; "
                "all of it in the file's metadata)"
            )
        if self.padded:
            lines.append(f"padded         {', '.join(map(shown, self.padded))}")
        if self.copied:
            lines.append(
                f"copied as is   {', '.join(map(shown, self.copied))} (what reads the state reads "
                f"its first {self.hidden_size} units; --pad-readout KEY widens it)"
            )
        return "\n".join([*lines, f"written to     {shown(str(self.destination))}"])


def convert_file(
    source: str | Path,
    destination: str | Path,
    input_bound: float,
    *,
    nonlinearity: str | None = None,
    horizon: int | None = None,
    initial_bound: float = 0.0,
    rescale: bool = False,
    prefix: str | None = None,
    pad_readout: Iterable[str] = (),
    overwrite: bool = False,
) -> Conversion:
    """Apply `to_unitary` to the state dict of a torch RNN or RNNCell in a safetensors file.

    Parameters
    ----------
    source : .safetensors file with weight_ih_l0, weight_hh_l0, … (a cell's have no _l0) of a
        network. Pickled files (.pt, .pth) are refused: loading one runs code from it.
    destination : .safetensors file to write, by a temporary name and a rename.
    input_bound, horizon, initial_bound, rescale : as for `to_unitary`.
    nonlinearity : "relu" or "tanh", when the file's metadata names none; never assumed.
    prefix : which network of several in the file, such as "encoder."; the others are copied.
    pad_readout : names of (p, n) tensors that read the last layer's state, such as "fc.weight":
        they are widened to the new size, and undo the scaling, so that the whole model loads again.
    overwrite : replace an existing destination; a link stays a link.

    Raises
    ------
    ValueError, TypeError, OSError : for an unreadable or unfit file, a missing or contradictory
        nonlinearity, an existing destination, or as `to_unitary`. Nothing is then written.
    """
    source, destination = Path(source), Path(destination)
    _check_paths(source, destination, overwrite)
    metadata, tensors = read_tensors(source)
    require_relu(_nonlinearity_of(metadata, nonlinearity))
    prefix, is_cell = _prefix_of(tensors, prefix)
    layers, own = _layers_of(tensors, prefix, is_cell)
    X, start = size_of("input_bound", input_bound), size_of("initial_bound", initial_bound)
    horizon = None if horizon is None else whole_number("horizon", horizon, least=1)
    unitary, scales = unitary_layers(layers, X, horizon, start, rescale)
    unitary = padded_layers(unitary)
    keys = list(dict.fromkeys([pad_readout] if isinstance(pad_readout, str) else pad_readout))
    if both := sorted(own & set(keys)):
        raise ValueError(f"{shown(both[0])} is of the network itself and is converted anyway.")
    padded = {key: _widened(tensors, key, scales[-1], unitary[0].n) for key in keys}
    copied = {name: t for name, t in tensors.items() if name not in own | set(keys)}
    report = Conversion(
        destination=destination,
        norms=tuple(map(spectral_norm, layers)),
        hidden_size=layers[0].n,
        unitary_size=unitary[0].n,
        input_bound=X,
        orthogonality=max(map(orthogonality_error, unitary)),
        orthogonality_limit=10 * unitary[0].n * eps_of(unitary[0].W),
        difference=_measured_difference(layers, unitary, scales[-1], X, min(200, horizon or 200)),
        state_scale=(float(scales[-1].max()), float(scales[-1].min())),
        padded=tuple(padded),
        copied=tuple(copied),
    )
    note = {"nonlinearity": "relu", "units": str(layers[0].n), "input_bound": repr(X)}
    if rescale:
        note["state_scale"] = json.dumps([d.astype(float).tolist() for d in scales])
    new = _named(unitary, prefix, is_cell)
    write_tensors(destination, copied | padded | new, metadata | note)
    return report


def _check_paths(source: Path, destination: Path, overwrite: bool) -> None:
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


def _prefix_of(tensors: Tensors, prefix: str | None) -> tuple[str, bool]:
    """Find the one network meant: the prefix of its names, and whether it is a cell's."""
    raw = sorted(n for n in tensors if n.startswith(prefix or "") and _RAW.search(n))
    if raw:
        raise ValueError(
            f"the file holds {', '.join(map(shown, raw))}: values from which a parametrisation, "
            "weight_norm, spectral_norm or pruning makes the weights. Save the module again after "
            "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight_hh_l0') (or "
            "torch.nn.utils.remove_weight_norm, remove_spectral_norm, prune.remove)."
        )
    found = {m[1]: m[2] is None for name in tensors if (m := re.fullmatch(
        r"((?s:.*))weight_hh(_l0)?", name))}  # fmt: skip
    if prefix is not None:
        found = {p: cell for p, cell in found.items() if p == prefix}
    if len(found) != 1:
        names = ", ".join(repr(p) for p in found) or "none"
        hint = "give one as prefix (--prefix)" if len(found) > 1 else "no network can be converted"
        where = "" if prefix is None else f" with the prefix {prefix!r}"
        raise ValueError(
            f"the file holds {len(found)} networks{where}, by tensors named …weight_hh_l0 or "
            f"…weight_hh (prefixes: {names}); {hint}."
        )
    return next(iter(found.items()))


def _layers_of(tensors: Tensors, prefix: str, is_cell: bool) -> tuple[list[RNN], set[str]]:
    """Read the layers of one network, biases added, and the names of its tensors."""
    own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    if any(name.endswith("_reverse") for name in own):
        raise ValueError("the network is bidirectional; convert its directions as two networks.")
    last = "" if is_cell else "_l0"
    W, F = own[f"weight_hh{last}"], own.get(f"weight_ih{last}")
    if F is None or len(F.shape) != 2 or len(W.shape) != 2 or W.shape[0] != W.shape[1]:
        raise ValueError(
            f"weight_hh{last} has shape {W.shape} and weight_ih{last} {F and F.shape}; "
            "a torch RNN has (n, n) and (n, m). "
            "LSTM and GRU files stack several gates and cannot be converted."
        )
    if W.dtype not in ("F32", "F64"):
        raise ValueError(
            f"{shown(prefix)}weight_hh{last} is {W.dtype}; allowed: F32, F64. Call "
            "module.float() and save it again."
        )
    n, depth = W.shape[0], sum(bool(re.fullmatch(r"weight_hh(_l\d+)?", name)) for name in own)
    bias = any(re.match(r"bias_[ih]h", name) for name in own)
    kinds = _KINDS if bias else _KINDS[:2]
    layers, expected = [], set()
    for index in range(depth):
        names = [kind if is_cell else f"{kind}_l{index}" for kind in kinds]
        shapes = ((n, n if index else F.shape[1]), (n, n), (n,), (n,))
        for name, shape in zip(names, shapes, strict=False):  # two kinds without biases
            _require_form(own.get(name), shape, W.dtype, shown(prefix + name))
        inputs, recurrent, *biases = (own[name].array() for name in names)
        zeros, eye = np.zeros(n, dtype=recurrent.dtype), np.eye(n, dtype=recurrent.dtype)
        with np.errstate(over="ignore"):  # RNN refuses what is then infinite
            layers.append(RNN(recurrent, inputs, sum(biases, zeros), eye, zeros))
        expected.update(names)
    odd = sorted(name for name in own.keys() - expected if re.match(r"(weight|bias)_[ih]", name))
    if odd:
        what = f"a torch.nn.RNN{'Cell' if is_cell else ''} of {depth} layer(s)"
        raise ValueError(
            f"{shown(prefix + odd[0])} has no place in {what} {'with' if bias else 'without'} "
            "biases; remove it, or complete its layer."
        )
    return layers, {prefix + name for name in expected}


def _require_form(tensor: Tensor | None, shape: tuple[int, ...], dtype: str, name: str) -> None:
    """Refuse a tensor that is missing or has another shape or dtype than its layer."""
    if tensor is None or (tensor.shape, tensor.dtype) != (shape, dtype):
        have = f"{tensor.shape}, {tensor.dtype}" if tensor else "missing"
        raise ValueError(f"{name} is {have}; it must be {shape}, {dtype}.")


def _named(layers: list[RNN], prefix: str, is_cell: bool) -> Tensors:
    """Name the arrays of layers as torch does; the second bias is 0."""
    named = {}
    for index, layer in enumerate(layers):
        arrays = (layer.F, layer.W, layer.b, np.zeros_like(layer.b))
        for kind, array in zip(_KINDS, arrays, strict=True):
            named[f"{prefix}{kind}" if is_cell else f"{prefix}{kind}_l{index}"] = Tensor.of(array)
    return named


def _widened(tensors: Tensors, key: str, scale: Float[Array, " n"], size: int) -> Tensor:
    """Widen the columns of a readout to the new units, which it does not read, and undo D."""
    n = len(scale)
    if key not in tensors:
        raise ValueError(f"pad_readout names {key!r}; the file holds {sorted(tensors)}.")
    old = tensors[key]
    if len(old.shape) != 2 or old.shape[1] != n or old.dtype not in ("F32", "F64"):
        raise ValueError(
            f"{shown(key)} is {old.shape}, {old.dtype}; a readout to pad must be (p, {n}), F32 "
            "or F64."
        )
    new = np.zeros((old.shape[0], size), dtype=old.array().dtype)
    new[:, :n] = old.array() / scale.astype(float)
    return Tensor.of(new)


def _measured_difference(
    layers: list[RNN], unitary: list[RNN], scale: Float[Array, " n"], X: float, steps: int
) -> float:
    """Compare outputs on 16 random sequences in the ball: the largest relative difference."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((steps, 16, layers[0].m))
    x *= X * rng.random((steps, 16, 1)) / np.linalg.norm(x, axis=-1, keepdims=True)

    def outputs(stack: list[RNN]) -> Float[Array, "16 T N"]:
        y: Array = x.swapaxes(0, 1)
        for layer in stack:
            y = simulate(layer, y)
        return y

    with np.errstate(over="ignore", invalid="ignore"):
        y, z = outputs(layers), outputs(unitary)
        n = y.shape[-1]
        gap = max(np.abs(z[..., :n] / scale - y).max(), np.abs(z[..., n:]).max(initial=0))
    if not np.isfinite(gap):
        raise ValueError(
            "outputs overflow on inputs within the bound, so nothing can be compared: lower the "
            "input bound, or convert in float64. Nothing was written."
        )
    return float(gap / max(np.abs(y).max(), np.finfo(np.float32).tiny))
