"""Whether speech can be understood: an independent recogniser writes down what it hears, and its words are counted.

    recordings                            what the recogniser itself gets wrong
    the same after K codebooks of a codec
    the same texts, said by a VALL-E

Every row is also held against another recording's text: that is the rate of speech that says something else, about 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor

from audiogen_cli.data import audio, labelled, manifest
from audiogen_cli.errors import InputError
from audiogen_cli.hub.codecs import NamedCodec
from audiogen_cli.metrics.moonshine import SAMPLE_RATE
from audiogen_cli.metrics.words import Errors, letter_errors, normal, total, word_errors
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.pipelines.listening import round_trip
from audiogen_cli.pipelines.speak import Request, Speaker

_EXAMPLES = 5


class Listener(Protocol):
    """What hears: metrics/moonshine.Moonshine, or whatever else writes words down."""

    @property
    def hash(self) -> str: ...

    def hears(self, waveform: Tensor) -> str:
        """waveform [N] at 16 kHz -> its words."""


class Transcribed(NamedTuple):
    """A recording. words: what it says; symbols: the same as a model reads it, which may be phonemes."""

    path: Path
    words: str
    symbols: str
    source: str = ""


class Example(NamedTuple):
    said: str
    heard: str


@dataclass(frozen=True)
class Row:
    """words, letters: errors over all texts. other: words against another recording's text. silent: the share of
    sounds in which no word was heard. unfinished: the share of spoken texts whose speech went wrong; None where nothing
    is spoken. examples: the first few."""

    name: str
    sounds: int
    seconds: float
    words: Errors
    letters: Errors
    other: Errors
    silent: float
    unfinished: float | None = None
    examples: tuple[Example, ...] = ()


class Progress(NamedTuple):
    """Sounds done, of how many; `name` is the row that is at work."""

    name: str
    done: int
    total: int


class Made(NamedTuple):
    """A sound [N] at 16 kHz, and whether it is known to have gone wrong; None where that is not known."""

    waveform: Tensor
    trouble: bool | None = None


@dataclass(frozen=True)
class Voice:
    """How texts are said. own: in the voice of the recording before, whose transcript is given; else in any."""

    speaker: Speaker
    sampling: Sampling
    seed: int = 0
    tries: int = 3
    own: bool = False


def choose(
    folder: Path,
    captions: Path | None = None,
    clips: int = 50,
    shortest: float = 1.0,
    longest: float = 10.0,
    source: str = "",
) -> list[Transcribed]:
    """Up to `clips` transcribed recordings of `shortest` to `longest` seconds, one of each text, always the same ones.

    Of a prepared folder the held-out ones. Where a recording has two captions, the first is what a model reads and the
    second is how it is spelled. Raises InputError when there are none.
    """
    found = _held_out(folder) if (folder / manifest.NAME).is_file() else _labelled(folder, captions)
    found = [one for one in found if source in one.source and one.words.strip()]
    chosen = dict[str, Transcribed]()
    for one in sorted(found, key=lambda one: hashlib.sha256(one.path.name.encode()).digest()):
        if len(chosen) < clips and shortest <= audio.info(one.path).seconds <= longest:
            chosen.setdefault(" ".join(normal(one.words)), one)
    if len(chosen) < 2:
        raise InputError(
            f"{folder} holds fewer than 2 held-out recordings of {shortest:g} to {longest:g} s with different "
            "transcripts; name another folder, or prepare it with --captions and a column split."
        )
    return list(chosen.values())


def _coded(codec: Codec, waveform: Tensor, num_codebooks: int) -> Tensor:
    """waveform [N] after so many codebooks, [N]."""
    return round_trip(codec, waveform, lambda sound: codec.encode(sound, num_codebooks), codec.decode)[0]


def evaluate(
    listener: Listener,
    recordings: Sequence[Transcribed],
    codec: NamedCodec | None = None,
    counts: Sequence[int] = (),
    voice: Voice | None = None,
) -> Generator[Progress, None, list[Row]]:
    """A row for the recordings, for each number of codebooks, and for a voice. Raises AudioError, InputError."""
    waves = [audio.read(one.path, SAMPLE_RATE, 1).waveform[0] for one in recordings]
    sources: list[tuple[str, Callable[[int], Made]]] = [("recordings", lambda index: Made(waves[index]))]
    if codec is not None:
        sources += [
            (_codec_row(codec, count), lambda index, count=count: Made(_coded(codec.codec, waves[index], count)))  # type: ignore[misc]
            for count in counts
        ]
    if voice is not None:
        name = "said in another recording's voice" if voice.own else "said"
        sources.append((name, lambda index: _said(voice, recordings, index)))
    rows = list[Row]()
    for name, make in sources:
        made, heard = list[Made](), list[str]()
        for index in range(len(recordings)):
            yield Progress(name, len(rows) * len(recordings) + index, len(sources) * len(recordings))
            made.append(make(index))
            heard.append(listener.hears(made[-1].waveform))
        rows.append(_row(name, [one.words for one in recordings], heard, made))
    return rows


def counts_of(codec: NamedCodec) -> list[int]:
    """A quarter, a half, three quarters and all of the codebooks."""
    most, groups = codec.codec.num_codebooks, codec.codec.num_groups
    return sorted({max(groups, round(most * share / 4 / groups) * groups) for share in (1, 2, 3, 4)})


def _codec_row(codec: NamedCodec, count: int) -> str:
    kbps = count * codec.codec.frame_rate * (codec.codec.codebook_size - 1).bit_length() / 1000
    return f"{codec.name}, {count} codebooks ({kbps:.2f} kbps)"


def _said(voice: Voice, recordings: Sequence[Transcribed], index: int) -> Made:
    """Text `index`, said; its speech and nothing of the voice's recording."""
    speaker, before = voice.speaker, recordings[index - 1]
    waveform = transcript = None
    if voice.own:
        waveform = audio.read(before.path, speaker.sample_rate, speaker.codec.channels).waveform
        transcript = before.symbols
    text = recordings[index].symbols
    request = Request(text, voice.seed + index, waveform, transcript or "", voice.sampling, voice.tries)
    spoken = finish(speaker.speak(request))
    mono = audio.remix(audio.resample(spoken.waveform, speaker.sample_rate, SAMPLE_RATE), 1)[0]
    return Made(mono, bool(spoken.trouble))


def _row(name: str, texts: Sequence[str], heard: Sequence[str], made: Sequence[Made]) -> Row:
    others = [*texts[1:], texts[0]]
    troubles = [one.trouble for one in made if one.trouble is not None]
    return Row(
        name,
        len(texts),
        sum(len(one.waveform) for one in made) / SAMPLE_RATE,
        total(word_errors(*pair) for pair in zip(texts, heard, strict=True)),
        total(letter_errors(*pair) for pair in zip(texts, heard, strict=True)),
        total(word_errors(*pair) for pair in zip(others, heard, strict=True)),
        sum(not text for text in heard) / len(heard),
        sum(troubles) / len(troubles) if troubles else None,
        tuple(Example(*pair) for pair in list(zip(texts, heard, strict=True))[:_EXAMPLES]),
    )


def _held_out(folder: Path) -> list[Transcribed]:
    clips = manifest.select(manifest.read(folder / manifest.NAME), "valid")
    return [
        Transcribed(Path(clip.path), (*clip.other_captions, clip.caption)[0], clip.caption, clip.source)
        for clip in clips
    ]


def _labelled(folder: Path, captions: Path | None) -> list[Transcribed]:
    """All that a list, or sidecars, transcribe."""
    found = labelled.find(folder, captions, uncaptioned=True).recordings
    return [
        Transcribed(one.path, (*one.captions[1:], one.captions[0])[0], one.captions[0], one.source)
        for one in found
        if one.captions
    ]
