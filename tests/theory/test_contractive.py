"""Contractive by construction: the cut and its gradients, training under it, the way out."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from companion import contractive, is_contractive, nearest_contraction, spectral_norm, to_unitary
from companion.theory.contractive import cut_class

seeds = st.integers(0, 2**31)


def orthogonal(n: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def with_values(seed: int, values: list[float]) -> torch.Tensor:
    rng, n = np.random.default_rng(seed), len(values)
    return torch.tensor((orthogonal(n, rng) * np.array(values)) @ orthogonal(n, rng))


def relu(seed: int, n: int = 6, layers: int = 1, **options: object) -> torch.nn.RNN:
    torch.manual_seed(seed)
    return torch.nn.RNN(2, n, layers, **{"nonlinearity": "relu", **options})


@given(seed=seeds, n=st.integers(1, 8), norm=st.sampled_from([0.3, 0.9, 1.0]))
def test_the_cut_is_the_nearest_contraction_and_cuts_once(seed: int, n: int, norm: float) -> None:
    rng = np.random.default_rng(seed)
    W = torch.tensor(rng.standard_normal((n, n)))
    cut = cut_class()(norm)
    near = cut(W)
    assert torch.linalg.matrix_norm(near, 2) <= norm * (1 + 10 * n * torch.finfo(W.dtype).eps)
    assert torch.equal(cut(near), near)
    assert torch.equal(cut(norm * near / 2), norm * near / 2)  # inside nothing is touched
    for _ in range(5):
        other = cut(near + torch.tensor(rng.standard_normal((n, n))) * 0.1)
        assert (W - near).norm() <= (W - other).norm() + 1e-12


VALUES = [
    [1.5, 1.2, 0.5, 0.3],
    [1.5, 1.5, 1.5, 0.2],  # repeated above
    [1.3, 0.5, 0.5, 0.5],  # and below
    [2.0, 2.0, 0.0, 0.0],  # singular
    [0.5, 0.5, 0.0, 0.0],
    [3.0],
]


@pytest.mark.parametrize("values", VALUES)
@given(seed=seeds)
@settings(max_examples=5)
def test_gradients_are_right_where_singular_values_coincide_too(
    seed: int, values: list[float]
) -> None:
    W = with_values(seed, values).requires_grad_()
    assert torch.autograd.gradcheck(cut_class()(0.9), (W,))


def test_gradients_that_torchs_own_svd_does_not_have() -> None:
    """The same formula left to autograd divides by s² − s² = 0."""
    W = torch.diag(torch.tensor([1.5, 1.5], dtype=torch.float64)).requires_grad_()
    P, s, Qt = torch.linalg.svd(W)
    (naive,) = torch.autograd.grad(((P * s.clamp(max=0.9)) @ Qt)[0, 1], W)
    assert not naive.isfinite().all()
    (ours,) = torch.autograd.grad(cut_class()(0.9)(W)[0, 1], W)
    assert ours.isfinite().all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: relu(0, layers=2),
        lambda: torch.nn.RNN(2, 6, bidirectional=True),
        lambda: torch.nn.RNNCell(2, 6, nonlinearity="relu"),
        lambda: torch.nn.ModuleDict({"a": relu(1), "b": torch.nn.Linear(6, 2)}),
    ],
)
def test_every_recurrent_weight_stays_contractive_under_training(make) -> None:
    torch.manual_seed(0)
    module = make()
    assert contractive(module, 0.9) is module
    parts = [m for m in module.modules() if isinstance(m, torch.nn.RNN | torch.nn.RNNCell)]
    weights = [(m, n) for m in parts for n in list(m.parametrizations)]
    assert len(weights) == {"RNN": 2, "RNNCell": 1}.get(type(module).__bases__[0].__name__, 1)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.2)
    before = [getattr(m, n).detach().clone() for m, n in weights]
    for step in range(10):
        x = torch.randn(5, 3, 2)
        losses = []
        for part in parts:
            y = part(x[0], part(x[1])) if isinstance(part, torch.nn.RNNCell) else part(x)[0]
            losses.append(-y.square().mean())  # pushes every norm up
        optimiser.zero_grad()
        sum(losses).backward()
        optimiser.step()
        for m, n in weights:
            W = getattr(m, n).detach()
            assert spectral_norm(W.numpy()) <= 0.9 * (1 + 10 * len(W) * 1.2e-7), step
    assert all(not torch.equal(getattr(m, n), b) for (m, n), b in zip(weights, before, strict=True))


def test_it_can_be_taken_off_asked_twice_and_saved() -> None:
    module = contractive(contractive(relu(2), 0.8), 0.8)
    assert len(module.parametrizations["weight_hh_l0"]) == 1
    with pytest.raises(ValueError, match="remove_parametrizations"):
        contractive(module, 0.5)
    other = contractive(relu(3), 0.8)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.weight_hh_l0, module.weight_hh_l0)
    x = torch.randn(4, 3, 2)
    torch.testing.assert_close(copy.deepcopy(module)(x)[0], module(x)[0])
    with torch.no_grad():
        module.weight_hh_l0 = 3 * torch.eye(6)  # assigned, it is cut
    torch.testing.assert_close(module.weight_hh_l0, 0.8 * torch.eye(6))
    W = module.weight_hh_l0.detach().clone()
    remove_parametrizations(module, "weight_hh_l0")
    assert not is_parametrized(module)
    assert torch.equal(module.weight_hh_l0, W)
    assert "norm=0.8" in repr(other)


@pytest.mark.wrong_types
@pytest.mark.parametrize("norm", [0, -1, 1.1, float("nan")])
def test_bad_norms_are_refused(norm: object) -> None:
    with pytest.raises(ValueError, match="norm is"):
        contractive(relu(0), norm)


@pytest.mark.wrong_types
def test_a_norm_is_any_real_number_and_nothing_else() -> None:
    for norm in (np.float64(0.9), np.array(0.9), torch.tensor(0.9, dtype=torch.float64)):
        assert contractive(relu(0), norm).parametrizations.weight_hh_l0[0].norm == 0.9
    for bad in ("0.9", True, None, torch.ones(2)):
        with pytest.raises(TypeError, match="norm is"):
            contractive(relu(0), bad)


def test_the_norm_holds_under_autocast() -> None:
    """And gradients stay those of the weight's own precision."""
    module = contractive(relu(0, n=16), norm=1.0)
    original = module.parametrizations.weight_hh_l0.original
    with torch.no_grad():
        original.mul_(2)  # as a step of an optimiser may
    limit = 1 + 10 * 16 * torch.finfo(torch.float32).eps
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.linalg.matrix_norm(module.weight_hh_l0.detach(), 2) <= limit
        module.weight_hh_l0.square().sum().backward()
    under = original.grad.clone()
    original.grad = None
    module.weight_hh_l0.square().sum().backward()
    torch.testing.assert_close(under, original.grad, rtol=0.02, atol=0.02)


def test_transforms_of_functions_go_through_the_cut() -> None:
    """As through torch's own parametrisations; against the gradients of autograd."""
    torch.manual_seed(0)
    cell = contractive(torch.nn.RNNCell(3, 4, nonlinearity="relu", dtype=torch.float64), 0.5)
    with torch.no_grad():
        cell.parametrizations.weight_hh.original.mul_(2)
    x, h = torch.rand(2, 3, dtype=torch.float64), torch.rand(2, 4, dtype=torch.float64)
    weights = dict(cell.named_parameters())

    def total(given: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(cell, given, (x, h)).sum()

    cell(x, h).sum().backward()
    for found in (torch.func.grad(total)(weights), torch.func.jacrev(total)(weights)):
        for name, parameter in cell.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad)
    W = torch.rand(5, 4, 4, dtype=torch.float64)
    each = torch.func.vmap(cell.parametrizations.weight_hh[0])(W)
    assert torch.equal(each, torch.stack([cell.parametrizations.weight_hh[0](one) for one in W]))


def test_weights_that_have_no_cut_are_refused_before_any_is_changed() -> None:
    module = relu(0, layers=2)
    with torch.no_grad():
        module.weight_hh_l1[0, 0] = float("nan")
    half = relu(0, dtype=torch.float16)
    for work in (contractive, nearest_contraction):
        with pytest.raises(ValueError, match="weight_hh_l1 has entries that are infinite or nan"):
            work(module)
        assert not is_parametrized(module)
        with pytest.raises(TypeError, match=r"float16; allowed.*module\.float\(\)"):
            work(half)
        for other in (None, "rnn", [module]):
            with pytest.raises(TypeError, match=r"has no torch\.nn\.RNN"):
                work(other)
    contractive(half.float())


def test_the_part_of_a_model_is_named_by_a_call_that_works() -> None:
    orthogonal = torch.nn.utils.parametrizations.orthogonal
    module = torch.nn.ModuleDict({"first": relu(0), "other": orthogonal(relu(0), "weight_hh_l0")})
    with pytest.raises(ValueError, match="made of other values") as refused:
        contractive(module)
    way = "remove_parametrizations(module.get_submodule('other'), 'weight_hh_l0')"
    assert way in str(refused.value)
    remove_parametrizations(module.get_submodule("other"), "weight_hh_l0")
    contractive(module)


def test_packed_data() -> None:
    module = relu(0)
    with torch.no_grad():
        module.weight_hh_l0.mul_(4)
    rows = [torch.rand(3, 2), torch.rand(2, 2)]
    packed = torch.nn.utils.rnn.pack_sequence(rows)
    moved = [nearest_contraction(module, data=row).moved for row in rows]
    for data in (packed, (packed,)):
        assert nearest_contraction(module, data=data).moved == pytest.approx(max(moved))


def test_what_has_no_recurrent_weight_is_refused() -> None:
    for module in (torch.nn.Linear(2, 2), torch.nn.LSTM(2, 3)):
        with pytest.raises(TypeError, match=type(module).__name__):
            contractive(module)
    old = torch.nn.utils.parametrizations.orthogonal(relu(0), "weight_hh_l0")
    with pytest.raises(ValueError, match="weight_hh_l0 is no plain Parameter"):
        contractive(old)


def test_a_network_trained_under_it_converts_as_it_is() -> None:
    module = contractive(relu(4), 0.95)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.05)
    x = torch.randn(20, 8, 2).clamp(-1, 1)
    for _ in range(20):
        optimiser.zero_grad()
        (module(x)[0] - 1).square().mean().backward()
        optimiser.step()
    unitary = to_unitary(module, input_bound=2.0)
    assert unitary.hidden_size <= 12
    torch.testing.assert_close(unitary(x)[0][..., :6], module(x)[0])
    assert is_contractive(module.weight_hh_l0.detach().numpy())


@pytest.mark.parametrize("n", [1, 2, 8, 60])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whatever_training_leaves_at_norm_one_converts(n: int, dtype: torch.dtype) -> None:
    """A step may end some roundings above the cut: not cut there, it was refused here."""
    for roundings in range(12):
        module = relu(roundings, n, dtype=dtype)
        with torch.no_grad():
            top = torch.linalg.matrix_norm(module.weight_hh_l0, 2)
            module.weight_hh_l0 *= (1 + roundings * n * torch.finfo(dtype).eps) / top
        to_unitary(contractive(module, 1.0), 1.0, horizon=5)


def test_the_nearest_contraction_says_how_far_outputs_move() -> None:
    module = relu(5, layers=2)
    with torch.no_grad():
        module.weight_hh_l1.mul_(3)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    x = torch.randn(10, 4, 2)
    near = nearest_contraction(module, 0.9, data=x)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert not is_parametrized(near.module)
    assert near.norms[1] == pytest.approx(spectral_norm(module.weight_hh_l1.detach().numpy()))
    for name in ("weight_hh_l0", "weight_hh_l1"):
        assert spectral_norm(getattr(near.module, name).detach().numpy()) <= 0.9 * (1 + 1e-5)
    assert near.moved == float((near.module(x)[0] - module(x)[0]).detach().abs().max()) > 0
    assert near.rms <= near.moved
    assert f"{near.moved:.3g}" in str(near)
    to_unitary(near.module, 10.0)
    inside = nearest_contraction(near.module, 0.9, data=(x,))
    assert (inside.moved, inside.distance) == (0.0, 0.0)
    assert np.isnan(nearest_contraction(module).moved)
    cell = torch.nn.RNNCell(2, 6, nonlinearity="relu")
    assert nearest_contraction(cell, 0.1, data=x).moved > 0


@pytest.mark.parametrize(
    "disguise", [contractive, lambda m: torch.nn.utils.parametrizations.orthogonal(m, "weight_hh")]
)
def test_a_trained_and_parametrised_module_is_refused_by_a_way_that_works(disguise) -> None:
    torch.manual_seed(0)
    cell = disguise(torch.nn.RNNCell(2, 6, nonlinearity="relu"))
    cell(torch.randn(3, 2)).sum().backward()
    with pytest.raises(ValueError, match=r"remove_parametrizations\(module, 'weight_hh'\)"):
        nearest_contraction(cell, 0.5)
    remove_parametrizations(cell, "weight_hh")
    assert nearest_contraction(cell, 0.5).distance > 0.4


def test_nothing_is_done_to_a_model_of_which_a_part_is_refused() -> None:
    model = torch.nn.ModuleList([relu(0), relu(1)])
    torch.nn.utils.parametrizations.orthogonal(model[1], "weight_hh_l0")
    with pytest.raises(ValueError, match="weight_hh_l0"):
        contractive(model)
    assert not is_parametrized(model[0])


def test_modes_are_left_as_they_were() -> None:
    module = torch.nn.Sequential(torch.nn.Dropout(0.5), relu(0)).train()
    module[0].eval()
    nearest_contraction(module, data=torch.randn(3, 2, 2))
    assert [m.training for m in module.modules()] == [True, False, True]
