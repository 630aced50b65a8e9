"""Trained torch networks, converted: outputs and gradients, layers, files, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from companion import NotContractiveError, convert_file, is_unitary, to_unitary


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
    # 40 steps through a few layers, each adding rounding of n-term sums of entries this large.
    tolerance = 100 * n * torch.finfo(dtype).eps * (y.detach().abs().max() + 1)
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


def test_a_trained_network_that_cannot_be_converted_is_told_why() -> None:
    with pytest.raises(NotContractiveError, match=r"layer 0: ‖W‖₂ is 30"):
        to_unitary(network(5, norm=30.0), 1.0, rescale=True)


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (torch.nn.LSTM(3, 5), TypeError, "LSTM"),
        (torch.nn.RNN(3, 5), ValueError, "tanh"),
        (torch.nn.RNN(3, 5, nonlinearity="relu", bidirectional=True), ValueError, "bidirectional"),
        (torch.nn.RNN(3, 5, 2, nonlinearity="relu", dropout=0.5), ValueError, "dropout"),
        (torch.nn.RNN(3, 5, nonlinearity="relu", dtype=torch.bfloat16), TypeError, "bfloat16"),
    ],
)
def test_unfit_modules_are_refused(
    module: torch.nn.RNN, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        to_unitary(module, 1.0)


def test_parametrized_modules_are_refused() -> None:
    module = torch.nn.utils.parametrizations.orthogonal(network(0), "weight_hh_l0")
    with pytest.raises(ValueError, match="parametrized"):
        to_unitary(module, 1.0)


# Files.


def saved(path: Path, module: torch.nn.Module, prefix: str = "", **metadata: str) -> Path:
    tensors = {prefix + k: v.contiguous() for k, v in module.state_dict().items()}
    save_file(tensors, path, metadata=metadata)
    return path


def test_convert_file(tmp_path: Path) -> None:
    module = network(6, layers=2)
    source = saved(tmp_path / "a.safetensors", module, nonlinearity="relu")
    report = convert_file(source, tmp_path / "b.safetensors", 3.0)
    unitary = torch.nn.RNN(3, 10, 2, nonlinearity="relu")
    unitary.load_state_dict(load_file(tmp_path / "b.safetensors"))
    x = sequences(6, 3.0, torch.float32)
    torch.testing.assert_close(unitary(x)[0][..., :5], module(x)[0])
    assert report.orthogonality <= report.orthogonality_limit
    assert report.difference < 1e-5
    assert (report.hidden_size, report.unitary_size) == (5, 10)
    for word in ("norm", "size", "bound", "orthogonality", "difference"):
        assert word in str(report)
    with safe_open(tmp_path / "b.safetensors", "pt") as file:
        assert file.metadata()["nonlinearity"] == "relu"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_convert_file_keeps_the_rest_of_the_model(tmp_path: Path) -> None:
    model = torch.nn.ModuleDict({"rnn": network(7), "fc": torch.nn.Linear(5, 2)})
    source = saved(tmp_path / "a.safetensors", model)
    report = convert_file(source, tmp_path / "b.safetensors", 1.0, nonlinearity="relu")
    assert set(report.copied) == {"fc.weight", "fc.bias"}
    new = load_file(tmp_path / "b.safetensors")
    assert (new["fc.weight"] == model["fc"].weight).all()
    assert new["rnn.weight_hh_l0"].shape == (10, 10)


def test_convert_file_refuses(tmp_path: Path) -> None:
    good = saved(tmp_path / "good.safetensors", network(8))
    out = tmp_path / "out.safetensors"
    with pytest.raises(ValueError, match="--nonlinearity"):
        convert_file(good, out, 1.0)
    with pytest.raises(ValueError, match="tanh"):
        convert_file(good, out, 1.0, nonlinearity="tanh")
    with pytest.raises(ValueError, match="allowed: relu"):
        convert_file(good, out, 1.0, nonlinearity="gelu")
    said = saved(tmp_path / "said.safetensors", network(8), nonlinearity="tanh")
    with pytest.raises(ValueError, match="says nonlinearity"):
        convert_file(said, out, 1.0, nonlinearity="relu")
    with pytest.raises(ValueError, match="pt"):
        convert_file(tmp_path / "model.pt", out, 1.0, nonlinearity="relu")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        convert_file(tmp_path / "none.safetensors", out, 1.0, nonlinearity="relu")
    (tmp_path / "junk.safetensors").write_bytes(b"\x80\x04junk" * 9)
    with pytest.raises(ValueError, match="not a safetensors file"):
        convert_file(tmp_path / "junk.safetensors", out, 1.0, nonlinearity="relu")
    lstm = saved(tmp_path / "lstm.safetensors", torch.nn.LSTM(3, 5))
    with pytest.raises(ValueError, match="LSTM and GRU"):
        convert_file(lstm, out, 1.0, nonlinearity="relu")
    both = torch.nn.RNN(3, 5, nonlinearity="relu", bidirectional=True)
    with pytest.raises(ValueError, match="bidirectional"):
        convert_file(saved(tmp_path / "two.safetensors", both), out, 1.0, nonlinearity="relu")
    pair = torch.nn.ModuleDict({"a": network(8), "b": network(9)})
    with pytest.raises(ValueError, match="holds 2"):
        convert_file(saved(tmp_path / "pair.safetensors", pair), out, 1.0, nonlinearity="relu")
    tensors = {**network(8).state_dict()}
    del tensors["bias_ih_l0"]
    save_file(tensors, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match="missing"):
        convert_file(tmp_path / "part.safetensors", out, 1.0, nonlinearity="relu")
    wild = saved(tmp_path / "wild.safetensors", network(8, norm=30.0))
    with pytest.raises(NotContractiveError):
        convert_file(wild, out, 1.0, nonlinearity="relu")
    assert not out.exists()
    out.write_text("mine")
    with pytest.raises(FileExistsError, match="--force"):
        convert_file(good, out, 1.0, nonlinearity="relu")
    assert out.read_text() == "mine"
    convert_file(good, out, 1.0, nonlinearity="relu", overwrite=True)
    assert not [p for p in tmp_path.iterdir() if p.suffix != ".safetensors"]  # nothing half-written


def test_torchs_seed_is_left_alone() -> None:
    module = network(0)
    before = torch.get_rng_state()
    to_unitary(module, 1.0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias_hh_l0": None}, "bias_hh_l0 is missing"),
        ({"bias_ih_l0": None}, "bias_ih_l0 is missing"),
        ({"weight_ih_l1": torch.zeros(5, 5)}, "weight_ih_l1 has no place"),
        ({"weight_hr_l0": torch.zeros(2, 5)}, "weight_hr_l0 has no place"),
        ({"weight_hh_l0": torch.zeros(5, 5, dtype=torch.int64)}, "is I64; allowed: F32, F64"),
    ],
)
def test_file_with_parts_missing_or_over_is_refused(
    tmp_path: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    """One bias of two was once dropped, and the file converted to another network."""
    tensors = {k: v for k, v in {**network(0).state_dict(), **change}.items() if v is not None}
    save_file(tensors, tmp_path / "in.safetensors", metadata={"nonlinearity": "relu"})
    with pytest.raises(ValueError, match=message):
        convert_file(tmp_path / "in.safetensors", tmp_path / "out.safetensors", 1.0)
    assert not (tmp_path / "out.safetensors").exists()


def test_destination_must_be_a_file_in_an_existing_folder(tmp_path: Path) -> None:
    source = tmp_path / "in.safetensors"
    save_file(network(0).state_dict(), source, metadata={"nonlinearity": "relu"})
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("none/out.safetensors", "folder.safetensors"):
        with pytest.raises(ValueError, match="a file in an existing folder"):
            convert_file(source, tmp_path / name, 1.0, overwrite=True)
