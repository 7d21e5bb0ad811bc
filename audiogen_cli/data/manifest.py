"""A manifest: one line of JSON for each recording, with what training and attribution need to know.

    {"path": "A/006217c520c9.opus", "caption": "a dog growling", "seconds": 0.4, "source": "cdogs-sdl-data", ...}

Paths are relative to the manifest's own folder, or absolute. The split goes by source, never by recording: two
recordings of one source share microphone, room and often the very dog.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from audiogen_cli.config import from_dict, to_dict
from audiogen_cli.data.files import replacing
from audiogen_cli.errors import ConfigError, InputError

Split = Literal["train", "valid"]
NAME = "manifest.jsonl"


@dataclass(frozen=True)
class Clip:
    """One recording. source: what must not be split; tier: a group of licences ("A" permissive, "B" share-alike)."""

    path: str
    caption: str
    seconds: float
    source: str
    licence: str = ""
    split: Split = "train"
    tier: str = ""
    other_captions: tuple[str, ...] = ()


def read(path: str | os.PathLike[str]) -> list[Clip]:
    """The clips of a manifest, their paths made absolute. InputError when it cannot be read or a line is wrong."""
    path = Path(path)
    folder = path.resolve().parent
    return [replace(clip, path=str(folder / clip.path)) for clip in _lines(path)]


def write(path: str | os.PathLike[str], clips: Iterable[Clip], force: bool = False) -> None:
    """Whole or not at all; paths under the manifest's folder become relative to it. Raises OutputError."""
    folder = Path(path).resolve().parent
    with replacing(path, force) as file:
        for clip in clips:
            clip = replace(clip, path=_relative(clip.path, folder))
            file.write((json.dumps(to_dict(clip), ensure_ascii=False) + "\n").encode())


def select(clips: Iterable[Clip], split: Split | None = None, tiers: Sequence[str] | None = None) -> list[Clip]:
    """The clips of one split, and of some tiers only."""
    return [c for c in clips if (split is None or c.split == split) and (tiers is None or c.tier in tiers)]


def split_by_source(clips: Sequence[Clip], fraction: float = 0.1) -> list[Clip]:
    """Puts whole sources into "valid" until they hold about `fraction` of the seconds; the same ones every time.

    The order is that of the sources' hashes, and a source that would overshoot by half is passed over. With one source,
    or fraction 0, everything is for training.
    """
    seconds: dict[str, float] = {}
    for clip in clips:
        seconds[clip.source] = seconds.get(clip.source, 0.0) + clip.seconds
    wanted, held = fraction * sum(seconds.values()), 0.0
    valid = set()
    for source in sorted(seconds, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if held < wanted and held + seconds[source] <= 1.5 * wanted:
            valid.add(source)
            held += seconds[source]
    return [replace(clip, split="valid" if clip.source in valid else "train") for clip in clips]


def _lines(path: Path) -> list[Clip]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise InputError(f"there is no manifest {path}; make one with `audiolm prepare`.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the manifest {path}: {error}; make it again with `audiolm prepare`.") from error
    clips = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            clips.append(_clip(line, f"{path}, line {number}"))
    return clips


def _clip(line: str, where: str) -> Clip:
    try:
        return from_dict(Clip, json.loads(line), where)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is not JSON; make the manifest again with `audiolm prepare`.") from error
    except ConfigError as error:
        raise InputError(str(error)) from error


def _relative(path: str, folder: Path) -> str:
    absolute = folder / path
    return absolute.relative_to(folder).as_posix() if absolute.is_relative_to(folder) else str(absolute)
