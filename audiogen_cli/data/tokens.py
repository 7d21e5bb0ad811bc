"""Codes of a whole data set on disk: shards of int16 [K, frames], recordings one after another, and one JSON index.

    tokens.json                  {"format": 1, "info": {"codec": ...}, "shards": [{"file": ..., "places": [...]}]}
    tokens-00000.safetensors     "codes" int16 [K, T]

A shard is written before the index names it, so that what an interrupted run leaves is valid and can be gone on with.
What the recordings are is told by the manifest in the same folder.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from audiogen_cli.config import from_dict, to_dict
from audiogen_cli.data import manifest
from audiogen_cli.data.files import replacing
from audiogen_cli.errors import InputError

FORMAT = 1
INDEX = "tokens.json"
SEMANTIC = "semantic"  # the subfolder with the semantic ids of the same recordings, if there are any
_LARGEST_CODE = 2**15 - 1


@dataclass(frozen=True)
class TokenInfo:
    """The codec that the codes belong to: its fingerprint and the shape of its codes."""

    codec: str
    frame_rate: float
    num_codebooks: int
    codebook_size: int


@dataclass(frozen=True)
class Place:
    """Where a recording lies: frames [start, start + frames) of a shard."""

    path: str
    start: int
    frames: int


@dataclass(frozen=True)
class Shard:
    file: str
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Index:
    info: TokenInfo
    shards: tuple[Shard, ...] = ()
    format: int = FORMAT


class Tokens:
    """The recordings of the manifest that have codes, which are read from the shards when asked for."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Raises InputError when the folder has no index, or one that does not fit."""
        self.folder = Path(folder)
        self.index = read_index(self.folder)
        places = {place.path: (shard.file, place) for shard in self.index.shards for place in shard.places}
        self.clips = [clip for clip in manifest.read(self.folder / manifest.NAME) if clip.path in places]
        self._places = [places[clip.path] for clip in self.clips]

    def __len__(self) -> int:
        return len(self._places)

    @property
    def info(self) -> TokenInfo:
        return self.index.info

    def frames(self, number: int) -> int:
        return self._places[number][1].frames

    def codes(self, number: int, start: int = 0, frames: int | None = None) -> Tensor:
        """[K, frames] int64 from frame `start`, to the recording's end at most. Raises InputError for a bad shard."""
        file, place = self._places[number]
        end = place.frames if frames is None else min(place.frames, start + frames)
        try:
            with safe_open(self.folder / file, framework="pt") as shard:
                codes = shard.get_slice("codes")[:, place.start + start : place.start + end]
        except (OSError, SafetensorError) as error:
            path = self.folder / file
            raise InputError(f"cannot read the token shard {path}; run `audiolm prepare --force` again.") from error
        return torch.as_tensor(codes).long()


class TokenWriter:
    """Gathers codes and writes a shard whenever one is full; goes on where an earlier run of the same codec stopped."""

    def __init__(self, folder: str | os.PathLike[str], info: TokenInfo, shard_frames: int = 500_000) -> None:
        """Raises InputError when the folder holds codes of another codec."""
        if info.codebook_size > _LARGEST_CODE + 1:
            raise InputError(
                f"codes of {info.codebook_size} do not fit in 16 bits; use a codec with smaller codebooks."
            )
        self.folder, self.shard_frames = Path(folder), shard_frames
        there = (self.folder / INDEX).exists()
        self.index = read_index(self.folder) if there else Index(info)
        if self.index.info != info:
            raise InputError(f"{folder} holds tokens of another codec; choose another folder, or add --force.")
        self._codes: list[Tensor] = []
        self._places: list[Place] = []

    @property
    def done(self) -> dict[str, Place]:
        """What the shards on disk hold, by path."""
        return {place.path: place for shard in self.index.shards for place in shard.places}

    def add(self, path: str, codes: Tensor) -> None:
        """codes: [K, T] of the recording at `path`, as the manifest names it."""
        start = sum(c.shape[1] for c in self._codes)
        self._codes.append(codes.to(torch.int16).cpu())
        self._places.append(Place(path, start, codes.shape[1]))
        if start + codes.shape[1] >= self.shard_frames:
            self.flush()

    def flush(self) -> None:
        """Writes what was gathered as one more shard, and then the index. Raises OutputError."""
        if not self._places:
            return
        name = f"tokens-{len(self.index.shards):05d}.safetensors"
        data = safetensors.torch.save({"codes": torch.cat(self._codes, dim=1).contiguous()})
        with replacing(self.folder / name, force=True) as file:
            file.write(data)
        self.index = replace(self.index, shards=(*self.index.shards, Shard(name, tuple(self._places))))
        with replacing(self.folder / INDEX, force=True) as file:
            file.write(json.dumps(to_dict(self.index), ensure_ascii=False).encode())
        self._codes, self._places = [], []


def read_index(folder: str | os.PathLike[str]) -> Index:
    path = Path(folder) / INDEX
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"there are no tokens in {folder}; make them with `audiolm prepare`.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}; run `audiolm prepare --force` again.") from error
    return from_dict(Index, data, where=str(path))
