"""Networks travel through files unchanged; what is no network is refused with a reason."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from companion.theory.files import (
    Tensor,
    load_rnn,
    read_tensors,
    save_rnn,
    whole,
    write_tensors,
    write_whole,
)
from companion.theory.network import SHAPES, random_rnn
from companion.theory.theorem2 import memoryless_teacher


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_round_trip(tmp_path, dtype, activation):
    rng = np.random.default_rng(0)
    rnn = random_rnn(5, inputs=2, outputs=3, norm=0.9, rng=rng, activation=activation, dtype=dtype)
    save_rnn(rnn, tmp_path / "a.safetensors")
    back = load_rnn(tmp_path / "a.safetensors")
    assert (back.activation, back.dtype) == (activation, dtype)
    for name in SHAPES:
        np.testing.assert_array_equal(getattr(back, name), getattr(rnn, name))
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    target = tmp_path / "note.txt"
    write_whole(target, "before")

    def fail() -> None:
        with whole(target) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert target.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def arrays(**changes):
    rnn = memoryless_teacher(2)
    return {name: np.array(getattr(rnn, name)) for name in SHAPES} | changes


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({k: v for k, v in arrays().items() if k != "C"}, {"activation": "relu"}, "exactly W"),
        (arrays(extra=np.zeros(1)), {"activation": "relu"}, "exactly W"),
        (arrays(), None, "no activation"),
        (arrays(), {"activation": "softplus"}, "softplus"),
        (arrays(b=np.zeros(3)), {"activation": "relu"}, "b has shape"),
        (arrays(b=np.full(2, np.nan)), {"activation": "relu"}, "finite"),
        (arrays(b=np.zeros(2, dtype=np.float16)), {"activation": "relu"}, "F16; allowed: F32"),
    ],
)
def test_what_is_no_network_is_refused(tmp_path, tensors, metadata, message):
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ValueError, match=message):
        load_rnn(path)


def test_what_is_no_safetensors_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    for content in (b"", b"pickle", b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a safetensors file"):
            load_rnn(path)
    with pytest.raises(FileNotFoundError):
        load_rnn(tmp_path / "absent")
    with pytest.raises(TypeError, match="floats only"):
        save_rnn(memoryless_teacher(2, dtype=object), path)


def test_the_format_is_the_librarys_to_the_byte(tmp_path):
    given = {"b": np.arange(6.0).reshape(2, 3), "a": np.float32([1, 2, 3]), "ü": np.zeros((0, 4))}
    save_file(given, tmp_path / "theirs", metadata={"activation": "relu"})
    metadata, tensors = read_tensors(tmp_path / "theirs")
    write_tensors(tmp_path / "ours", tensors, metadata)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    for name, array in load_file(tmp_path / "ours").items():
        np.testing.assert_array_equal(tensors[name].array(), array)
        assert Tensor.of(array) == tensors[name]


def header(**changes):
    entry = {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]} | changes
    return json.dumps({"b": {k: v for k, v in entry.items() if v is not None}})


@pytest.mark.parametrize(
    ("text", "body"),
    [
        (header(), 8),  # cut short
        (header(), 24),  # with bytes of nobody
        (header(data_offsets=[8, 24]), 24),  # a hole
        (header(shape=[3]), 16),
        (header(shape=[-2]), 16),
        (header(shape=[2.0]), 16),
        (header(shape=[True, 2]), 16),
        (header(shape=[10**30]), 16),
        (header(dtype="O"), 16),
        (header(dtype=None), 16),
        (header(data_offsets=[0]), 16),
        ('{"b": ' + header()[6:-1] + ", " + header()[1:], 16),  # twice
        ("[" * 100_000, 16),
        ("[1]", 16),
        ('{"__metadata__": {"a": 1}}', 0),
        ('{"__metadata__": []}', 0),
        ('{"b": 3}', 0),
    ],
)
def test_a_hostile_header_is_refused(tmp_path, text, body):
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + bytes(body))
    with pytest.raises(ValueError, match="not a safetensors file"):
        read_tensors(path)


@given(data=st.binary(max_size=200))
def test_no_bytes_raise_anything_else(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    for content in (data, len(data).to_bytes(8, "little") + data):
        path.write_bytes(content)
        with suppress(ValueError):
            read_tensors(path)
