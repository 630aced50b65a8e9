"""Files written whole, and a network in one: safetensors with keys W, F, b, C, h_init."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from companion.theory.network import ACTIVATIONS, RNN, SHAPES

KEYS = tuple(SHAPES)


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to, which then takes the name ``path``, whole or not at all.

    A link stays a link to the new contents; the mode is that of the file replaced, or the umask's.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole(f"{folder}/note.txt") as temporary:
    ...         _ = temporary.write_text("done")
    ...     sorted(p.name for p in Path(folder).iterdir())
    ['note.txt']
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        temporary.touch()  # with the umask's mode, which writers such as safetensors' do not keep
        mode = stat.S_IMODE((target if target.is_file() else temporary).stat().st_mode)
        yield temporary
        temporary.chmod(mode)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write a whole file, text in UTF-8, or nothing."""
    with whole(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def save_rnn(rnn: RNN, path: str | os.PathLike[str]) -> None:
    """Write a float network, its activation in the metadata; whole or not at all.

    An exact network is refused: safetensors holds floats only, a certificate holds Fractions.
    """
    from safetensors.numpy import save

    if rnn.is_exact:
        raise TypeError("safetensors holds floats only; astype(float) rounds an exact network.")
    arrays = {name: np.ascontiguousarray(getattr(rnn, name)) for name in KEYS}
    write_whole(path, save(arrays, metadata={"activation": rnn.activation}))


def load_rnn(path: str | os.PathLike[str]) -> RNN:
    """Read a network from a safetensors file, such as a student to be refuted.

    Keys W (N, N), F (N, m), b (N,), C (p, N), h_init (N,), all float32 or all float64; the
    activation ("relu", "sigmoid", "tanh", "identity") under that name in the metadata.

    Raises
    ------
    ValueError : if the file is not of this form; says what is missing or wrong.
    OSError : if it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from companion.theory.theorem2 import memoryless_teacher
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_rnn(memoryless_teacher(2, "tanh"), f"{folder}/teacher.safetensors")
    ...     load_rnn(f"{folder}/teacher.safetensors").activation
    'tanh'
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is not a file.")
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata, keys = file.metadata() or {}, set(file.keys())
            missing = [name for name in KEYS if name not in keys]
            if missing or len(keys) != len(KEYS):
                raise ValueError(
                    f"{path} has the keys {sorted(keys)}; exactly {', '.join(KEYS)} are needed."
                )
            if "activation" not in metadata:
                raise ValueError(
                    f"{path} names no activation; put one of {', '.join(ACTIVATIONS)} into its "
                    'metadata under "activation".'
                )
            arrays = {name: file.get_tensor(name) for name in KEYS}
    except (SafetensorError, TypeError, AttributeError) as error:  # such as bfloat16, not in NumPy
        raise ValueError(f"{path} cannot be read as safetensors of floats: {error}") from error
    try:
        return RNN(**arrays, activation=metadata["activation"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a network: {error}") from error
