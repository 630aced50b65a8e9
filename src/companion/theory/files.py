"""Files written whole, and arrays in them: the safetensors format, and a network in it.

A safetensors file is the length of a header, the header, in JSON, and the tensors' bytes. Reading
one runs nothing, and asks for no library: a browser does it too.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from companion.theory.network import ACTIVATIONS, RNN, SHAPES, Array


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
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {target.parent}.")
    if target.exists() and not target.is_file():  # a device or a pipe would be replaced
        raise FileExistsError(f"{path} exists and is not a file; name another.")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        temporary.touch()  # with the umask's mode, which writers such as safetensors' do not keep
        mode = stat.S_IMODE((target if target.is_file() else temporary).stat().st_mode)
        yield temporary
        temporary.chmod(mode)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def shown(name: str) -> str:
    """Escape what a terminal would act on in a name from a file."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def write_whole(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write a whole file, text in UTF-8, or nothing."""
    with whole(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


_SIZES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2}
_SIZES |= {"U16": 2, "F8_E5M2": 1, "F8_E4M3": 1, "I8": 1, "U8": 1, "BOOL": 1}  # bytes an entry
_FLOATS = {"F32": "<f4", "F64": "<f8"}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file: its dtype by the format's name, its shape, its bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, array: Array) -> Tensor:
        """Take a float32 or float64 array."""
        dtype = {4: "F32", 8: "F64"}[array.dtype.itemsize]
        return cls(dtype, array.shape, array.astype(_FLOATS[dtype]).tobytes())

    def array(self) -> Array:
        """Return the array, of float32 or float64; ValueError for another dtype."""
        if self.dtype not in _FLOATS:
            raise ValueError(f"{self.dtype}; allowed: F32, F64, for float32 and float64")
        return np.frombuffer(self.data, _FLOATS[self.dtype]).reshape(self.shape)


def no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of JSON, in which no name may stand twice."""
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError(f"one of the names {list(found)!r:.200} is there twice")
    return found


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the metadata and the tensors of a safetensors file.

    Raises
    ------
    ValueError : it is not of this format; says where.
    OSError : it cannot be read.
    """
    if not Path(path).is_file():  # nor a device, which would be read for ever
        raise FileNotFoundError(f"{path} does not exist or is not a file.")
    content = Path(path).read_bytes()
    try:
        size = 8 + int.from_bytes(content[:8], "little")
        if not 8 < size <= min(len(content), 100_000_008):
            raise ValueError("its first 8 bytes are no length of a header")
        header = json.loads(content[8:size], object_pairs_hook=no_twins)
        metadata = header.pop("__metadata__", {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not texts")
        tensors, end = {}, 0
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            dtype, shape, (start, stop) = (entry[k] for k in ("dtype", "shape", "data_offsets"))
            if any(type(v) is not int or v < 0 for v in (*shape, start, stop)):
                raise ValueError(f"{name}: shape and data_offsets must be whole numbers")
            if start != end or stop - start != prod(shape) * _SIZES[dtype]:
                raise ValueError(f"{name}: its bytes {start} to {stop} do not fit {dtype} {shape}")
            end = stop
            tensors[name] = Tensor(dtype, tuple(shape), content[size + start : size + stop])
        if size + end != len(content):
            raise ValueError(f"its tensors end at byte {size + end} of {len(content)}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} is not a safetensors file: {shown(str(said))}.") from error
    return metadata, tensors


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file, whole or not at all; wider entries come first, as aligned."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    ordered = sorted(tensors.items(), key=lambda item: (-_SIZES[item[1].dtype], item[0]))
    end = 0
    for name, tensor in ordered:
        start, end = end, end + len(tensor.data)
        offsets = [start, end]
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(tensor.data for _, tensor in ordered)
    write_whole(path, len(text).to_bytes(8, "little") + text + data)


def save_rnn(rnn: RNN, path: str | os.PathLike[str]) -> None:
    """Write a float network, its activation in the metadata; whole or not at all.

    An exact network is refused: safetensors holds floats only, a certificate holds Fractions.
    """
    if rnn.is_exact:
        raise TypeError("safetensors holds floats only; astype(float) rounds an exact network.")
    tensors = {name: Tensor.of(getattr(rnn, name)) for name in SHAPES}
    write_tensors(path, tensors, {"activation": rnn.activation})


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
    metadata, tensors = read_tensors(path)
    try:
        if tensors.keys() != SHAPES.keys():
            raise ValueError(f"its keys are {sorted(tensors)}; exactly {', '.join(SHAPES)} must be")
        if "activation" not in metadata:
            allowed = f"one of {', '.join(ACTIVATIONS)}"
            raise ValueError(f'its metadata has no activation; put {allowed} under "activation"')
        arrays = {name: tensor.array() for name, tensor in tensors.items()}
        return RNN(**arrays, activation=metadata["activation"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a network: {error}") from error
