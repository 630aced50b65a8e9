"""Trained networks in files: the state dict of a torch RNN converted in a safetensors file.

NumPy alone does it, without torch, so that a browser can.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from companion.theory.files import Tensor, read_tensors, shown, write_tensors
from companion.theory.layers import named_arrays, read_layers, require_relu, unitary_layers
from companion.theory.network import (
    RNN,
    Array,
    eps_of,
    orthogonality_error,
    simulate,
    spectral_norm,
)

Tensors = dict[str, Tensor]

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
    prefix, ends = _network_in(tensors, prefix)
    own = _own(tensors, prefix, ends)
    layers = read_layers({name: tensor.array() for name, tensor in own.items()}, ends)
    converted, scales = unitary_layers(layers, input_bound, horizon, initial_bound, rescale)
    arrays = named_arrays(converted, ends)
    keys = list(dict.fromkeys([pad_readout] if isinstance(pad_readout, str) else pad_readout))
    replaced = {prefix + name for name in own}
    if both := sorted(replaced & set(keys)):
        raise ValueError(f"{shown(both[0])} is of the network itself and is converted anyway.")
    size = len(arrays[f"bias_ih{ends[0]}"])
    padded = {key: _widened(tensors, key, scales[-1], size) for key in keys}
    copied = {name: t for name, t in tensors.items() if name not in replaced | set(keys)}
    X, names = float(input_bound), {"padded": tuple(padded), "copied": tuple(copied)}
    report = _report(layers, read_layers(arrays, ends), scales[-1], X, horizon,
                     destination=destination, **names)  # fmt: skip
    note = {"nonlinearity": "relu", "units": str(layers[0].n), "input_bound": repr(X)}
    if rescale:
        note["state_scale"] = json.dumps([d.astype(float).tolist() for d in scales])
    new = {prefix + name: Tensor.of(array) for name, array in arrays.items()}
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


def _network_in(tensors: Tensors, prefix: str | None) -> tuple[str, list[str]]:
    """Find the one network meant: the prefix of its names, and what they end in, layer by layer."""
    raw = sorted(n for n in tensors if n.startswith(prefix or "") and _RAW.search(n))
    if raw:
        raise ValueError(
            f"the file holds {', '.join(map(shown, raw))}: values from which a parametrisation, "
            "weight_norm, spectral_norm or pruning makes the weights. Save the module again after "
            "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight_hh_l0') (or "
            "torch.nn.utils.remove_weight_norm, remove_spectral_norm, prune.remove)."
        )
    found = {name[: at.start()]: at[1] is None for name in tensors
             if (at := re.search(r"weight_hh(_l0)?$", name))}  # fmt: skip
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
    ((prefix, is_cell),) = found.items()
    layers = sum(bool(re.fullmatch(re.escape(prefix) + r"weight_hh_l\d+", n)) for n in tensors)
    return prefix, [""] if is_cell else [f"_l{k}" for k in range(layers)]


def _own(tensors: Tensors, prefix: str, ends: list[str]) -> Tensors:
    """Take the tensors of one network, without the prefix: those of its form, all of them."""
    own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    if any(name.endswith("_reverse") for name in own):
        raise ValueError("the network is bidirectional; convert its directions as two networks.")
    W, F = own[f"weight_hh{ends[0]}"], own.get(f"weight_ih{ends[0]}")
    if F is None or len(F.shape) != 2 or len(W.shape) != 2 or W.shape[0] != W.shape[1]:
        raise ValueError(
            f"weight_hh{ends[0]} has shape {W.shape} and weight_ih{ends[0]} {F and F.shape}; "
            "a torch RNN has (n, n) and (n, m). "
            "LSTM and GRU files stack several gates and cannot be converted."
        )
    if W.dtype not in ("F32", "F64"):
        raise ValueError(
            f"{shown(prefix)}weight_hh{ends[0]} is {W.dtype}; allowed: F32, F64. Call "
            "module.float() and save it again."
        )
    n, bias = W.shape[0], any(re.match(r"bias_[ih]h", name) for name in own)
    expected: dict[str, tuple[int, ...]] = {}
    for index, end in enumerate(ends):
        expected |= {f"weight_ih{end}": (n, n if index else F.shape[1]), f"weight_hh{end}": (n, n)}
        expected |= {f"bias_ih{end}": (n,), f"bias_hh{end}": (n,)} if bias else {}
    for name, shape in expected.items():
        tensor = own.get(name)
        if tensor is None or (tensor.shape, tensor.dtype) != (shape, W.dtype):
            have = f"{tensor.shape}, {tensor.dtype}" if tensor else "missing"
            raise ValueError(f"{shown(prefix + name)} is {have}; it must be {shape}, {W.dtype}.")
    if odd := sorted(n for n in own.keys() - expected if re.match(r"(weight|bias)_[ih]", n)):
        raise ValueError(
            f"{shown(prefix + odd[0])} has no place in a torch.nn.RNN{'' if ends[0] else 'Cell'} "
            f"of {len(ends)} layer(s) {'with' if bias else 'without'} biases; remove it, or "
            "complete its layer."
        )
    return {name: own[name] for name in expected}


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


def _report(
    layers: list[RNN], unitary: list[RNN], scale: Array, X: float, horizon: int | None, **named: Any
) -> Conversion:
    """Measure a conversion, its outputs on 16 random sequences in the ball."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16, min(200, horizon or 200), layers[0].m))
    x *= X * rng.random(x.shape[:2])[..., None] / np.linalg.norm(x, axis=-1, keepdims=True)
    with np.errstate(over="ignore", invalid="ignore"):
        y = z = x
        for old, new in zip(layers, unitary, strict=True):
            y, z = simulate(old, y), simulate(new, z)
        gap = max(np.abs(z[..., : len(scale)] / scale - y).max(),
                  np.abs(z[..., len(scale) :]).max(initial=0))  # fmt: skip
    if not np.isfinite(gap):
        raise ValueError(
            "outputs overflow on inputs within the bound, so nothing can be compared: lower the "
            "input bound, or convert in float64. Nothing was written."
        )
    return Conversion(
        norms=tuple(map(spectral_norm, layers)),
        hidden_size=layers[0].n,
        unitary_size=unitary[0].n,
        input_bound=X,
        orthogonality=max(map(orthogonality_error, unitary)),
        orthogonality_limit=10 * unitary[0].n * eps_of(unitary[0].W),
        difference=float(gap / max(np.abs(y).max(), np.finfo(np.float32).tiny)),
        state_scale=(float(scale.max()), float(scale.min())),
        **named,
    )
