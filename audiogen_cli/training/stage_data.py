"""Recordings in ids for the stages of AudioLM (2209.03143, section III-B): each is turned into ids once, and then cut.

    recording --speech model, k-means--> semantic ids [Ts]
              --codec------------------> codes [K, T]           -> a random stretch of both: the stage's blocks

Ids are cut, not sound: a crop's ids are those of the whole recording, and whether it reaches the true end is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from audiogen_cli.data import audio, labelled, manifest
from audiogen_cli.data.manifest import Clip, Split
from audiogen_cli.data.tokens import SEMANTIC, Tokens
from audiogen_cli.errors import InputError
from audiogen_cli.models.audiolm import StageConfig
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.semantic import SemanticTokenizer
from audiogen_cli.ops.ids import flatten, unique_consecutive
from audiogen_cli.training.data import find_clips

VALIDATION_SOUNDS = 32


class Sound(NamedTuple):
    """A recording in ids, as far as a stage needs them. semantic: [Ts]; codes: [K, T]."""

    semantic: Tensor | None
    codes: Tensor | None
    caption: str


class Example(NamedTuple):
    """A crop. blocks: ids [n] of each; ends: whether the recording ends with it."""

    blocks: list[Tensor]
    ends: bool
    caption: str


Sounds = Callable[[int], Sound]
"""Recording i in ids; the same for the same number."""


@dataclass(frozen=True)
class Tokenizers:
    """What turns sound into ids; a stage needs one of them or both."""

    semantic: SemanticTokenizer | None = None
    codec: Codec | None = None

    @property
    def sample_rate(self) -> int:
        """The higher of their rates, which loses nothing to either."""
        return max(part.sample_rate for part in (self.semantic, self.codec) if part is not None)

    @property
    def rates(self) -> tuple[float, float]:
        """Semantic ids and frames a second; 0 of what is not there."""
        semantic, codec = self.semantic, self.codec
        return (0.0 if semantic is None else semantic.frame_rate), (0.0 if codec is None else codec.frame_rate)

    @torch.no_grad()
    def __call__(
        self,
        waveform: Tensor,
        sample_rate: int,
        caption: str,
        codec_waveform: Tensor | None = None,
        shift: float = 0.0,
    ) -> Sound:
        """waveform [C, N] at `sample_rate`; codec_waveform: the same at the codec's rate, where it is there already.
        shift: for so much of a frame silence comes first in the codes."""
        semantic = codes = None
        if self.semantic is not None:
            heard = audio.resample(audio.remix(waveform, 1), sample_rate, self.semantic.sample_rate)
            semantic = self.semantic(heard)[0]
        if self.codec is not None:
            if codec_waveform is None:
                codec_waveform = audio.resample(waveform, sample_rate, self.codec.sample_rate)
            device = next(self.codec.parameters()).device
            codec_waveform = F.pad(codec_waveform, (round(shift * self.codec.hop_length), 0))
            codes = self.codec.encode(audio.remix(codec_waveform, self.codec.channels)[None].to(device))[0].cpu()
        return Sound(semantic, codes, caption)


class FolderSounds:
    """The recordings of clips, turned into ids when they are first asked for, and kept."""

    def __init__(self, clips: Sequence[Clip], tokenizers: Tokenizers) -> None:
        self.clips, self.tokenizers = clips, tokenizers
        self._kept: dict[tuple[int, float], Sound] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def __call__(self, index: int, shift: float = 0.0) -> Sound:
        """shift: see `Tokenizers`."""
        if (index, shift) not in self._kept:
            clip = self.clips[index]
            self._kept[index, shift] = self.tokenizers(*audio.read(clip.path), clip.caption, shift=shift)
        return self._kept[index, shift]


def find_recordings(folder: Path, tiers: Sequence[str] = (), fraction: float = 0.1) -> list[Clip]:
    """As training/data.find_clips, and recordings without a caption are recordings. Raises InputError for none."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name the folder that holds the recordings.")
    if (folder / manifest.NAME).is_file():
        return find_clips(folder, tiers)
    captions = {recording.path: recording.captions[0] for recording in labelled.find(folder).recordings}
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in audio.SUFFIXES)
    if not paths:
        raise InputError(f"{folder} holds no recordings; put some there.")
    clips = [Clip(str(path), captions.get(path, ""), 1.0, path.stem) for path in paths]
    return manifest.split_by_source(clips, fraction)


def measured(clips: list[Clip], folder: Path) -> list[Clip]:
    """The clips with their lengths, which only the manifest of a prepared folder knows."""
    if (folder / manifest.NAME).is_file():
        return clips
    return [replace(clip, seconds=audio.info(clip.path).seconds) for clip in clips]


class TokenSounds:
    """The recordings of one split in the ids that `audiolm prepare` wrote: codes, and semantic ids in their folder."""

    def __init__(self, folder: Path, tokenizers: Tokenizers, split: Split) -> None:
        """Raises InputError when there are none, or they are those of others."""
        semantic, codec = tokenizers.semantic, tokenizers.codec
        self.semantic = None if semantic is None else _tokens(folder / SEMANTIC, semantic.fingerprint())
        self.codes = None if codec is None else _tokens(folder, codec.fingerprint())
        there = [tokens for tokens in (self.semantic, self.codes) if tokens is not None]
        self._rows = [{clip.path: row for row, clip in enumerate(tokens.clips)} for tokens in there]
        shared = set(self._rows[0]).intersection(*self._rows)
        self.clips = [clip for clip in there[0].clips if clip.path in shared and clip.split == split]

    def __len__(self) -> int:
        return len(self.clips)

    def __call__(self, index: int) -> Sound:
        clip = self.clips[index]
        rows = [rows[clip.path] for rows in self._rows]
        semantic = None if self.semantic is None else self.semantic.codes(rows[0])[0]
        codes = None if self.codes is None else self.codes.codes(rows[-1])
        return Sound(semantic, codes, clip.caption)


def _tokens(folder: Path, fingerprint: str) -> Tokens:
    tokens = Tokens(folder)
    if tokens.info.codec != fingerprint:
        raise InputError(
            f"the tokens in {folder} are those of {tokens.info.codec}, not of {fingerprint}; run `audiolm prepare "
            "--force` with the codec and the centroids to train on."
        )
    return tokens


def crop(sound: Sound, config: StageConfig, rates: tuple[float, float], rng: np.random.Generator | None) -> Example:
    """A stretch of the stage's window from a random place, or without `rng` the beginning. rates: ids and frames a
    second. Of a longer recording the last half window may be cut short, so that ends are met often enough."""
    semantic_rate, frame_rate = rates
    main = sound.semantic if config.stage == "semantic" else sound.codes
    assert main is not None
    length, rate = main.shape[-1], semantic_rate if config.stage == "semantic" else frame_rate
    window = max(1, round(config.window_seconds * rate))
    start = 0 if rng is None or length <= window else int(rng.integers(length - window // 2))
    end = min(length, start + window)
    if config.stage == "semantic":
        blocks = [_deduplicated(main[start:end], config)]
    else:
        blocks = _acoustic(sound, config, start, end, semantic_rate / frame_rate)
    return Example(blocks, end == length, sound.caption)


def _acoustic(sound: Sound, config: StageConfig, start: int, end: int, ratio: float) -> list[Tensor]:
    """Frames [start, end) as the stage's blocks; `ratio` semantic ids last a frame."""
    assert sound.codes is not None
    codes, target = sound.codes[:, start:end], config.target
    blocks = [flatten(codes[target.first_level : target.first_level + target.num_levels])]
    if config.stage == "fine":
        return [flatten(codes[: target.first_level]), *blocks]
    assert sound.semantic is not None
    ids = sound.semantic[round(start * ratio) :]
    if end < sound.codes.shape[1]:
        ids = ids[: round(end * ratio) - round(start * ratio)]
    return [_deduplicated(ids, config), *blocks]


def _deduplicated(ids: Tensor, config: StageConfig) -> Tensor:
    return unique_consecutive(ids) if config.unique_consecutive else ids


def first(sounds: Any) -> list[Sound]:
    """The first recordings of a source, to validate with. Raises InputError when there are none."""
    if not len(sounds):
        raise InputError("there are no recordings of this split; prepare the folder again with some.")
    return [sounds(index) for index in range(min(VALIDATION_SOUNDS, len(sounds)))]
