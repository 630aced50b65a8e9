"""Networks in files, converted: reports, readouts, prefixes, and what is refused."""

from __future__ import annotations

import json
import os
import re
import stat
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.utils.prune
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_torch import network

from companion import NotContractiveError, contractive, convert_file, is_unitary
from companion.theory.files import shown


def sequences(bound: float, inputs: int = 3) -> torch.Tensor:
    x = torch.randn(40, 6, inputs, generator=torch.Generator().manual_seed(0))
    return x / x.norm(dim=-1, keepdim=True) * bound * 0.999


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
    x = sequences(3.0)
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
    with pytest.raises(ValueError, match="allowed: identity, relu"):
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
    with pytest.raises(ValueError, match="holds 2 networks"):
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


class Model(torch.nn.Module):
    """A recurrent network and what reads its last state."""

    def __init__(self, n: int, rnn: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.rnn = rnn or torch.nn.RNN(3, n, nonlinearity="relu")
        self.fc = torch.nn.Linear(n, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.rnn(x)[0][-1])


@pytest.mark.parametrize("scaled", [False, True])
def test_the_whole_model_loads_again(tmp_path: Path, scaled: bool) -> None:
    model = Model(5, network(0))
    if scaled:
        d = torch.tensor([1.0, 9.0, 0.1, 1.0, 3.0])
        with torch.no_grad():
            model.rnn.weight_hh_l0.copy_(0.5 * d[:, None] * model.rnn.weight_hh_l0 / d)
    source = saved(tmp_path / "a.safetensors", model)
    out = tmp_path / "b.safetensors"
    options = {"nonlinearity": "relu", "pad_readout": ["fc.weight"], "rescale": scaled}
    report = convert_file(source, out, 3.0, **options)
    again = Model(report.unitary_size)
    again.load_state_dict(load_file(out))
    x = sequences(3.0)
    torch.testing.assert_close(again(x), model(x), rtol=1e-4, atol=1e-4)
    assert report.padded == ("fc.weight",)
    assert report.copied == ("fc.bias",)
    assert ("state scale" in str(report)) is scaled
    with safe_open(out, "pt") as file:
        scale = json.loads(file.metadata().get("state_scale", "[[1, 1, 1, 1, 1]]"))
    assert (max(scale[0]) != min(scale[0])) is scaled


def test_readouts_that_cannot_be_padded_are_refused(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.safetensors", Model(5, network(0)))
    out = tmp_path / "b.safetensors"
    for key, message in {
        "fc.wait": "beside the network the file holds",
        "fc.bias": r"must be \(p, 5\)",
        "rnn.bias_hh_l0": "beside the network",
        "rnn.weight_hh_l0": "beside the network",
    }.items():
        with pytest.raises(ValueError, match=message):
            convert_file(source, out, 1.0, nonlinearity="relu", pad_readout=key)
    assert not out.exists()


def test_one_of_several_networks_by_its_prefix(tmp_path: Path) -> None:
    pair = torch.nn.ModuleDict({"enc": network(1), "dec": network(2)})
    source = saved(tmp_path / "a.safetensors", pair, nonlinearity="relu")
    out = tmp_path / "b.safetensors"
    with pytest.raises(ValueError, match=r"'enc\.', 'dec\.'.*--prefix|'dec\.', 'enc\.'.*--prefix"):
        convert_file(source, out, 1.0)
    with pytest.raises(ValueError, match=r"0 networks with the prefix 'no'"):
        convert_file(source, out, 1.0, prefix="no")
    report = convert_file(source, out, 1.0, prefix="enc.")
    new = load_file(out)
    assert new["enc.weight_hh_l0"].shape == (10, 10)
    assert torch.equal(new["dec.weight_hh_l0"], pair["dec"].weight_hh_l0)
    assert len(report.copied) == 4


def test_what_is_said_of_one_network_is_not_said_of_another(tmp_path: Path) -> None:
    """Two in one file, converted in turn: the nonlinearity, and by what the states are scaled."""
    pair = torch.nn.ModuleDict({"enc": network(1), "dec": network(2)})
    d = torch.tensor([1.0, 9.0, 0.1, 1.0, 3.0])
    with torch.no_grad():
        for rnn in pair.values():
            rnn.weight_hh_l0.copy_(0.5 * d[:, None] * rnn.weight_hh_l0 / d)
    source = saved(tmp_path / "a.safetensors", pair)
    middle, out = tmp_path / "b.safetensors", tmp_path / "c.safetensors"
    options = {"nonlinearity": "relu", "rescale": True}
    convert_file(source, middle, 1.0, prefix="enc.", **options)
    with pytest.raises(ValueError, match="never assumed"):
        convert_file(middle, out, 1.0, prefix="dec.", rescale=True)
    convert_file(middle, out, 2.0, prefix="dec.", **options)
    with safe_open(middle, "pt") as first, safe_open(out, "pt") as second:
        before, after = first.metadata(), second.metadata()
    assert set(before) == {
        f"enc.{k}" for k in ("nonlinearity", "units", "input_bound", "state_scale")
    }
    assert before.items() <= after.items()
    assert (after["enc.input_bound"], after["dec.input_bound"]) == ("1.0", "2.0")
    assert after["enc.state_scale"] != after["dec.state_scale"]
    # once more, without a scaling: what the last conversion did is what the file says
    convert_file(out, middle, 2.0, prefix="dec.", nonlinearity="relu", horizon=9, overwrite=True)
    with safe_open(middle, "pt") as file:
        assert set(json.loads(file.metadata()["dec.state_scale"])[0]) == {1.0}


def test_a_network_at_the_root_beside_one_that_is_parametrised(tmp_path: Path) -> None:
    other = torch.nn.utils.parametrizations.orthogonal(network(1), "weight_hh_l0")
    tensors = {k: v.detach().clone() for k, v in network(0).state_dict().items()}
    tensors |= {f"dec.{k}": v.clone().contiguous() for k, v in other.state_dict().items()}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"nonlinearity": "ReLU"})
    out = tmp_path / "b.safetensors"
    with pytest.raises(ValueError, match="remove_parametrizations"):
        convert_file(tmp_path / "a.safetensors", out, 1.0, prefix="dec.")
    convert_file(tmp_path / "a.safetensors", out, 1.0, prefix="", nonlinearity="relu")
    assert load_file(out)["weight_hh_l0"].shape == (10, 10)


def test_biases_that_are_new_are_named(tmp_path: Path) -> None:
    model = Model(5, network(0, bias=False))
    source = saved(tmp_path / "a.safetensors", model, nonlinearity="relu")
    out = tmp_path / "b.safetensors"
    report = convert_file(source, out, 3.0, pad_readout=["fc.weight"])
    assert report.added == ("rnn.bias_ih_l0", "rnn.bias_hh_l0")
    assert "with bias=True" in str(report)
    again = Model(report.unitary_size)  # which has biases
    again.load_state_dict(load_file(out))
    x = sequences(3.0)
    torch.testing.assert_close(again(x), model(x), rtol=1e-4, atol=1e-4)


def test_a_cell_and_an_initial_bound(tmp_path: Path) -> None:
    torch.manual_seed(0)
    cell = contractive(torch.nn.RNNCell(3, 5, nonlinearity="relu"))
    torch.nn.utils.parametrize.remove_parametrizations(cell, "weight_hh")
    source = saved(tmp_path / "a.safetensors", cell, nonlinearity="relu")
    out = tmp_path / "b.safetensors"
    convert_file(source, out, 1.0, initial_bound=5.0)
    unitary = torch.nn.RNNCell(3, 10, nonlinearity="relu")
    unitary.load_state_dict(load_file(out))
    h = torch.randn(6, 5)
    h *= 5 / h.norm(dim=1, keepdim=True) * 0.999
    g = torch.cat([h, torch.zeros(6, 5)], dim=1)
    for x in sequences(1.0):
        h, g = cell(x, h), unitary(x, g)
        torch.testing.assert_close(g[:, :5], h)


@pytest.mark.parametrize(
    "disguise",
    [
        lambda m: torch.nn.utils.parametrizations.orthogonal(m, "weight_hh_l0"),
        lambda m: torch.nn.utils.parametrizations.spectral_norm(m, "weight_hh_l0"),
        lambda m: torch.nn.utils.parametrizations.weight_norm(m, "weight_ih_l0"),
        contractive,
        lambda m: torch.nn.utils.weight_norm(m, "weight_hh_l0"),
        lambda m: torch.nn.utils.spectral_norm(m, "weight_hh_l0"),
        lambda m: torch.nn.utils.prune.l1_unstructured(m, "weight_hh_l0", 0.5),
    ],
)
def test_raw_weights_are_named_and_refused(tmp_path: Path, disguise) -> None:
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        model = Model(5, disguise(network(0)))
    tensors = {k: v.detach().clone().contiguous() for k, v in model.state_dict().items()}
    out = tmp_path / "b.safetensors"
    for extra in ({}, {"rnn.weight_hh_l0": torch.eye(5)}):  # derived weights beside raw ones, too
        save_file(tensors | extra, tmp_path / "a.safetensors", metadata={"nonlinearity": "relu"})
        with pytest.raises(ValueError, match=r"rnn\.\S*weight_[ih]h_l0\S*.*remove_parametriz"):
            convert_file(tmp_path / "a.safetensors", out, 1.0)
    assert not out.exists()


def test_the_weights_named_by_a_refusal_are_those_of_the_file(tmp_path: Path) -> None:
    cell = contractive(torch.nn.RNNCell(3, 5, nonlinearity="relu"))
    two = contractive(network(0, layers=2))
    for module, names in ((cell, "weight_hh"), (two, "weight_hh_l0, weight_hh_l1")):
        source = saved(tmp_path / "a.safetensors", module, nonlinearity="relu")
        with pytest.raises(ValueError, match=rf"remove_parametrizations.* among {names}\.$"):
            convert_file(source, tmp_path / "b.safetensors", 1.0)


def test_overflow_is_not_reported_as_a_difference(tmp_path: Path) -> None:
    module = network(0)
    for second, message in ((0.0, "range of float32"), (3e38, "finite")):
        with torch.no_grad():
            module.bias_ih_l0.fill_(3e38)
            module.bias_hh_l0.fill_(second)
        source = saved(tmp_path / "a.safetensors", module, nonlinearity="relu")
        with pytest.raises(ValueError, match=message):
            convert_file(source, tmp_path / "b.safetensors", 1.0)
    assert not (tmp_path / "b.safetensors").exists()


def test_a_difference_that_is_no_number_is_refused(tmp_path: Path) -> None:
    """The bias M fits into float32, and the network's own states, 70 times as large, do not."""
    tensors = {"weight_ih": torch.ones(1, 1), "weight_hh": torch.full((1, 1), 0.99)}
    tensors |= {"bias_ih": torch.full((1,), 2e37), "bias_hh": torch.zeros(1)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"nonlinearity": "relu"})
    with pytest.raises(ValueError, match="outputs overflow"):
        convert_file(tmp_path / "a.safetensors", tmp_path / "b.safetensors", 1.0)
    assert not (tmp_path / "b.safetensors").exists()


def test_names_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\u202etxt"
    tensors = {**network(0).state_dict(), evil: torch.zeros(1)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"nonlinearity": "relu"})
    report = str(convert_file(tmp_path / "a.safetensors", tmp_path / "b.safetensors", 1.0))
    assert re.search(r"\\x1b\[2J.*\\u202etxt", report)
    assert shown(report.replace("\n", "")) == report.replace("\n", "")
    tensors = {evil + k: v for k, v in network(0).state_dict().items() if k != "bias_hh_l0"}
    save_file(tensors, tmp_path / "c.safetensors", metadata={"nonlinearity": "relu"})
    with pytest.raises(ValueError, match="is missing") as refused:
        convert_file(tmp_path / "c.safetensors", tmp_path / "d.safetensors", 1.0)
    assert shown(str(refused.value)) == str(refused.value)


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
def test_the_file_written_has_the_mode_and_the_link_that_were_there(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.safetensors", network(0), nonlinearity="relu")
    before = os.umask(0o027)
    try:
        convert_file(source, tmp_path / "new.safetensors", 1.0)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.safetensors").stat().st_mode) == 0o640
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "real.safetensors", tmp_path / "link.safetensors"
    real.write_bytes(b"old")
    real.chmod(0o604)
    link.symlink_to(real)
    convert_file(source, link, 1.0, overwrite=True)
    assert link.is_symlink()
    assert len(load_file(real)) == 4
    assert stat.S_IMODE(real.stat().st_mode) == 0o604
    assert [p.name for p in real.parent.iterdir()] == ["real.safetensors"]


def test_half_precision_files_are_told_to_be_saved_as_float(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.safetensors", network(0).half(), nonlinearity="relu")
    with pytest.raises(ValueError, match=r"float\(\)"):
        convert_file(source, tmp_path / "b.safetensors", 1.0)


def test_a_file_that_needs_a_horizon_says_so_and_gets_it(tmp_path: Path) -> None:
    module = network(0)
    with torch.no_grad():
        module.weight_hh_l0.copy_(torch.linalg.qr(torch.randn(5, 5))[0])
    source = saved(tmp_path / "a.safetensors", module, nonlinearity="relu")
    out = tmp_path / "b.safetensors"
    with pytest.raises(ValueError, match="--horizon T"):
        convert_file(source, out, 1.0)
    assert convert_file(source, out, 1.0, horizon=9).difference < 1e-5
    assert is_unitary(load_file(out)["weight_hh_l0"].numpy())
