"""Stacks of recurrent layers as torch has them: read from arrays, converted, named again.

NumPy only, for modules (`companion.theory.torch`) and files (`companion.theory.convert`) alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import SupportsFloat, SupportsIndex

import numpy as np

from companion.theory.checks import size_of, whole_number
from companion.theory.dilation import (
    NotContractiveError,
    contracting_scaling,
    norm_tolerance,
    scaled,
    scaling_advice,
)
from companion.theory.network import RNN, Array, is_contractive, spectral_norm
from companion.theory.similarity import rescaled
from companion.theory.theorem1 import require_relu, state_bound, unitary_equivalent

_NEAR_ONE = 0.99  # from this norm on a bias of 1/(1 − ‖W‖) is worth a scaling, where one is allowed


def read_layers(
    arrays: Mapping[str, Array], suffixes: Sequence[str], nonlinearity: str = "relu"
) -> list[RNN]:
    """Make a network of each layer, by torch's names; biases are added, outputs are the states."""
    layers = []
    for suffix in suffixes:
        W, F = arrays[f"weight_hh{suffix}"], arrays[f"weight_ih{suffix}"]
        zeros, C = np.zeros(len(W), dtype=W.dtype), np.eye(len(W), dtype=W.dtype)
        with np.errstate(over="ignore"):  # RNN refuses what is then infinite
            b = sum((arrays.get(f"bias_{kind}{suffix}", zeros) for kind in ("ih", "hh")), zeros)
        layers.append(RNN(W, F, b, C, zeros, nonlinearity))
    return layers


def named_arrays(layers: Sequence[RNN], suffixes: Sequence[str]) -> dict[str, Array]:
    """Name the arrays of layers as torch does, all of one size.

    Units added to a layer rest below ReLU's kink, behind an identity block. The second bias is 0.
    """
    size, named = max(layer.n for layer in layers), dict[str, Array]()
    for index, (layer, suffix) in enumerate(zip(layers, suffixes, strict=True)):
        W, b = np.eye(size, dtype=layer.dtype), np.full(size, -1, dtype=layer.dtype)
        F = np.zeros((size, size if index else layer.m), dtype=layer.dtype)
        W[: layer.n, : layer.n], F[: layer.n, : layer.m], b[: layer.n] = layer.W, layer.F, layer.b
        arrays = {"weight_ih": F, "weight_hh": W, "bias_ih": b, "bias_hh": 0 * b}
        named |= {kind + suffix: array for kind, array in arrays.items()}
    return named


def unitary_layers(
    layers: Sequence[RNN], input_bound: SupportsFloat, horizon: SupportsIndex | None,
    initial_bound: SupportsFloat, rescale: bool,
) -> tuple[list[RNN], list[Array]]:  # fmt: skip
    """Convert layer by layer; give the networks, and by which d the states of each are scaled."""
    X, initial = size_of("input_bound", input_bound), size_of("initial_bound", initial_bound)
    horizon = None if horizon is None else whole_number("horizon", horizon, least=1)
    require_relu(layers[0])
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


def _scaling(layer: RNN) -> Array:
    """Find d that brings a norm at, near or above 1 down; 1 where nothing is gained."""
    norm, ones = spectral_norm(layer), np.ones(layer.n, dtype=layer.dtype)
    if norm < _NEAR_ONE or np.abs(np.linalg.eigvals(layer.W)).max() >= 1:
        return ones
    d = contracting_scaling(layer.W)
    if d.max() / d.min() > float(np.finfo(layer.dtype).max) ** 0.98:  # out of the dtype's range
        return ones
    d = d.astype(layer.dtype)
    tolerance, after = norm_tolerance(layer.W), spectral_norm(scaled(layer.W, d))
    gains = norm > 1 + tolerance >= after or 1 - after > max(2 * (1 - norm), tolerance)
    return d if gains else ones


def _require_norm(layer: RNN, horizon: int | None, rescaled_already: bool) -> None:
    """Refuse a layer that has no bounded states or no dilation, and say what is known of it."""
    norm = spectral_norm(layer)
    over = norm > 1 + norm_tolerance(layer.W)
    if is_contractive(layer) or (horizon is not None and not over):
        return
    after = layer if rescaled_already else rescaled(layer, _scaling(layer))
    known, least = scaling_advice(layer.W) if over and not is_contractive(after) else ("", norm)
    ways, size = [], spectral_norm(after)
    brings = f"rescale=True (--rescale), which brings it down to {size:.4g}"
    steps = "horizon=T (--horizon T), the number of steps for which the equality must hold"
    if is_contractive(after):
        ways += [brings]
    elif over and size <= 1 + norm_tolerance(layer.W):
        ways += [f"{brings}, and with it {steps}"]
    elif least < 1:  # by a scaling out of this dtype's range
        ways += [f"float64 (module.double()) and rescale=True, down to {least:.4g}"]
    if not over:
        ways += [steps]
    if ways:
        why = "" if over else ", not below 1 beyond rounding, so states may grow for ever"
        raise NotContractiveError(f"‖W‖₂ is {norm:.6g}{why}. Give {'; or '.join(ways)}.")
    raise NotContractiveError(
        f"‖W‖₂ is {norm:.6g}. {known} No unitary network of any size is "
        "known to be equal for all steps; over T steps one exists, of a size that grows with T, "
        "which is not built here. Two ways on: train under companion.contractive(module), or take "
        "companion.nearest_contraction(module, data=x), which says how far the outputs move."
    )
