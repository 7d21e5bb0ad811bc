"""How near codecs come to recordings, and at what rate: the same files through each of them, scored alike.

    recordings [C, N] --encode--> Stream (bits) --decode--> [C, N] --scores--> a row of the table

The reference is the recording at our codec's channels and rate, or at a rate asked for. A codec of another rate gets it
resampled, and what it decodes is resampled back, so that a band which it does not code counts against it.
"""

from __future__ import annotations

import hashlib
import io
import math
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from audiogen_cli.data import audio, manifest
from audiogen_cli.errors import InputError
from audiogen_cli.hub.codecs import NamedCodec
from audiogen_cli.metrics import perception, similarity
from audiogen_cli.models.segments import Segment, decode_segments, encode_segments
from audiogen_cli.pipelines.compress import code_bits, codebooks_for
from audiogen_cli.pipelines.entropy import EntropyModel, EntropyWriter

_SCALE_BITS = 32


class Stream(NamedTuple):
    """A clip, coded. content: what the coder's `decode` needs; bits: what it takes, as packed."""

    content: Any
    bits: int


class Coder(Protocol):
    """A codec at one rate. It is given waveforms [channels, N] at `sample_rate`, and gives such back, N' >= N."""

    name: str
    sample_rate: int
    channels: int

    def encode(self, waveform: Tensor) -> Stream: ...

    def decode(self, stream: Stream) -> Tensor: ...

    def coded_bits(self, stream: Stream) -> int | None:
        """What the stream takes after entropy coding; None where there is no entropy model."""


class Neural:
    """One of our codecs at one rate."""

    def __init__(self, codec: NamedCodec, kbps: float, entropy: EntropyModel | None = None) -> None:
        """Raises InputError when the codec does not make so few or many kbps."""
        self._codec, self._entropy = codec.codec, entropy
        self._num_codebooks = codebooks_for(codec.codec, kbps)
        self.name, self.sample_rate, self.channels = codec.name, codec.codec.sample_rate, codec.codec.channels

    def encode(self, waveform: Tensor) -> Stream:
        """content: the segments, their codes [1, K, T] whole."""
        segments = [
            Segment([torch.cat(list(segment.codes), dim=-1)], segment.scale)
            for segment in encode_segments(self._codec, [waveform[None]], self._num_codebooks)
        ]
        codes = sum(block.numel() for segment in segments for block in segment.codes)
        scales = sum(segment.scale is not None for segment in segments)
        return Stream(segments, codes * code_bits(self._codec) + scales * _SCALE_BITS)

    def decode(self, stream: Stream) -> Tensor:
        return torch.cat([block.cpu() for block in decode_segments(self._codec, stream.content)], dim=-1)[0]

    def coded_bits(self, stream: Stream) -> int | None:
        """Counted in the bytes that the arithmetic coder writes."""
        if self._entropy is None:
            return None
        payload, scales = io.BytesIO(), 0
        for segment in stream.content:
            writer = EntropyWriter(payload, self._entropy)
            for block in segment.codes:
                writer.write(block[0].cpu().numpy())
            writer.finish()
            scales += segment.scale is not None
        return 8 * payload.tell() + scales * _SCALE_BITS


@dataclass(frozen=True)
class Row:
    """kbps: as packed; coded_kbps: after entropy coding. scores: means over the clips that can be scored; None: none.

    encode_pace, decode_pace: times real time.
    """

    coder: str
    kbps: float
    coded_kbps: float | None
    scores: Mapping[str, float | None]
    encode_pace: float
    decode_pace: float


@dataclass(frozen=True)
class Report:
    """clips, seconds: what was coded; sample_rate: at which the scores are taken."""

    codec: str
    fingerprint: str
    clips: int
    seconds: float
    sample_rate: int
    rows: tuple[Row, ...]


class Progress(NamedTuple):
    """Clips done, of how many; `coder` is what is at work."""

    coder: str
    done: int
    total: int


def choose(folder: Path, clips: int, shortest: float, longest: float, source: str = "") -> list[Path]:
    """Up to `clips` recordings of `shortest` to `longest` seconds, the same ones every time, spread over the folder.

    Of a prepared folder the held-out ones, those of one source if it is named. Raises InputError when there are none.
    """
    if (folder / manifest.NAME).is_file():
        held_out = manifest.select(manifest.read(folder / manifest.NAME), "valid")
        paths = [Path(clip.path) for clip in held_out if source in clip.source]
    else:
        paths = [path for path in folder.rglob("*") if path.suffix.lower() in audio.SUFFIXES and source in str(path)]
    chosen = list[Path]()
    for path in sorted(paths, key=lambda path: hashlib.sha256(path.name.encode()).digest()):
        if len(chosen) < clips and shortest <= audio.info(path).seconds <= longest:
            chosen.append(path)
    if not chosen:
        raise InputError(f"{folder} holds no recordings of {shortest:g} to {longest:g} seconds; name another folder.")
    return chosen


def default_kbps(codec: NamedCodec) -> list[float]:
    """A quarter, a half, three quarters and all of the codebooks."""
    each = codec.codec.frame_rate * code_bits(codec.codec) / 1000
    return sorted({each * math.ceil(codec.codec.num_codebooks * share / 4) for share in (1, 2, 3, 4)})


def evaluate(
    codec: NamedCodec, coders: Sequence[Coder], paths: Sequence[Path], listen: bool = True, heard_at: int | None = None
) -> Generator[Progress, None, Report]:
    """A row for each coder. listen: also the scores of metrics/perception.py, where their packages are installed.

    heard_at: the rate of the reference in Hz; None: the codec's. Raises AudioError when a recording cannot be read.
    """
    rate, channels = heard_at or codec.codec.sample_rate, codec.codec.channels
    references = [audio.read(path, rate, channels).waveform for path in paths]
    rows, total = list[Row](), len(coders) * len(references)
    for coder in coders:
        tally = _Tally(coder, rate, listen)
        for reference in references:
            yield Progress(coder.name, len(rows) * len(references) + tally.clips, total)
            tally.add(reference)
        rows.append(tally.row())
    seconds = sum(reference.shape[1] for reference in references) / rate
    return Report(codec.name, codec.codec.fingerprint(), len(references), seconds, rate, tuple(rows))


def scores(listen: bool) -> dict[str, perception.Score]:
    """By name: what takes reference [C, N], estimate [C, N] and their rate."""
    near: dict[str, perception.Score] = {
        "si_snr": lambda reference, estimate, _: float(similarity.si_snr(reference, estimate).mean()),
        "mel_distance": lambda *heard: float(similarity.mel_distance(*heard)),
    }
    return near | (perception.available() if listen else {})


class _Tally:
    """The sums behind a row."""

    def __init__(self, coder: Coder, sample_rate: int, listen: bool) -> None:
        self._coder, self._rate = coder, sample_rate
        self._scores = scores(listen)
        self._found: dict[str, list[float]] = {name: [] for name in self._scores}
        self._bits = self._seconds = self._encoding = self._decoding = 0.0
        self._coded: float | None = 0.0
        self.clips = 0

    def add(self, reference: Tensor) -> None:
        """reference [C, N]."""
        given = audio.remix(audio.resample(reference, self._rate, self._coder.sample_rate), self._coder.channels)
        start = time.perf_counter()
        stream = self._coder.encode(given)
        middle = time.perf_counter()
        decoded = self._coder.decode(stream)
        self._decoding += time.perf_counter() - middle
        self._encoding += middle - start
        self._bits += stream.bits
        coded = self._coder.coded_bits(stream)
        self._coded = None if coded is None or self._coded is None else self._coded + coded
        self._seconds += reference.shape[1] / self._rate
        self.clips += 1
        back = audio.resample(decoded[:, : given.shape[1]], self._coder.sample_rate, self._rate)
        estimate = audio.remix(fitted(back, reference.shape[1]), reference.shape[0])
        for name, score in self._scores.items():
            self._found[name].append(score(reference, estimate, self._rate))

    def row(self) -> Row:
        per_second = 1 / (1000 * self._seconds)
        return Row(
            coder=self._coder.name,
            kbps=self._bits * per_second,
            coded_kbps=None if self._coded is None else self._coded * per_second,
            scores={name: _mean(values) for name, values in self._found.items()},
            encode_pace=self._seconds / max(self._encoding, 1e-9),
            decode_pace=self._seconds / max(self._decoding, 1e-9),
        )


def fitted(waveform: Tensor, samples: int) -> Tensor:
    """[C, N] -> [C, samples], cut or completed with silence."""
    return F.pad(waveform[:, :samples], (0, max(0, samples - waveform.shape[1])))


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else None
