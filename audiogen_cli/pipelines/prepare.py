"""A folder of recordings and captions becomes a manifest, and the codes that a codec makes of them.

    output/manifest.jsonl                             data/manifest.py
    output/tokens.json, tokens-00000.safetensors      data/tokens.py, with a codec

A run that was stopped goes on where it was: what the manifest (or the tokens) hold already is not read again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from audiogen_cli.data import audio, labelled, manifest, tokens
from audiogen_cli.data.files import output_error
from audiogen_cli.data.labelled import Labelled, Problem
from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import AudioError, InputError, OutputError
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.streaming import encode_blocks

_SAVE_EVERY = 500


class Progress(NamedTuple):
    """Recordings looked at so far, of how many, and the latest."""

    done: int
    total: int
    path: Path


class Summary(NamedTuple):
    """What was prepared. seconds and valid_seconds: of all clips, and of the validation split alone."""

    manifest: Path
    clips: int
    seconds: float
    valid_clips: int
    valid_seconds: float
    frames: int
    problems: tuple[Problem, ...]


def prepare(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    captions: str | os.PathLike[str] | None = None,
    codec: Codec | None = None,
    fraction: float = 0.1,
    force: bool = False,
) -> Generator[Progress, None, Summary]:
    """Reads every recording of `folder` once. `fraction` of the seconds, by whole sources, is set aside for validation.

    Files that cannot be used are listed in the summary. Raises InputError when none can be, or when `output` holds the
    tokens of another codec; OutputError when `output` cannot be written to. `force` starts anew.
    """
    listing = labelled.find(folder, captions)
    output = _made(Path(output), force)
    path = output / manifest.NAME
    known = {clip.path: clip for clip in manifest.read(path)} if path.exists() else {}
    writer = tokens.TokenWriter(output, token_info(codec)) if codec is not None else None
    done = known.keys() if writer is None else known.keys() & writer.done.keys()
    sources = _sources(listing.recordings, Path(folder))
    clips, problems = list[Clip](), listing.problems
    try:
        for number, (recording, source) in enumerate(zip(listing.recordings, sources, strict=True), start=1):
            try:
                clip = _described(recording, source)
                seconds = known[clip.path].seconds if clip.path in done else _examined(clip, codec, writer)
                clips.append(replace(clip, seconds=seconds))
            except AudioError as error:
                problems.append(Problem(str(recording.path), str(error)))
            if number % _SAVE_EVERY == 0:
                manifest.write(path, _merged(clips, known), force=True)
            yield Progress(number, len(listing.recordings), recording.path)
    finally:
        if writer is not None:
            writer.flush()
        if clips:
            manifest.write(path, _merged(clips, known), force=True)
    if not clips:
        raise InputError(f"none of {len(problems)} recordings could be used; the first: {problems[0].reason}")
    clips = _split(clips, listing.recordings, fraction)
    manifest.write(path, clips, force=True)
    return _summary(path, clips, problems, writer)


def token_info(codec: Codec) -> tokens.TokenInfo:
    return tokens.TokenInfo(codec.fingerprint(), codec.frame_rate, codec.num_codebooks, codec.codebook_size)


def encode(codec: Codec, waveform: Tensor) -> Tensor:
    """waveform [C, N] -> codes [K, T] on the CPU, step by step so that an hour fits in memory."""
    if not isinstance(codec, Codec):  # semantic tokens: a speech model hears the whole
        return codec.encode(waveform[None])[0].cpu()
    return torch.cat([codes[0].cpu() for codes in encode_blocks(codec, [waveform[None]])], dim=1)


def _described(recording: Labelled, source: str) -> Clip:
    """What is known before the file is opened."""
    caption, *others = recording.captions
    path, split = str(recording.path.resolve()), recording.split or "train"
    return Clip(path, caption, 0.0, source, recording.licence, split, recording.tier, tuple(others))


def _examined(clip: Clip, codec: Codec | None, writer: tokens.TokenWriter | None) -> float:
    """Reads the whole recording, encodes it where there is a codec, and returns its seconds. Raises AudioError."""
    if codec is None or writer is None:
        waveform, rate = audio.read(clip.path)
    else:
        waveform, rate = audio.read(clip.path, codec.sample_rate, codec.channels)
        if clip.path not in writer.done:
            writer.add(clip.path, encode(codec, waveform))
    return round(waveform.shape[1] / rate, 3)


def _merged(clips: Sequence[Clip], known: dict[str, Clip]) -> list[Clip]:
    """What this run has checked so far, and what an earlier one had checked that is still to come."""
    here = {clip.path for clip in clips}
    return [*clips, *(clip for path, clip in known.items() if path not in here)]


def _sources(recordings: Sequence[Labelled], folder: Path) -> list[str]:
    """Where nothing is said about sources, a subfolder is one; in a flat folder every file is its own."""
    parents = [os.path.relpath(recording.path.parent, folder) for recording in recordings]
    flat = len(set(parents)) <= 1
    return [r.source or (r.path.name if flat else parent) for r, parent in zip(recordings, parents, strict=True)]


def _split(clips: Sequence[Clip], recordings: Sequence[Labelled], fraction: float) -> list[Clip]:
    """The split that the captions file gives, or one by source when it gives none."""
    if any(recording.split is not None for recording in recordings):
        return list(clips)
    return manifest.split_by_source(clips, fraction)


def _made(output: Path, force: bool) -> Path:
    try:
        output.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"{output} is a file; name a folder for the prepared data.") from error
    except FileNotFoundError as error:
        raise OutputError(f"the folder {output.parent} does not exist; create it first.") from error
    except OSError as error:
        raise output_error(output, error) from error
    if force:
        for path in (output / manifest.NAME, output / tokens.INDEX, *output.glob("tokens-*.safetensors")):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
    return output


def _summary(
    path: Path, clips: Sequence[Clip], problems: Sequence[Problem], writer: tokens.TokenWriter | None
) -> Summary:
    valid = manifest.select(clips, "valid")
    here = {clip.path for clip in clips}
    frames = sum(place.frames for name, place in writer.done.items() if name in here) if writer is not None else 0
    seconds, valid_seconds = (sum(clip.seconds for clip in group) for group in (clips, valid))
    return Summary(path, len(clips), seconds, len(valid), valid_seconds, frames, tuple(problems))
