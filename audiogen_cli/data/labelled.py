"""Finds the recordings of a folder and what they are called.

Captions come from, in this order: a CSV or JSONL file (the one named, or captions.* or metadata.* in the folder), a
sidecar beside each recording (dog.txt, or dog.json with "description" as AudioCraft has it), the name of the file or of
its folder.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from audiogen_cli.data import audio
from audiogen_cli.data.manifest import Split
from audiogen_cli.errors import InputError

_LISTS = tuple(f"{stem}{suffix}" for stem in ("captions", "metadata") for suffix in (".csv", ".tsv", ".jsonl"))
_FILE_KEYS = ("file", "path", "file_name", "filename", "audio", "audio_path", "filepath")
_CAPTION_KEYS = ("caption", "captions", "description", "text", "label", "title")
_SPLITS: dict[str, Split] = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "test": "valid"}


class Labelled(NamedTuple):
    """A recording and what is known about it before it is opened; source "" is not known."""

    path: Path
    captions: tuple[str, ...]
    source: str = ""
    licence: str = ""
    split: Split | None = None
    tier: str = ""


class Problem(NamedTuple):
    """A file that could not be used, and why."""

    path: str
    reason: str


@dataclass
class Listing:
    recordings: list[Labelled] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def find(
    folder: str | os.PathLike[str], captions: str | os.PathLike[str] | None = None, uncaptioned: bool = False
) -> Listing:
    """uncaptioned: recordings that nothing names count too, with "" for a caption.

    Raises InputError when the folder or the captions file cannot be used, or there is no recording at all."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name the folder that holds the recordings.")
    table = Path(captions) if captions is not None else next((p for n in _LISTS if (p := folder / n).is_file()), None)
    listing = _from_table(folder, table) if table is not None else _from_folder(folder, uncaptioned)
    if not listing.recordings and not listing.problems:
        kinds = ", ".join(audio.SUFFIXES)
        raise InputError(f"{table or folder} holds no recordings; put files there that end in {kinds}.")
    return listing


def caption_from_name(path: Path, folder: Path) -> str:
    """ "dog_bark-03.wav" -> "dog bark"; without words the folder says it: "007 - Helicopter" -> "helicopter"."""
    names = [path.stem, *(parent.name for parent in path.parents if parent != folder and parent.is_relative_to(folder))]
    return next((words for name in names if (words := _words(name))), "")


def _words(name: str) -> str:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"[\W_]+", " ", name))
    found = (re.fullmatch(r"([^\W\d]{2,})\d*", token) for token in spaced.split())
    return " ".join(match[1].lower() for match in found if match)


def _from_folder(folder: Path, uncaptioned: bool) -> Listing:
    listing = Listing()
    for path in sorted(_walk(folder)):
        try:
            captions = _sidecar(path) or (caption_from_name(path, folder),)
        except (OSError, ValueError) as error:
            listing.problems.append(Problem(str(path), f"its sidecar cannot be read ({error})"))
            continue
        if captions[0] or uncaptioned:
            listing.recordings.append(Labelled(path, captions))
        else:
            listing.problems.append(Problem(str(path), "no caption: it has no sidecar, and no name with words"))
    return listing


def _walk(folder: Path) -> Iterable[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith(".") and name.lower().endswith(audio.SUFFIXES):
                yield Path(parent, name)


def _sidecar(path: Path) -> tuple[str, ...]:
    """The captions beside a recording, () when there are none. Raises ValueError for JSON that is none."""
    text = path.with_suffix(".txt")
    if text.is_file():
        return tuple(line.strip() for line in text.read_text(encoding="utf-8").splitlines() if line.strip())
    data = path.with_suffix(".json")
    if data.is_file():
        content = json.loads(data.read_text(encoding="utf-8"))
        return _captions(content) if isinstance(content, Mapping) else ()
    return ()


def _from_table(folder: Path, table: Path) -> Listing:
    listing, found = Listing(), dict[Path, Labelled]()
    names = {path.stem: path for path in _walk(folder)}
    for number, row in enumerate(_rows(table), start=1):
        row = {str(key).strip().lower(): value for key, value in row.items() if value not in (None, "")}
        name, captions = _first(row, _FILE_KEYS), _captions(row)
        if not name or not captions:
            missing = "file" if not name else "caption"
            listing.problems.append(Problem(name or f"{table.name}, entry {number}", f"no {missing} is given"))
            continue
        path = folder / name
        path = path if path.is_file() else names.get(Path(name).stem if path.suffix in audio.SUFFIXES else name, path)
        if path in found:
            found[path] = found[path]._replace(captions=(*found[path].captions, *captions))
        elif path.is_file():
            found[path] = _labelled(path, captions, row)
        else:
            listing.problems.append(Problem(name, f"there is no such file in {folder}"))
    listing.recordings = list(found.values())
    return listing


def _labelled(path: Path, captions: tuple[str, ...], row: Mapping[str, Any]) -> Labelled:
    split = _SPLITS.get(str(row.get("split", "")).lower())
    source, licence = _first(row, ("source", "package")), _first(row, ("licence", "license"))
    return Labelled(path, captions, source, licence, split, _first(row, ("tier",)))


def _rows(table: Path) -> list[dict[str, Any]]:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the captions {table}: {error}; give a CSV or JSONL file.") from error
    if table.suffix.lower() in (".jsonl", ".json", ".ndjson"):
        return _json_rows(text, table)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if table.suffix.lower() == ".tsv" else ",")
    rows, header = list(reader), [str(name).strip().lower() for name in reader.fieldnames or ()]
    if not set(header) & set(_FILE_KEYS) or not any(name.startswith(_CAPTION_KEYS) for name in header):
        found = ", ".join(header) or "none"
        raise InputError(f"{table} needs a header with a 'file' and a 'caption' column (found: {found}); add them.")
    return rows


def _json_rows(text: str, table: Path) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise InputError(f"{table} is not JSONL ({error}); write one JSON object a line.") from error
    if not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{table} holds a line that is no JSON object; write one JSON object a line.")
    return rows


def _captions(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The caption of a row or sidecar; a list, or columns caption_1, caption_2 ..., are several."""
    for key in _CAPTION_KEYS:
        numbered = [row[name] for name in sorted(row) if re.fullmatch(rf"{key}_?\d+", str(name))]
        value = row.get(key) or numbered
        values = value if isinstance(value, list) else [value]
        texts = tuple(" ".join(v.split()) for v in values if isinstance(v, str) and v.strip())
        if texts:
            return texts
    return ()


def _first(row: Mapping[str, Any], keys: Iterable[str]) -> str:
    return next((str(row[key]).strip() for key in keys if row.get(key)), "")
