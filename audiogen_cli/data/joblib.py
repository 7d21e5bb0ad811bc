"""The arrays of a joblib file (scikit-learn's habit of saving), read without executing the pickle that it is.

HuBERT's published k-means (`hubert_base_ls960_L9_km500.bin`) is such a file. Its classes are never looked up: every
name in it becomes an inert record of what the pickle says, and only plain numeric arrays are taken out.

A file is a pickle in which each array is an object of class NumpyArrayWrapper (shape, order, dtype), and the array's
raw bytes follow at once; newer files put a byte with the length of a padding, and the padding, between them.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from audiogen_cli.errors import InputError


class Record:
    """What stands in for an object of any class: its name, the arguments it was made with and its state."""

    name = ""

    def __new__(cls, *args: Any, **more: Any) -> Record:
        record = super().__new__(cls)
        record.args, record.state = args, None
        return record

    def __init__(self, *args: Any, **more: Any) -> None:
        self.args: tuple[Any, ...]
        self.state: Any

    def __setstate__(self, state: Any) -> None:
        self.state = state


_Unpickler: Any = pickle._Unpickler  # the one in Python, whose steps can be overridden


class _Reader(_Unpickler):  # type: ignore[misc]
    dispatch: ClassVar[dict[int, Any]] = dict(_Unpickler.dispatch)

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.file = file

    def find_class(self, module: str, name: str) -> type[Record]:
        return type("Record", (Record,), {"name": name})

    def load_build(self) -> None:
        super().load_build()
        if isinstance(self.stack[-1], Record) and self.stack[-1].name == "NumpyArrayWrapper":
            self.stack[-1] = _array(self.file, self.stack[-1].state)

    dispatch[pickle.BUILD[0]] = load_build


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The attributes of the one object in the file. Raises InputError when it is no such file."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            found = _Reader(file).load()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; check the path.") from error
    except Exception as error:  # a pickle can be wrong in any way
        raise InputError(
            f"{path} is not an uncompressed joblib file: {error}; save it again without compress."
        ) from error
    if not isinstance(found, Record) or not isinstance(found.state, dict):
        raise InputError(f"{path} holds no saved estimator; give the k-means that was saved with joblib.")
    return found.state


def _array(file: IO[bytes], about: dict[str, Any]) -> np.ndarray:
    dtype, shape = _dtype(about["dtype"]), tuple(int(n) for n in about["shape"])
    if about.get("numpy_array_alignment_bytes") is not None:
        file.read(file.read(1)[0])
    data = file.read(dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
    if about["order"] == "F":
        return np.frombuffer(data, dtype).reshape(shape[::-1]).T
    return np.frombuffer(data, dtype).reshape(shape)


def _dtype(record: Record) -> np.dtype:
    """A pickled dtype: ("f4", ..) and a state whose second entry is the byte order."""
    code = str(record.args[0])
    if code[:1] not in "fiub":
        raise ValueError(f"an array of type {code}")
    order: Any = record.state[1] if record.state else "|"
    return np.dtype(code).newbyteorder(order)
