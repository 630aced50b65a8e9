"""Trained torch modules, converted: outputs, gradients, layers, cells, refusals, warnings."""

from __future__ import annotations

import copy
import pickle
import re
import warnings

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from hypothesis import given, settings
from hypothesis import strategies as st

from companion import (
    RNN,
    NotContractiveError,
    balance,
    contractive,
    is_unitary,
    nearest_contraction,
    simulate,
    spectral_norm,
    state_bound,
    to_unitary,
    unitary_equivalent,
)


def network(
    seed: int, n: int = 5, layers: int = 1, norm: float = 0.95, **options: object
) -> torch.nn.RNN:
    torch.manual_seed(seed)
    module = torch.nn.RNN(3, n, layers, **{"nonlinearity": "relu", **options})
    with torch.no_grad():
        for layer in range(layers):
            W = getattr(module, f"weight_hh_l{layer}")
            W.mul_(norm / torch.linalg.matrix_norm(W, 2))
    return module


def sequences(seed: int, bound: float, dtype: torch.dtype) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((40, 6, 3))
    return torch.tensor(x / np.linalg.norm(x, axis=-1, keepdims=True) * bound * 0.999, dtype=dtype)


@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 6),
    layers=st.integers(1, 3),
    bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=40)
def test_outputs_states_and_gradients_agree(
    seed: int, n: int, layers: int, bias: bool, dtype: torch.dtype
) -> None:
    module = network(seed, n, layers, bias=bias, dtype=dtype)
    unitary = to_unitary(module, input_bound=2.0)
    x = sequences(seed, 2.0, dtype).requires_grad_()
    y, h = module(x)
    z, g = unitary(x)
    # 40 steps through a few layers, each adding rounding of n-term sums of entries this large: the
    # states of a lower layer may be larger than the outputs.
    largest = max(v.detach().abs().max() for v in (y, h))
    tolerance = 100 * n * torch.finfo(dtype).eps * (largest + 1)
    assert (z[..., :n] - y).abs().max() <= tolerance
    assert (z[..., n:] == 0).all()
    assert (g[..., :n] - h).abs().max() <= tolerance
    weight = torch.randn_like(y)
    (wanted,) = torch.autograd.grad((y * weight).sum(), x)
    (got,) = torch.autograd.grad((z[..., :n] * weight).sum(), x)
    assert (got - wanted).abs().max() <= 1000 * n * torch.finfo(dtype).eps * wanted.abs().max()
    for layer in range(layers):
        assert is_unitary(getattr(unitary, f"weight_hh_l{layer}").detach().numpy())
    torch.nn.RNN(3, unitary.hidden_size, layers, nonlinearity="relu").load_state_dict(
        unitary.state_dict()
    )


def test_batch_first_mode_and_unbatched() -> None:
    module = network(0, batch_first=True).eval()
    unitary = to_unitary(module, 1.0)
    assert unitary.batch_first
    assert not unitary.training
    x = sequences(0, 1.0, torch.float32).transpose(0, 1)
    torch.testing.assert_close(unitary(x)[0][..., :5], module(x)[0])
    torch.testing.assert_close(unitary(x[0])[0][..., :5], module(x[0])[0])


def test_layers_of_different_defect_share_a_size() -> None:
    module = network(1, layers=2)
    with torch.no_grad():
        module.weight_hh_l0.copy_(torch.linalg.qr(torch.randn(5, 5))[0])
    unitary = to_unitary(module, 1.0, horizon=40)
    assert unitary.hidden_size == 10
    x = sequences(1, 1.0, torch.float32)
    torch.testing.assert_close(unitary(x)[0][..., :5], module(x)[0])


def test_ready_for_the_orthogonal_parametrization() -> None:
    from torch.nn.utils.parametrizations import orthogonal

    unitary = to_unitary(network(2), 1.0)
    before = unitary.weight_hh_l0.detach().clone()
    orthogonal(unitary, "weight_hh_l0")
    # Registered as it stands, it remains this matrix, and a training step stays orthogonal.
    assert (unitary.weight_hh_l0 - before).abs().max() <= 10 * 10 * torch.finfo(torch.float32).eps
    optimiser = torch.optim.SGD(unitary.parameters(), lr=0.1)
    unitary(sequences(2, 1.0, torch.float32))[0].square().mean().backward()
    optimiser.step()
    assert is_unitary(unitary.weight_hh_l0.detach().numpy())
    assert not torch.equal(unitary.weight_hh_l0, before)


def test_given_initial_states() -> None:
    module, x = network(3), sequences(3, 1.0, torch.float32)
    h = torch.randn(1, 6, 5)
    start = float(h.norm(dim=-1).max())
    unitary = to_unitary(module, 1.0, initial_bound=start)
    padded = torch.cat([h, torch.zeros(1, 6, 5)], dim=-1)
    torch.testing.assert_close(unitary(x, padded)[0][..., :5], module(x, h)[0])


def test_rescaling_where_the_norm_is_too_large() -> None:
    module = network(4, layers=2, norm=0.9, dtype=torch.float64)
    d = torch.tensor([1.0, 10.0, 0.1, 1.0, 3.0], dtype=torch.float64)
    with torch.no_grad():
        for layer in range(2):
            W = getattr(module, f"weight_hh_l{layer}")
            W.copy_(d[:, None] * W / d)
    with pytest.raises(NotContractiveError, match=r"layer 0.*rescale=True"):
        to_unitary(module, 1.0)
    unitary = to_unitary(module, 1.0, rescale=True)
    x = sequences(4, 1.0, torch.float64)
    z = unitary(x)[0][..., :5] / unitary.state_scale[1]
    torch.testing.assert_close(z, module(x)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", [1.0, 0.999999])
def test_rescaling_where_the_norm_is_at_or_near_one(norm: float) -> None:
    """Spectral radius 0.3 behind a norm of 1: no horizon is needed, and no large bias."""
    module = network(4, dtype=torch.float64, norm=0.3)
    W, d = module.weight_hh_l0, torch.tensor([1.0, 9.0, 0.1, 1.0, 3.0], dtype=torch.float64)
    with torch.no_grad():
        W.copy_(d[:, None] * W / d)
        bent = norm / torch.linalg.matrix_norm(W, 2)
        W.mul_(bent)
    x = sequences(4, 1.0, torch.float64)
    if norm == 1:
        with pytest.raises(NotContractiveError, match=r"rescale=True.*horizon=T"):
            to_unitary(module, 1.0)
    unitary = to_unitary(module, 1.0, rescale=True)
    assert -unitary.bias_ih_l0[5:].min() < 100
    assert unitary.state_scale.ne(1).any()
    z = unitary(x)[0][..., :5] / unitary.state_scale[0]
    torch.testing.assert_close(z, module(x)[0])


def test_no_advice_that_cannot_be_followed() -> None:
    """The ways a refusal names are the ways that work."""
    at_one = network(0)
    with torch.no_grad():
        at_one.weight_hh_l0.copy_(torch.linalg.qr(torch.randn(5, 5))[0])
    with pytest.raises(NotContractiveError, match="horizon=T") as refused:
        to_unitary(at_one, 1.0)
    assert "rescale" not in str(refused.value)  # no scaling lowers an orthogonal matrix's norm
    to_unitary(at_one, 1.0, horizon=10)
    turning = network(1, n=2, norm=1.0)
    with torch.no_grad():  # of spectral radius 0.75, and of norm above 1 however it is scaled
        turning.weight_hh_l0.copy_(0.75 * torch.tensor([[1.0, 1.0], [-1.0, 0.0]]))
    for module, known in (
        (network(5, norm=30.0), "spectral radius is"),
        (turning, "best diagonal scaling found leaves"),
    ):
        for options in ({}, {"rescale": True}, {"horizon": 10}):
            with pytest.raises(NotContractiveError, match=known) as refused:
                to_unitary(module, 1.0, **options)
        said = str(refused.value)
        assert "No unitary network of any size is known" in said
        assert "balance" not in said
        near = nearest_contraction(module, data=sequences(0, 1.0, torch.float32))
        to_unitary(near.module, 1.0)
        to_unitary(contractive(module), 1.0)


def test_over_a_horizon_some_unitary_network_is_equal_whatever_the_norm() -> None:
    """As the refusal says: a clock walks through T copies, whose nilpotent W scales to any norm."""
    n, T, rng = 2, 4, np.random.default_rng(0)
    rnn = RNN(3 * rng.standard_normal((n, n)), rng.standard_normal((n, 1)), rng.standard_normal(n),
              np.eye(n), np.zeros(n))  # fmt: skip
    reach = state_bound(rnn, 1.0, horizon=T).norm * 10 * spectral_norm(rnn) + 10
    blocks, size = T + 1, (n + 1) * (T + 1)
    W, F, b, C = np.zeros((size, size)), np.zeros((size, 1)), np.zeros(size), np.zeros((n, size))
    for k in range(1, blocks):  # block k acts at step k − 1, when the clock of block k − 1 is 1
        here, before = (
            slice(k * (n + 1), k * (n + 1) + n),
            slice((k - 1) * (n + 1), k * (n + 1) - 1),
        )
        clock, tick = k * (n + 1) + n, k * (n + 1) - 1
        W[here, before], W[here, tick], W[clock, tick] = rnn.W, reach, 1.0
        F[here], b[here], C[:, here] = rnn.F, rnn.b - reach, np.eye(n)
    start = np.zeros(size)
    start[n] = 1.0
    unitary = unitary_equivalent(balance(RNN(W, F, b, C, start)), 1.0)
    assert spectral_norm(rnn) > 1
    assert is_unitary(unitary)
    x = rng.uniform(-1, 1, (10, T, 1))
    np.testing.assert_allclose(simulate(unitary, x), simulate(rnn, x), rtol=1e-9, atol=1e-9)


def test_a_cell_is_converted_like_a_layer() -> None:
    torch.manual_seed(3)
    cell = contractive(torch.nn.RNNCell(3, 5, nonlinearity="relu", dtype=torch.float64))
    unitary = to_unitary(cell, 2.0)
    assert type(unitary) is torch.nn.RNNCell
    assert is_unitary(unitary.weight_hh.detach().numpy())
    h, g = None, None
    for x in sequences(3, 2.0, torch.float64):
        h, g = cell(x, h), unitary(x, g)
        torch.testing.assert_close(g[:, :5], h)
        assert (g[:, 5:] == 0).all()


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (torch.nn.LSTM(3, 5), TypeError, "LSTM"),
        (torch.nn.GRUCell(3, 5), TypeError, "GRUCell"),
        (torch.nn.Sequential(torch.nn.RNN(3, 5)), TypeError, "such as its '0'"),
        (None, TypeError, "NoneType"),
        (torch.nn.RNN(3, 5), ValueError, "tanh"),
        (torch.nn.RNN(3, 5, nonlinearity="relu", bidirectional=True), ValueError, "bidirectional"),
        (torch.nn.RNN(3, 5, 2, nonlinearity="relu", dropout=0.5), ValueError, r"eval\(\)"),
        (torch.nn.RNN(3, 5, nonlinearity="relu", dtype=torch.bfloat16), TypeError, r"float\(\)"),
        (torch.nn.RNN(3, 5, nonlinearity="relu").half(), TypeError, r"float16.*float\(\)"),
    ],
)
def test_unfit_modules_are_refused(
    module: torch.nn.RNN, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        to_unitary(module, 1.0)


def test_dropout_has_no_effect_in_eval_mode() -> None:
    module = network(0, layers=2, dropout=0.5).eval()
    unitary, x = to_unitary(module, 1.0), sequences(0, 1.0, torch.float32)
    assert unitary.dropout == 0
    torch.testing.assert_close(unitary(x)[0][..., :5], module(x)[0])


# Modules that are not what they seem: weights that the next call, or another part, overwrites.


def with_forward(module: torch.nn.RNN) -> torch.nn.RNN:
    module.forward = lambda x: torch.nn.RNN.forward(module, 2 * x)
    return module


class Doubling(torch.nn.RNN):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().forward(2 * x)


def as_attribute(module: torch.nn.RNN) -> torch.nn.RNN:
    W = module.weight_hh_l0.detach()
    del module.weight_hh_l0
    module.weight_hh_l0 = W
    return module


def hooked(module: torch.nn.RNN, kind: str) -> torch.nn.RNN:
    getattr(module, f"register_forward_{kind}")(lambda *_: None)
    return module


def old_weight_norm(module: torch.nn.RNN) -> torch.nn.RNN:
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        return torch.nn.utils.weight_norm(module, "weight_hh_l0")


DISGUISED = {
    "weight_norm": (old_weight_norm, "remove_weight_norm(module, 'weight_hh_l0')"),
    "spectral_norm": (
        lambda m: torch.nn.utils.spectral_norm(m, "weight_hh_l0"),
        "remove_spectral_norm(module, 'weight_hh_l0')",
    ),
    "prune": (
        lambda m: torch.nn.utils.prune.l1_unstructured(m, "weight_hh_l0", 0.5),
        "prune.remove(module, 'weight_hh_l0')",
    ),
    "orthogonal": (
        lambda m: torch.nn.utils.parametrizations.orthogonal(m, "weight_hh_l0"),
        "remove_parametrizations(module, 'weight_hh_l0')",
    ),
    "parametrized input": (
        lambda m: torch.nn.utils.parametrizations.weight_norm(m, "weight_ih_l0"),
        "remove_parametrizations(module, 'weight_ih_l0')",
    ),
    "attribute": (as_attribute, "torch.nn.Parameter(module.weight_hh_l0.detach())"),
    "pre-hook": (lambda m: hooked(m, "pre_hook"), "remove() of the handle"),
    "hook": (lambda m: hooked(m, "hook"), "remove() of the handle"),
}


@pytest.mark.parametrize("name", DISGUISED)
def test_a_module_whose_weights_do_not_give_its_outputs_is_refused(name: str) -> None:
    disguise, way = DISGUISED[name]
    module = disguise(network(0))
    optimiser = torch.optim.SGD(module.parameters(), lr=1.0)
    module(sequences(0, 1.0, torch.float32))[0].sum().backward()
    optimiser.step()  # the attribute weight_hh_l0 is stale from here to the next call
    with pytest.raises(ValueError, match=re.escape(way)):
        to_unitary(module, 1.0)


def test_the_way_named_by_a_refusal_works() -> None:
    module = old_weight_norm(network(0))
    torch.nn.utils.remove_weight_norm(module, "weight_hh_l0")
    to_unitary(module, 1.0)
    module = torch.nn.utils.prune.l1_unstructured(network(0, norm=0.5), "weight_hh_l0", 0.5)
    torch.nn.utils.prune.remove(module, "weight_hh_l0")
    to_unitary(module, 1.0)
    module = as_attribute(network(0))
    module.weight_hh_l0 = torch.nn.Parameter(module.weight_hh_l0.detach())
    to_unitary(module, 1.0)


def test_another_forward_is_refused() -> None:
    for module in (with_forward(network(0)), Doubling(3, 5, nonlinearity="relu")):
        with pytest.raises(TypeError, match="forward of its own"):
            to_unitary(module, 1.0)


@pytest.mark.wrong_types
def test_bounds_may_be_tensors_and_arrays_of_no_axes() -> None:
    module, x = network(0), sequences(0, 1.0, torch.float32)
    wanted = to_unitary(module, 2.0, horizon=50, initial_bound=1.0)(x)[0]
    for make in (torch.tensor, np.array):
        got = to_unitary(module, make(2.0), horizon=make(50), initial_bound=make(1.0))(x)[0]
        assert torch.equal(got, wanted)
    for bad in (torch.ones(2), torch.tensor(True), "2", None):
        with pytest.raises(TypeError, match="input_bound"):
            to_unitary(module, bad)


def test_what_was_frozen_stays_frozen() -> None:
    module = network(0, layers=2)
    module.weight_hh_l0.requires_grad_(False)
    module.bias_ih_l1.requires_grad_(False)
    unitary = to_unitary(module, 1.0)
    for name, parameter in module.named_parameters():
        assert getattr(unitary, name).requires_grad is parameter.requires_grad
    frozen = to_unitary(network(0, bias=False).requires_grad_(False), 1.0)
    assert not any(p.requires_grad for p in frozen.parameters())


# A converted module says once that it is fed more than it was converted for.


@pytest.mark.wrong_types
def test_inputs_beyond_the_bound_are_reported_once() -> None:
    module, x = network(0), sequences(0, 1.0, torch.float32)
    unitary = to_unitary(module, 1.0, horizon=40)
    unitary(x)  # up to the bound nothing is said: warnings are errors here
    with pytest.warns(UserWarning, match=r"norm 1\.998 is above the input bound 1 ") as said:
        unitary(2 * x)
    assert said[0].filename == __file__
    unitary(2 * x)
    longer = to_unitary(module, 1.0, horizon=39)
    with pytest.warns(UserWarning, match="40 steps are more than the horizon 39"):
        longer(input=x)
    to_unitary(module, 1.0, check=False)(2 * x)
    packed = torch.nn.utils.rnn.pack_sequence([2 * x[:, 0], 2 * x[:3, 1]])
    with pytest.warns(UserWarning, match="norm 1"):
        to_unitary(module, 1.0)(packed)


def ever_longer(dtype: torch.dtype = torch.float64) -> torch.nn.RNN:
    """A network whose states grow with the steps."""
    module = network(0, dtype=dtype)
    with torch.no_grad():
        module.weight_hh_l0.copy_(torch.linalg.qr(torch.randn(5, 5, dtype=dtype))[0])
    return module


@pytest.mark.parametrize("cell", [True, False])
def test_steps_count_from_one_state_to_the_next(cell: bool) -> None:
    """A sequence in pieces, whose state is handed on, is as long as all of it."""
    module, x = ever_longer(), sequences(0, 1.0, torch.float64)[:12]
    if cell:
        alone = torch.nn.RNNCell(3, 5, nonlinearity="relu", dtype=torch.float64)
        state = {name.removesuffix("_l0"): value for name, value in module.state_dict().items()}
        alone.load_state_dict(state)
        module = alone
    unitary = to_unitary(module, 1.0, horizon=12)
    for _ in range(3):  # a sequence that begins anew, without a state or with one of zeros
        h = torch.zeros(*([] if cell else [1]), 6, unitary.hidden_size, dtype=torch.float64)
        for k in range(0, 12, 1 if cell else 3):
            h = unitary(x[k], hx=h) if cell else unitary(x[k : k + 3], h)[1]
    with pytest.warns(UserWarning, match="1[35] steps are more than the horizon 12"):
        unitary(x[0] if cell else x[:3], h)
    unitary(x[0] if cell else x[:3], h)  # said once


def test_a_state_beyond_its_bound_is_reported() -> None:
    module, x = network(0), sequences(0, 1.0, torch.float32)
    h = torch.cat([torch.rand(1, 6, 5), torch.zeros(1, 6, 5)], dim=-1)
    bound = float(h.norm(dim=-1).max())
    with pytest.warns(UserWarning, match=r"a state of norm .* is above the initial bound 0 "):
        to_unitary(module, 1.0)(x, h)
    unitary = to_unitary(module, 1.0, initial_bound=bound)
    unitary(x, h)
    unitary(x, unitary(x, h)[1])  # the state of the last call, which may be larger
    with pytest.warns(UserWarning, match="is above the initial bound"):
        to_unitary(module, 1.0, initial_bound=bound)(x, 1.01 * h)


def test_short_calls_are_checked_a_hundred_times_and_long_ones_always() -> None:
    short, x = to_unitary(network(0), 1.0), sequences(0, 1.0, torch.float32)
    for _ in range(100):
        short(x)
    assert not short._forward_pre_hooks
    long, rows = to_unitary(network(0), 1.0), torch.cat([x] * 5)
    for _ in range(101):
        long(rows)
    with pytest.warns(UserWarning, match="above the input bound"):
        long(2 * rows)


def test_a_call_without_input_is_torchs_to_refuse() -> None:
    with pytest.raises(TypeError):
        to_unitary(network(0), 1.0)()


def test_a_bound_that_requires_a_gradient() -> None:
    to_unitary(network(0), torch.tensor(1.0, requires_grad=True))  # warnings are errors here


SCALED = {
    "a shift": (0.5 * torch.eye(60) + 2 * torch.diag(torch.ones(59), 1), torch.float32),
    "a steep shift": (0.5 * torch.eye(5) + 1e6 * torch.diag(torch.ones(4), 1), torch.float32),
    "a radius just below 1": (torch.tensor([[0.0, 2.0], [0.4999995, 0.0]]), torch.float32),
    "the same in float64": (torch.tensor([[0.0, 2.0], [0.4999995, 0.0]]), torch.float64),
    "an orthogonal one, scaled": (
        0.9999 * torch.linalg.qr(torch.rand(128, 128, generator=torch.Generator()))[0],
        torch.float32,
    ),
    "a norm just above 1": (1.00001 * torch.eye(3), torch.float64),
}


@pytest.mark.parametrize("name", SCALED)
def test_the_advice_of_a_refusal_works_when_it_is_followed(name: str) -> None:
    W, dtype = SCALED[name]
    module = network(0, n=len(W), dtype=dtype)
    with torch.no_grad():
        module.weight_hh_l0.copy_(W)
    with pytest.raises(NotContractiveError) as refused:
        to_unitary(module, 1.0)
    said, followed = str(refused.value), 0
    for way in said.partition("Give ")[2].split("; or "):
        if not way:
            continue
        model = copy.deepcopy(module).double() if "double()" in way else module
        options = {"rescale": "rescale=True" in way, "horizon": 10 if "horizon=T" in way else None}
        unitary = to_unitary(model, 1.0, **options)
        x = sequences(0, 1.0, model.weight_hh_l0.dtype)[:10]
        y, z = model(x)[0], unitary(x)[0][..., : len(W)] / unitary.state_scale[0]
        assert (y - z).abs().max() <= 1e-3 * y.abs().max()
        followed += 1
    assert followed or "Two ways on" in said


def test_the_check_leaves_a_cell_after_its_first_steps() -> None:
    cell = to_unitary(contractive(torch.nn.RNNCell(3, 5, nonlinearity="relu")), 1.0)
    x = sequences(0, 1.0, torch.float32)
    for k in range(100):
        cell(x[k % 40])
    cell(9 * x[0])
    assert not cell._forward_pre_hooks
    other = copy.deepcopy(to_unitary(contractive(torch.nn.RNNCell(3, 5, nonlinearity="relu")), 1.0))
    with pytest.warns(UserWarning, match="above the input bound"):
        other(9 * x[0])


def test_a_converted_module_travels_as_torchs_own_do() -> None:
    unitary, x = to_unitary(network(0), 1.0), sequences(0, 1.0, torch.float32)
    for other in (copy.deepcopy(unitary), pickle.loads(pickle.dumps(unitary))):  # noqa: S301
        assert torch.equal(other(x)[0], unitary(x)[0])
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of torch.nn.RNN's own
        exported = torch.export.export(unitary, (x,)).module()
    torch.testing.assert_close(exported(x)[0], unitary(x)[0])
    assert torch.equal(to_unitary(unitary, 1.0, horizon=40).weight_hh_l0, unitary.weight_hh_l0)


# Networks trained the usual ways.


def trained(module: torch.nn.RNN, steps: int = 60, before: object = None) -> torch.nn.RNN:
    """The adding problem, for a moment: enough to move every weight."""
    torch.manual_seed(0)
    readout = torch.nn.Linear(module.hidden_size, 1)
    optimiser = torch.optim.Adam([*module.parameters(), *readout.parameters()], lr=3e-3)
    for _ in range(steps):
        x = torch.stack([torch.rand(12, 16), torch.zeros(12, 16)], dim=-1)
        x[torch.randint(0, 6, (16,)), torch.arange(16), 1] = 1
        x[torch.randint(6, 12, (16,)), torch.arange(16), 1] = 1
        optimiser.zero_grad()
        error = readout(module(x)[0][-1]) - x.prod(-1).sum(0)[:, None]
        error.square().mean().backward()
        optimiser.step()
    return module


def usual(kind: str) -> torch.nn.RNN:
    torch.manual_seed(1)
    module = torch.nn.RNN(2, 12, 1 + (kind == "two layers"), nonlinearity="relu")
    with torch.no_grad():
        if kind == "identity":
            module.weight_hh_l0.copy_(torch.eye(12))
        if kind == "orthogonal start":
            torch.nn.init.orthogonal_(module.weight_hh_l0)
        if kind == "small":
            module.weight_hh_l0.mul_(0.3)
    if kind in ("contractive", "two layers"):
        contractive(module)
    if kind == "orthogonal":
        torch.nn.utils.parametrizations.orthogonal(module, "weight_hh_l0")
    return trained(module)


@pytest.mark.parametrize(
    "kind",
    ["default", "identity", "orthogonal start", "small", "contractive", "two layers", "orthogonal"],
)
def test_trained_networks_are_converted_or_told_a_way_that_works(kind: str) -> None:
    module = usual(kind)
    x = torch.rand(12, 20, 2)
    if kind == "orthogonal":
        torch.nn.utils.parametrize.remove_parametrizations(module, "weight_hh_l0")
    try:
        unitary = to_unitary(module, 1.5)
    except NotContractiveError as refusal:
        if "horizon=T" in str(refusal):
            unitary = to_unitary(module, 1.5, horizon=12)
        else:
            assert kind in ("default", "identity", "orthogonal start")
            module = nearest_contraction(module, data=x).module
            unitary = to_unitary(trained(contractive(module), 5), 1.5)
    z = unitary(x)[0]
    torch.testing.assert_close(z[..., :12], module(x)[0], rtol=1e-4, atol=1e-4)
    assert (z[..., 12:] == 0).all()


def test_torchs_seed_is_left_alone() -> None:
    module = network(0)
    before = torch.get_rng_state()
    to_unitary(module, 1.0)
    assert torch.equal(before, torch.get_rng_state())
