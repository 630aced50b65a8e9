"""Trained networks in files: the state dict of a torch RNN converted in a safetensors file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from companion.theory.files import whole
from companion.theory.network import eps_of, orthogonality_error, spectral_norm
from companion.theory.torch import layers_of, parameter_names, to_unitary

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

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


def shown(name: str) -> str:
    """Escape what a terminal would act on in a name from a file."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


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
    tensors, metadata = _read(source)
    module, prefix = _rnn_of(tensors, _nonlinearity_of(metadata, nonlinearity), prefix)
    unitary = to_unitary(module, input_bound, horizon=horizon, initial_bound=initial_bound,
                         rescale=rescale, check=False)  # fmt: skip
    scale = unitary.state_scale.double()
    keys = list(dict.fromkeys([pad_readout] if isinstance(pad_readout, str) else pad_readout))
    padded = {key: _widened(tensors, key, scale[-1], unitary.hidden_size) for key in keys}
    own = {prefix + name for name in module.state_dict()}
    if both := sorted(own & set(keys)):
        raise ValueError(f"{shown(both[0])} is of the network itself and is converted anyway.")
    copied = {name: t for name, t in tensors.items() if name not in own | set(keys)}
    report = _report(module, unitary, float(input_bound), horizon, destination,
                     tuple(padded), tuple(copied))  # fmt: skip
    new = {prefix + name: value.contiguous() for name, value in unitary.state_dict().items()}
    note = {"nonlinearity": "relu", "units": str(module.hidden_size),
            "input_bound": repr(float(input_bound))}  # fmt: skip
    if rescale:
        note["state_scale"] = json.dumps(scale.tolist())
    _write(destination, {**copied, **padded, **new}, {**metadata, **note})
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


def _read(source: Path) -> tuple[Tensors, dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(source, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{source} is not a safetensors file: {shown(str(error))}") from None


def _write(destination: Path, tensors: Tensors, metadata: dict[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with whole(destination) as temporary:
            save_file(tensors, temporary, metadata=metadata)
    except SafetensorError as error:  # its report of a full or read-only disk
        raise OSError(f"cannot write {destination}: {error}") from None


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


def _rnn_of(tensors: Tensors, nonlinearity: str, prefix: str | None) -> tuple[Any, str]:
    """Build the module whose state dict is in ``tensors``; give it and the prefix of its names."""
    import torch

    prefix, is_cell = _prefix_of(tensors, prefix)
    own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    if any(name.endswith("_reverse") for name in own):
        raise ValueError("the network is bidirectional; convert its directions as two networks.")
    last = "" if is_cell else "_l0"
    W, F = own[f"weight_hh{last}"], own.get(f"weight_ih{last}")
    if F is None or F.ndim != 2 or W.ndim != 2 or W.shape[0] != W.shape[1]:
        raise ValueError(
            f"weight_hh{last} has shape {tuple(W.shape)} and weight_ih{last} "
            f"{None if F is None else tuple(F.shape)}; a torch RNN has (n, n) and (n, m). "
            "LSTM and GRU files stack several gates and cannot be converted."
        )
    if W.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{shown(prefix)}weight_hh{last} is {W.dtype}; allowed: float32, float64. Call "
            "module.float() and save it again."
        )
    layers = sum(bool(re.fullmatch(r"weight_hh(_l\d+)?", name)) for name in own)
    bias = any(re.match(r"bias_[ih]h", name) for name in own)
    kinds: Any = {"nonlinearity": nonlinearity, "bias": bias, "dtype": W.dtype}
    module: Any = (
        torch.nn.RNNCell(F.shape[1], len(W), **kinds)
        if is_cell
        else torch.nn.RNN(F.shape[1], len(W), layers, **kinds)
    )
    what = f"a torch.nn.{type(module).__name__} of {layers} layer(s)"
    what += " with biases" if bias else " without biases"
    _check_tensors(own, module.state_dict(), shown(prefix), what)
    module.load_state_dict({name: own[name] for name in module.state_dict()})
    return module.eval(), prefix


def _check_tensors(own: Tensors, expected: Tensors, prefix: str, what: str) -> None:
    for name, value in expected.items():
        fits = name in own and (own[name].shape, own[name].dtype) == (value.shape, value.dtype)
        if not fits:
            have = f"{tuple(own[name].shape)}, {own[name].dtype}" if name in own else "missing"
            raise ValueError(
                f"{prefix}{name} is {have}; it must be {tuple(value.shape)}, {value.dtype}."
            )
    odd = sorted(n for n in own.keys() - expected if re.match(r"(weight|bias)_[ih]", n))
    if odd:
        raise ValueError(
            f"{prefix}{shown(odd[0])} has no place in {what}; remove it, or complete its layer."
        )


def _widened(tensors: Tensors, key: str, scale: torch.Tensor, size: int) -> torch.Tensor:
    """Widen the columns of a readout to the new units, which it does not read, and undo D."""
    import torch

    n = len(scale)
    if key not in tensors:
        raise ValueError(f"pad_readout names {key!r}; the file holds {sorted(tensors)}.")
    old = tensors[key]
    if old.ndim != 2 or old.shape[1] != n or not old.is_floating_point():
        raise ValueError(
            f"{shown(key)} is {tuple(old.shape)}, {old.dtype}; a readout to pad must be (p, {n})."
        )
    new = torch.zeros(len(old), size, dtype=old.dtype)
    new[:, :n] = (old.double() / scale).to(old.dtype)
    return new


def _report(
    module: Any,
    unitary: Any,
    X: float,
    horizon: int | None,
    destination: Path,
    padded: tuple[str, ...],
    copied: tuple[str, ...],
) -> Conversion:
    recurrent = [getattr(unitary, n[0]).detach().numpy() for n in parameter_names(unitary)]
    difference = _measured_difference(module, unitary, X, min(200, horizon or 200))
    if not np.isfinite(difference):
        raise ValueError(
            "outputs overflow on inputs within the bound, so nothing can be compared: lower the "
            "input bound, or convert in float64. Nothing was written."
        )
    last = unitary.state_scale[-1]
    return Conversion(
        destination=destination,
        norms=tuple(spectral_norm(layer) for layer in layers_of(module)),
        hidden_size=module.hidden_size,
        unitary_size=unitary.hidden_size,
        input_bound=X,
        orthogonality=max(orthogonality_error(W) for W in recurrent),
        orthogonality_limit=10 * unitary.hidden_size * eps_of(recurrent[0]),
        difference=difference,
        state_scale=(float(last.max()), float(last.min())),
        padded=padded,
        copied=copied,
    )


def _measured_difference(module: Any, unitary: Any, X: float, steps: int) -> float:
    """Compare outputs on 16 random sequences in the ball: the largest relative difference."""
    import torch

    from companion.theory.contractive import outputs

    rng = np.random.default_rng(0)
    x = rng.standard_normal((steps, 16, module.input_size))
    x *= X * rng.random((steps, 16, 1)) / np.linalg.norm(x, axis=-1, keepdims=True)
    inputs = torch.tensor(x).to(getattr(module, parameter_names(module)[0][0]).dtype)
    y, z = outputs(module, inputs), outputs(unitary, inputs)
    n = module.hidden_size
    gap = torch.cat([z[..., :n] / unitary.state_scale[-1] - y, z[..., n:]], dim=-1).abs().max()
    return float(gap) / max(float(y.abs().max()), float(np.finfo(np.float32).tiny))
