"""Foreign tensors by tables of key names: read lazily from mapped files, checked, renamed, put into a module.

A table is a row of (pattern, replacement), applied in order to a foreign name; `None` drops the tensor. A name that
then ends in `#0`, `#1`, .. is a piece of the tensor before the `#`, and the pieces are joined along dimension 0. Every
key and shape must be one that the module expects: what is unknown is an error that names it.

Files are memory-mapped. A tensor that is used as it lies in the file costs no memory of its own; one that is converted
or joined is read through a mapping that is closed right after, so that nothing is ever held twice.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from audiogen_cli.errors import CheckpointError
from audiogen_cli.quantizers.vq import VectorQuantizer

Table = Sequence[tuple[str, str | None]]
M = TypeVar("M", bound=nn.Module)

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SCALE = ".int8_scale"
_TOGETHER = 32  # tensors that share one mapping; what is converted is held twice for no more than these
AGAIN = "it is damaged or cut short, so fetch or write it again"


class Source(Protocol):
    """Named tensors in files, not read yet."""

    where: Path

    def shapes(self) -> dict[str, list[int]]: ...

    def read(self, names: Sequence[str]) -> list[Tensor]:
        """Views of a mapping that is made for this call and lives as long as they do."""
        ...


class Safetensors:
    """One file, or those that an index names; of the names that begin with `prefix`, which is cut off."""

    def __init__(self, where: Path, prefix: str = "") -> None:
        self.where = where
        self.prefix = prefix
        self._place = {name: path for path in shards(where) for name in self._names(path)}

    def shapes(self) -> dict[str, list[int]]:
        found = {}
        for path in sorted(set(self._place.values())):
            with _opened(path) as file:
                names = [name for name, place in self._place.items() if place == path]
                found.update({name: list(file.get_slice(self.prefix + name).get_shape()) for name in names})
        return found

    def read(self, names: Sequence[str]) -> list[Tensor]:
        tensors = {}
        for path in sorted({self._place[name] for name in names}):
            with _opened(path) as file:
                here = [name for name in names if self._place[name] == path]
                tensors.update({name: file.get_tensor(self.prefix + name) for name in here})
        return [tensors[name] for name in names]

    def _names(self, path: Path) -> list[str]:
        with _opened(path) as file:
            return [name.removeprefix(self.prefix) for name in file.keys() if name.startswith(self.prefix)]  # noqa: SIM118


class Beside:
    """A source, and the tensors of a second one under a prefix."""

    def __init__(self, first: Source, second: Source, prefix: str) -> None:
        self.where = first.where
        self._first, self._second, self._prefix = first, second, prefix

    def shapes(self) -> dict[str, list[int]]:
        return self._first.shapes() | {self._prefix + name: shape for name, shape in self._second.shapes().items()}

    def read(self, names: Sequence[str]) -> list[Tensor]:
        second = [name for name in names if name.startswith(self._prefix)]
        first = [name for name in names if not name.startswith(self._prefix)]
        tensors = dict(zip(first, self._first.read(first), strict=True))
        tensors |= zip(second, self._second.read([name.removeprefix(self._prefix) for name in second]), strict=True)
        return [tensors[name] for name in names]


class Scaled:
    """A source in which tensors may be 8-bit integers, each row with a scale of its own under NAME + SCALE."""

    def __init__(self, source: Source) -> None:
        self.where = source.where
        self._source = source
        self._names = source.shapes()

    def shapes(self) -> dict[str, list[int]]:
        return {name: shape for name, shape in self._names.items() if not name.endswith(SCALE)}

    def read(self, names: Sequence[str]) -> list[Tensor]:
        scaled = [name for name in names if name + SCALE in self._names]
        scales = dict(zip(scaled, self._source.read([name + SCALE for name in scaled]), strict=True))
        tensors = self._source.read(names)
        return [
            tensor.float() * scales[name].float().view(-1, *[1] * (tensor.dim() - 1)) if name in scales else tensor
            for name, tensor in zip(names, tensors, strict=True)
        ]


def scaled(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """[R, ..] -> the nearest int8 of the same shape, and the scale [R] of each row; zeros stay zeros."""
    rows = tensor.float().flatten(1)
    scale = (rows.abs().amax(1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    return (rows / scale[:, None]).round().to(torch.int8).view(tensor.shape), scale


class Pickled:
    """The tensors in a file of torch.save, under `key` or at its top; only tensors and plain data are accepted."""

    def __init__(self, where: Path, key: str | None = None) -> None:
        self.where = where
        self.key = key

    def shapes(self) -> dict[str, list[int]]:
        return {name: list(tensor.shape) for name, tensor in self._state().items()}

    def read(self, names: Sequence[str]) -> list[Tensor]:
        state = self._state()
        return [state[name] for name in names]

    def _state(self) -> dict[str, Tensor]:
        package = unpickle(self.where)
        state = package if self.key is None else package.get(self.key)
        if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
            raise CheckpointError(f"{self.where} does not hold a flat table of tensors; export it from its trainer.")
        return state


def unpickle(path: Path) -> dict[str, Any]:
    """A file of torch.save, mapped; raises CheckpointError when it is damaged, or wants anything but plain data."""
    mapped = zipfile.is_zipfile(path)
    try:
        package = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        what = f"code ({wanted[1]})" if wanted else "code, or is no file of weights"
        raise CheckpointError(
            f"{path} wants to run {what}, so it was not opened further; get the weights from a source you trust, as "
            "safetensors if there are such."
        ) from error
    except Exception as error:  # a damaged zip or pickle fails in as many ways as it has bytes
        reason = str(error).split("\n")[0] or type(error).__name__
        raise CheckpointError(f"cannot read {path}: {reason}; {AGAIN}.") from error
    if not isinstance(package, dict):
        raise CheckpointError(f"{path} holds no table of tensors; name a file of weights.")
    return package


def shards(where: Path) -> list[Path]:
    """`where` itself, or for a folder model.safetensors, or the files that its index names."""
    if where.is_file():
        return [where]
    if (where / WEIGHTS).is_file():
        return [where / WEIGHTS]
    try:
        index = json.loads((where / INDEX).read_text(encoding="utf-8"))
        names = sorted({Path(str(name)).name for name in index["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{where} has no {WEIGHTS} and no {INDEX} that can be read; {AGAIN}.") from error
    for name in names:
        if not (where / name).is_file():
            raise CheckpointError(f"{where} has no {name}, which its {INDEX} names; {AGAIN}.")
    return [where / name for name in names]


def fill(module: M, source: Source, table: Table, dtype: torch.dtype | None = None) -> M:
    """Gives a module that was made on the meta device its tensors, in `dtype` (None: as they are). In evaluation mode.

    Raises CheckpointError for a tensor that the table makes none of the module's, for one that is missing (unless it is
    only for training: VectorQuantizer makes that up), and for one of another shape.
    """
    plan = _plan(source, table, module.state_dict())
    state: dict[str, Tensor] = {}
    for names in _groups(plan):
        pieces = iter(source.read([theirs for name in names for theirs in plan[name]]))
        for name in names:
            found = [next(pieces) for _ in plan[name]]
            tensor = found[0] if len(found) == 1 else torch.cat(found)
            state[name] = tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
        del pieces, found, tensor
    module.load_state_dict(state, assign=True)
    return module.eval()


def renamed(name: str, table: Table) -> str | None:
    """A foreign name as ours; None is dropped."""
    for pattern, replacement in table:
        if replacement is None:
            if re.search(pattern, name):
                return None
        else:
            name = re.sub(pattern, replacement, name)
    return name


def only_for_training(name: str) -> bool:
    """What a codebook needs to go on learning; we do not store it."""
    return "quantizer." in name and name.rpartition(".")[2] in VectorQuantizer.TRAINING_BUFFERS


def _plan(source: Source, table: Table, expected: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Our name -> the foreign tensors that it is made of, in order."""
    shapes = source.shapes()
    pieces: dict[str, dict[str, str]] = {}
    for theirs in shapes:
        ours = renamed(theirs, table)
        if ours is None:
            continue
        name, _, number = ours.partition("#")
        if name not in expected:
            raise CheckpointError(f"{source.where} has an unexpected tensor '{theirs}'; it is of another model.")
        pieces.setdefault(name, {})[number] = theirs
    for name, tensor in expected.items():
        if name not in pieces and only_for_training(name):
            continue
        if name not in pieces:
            raise CheckpointError(f"{source.where} has no tensor '{name}'; its configuration is another model's.")
        found = [pieces[name][number] for number in sorted(pieces[name])]
        _check_shape(source.where, found, [shapes[theirs] for theirs in found], list(tensor.shape))
    return {name: [numbered[number] for number in sorted(numbered)] for name, numbered in pieces.items()}


def _check_shape(where: Path, names: list[str], shapes: list[list[int]], wanted: list[int]) -> None:
    joined = [sum(shape[0] for shape in shapes), *shapes[0][1:]] if shapes[0] else []
    if joined != wanted or any(shape[1:] != shapes[0][1:] for shape in shapes):
        found = " + ".join(map(str, shapes))
        raise CheckpointError(
            f"{where}: tensor '{names[0]}' has shape {found}, its configuration makes {wanted}; it is of another model."
        )


def _groups(plan: Mapping[str, list[str]]) -> Iterator[list[str]]:
    """Joined tensors apart from single ones, so that a mapping of what was copied does not live on."""
    for single in (True, False):
        names = [name for name, found in plan.items() if (len(found) == 1) == single]
        yield from (names[i : i + _TOGETHER] for i in range(0, len(names), _TOGETHER))


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {path}: {error}; {AGAIN}.") from error
