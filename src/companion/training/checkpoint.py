"""Checkpoints of `fit`: one file for each group of students, checked before anything trusts it."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from companion.theory.files import write_whole
from companion.theory.network import Array
from companion.training.students import State, require

STATE = ("theta", "mean", "square", "diverged")


def digest(*parts: Any) -> str:
    """Hash arrays, with dtype and shape, and whatever else by its repr."""
    h = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            h.update(f"{part.dtype}{part.shape}".encode())
            h.update(np.ascontiguousarray(part).data)
        else:
            h.update(repr(part).encode())
    return h.hexdigest()


def code() -> str:
    """Hash the sources of training: with other code another result may come out."""
    return digest(*(file.read_bytes() for file in sorted(Path(__file__).parent.rglob("*.py"))))


class Checkpoint:
    """The file of one group of students; it says its name and its SHA-256.

    Compiled code reads and writes where shapes tell it to, so a file that is not what it should be,
    since it was damaged, swapped or made by other means, is not used: `load` warns of it.

    Parameters
    ----------
    folder : an existing folder for the file.
    name : of the file; what is trained, on what and by which code must all change it.
    state : where training starts; what is loaded must have its dtypes and shapes.
    records : the numbers of updates after which there is a record.
    made : arrays with a column for each record, which `save` reads and `load` fills in.
    """

    def __init__(
        self, folder: Path, name: str, state: State, records: Array, made: dict[str, Array]
    ) -> None:
        self.path, self.lock = folder / f"{name}.safetensors", folder / ".lock"
        self.state, self.records, self.made = state, records, made
        self.of_a_longer_call = False

    def _arrays(self, state: State, count: int) -> dict[str, Array]:
        """Name the arrays that the file has after ``count`` records."""
        arrays = {name: getattr(state, name) for name in STATE} | {"records": self.records[:count]}
        arrays |= {f"made {name}": a[:, :count] for name, a in self.made.items()}
        return {name: np.ascontiguousarray(a) for name, a in arrays.items()}

    def _says(self, arrays: dict[str, Array]) -> dict[str, str]:
        """Return what stands in the file beside its arrays."""
        parts = (part for name in sorted(arrays) for part in (name, arrays[name]))
        return {"name": self.path.name, "sha256": digest(self.path.name, *parts)}

    def save(self, state: State, count: int) -> None:
        """Write the state after ``count`` records, whole or not at all."""
        if not self.of_a_longer_call:
            arrays = self._arrays(state, count)
            with FileLock(self.lock):
                write_whole(self.path, save(arrays, metadata=self._says(arrays)))

    def load(self) -> tuple[State, int]:
        """Read the last state and its number of records; where none is to be had, the start and 0.

        One of a call with more updates is left alone.
        """
        with FileLock(self.lock):  # who holds it writes: what is half written was left by a kill
            for left in self.path.parent.glob(".*.safetensors.*"):
                left.unlink()
        if not self.path.exists():
            return self.state, 0
        try:
            with safe_open(os.fspath(self.path), framework="numpy") as file:
                says, names = file.metadata() or {}, file.keys()
                arrays = {name: file.get_tensor(name) for name in names}
            require(says == self._says(arrays), "its name or its SHA-256 is another's")
            count, update = len(arrays["records"]), int(arrays["records"][-1])
            self.of_a_longer_call = update > self.records[-1]
            if not np.array_equal(arrays["records"], self.records[:count]):
                return self.state, 0
            for name, like in self._arrays(self.state, count).items():
                a, finite = arrays[name], name in STATE
                require(
                    (a.dtype, a.shape) == (like.dtype, like.shape)
                    and (not finite or np.isfinite(a).all()),
                    f"{name} is {a.dtype} of shape {a.shape}; needed: {like.dtype} of {like.shape}"
                    + ", finite" * finite,
                )
        except (SafetensorError, OSError, KeyError, IndexError, TypeError, ValueError) as error:
            warnings.warn(f"{self.path} is damaged ({error}) and is made again", stacklevel=2)
            return self.state, 0
        for name, values in self.made.items():
            values[:, :count] = arrays[f"made {name}"]
        return State(**{name: arrays[name] for name in STATE}, update=update), count
