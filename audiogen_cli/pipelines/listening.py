"""What the parts of the evaluation share: prompts, recordings, the model as it is asked, and the tagger that listens.

Every sound comes before the tagger at one level. A recording is presented as a training example is (a long one cut, a
short one repeated or placed in silence), so that a model that has learnt its examples perfectly would score what they
score.
"""

from __future__ import annotations

import csv
import os
import re
import threading
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from audiogen_cli.data import audio, manifest
from audiogen_cli.data.segments import SegmentConfig, Segments, leveled
from audiogen_cli.errors import InputError
from audiogen_cli.hub.catalog import Model
from audiogen_cli.metrics.tagger import SAMPLE_RATE, Tagger
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.decoding import Sampling
from audiogen_cli.pipelines.crew import Crew
from audiogen_cli.pipelines.generate import generate

T = TypeVar("T")
Y = TypeVar("Y")

# Active RMS. On up to 24 recordings of each prompt the tagger knew 70 % at -16, 72 at -20 and -26, and 71 at -32 dBFS.
LEVEL_DB = -26.0


class Prompt(NamedTuple):
    """classes: the tagger's names that count as right. caption: finds recordings of the same by their captions."""

    text: str
    classes: tuple[str, ...]
    caption: re.Pattern[str]


class Recording(NamedTuple):
    """held_out: the model has been trained neither on it nor, as far as is known, on others of its source."""

    path: Path
    caption: str
    held_out: bool


class Progress(NamedTuple):
    stage: str
    done: int
    total: int


class Take(NamedTuple):
    """A recording at 16 kHz: as it is [N], as a training example [M], and (where asked) that after the codec [M], whose
    frames were [K or D, T]."""

    recording: Recording
    waveform: Tensor
    example: Tensor
    coded: Tensor | None = None
    frames: Tensor | None = None


@dataclass(frozen=True)
class Setup:
    """How the model is asked, and who listens. candidates: of pipelines.generate. crew: who makes the sounds, if not
    this process."""

    model: Model
    tagger: Tagger
    num_seeds: int
    seconds: float
    sampling: Sampling
    candidates: int | None = None
    crew: Crew | None = None
    _codec: threading.Lock = field(default_factory=threading.Lock)  # it takes all cores by itself
    _made: dict[tuple[str | None, int], Tensor] = field(default_factory=dict)

    def answers(self, texts: Sequence[str], stage: str) -> Generator[Progress, None, list[Tensor]]:
        """`num_seeds` sounds of each text in turn; as `sounds`."""
        repeated = [text for text in texts for _ in range(self.num_seeds)]
        return self.sounds(repeated, list(range(self.num_seeds)) * len(texts), stage)

    def sounds(self, texts: Sequence[str], seeds: Sequence[int], stage: str) -> Generator[Progress, None, list[Tensor]]:
        """As `audiolm generate` writes them, but mono [N] at 16 kHz: one sound for each text and its seed. What is
        heard alike is made once, whichever part of the evaluation asks."""
        wanted = [(self.model.heard(text), seed) for text, seed in zip(texts, seeds, strict=True)]
        new = list(dict.fromkeys(key for key in wanted if key not in self._made))
        if new:
            made = yield from self._new(new, stage)
            self._made.update(zip(new, made, strict=True))
        return [self._made[key] for key in wanted]

    def _new(self, keys: Sequence[tuple[str | None, int]], stage: str) -> Generator[Progress, None, list[Tensor]]:
        texts, seeds = [text for text, _ in keys], [seed for _, seed in keys]
        if self.crew is not None:
            made: list[Tensor] = []
            for some in self.crew.sounds(texts, seeds, self.seconds, self.sampling, self.candidates):
                made += some
                yield Progress(stage, len(made), len(keys))
            return made
        steps = generate(self.model, texts, self.seconds, seeds, self.sampling, candidates=self.candidates)
        while True:
            try:
                state = next(steps)
            except StopIteration as stop:
                return [mono(sound, self.model.sample_rate) for sound in stop.value]
            yield Progress(stage, state.done_frames, state.total_frames)

    def scores(self, waveform: Tensor) -> Tensor:
        """waveform [N] -> the tagger's scores of it at the one level."""
        return self.tagger.scores(at_level(waveform))

    def take(self, recording: Recording, coded: bool) -> Take:
        """coded: also as it comes out of the codec, which takes longest by far."""
        waveform = read(recording.path)
        example = placed(waveform, recording, self.seconds)
        return Take(recording, waveform, example, *(self.coded(example) if coded else ()))

    def coded(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """waveform [N] after the frames that the model makes, and these [K or D, T]."""
        if self.crew is not None:
            return self.crew.coded(waveform)
        with self._codec:
            return round_trip(self.model.codec, waveform, self.model.frames, self.model.sound)


def side_by_side(function: Callable[[Y], T], items: Iterable[Y], waiting: int = 0) -> Iterator[T]:
    """`map` in threads, as many as there are cores: for what spends its time outside of Python. waiting: so many more,
    where they wait for other processes."""
    with ThreadPoolExecutor((os.cpu_count() or 1) + waiting) as pool:
        yield from pool.map(function, items)


def read_rows(path: Path, columns: Sequence[str], make: Callable[..., T]) -> list[T]:
    """What `make` makes of each line's values in the columns of a CSV; or InputError."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [make(*(row[column] for column in columns)) for row in csv.DictReader(file)]
    except InputError:
        raise
    except (OSError, UnicodeDecodeError, KeyError, AttributeError, TypeError, csv.Error, re.error) as error:
        wanted = f"{', '.join(columns[:-1])} and {columns[-1]}"
        raise InputError(
            f"cannot use the prompts in {path} ({error}); give a CSV with the columns {wanted}."
        ) from error


def read_prompts(path: Path) -> list[Prompt]:
    """A CSV with the columns prompt, classes (separated by |) and caption (a regular expression); or InputError."""

    def prompt(text: str, classes: str, caption: str) -> Prompt:
        return Prompt(text, tuple(classes.split("|")), re.compile(caption))

    return read_rows(path, ("prompt", "classes", "caption"), prompt)


def named(prompts: Sequence[Prompt], text: str) -> Prompt:
    """The prompt of that text; InputError when there is none."""
    for prompt in prompts:
        if prompt.text == text:
            return prompt
    raise InputError(f"there is no prompt '{text}' to judge by; name one of the file of prompts.")


def read_recordings(folder: Path, tiers: Sequence[str] = ()) -> list[Recording]:
    """The clips of a folder that `audiolm prepare` wrote; those of its validation split are held out.

    tiers: what the model was trained on, if not all: clips of others are held out too, but for those whose source it
    knows. InputError for a tier that no clip has.
    """
    clips = manifest.read(folder / manifest.NAME)
    for tier in set(tiers) - {clip.tier for clip in clips}:
        raise InputError(f"{folder} has no clips of tier {tier}; name one that its manifest has.")
    trained = manifest.select(clips, "train", tiers or None)
    known = {clip.source for clip in trained}
    held_out = [clip for clip in clips if clip.split == "valid" or clip.source not in known]
    together = [(clip, False) for clip in trained] + [(clip, True) for clip in held_out]
    return [Recording(Path(clip.path), clip.caption, new) for clip, new in together]


def placed(waveform: Tensor, recording: Recording, seconds: float) -> Tensor:
    """waveform [N] as a training example at the one level: the same for the same file name."""
    seed = zlib.crc32(recording.path.name.encode())
    return Segments([waveform], [recording.caption], example_config(seconds), seed).example(0, 0).waveform[0]


def example_config(seconds: float) -> SegmentConfig:
    """How training examples are made, with one pitch and one level."""
    level = (LEVEL_DB, LEVEL_DB)
    return SegmentConfig(SAMPLE_RATE, seconds, mix_probability=0.0, pitch_semitones=0.0, level_db=level)


@torch.inference_mode()
def round_trip(
    codec: Codec, waveform: Tensor, encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """waveform [N] at 16 kHz -> the decoded waveform [N] at 16 kHz, and its frames [K or D, T]. encode, decode: of the
    codec, [B, C, N] -> frames -> [B, C, N']."""
    device = next(codec.parameters()).device
    at_rate = audio.remix(audio.resample(waveform[None], SAMPLE_RATE, codec.sample_rate), codec.channels)
    frames = encode(at_rate[None].to(device))
    decoded = decode(frames)[0, :, : at_rate.shape[1]].float().cpu()
    return mono(decoded, codec.sample_rate)[: len(waveform)], frames[0].cpu()


def mono(waveform: Tensor, sample_rate: int) -> Tensor:
    """[C, N] -> [N'] at 16 kHz."""
    return audio.remix(audio.resample(waveform, sample_rate, SAMPLE_RATE), 1)[0]


def read(path: Path) -> Tensor:
    """The file as [N] at 16 kHz."""
    return audio.read(path, SAMPLE_RATE, channels=1).waveform[0]


def at_level(waveform: Tensor) -> Tensor:
    """waveform [N] at the level at which the tagger hears everything."""
    return torch.from_numpy(leveled(waveform.numpy(), LEVEL_DB, SAMPLE_RATE))


def share(hits: Sequence[Tensor]) -> float | None:
    """The share of True in all of them; None when there are none."""
    flat = torch.cat([hit.reshape(-1) for hit in hits]) if hits else torch.empty(0)
    return float(flat.double().mean()) if len(flat) else None


def mean(values: Sequence[float | None]) -> float | None:
    """Of those that are there; None when none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def strangers(classes: Sequence[Sequence[str]]) -> Tensor:
    """bool [P, P]: which pairs of prompts share no class, so that a sound of one is no answer to the other."""
    return torch.tensor([[set(a).isdisjoint(b) for b in classes] for a in classes])
