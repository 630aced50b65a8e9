"""Trained networks in files: the state dict of a torch RNN converted in a safetensors file.

NumPy alone does it, without torch, so that a browser can.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from companion.theory.files import Tensor, read_tensors, shown, write_tensors
from companion.theory.layers import named_arrays, read_layers, unitary_layers
from companion.theory.network import (
    RNN,
    Array,
    eps_of,
    orthogonality_error,
    simulate,
    spectral_norm,
)

Tensors = dict[str, Tensor]

# What a parametrisation, an older hook or pruning stores in place of a weight, or beside it.
_WEIGHT = r"((?:weight|bias)_[ih]h(?:_l\d+(?:_reverse)?)?)"
_DERIVED = re.compile(rf"parametrizations\.{_WEIGHT}\.|{_WEIGHT}_(?:g|v|u|orig|mask)$")


@dataclass(frozen=True)
class Conversion:
    """Hold what `convert_file` did, with what it measured; prints as a short report."""

    destination: Path  # file written
    norms: tuple[float, ...]  # ‖W‖₂ of each layer before
    hidden_size: int  # states a layer before
    unitary_size: int  # and after
    input_bound: float  # X of the equality
    orthogonality: float  # largest ‖WᵀW − I‖₂ after
    orthogonality_limit: float  # 10·N·eps
    difference: float  # of outputs on random inputs with ‖x⁽ᵏ⁾‖₂ ≤ X, over the largest output
    state_scale: tuple[float, float]  # largest and least d of the last layer; 1, 1 where unscaled
    padded: tuple[str, ...]  # tensors widened to read the new state
    added: tuple[str, ...]  # biases that the network did not have
    copied: tuple[str, ...]  # other tensors of the file, copied as they are

    def __str__(self) -> str:
        visible = self.difference > np.sqrt(self.orthogonality_limit)
        large = "; LARGE: rounding is amplified, convert in float64" if visible else ""
        most, least = self.state_scale
        undone = "the tensors padded undo it" if self.padded else "divide by it before a readout"
        scale = f"{least:.4g} to {most:.4g} ({undone}; all of it in the file's metadata)"
        texts = (self.padded, self.added, self.copied)
        padded, added, copied = (", ".join(map(shown, names)) for names in texts)
        if copied and not padded:
            reads = f"what reads the state reads its first {self.hidden_size} units"
            copied += f" ({reads}; --pad-readout KEY widens it)"
        rows = {
            "norm": f"{', '.join(f'{v:.6g}' for v in self.norms)} (‖W‖₂ of each layer)",
            "size": f"{self.hidden_size} -> {self.unitary_size} states a layer",
            "input bound": f"{self.input_bound:g} (Euclidean, every step)",
            "orthogonality": f"{self.orthogonality:.2g} (limit {self.orthogonality_limit:.2g})",
            "difference": f"{self.difference:.2g} (largest, relative to the largest output{large})",
            "state scale": scale if self.state_scale != (1, 1) else "",
            "padded": padded,
            "added": f"{added} (load it into a module with bias=True)" if added else "",
            "copied as is": copied,
            "written to": shown(str(self.destination)),
        }
        return "\n".join(f"{name:15}{text}" for name, text in rows.items() if text)


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
    prefix : which network of several in the file, such as "encoder."; the others are copied. Its
        metadata then have the prefix, too: "encoder.nonlinearity", "encoder.state_scale".
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
    prefix, ends, tag = _network_in(tensors, prefix)
    stored = metadata.get(f"{tag}nonlinearity", metadata.get("nonlinearity", ""))
    nonlinearity = _nonlinearity(stored.lower(), nonlinearity)
    own = _own(tensors, prefix, ends)
    given = {name: tensor.array() for name, tensor in own.items()}
    layers = read_layers(given, ends, nonlinearity)
    converted, scales = unitary_layers(layers, input_bound, horizon, initial_bound, rescale)
    arrays = named_arrays(converted, ends)
    new = {prefix + name: Tensor.of(array) for name, array in arrays.items()}
    others = {name: tensor for name, tensor in tensors.items() if name not in new}
    unitary, scale, X = read_layers(arrays, ends), scales[-1], float(input_bound)
    keys = [pad_readout] if isinstance(pad_readout, str) else pad_readout
    padded = {key: _widened(others, key, scale, unitary[0].n) for key in keys}
    names = {"padded": tuple(padded), "copied": tuple(n for n in others if n not in padded),
             "added": tuple(n for n in new if n not in tensors)}  # fmt: skip
    report = _report(layers, unitary, scale, X, horizon, destination=destination, **names)
    note = {"nonlinearity": "relu", "units": str(layers[0].n), "input_bound": repr(X),
            "state_scale": json.dumps([d.astype(float).tolist() for d in scales])}  # fmt: skip
    note = {tag + key: value for key, value in note.items()}
    write_tensors(destination, others | padded | new, metadata | note)
    return report


def _check_paths(source: Path, destination: Path, overwrite: bool) -> None:
    if source.suffix != ".safetensors":
        raise ValueError(
            f"source is {source}; it must be a .safetensors file. Pickles (.pt, .pth, .bin) can "
            "run code: save with safetensors.torch.save_file(module.state_dict(), PATH, "
            'metadata={"nonlinearity": "relu"}).'
        )
    if destination.suffix != ".safetensors":
        raise ValueError(f"destination is {destination}; its name must end in .safetensors.")
    if not destination.parent.is_dir() or destination.is_dir():
        raise ValueError(f"destination is {destination}; it must be a file in an existing folder.")
    if destination.exists() and not overwrite:
        raise FileExistsError(f"destination {destination} exists; name another, or use --force.")


def _nonlinearity(stored: str, given: str | None) -> str:
    if stored and given and stored != given:
        raise ValueError(f"the file says nonlinearity {stored!r}, the call {given!r}.")
    if not (chosen := stored or given):
        raise ValueError(
            "the file's metadata names no nonlinearity, and it is never assumed: give "
            "--nonlinearity relu (or tanh) as the network was trained."
        )
    return chosen


def _network_in(tensors: Tensors, prefix: str | None) -> tuple[str, list[str], str]:
    """Find the one network meant: the prefix of its names, and what they end in, layer by layer.

    And the prefix of its metadata, none where the file has no other network.
    """
    derived = {name: m[1] or m[2] for name in sorted(tensors)
               if (m := _DERIVED.search(name)) and prefix in (None, name[: m.start()])}  # fmt: skip
    if derived:
        raise ValueError(
            f"the file holds {', '.join(map(shown, derived))}: values from which weights are made. "
            "Save it again after torch.nn.utils.parametrize.remove_parametrizations(rnn, name), or "
            "remove_weight_norm, remove_spectral_norm or prune.remove of torch.nn.utils, for each "
            f"name among {', '.join(dict.fromkeys(derived.values()))}."
        )
    found = {name[: at.start()]: at[1] for name in tensors
             if (at := re.search(r"weight_hh(_l0)?$", name))}  # fmt: skip
    meant = list(found) if prefix is None else [p for p in found if p == prefix]
    if len(meant) != 1:
        where = "" if prefix is None else f" with the prefix {prefix!r}"
        ways = f"give one of the prefixes {', '.join(map(repr, found))} as prefix (--prefix)"
        raise ValueError(
            f"the file holds {len(meant)} networks{where}, by tensors named …weight_hh_l0 or "
            f"…weight_hh; {ways if found else 'there is none to convert'}."
        )
    layer = re.compile(re.escape(meant[0]) + r"weight_hh_l\d+")
    count = sum(layer.fullmatch(name) is not None for name in tensors)
    ends = [f"_l{k}" for k in range(count)] or [""]
    return meant[0], ends, meant[0] if len(found) > 1 else ""


def _own(tensors: Tensors, prefix: str, ends: list[str]) -> Tensors:
    """Take the weights and biases of one network, without the prefix; refuse what is amiss."""
    own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    own = {n: t for n, t in own.items() if re.match("(weight|bias)_[ih]", n)}
    for fault in _faults(own, ends):
        raise ValueError(shown(prefix + fault))
    return own


def _faults(own: Tensors, ends: list[str]) -> Iterator[str]:
    """Go through what keeps tensors from being those of a torch RNN, the plainest first."""
    first = f"weight_hh{ends[0]}"
    shape, dtype, bias = own[first].shape, own[first].dtype, any("bias" in name for name in own)
    if len(shape) != 2 or shape[0] != shape[1]:
        yield f"{first} is {shape}; it must be (n, n). LSTM and GRU networks cannot be converted."
    if dtype not in ("F32", "F64"):
        yield f"{first} is {dtype}; allowed: F32, F64. Call module.float() and save it again."
    n, F = shape[0], own.get(f"weight_ih{ends[0]}")
    m = F.shape[-1:] if F else ("m",)
    expected: dict[str, tuple[Any, ...]] = {f"weight_hh{end}": (n, n) for end in ends}
    expected |= {f"weight_ih{end}": (n, n) if end in ends[1:] else (n, *m) for end in ends}
    expected |= {f"bias_{kind}{end}": (n,) for kind in ("ih", "hh") for end in ends if bias}
    for name in sorted(own.keys() - expected):
        if name.endswith("_reverse"):
            yield f"{name} is of a bidirectional network; save each direction of each layer alone."
        yield f"{name} has no place in an RNN of {len(ends)} layer(s); remove it, or complete it."
    for name, wanted in expected.items():
        tensor = own.get(name)
        have = f"{tensor.shape}, {tensor.dtype}" if tensor else "missing"
        if have != f"{wanted}, {dtype}":
            yield f"{name} is {have}; it must be {wanted}, {dtype}."


def _widened(others: Tensors, key: str, scale: Float[Array, " n"], size: int) -> Tensor:
    """Widen the columns of a readout to the new units, which it does not read, and undo D."""
    n = len(scale)
    if key not in others:
        raise ValueError(
            f"pad_readout names {key!r}; beside the network the file holds {sorted(others)}."
        )
    old = others[key]
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
