"""Networks travel through files unchanged; what is no network is refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from companion.theory.files import KEYS, load_rnn, save_rnn, whole, write_whole
from companion.theory.network import random_rnn
from companion.theory.theorem2 import memoryless_teacher


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_round_trip(tmp_path, dtype, activation):
    rng = np.random.default_rng(0)
    rnn = random_rnn(5, inputs=2, outputs=3, norm=0.9, rng=rng, activation=activation, dtype=dtype)
    save_rnn(rnn, tmp_path / "a.safetensors")
    back = load_rnn(tmp_path / "a.safetensors")
    assert (back.activation, back.dtype) == (activation, dtype)
    for name in KEYS:
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
    return {name: np.array(getattr(rnn, name)) for name in KEYS} | changes


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({k: v for k, v in arrays().items() if k != "C"}, {"activation": "relu"}, "exactly W"),
        (arrays(extra=np.zeros(1)), {"activation": "relu"}, "exactly W"),
        (arrays(), None, "no activation"),
        (arrays(), {"activation": "softplus"}, "softplus"),
        (arrays(b=np.zeros(3)), {"activation": "relu"}, "b has shape"),
        (arrays(b=np.full(2, np.nan)), {"activation": "relu"}, "finite"),
        (arrays(b=np.zeros(2, dtype=np.float16)), {"activation": "relu"}, "float16"),
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
        with pytest.raises(ValueError, match="cannot be read as safetensors"):
            load_rnn(path)
    with pytest.raises(FileNotFoundError):
        load_rnn(tmp_path / "absent")
    with pytest.raises(TypeError, match="floats only"):
        save_rnn(memoryless_teacher(2, dtype=object), path)
