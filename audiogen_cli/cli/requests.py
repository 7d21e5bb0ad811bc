"""From the command line to a list of jobs: which prompt with which seed becomes which file. Imports no torch."""

from __future__ import annotations

import csv
import json
import re
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from audiogen_cli.config import from_dict
from audiogen_cli.data.files import check_output
from audiogen_cli.errors import ConfigError, InputError, OutputError
from audiogen_cli.pipelines.recipe import BitDepth, Format, Kind, Normalization, Recipe, check_prompt

STDOUT = "-"
FORMATS: dict[str, Format] = {".wav": "wav", ".flac": "flac", ".ogg": "ogg", ".oga": "ogg", ".opus": "ogg"}
RECORDINGS = (*FORMATS, ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf")  # what is read, without torch
_PROMPT_COLUMNS = ("prompt", "caption", "text")
TOGETHER = 8  # sounds of a batch: they share the reading of the weights, and are written when all are done
_RANDOM_SEEDS = 2**31


@dataclass(frozen=True)
class Row:
    """One prompt of a prompts file; what it leaves open comes from the command line."""

    prompt: str
    seed: int | None = None
    seconds: float | None = None
    candidates: int | None = None


class Request(NamedTuple):
    """One sound to be made, and the stem of its default name."""

    stem: str
    prompt: str
    seed: int
    seconds: float
    candidates: int


class Destination(NamedTuple):
    """A folder, or in it the one file `name`, or stdout when both are None."""

    folder: Path | None
    name: str | None
    format: Format


class Job(NamedTuple):
    """One file to write; path None is stdout."""

    recipe: Recipe
    path: Path | None

    @property
    def picture(self) -> Path | None:
        """Where the spectrogram goes."""
        return None if self.path is None else self.path.with_suffix(".png")


@dataclass(frozen=True)
class Settings:
    """What all sounds of one run share: a Recipe without its prompt, seed, seconds and candidates."""

    kind: Kind
    guidance: float
    temperature: float
    top_k: int
    top_p: float
    normalize: Normalization
    fade: float
    format: Format
    bit_depth: BitDepth
    model: str
    model_hash: str
    device: str
    dtype: str
    version: str
    source: str | None = None
    source_hash: str | None = None
    extend_stride: float | None = None
    transcript: str | None = None
    tries: int | None = None
    steps: int | None = None
    layers: bool = False
    melody: str | None = None
    melody_hash: str | None = None


def read_prompts(path: Path) -> list[Row]:
    """CSV with a column `prompt`, JSONL with a key `prompt`, or plain lines; InputError names a line that is wrong."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise InputError(f"cannot read the prompts file {path}: {reason}; check the path and its content.") from error
    readers = {".csv": _csv_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}
    rows = []
    for line, data in readers.get(path.suffix.lower(), _plain_rows)(text, path):
        try:
            row = from_dict(Row, data, where=f"{path}, line {line}")
            check_prompt(row.prompt)
        except ConfigError as error:
            raise InputError(str(error)) from error
        except ValueError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
        rows.append(row)
    if not rows:
        raise InputError(f"the prompts file {path} holds no prompts; write one a line.")
    return rows


def expand(
    rows: Sequence[Row], seconds: float, seed: int, variations: int, stem: str | None = None, candidates: int = 1
) -> list[Request]:
    """Each row `variations` times, with seeds that count up; a prompt that comes again counts on."""
    requests, used = [], Counter[str]()
    for row in rows:
        name = stem or slug(row.prompt)
        first = row.seed if row.seed is not None else seed + used[name] * variations
        used[name] += 1
        length = row.seconds if row.seconds is not None else seconds
        drawn = row.candidates if row.candidates is not None else candidates
        requests += [Request(name, row.prompt, first + i, length, drawn) for i in range(variations)]
    return requests


def random_seed() -> int:
    return secrets.randbelow(_RANDOM_SEEDS)


def slug(text: str) -> str:
    """A file name's worth of a text: lower case, words joined by hyphens, at most 120 bytes."""
    words = re.sub(r"[\W_]+", "-", text.casefold()).strip("-")
    return words.encode()[:120].decode(errors="ignore").strip("-") or "sound"


def continued_stem(recording: str) -> str:
    """The default name of what goes on from a recording."""
    return f"{slug(Path(recording).stem)}-continued"


def destination(output: str | None, count: int, wanted: Format | None) -> Destination:
    """Where `count` sounds go. Raises OutputError when the place is missing, or is one file for many sounds."""
    if output == STDOUT:
        if count > 1 or wanted not in (None, "wav"):
            raise OutputError("stdout takes one sound, as WAV; name a folder with -o instead.")
        return Destination(None, None, "wav")
    path = Path(output or ".")
    if path.is_dir():
        return Destination(path, None, wanted or "wav")
    if output and output.endswith("/"):
        raise OutputError(f"the folder {output} does not exist; create it first.")
    if count > 1:
        raise OutputError(f"{count} sounds do not go into the one file {output}; name an existing folder with -o.")
    return Destination(path.parent, path.name, _format_of(path, wanted))


def plan(requests: Sequence[Request], place: Destination, settings: Settings) -> list[Job]:
    """A recipe and a path for every request; no two paths are the same. Raises InputError for numbers out of range."""
    jobs, taken = [], set[str]()
    for request in requests:
        try:
            own = request._asdict()
            del own["stem"]
            recipe = Recipe(**own, **vars(settings))
        except ValueError as error:
            raise InputError(str(error)) from error
        name = place.name or _free_name(f"{request.stem}-{request.seed}", f".{place.format}", taken)
        jobs.append(Job(recipe, None if place.folder is None else place.folder / name))
    return jobs


def check_places(jobs: Sequence[Job], force: bool, pictures: bool, may_exist: bool = False) -> None:
    """Raises OutputError where a file cannot be written; with `may_exist`, files that are there are looked at later."""
    for job in jobs:
        if job.path is None and pictures:
            raise OutputError("there is no place for the spectrogram beside stdout; name a file with -o.")
        if job.path is not None:
            check_output(job.path, force or may_exist)
        if job.picture is not None and pictures:
            check_output(job.picture, force or may_exist)


def batches(jobs: Sequence[Job], size: int) -> Iterator[list[Job]]:
    """Neighbours of equal length and candidates, of these at most `size` at a time, but one job at least."""

    def kind(job: Job) -> tuple[float, int]:
        return job.recipe.seconds, job.recipe.candidates

    batch: list[Job] = []
    for job in jobs:
        full = (len(batch) + 1) * job.recipe.candidates > size
        if batch and (full or kind(job) != kind(batch[0])):
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def _format_of(path: Path, wanted: Format | None) -> Format:
    named = FORMATS.get(path.suffix.lower())
    if named is None and wanted is None:
        raise OutputError(
            f"cannot tell the format of {path}; let the name end in .wav, .flac or .ogg, or create the folder."
        )
    if named and wanted and named != wanted:
        raise OutputError(f"{path} is named as {named}, but --format says {wanted}; change one of them.")
    return wanted or named or "wav"


def _free_name(stem: str, suffix: str, taken: set[str]) -> str:
    name, count = stem, 1
    while name in taken:
        count += 1
        name = f"{stem}-{count}"
    taken.add(name)
    return name + suffix


def _plain_rows(text: str, path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, {"prompt": line.strip()}


def _json_rows(text: str, path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: not valid JSON ({error}); write one object a line.") from error
        if not isinstance(data, dict):
            raise InputError(
                f'{path}, line {number}: expected an object such as {{"prompt": "rain"}}; write one a line.'
            )
        yield number, _known_columns(data, path, number)


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    reader = csv.DictReader(text.splitlines())
    for record in reader:
        data = _known_columns(record, path, reader.line_num)
        for key, kind in (("seed", int), ("seconds", float), ("candidates", int)):
            if data.get(key) in (None, ""):
                data.pop(key, None)
                continue
            try:
                data[key] = kind(str(data[key]))
            except ValueError as error:
                raise InputError(
                    f"{path}, line {reader.line_num}: '{data[key]}' is no number; correct {key}."
                ) from error
        yield reader.line_num, data


def _known_columns(record: dict[str, object], path: Path, line: int) -> dict[str, object]:
    """The prompt under whichever of its names, and what else a Row has; other columns are the user's own business."""
    prompt = next((record[name] for name in _PROMPT_COLUMNS if record.get(name) is not None), None)
    if prompt is None:
        raise InputError(f"{path}, line {line}: there is no 'prompt'; name the column or key so.")
    own = ("seed", "seconds", "candidates")
    return {"prompt": prompt} | {key: record[key] for key in own if record.get(key) is not None}
