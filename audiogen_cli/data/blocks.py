"""Sounds of any length as blocks [C, n]: read, resampled and written in memory that does not grow with them.

    with reading(path, sample_rate, channels) as sound:      for block in sound: ...
    writer = BlockWriter(file, length, ...)                  writer.write(block)

Blocks joined are what data/audio.py makes of the whole file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import IO, Literal

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from audiogen_cli.data.audio import BitDepth, integers, opened, pcm, remix, wav_header
from audiogen_cli.errors import AudioError, OutputError

BLOCK = 1 << 16  # samples a channel


class BlockReader:
    """Iterates over a recording once, remixed and resampled. rate, channels: the recording's own.

    length: its samples a channel read so far; seconds: how long its header says that it is.
    """

    def __init__(self, file: soundfile.SoundFile, name: str, sample_rate: int, channels: int) -> None:
        self._file, self._name = file, name
        self._sample_rate, self._channels = sample_rate, channels
        self.rate, self.channels = int(file.samplerate), int(file.channels)
        self.seconds = file.frames / file.samplerate
        self.length = 0

    def __iter__(self) -> Iterator[Tensor]:
        """Raises AudioError for samples that are not numbers, and for a recording that has none."""
        yield from resampled(self._blocks(), self.rate, self._sample_rate)

    def _blocks(self) -> Iterator[Tensor]:
        while len(samples := self._file.read(BLOCK, dtype="float32", always_2d=True)):
            if not np.isfinite(samples).all():
                problem = "holds samples that are not numbers (NaN or infinity); repair or export it again"
                raise AudioError(f"{self._name} {problem}.")
            self.length += len(samples)
            yield remix(torch.from_numpy(np.ascontiguousarray(samples.T)), self._channels)
        if not self.length:
            raise AudioError(f"{self._name} holds no sound at all (0 samples); give a recording that has some.")


@contextlib.contextmanager
def reading(source: str | os.PathLike[str] | IO[bytes], sample_rate: int, channels: int) -> Iterator[BlockReader]:
    """A recording at `sample_rate` with `channels`. Raises AudioError as audio.read does."""
    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "stdin"
    with opened(source) as file:
        yield BlockReader(file, name, sample_rate, channels)


def resampled(blocks: Iterable[Tensor], source_rate: int, target_rate: int) -> Iterator[Tensor]:
    """[C, n] -> [C, m], together what soxr makes of all of them at once."""
    if source_rate == target_rate:
        yield from blocks
        return
    stream = None
    for block in blocks:
        if stream is None:
            stream = soxr.ResampleStream(source_rate, target_rate, block.shape[0], dtype="float32", quality="HQ")
        yield _pushed(stream, block, last=False)
    if stream is not None:
        yield _pushed(stream, block[:, :0], last=True)


def fitted(blocks: Iterable[Tensor], length: int) -> Iterator[Tensor]:
    """[C, n], cut to `length` samples in all, or completed with silence."""
    missing, channels = length, 1
    for block in blocks:
        channels = block.shape[0]
        yield block[:, :missing]
        missing -= min(missing, block.shape[1])
    while missing:
        silence = torch.zeros(channels, min(missing, BLOCK))
        yield silence
        missing -= silence.shape[1]


class BlockWriter:
    """A WAV or FLAC file of `length` samples a channel. Raises OutputError for what FLAC cannot hold."""

    def __init__(
        self,
        file: IO[bytes],
        length: int,
        channels: int,
        sample_rate: int,
        bit_depth: BitDepth = "16",
        format: Literal["wav", "flac"] = "wav",  # noqa: A002
    ) -> None:
        self._file, self._bit_depth = file, bit_depth
        self._odd = length * channels * (0 if bit_depth == "float" else int(bit_depth) // 8) % 2
        self._flac = _flac(file, channels, sample_rate, bit_depth) if format == "flac" else None
        if self._flac is None:
            file.write(wav_header(length, channels, sample_rate, bit_depth))

    def write(self, waveform: Tensor) -> None:
        samples = np.ascontiguousarray(waveform.cpu().float().numpy().T)  # [n, C]
        if self._flac is None:
            self._file.write(pcm(samples, self._bit_depth))
        elif self._bit_depth == "24":
            self._flac.write(integers(samples, 24) << 8)
        else:
            self._flac.write(integers(samples, 16).astype(np.int16))

    def finish(self) -> None:
        """Writes what is still missing; the file stays open."""
        if self._flac is None:
            self._file.write(b"\0" * self._odd)
        else:
            self._flac.close()


def _flac(file: IO[bytes], channels: int, sample_rate: int, bit_depth: BitDepth) -> soundfile.SoundFile:
    if bit_depth == "float":
        raise OutputError("FLAC holds whole numbers only; use --bit-depth 24, or write WAV for float.")
    try:
        return soundfile.SoundFile(file, "w", sample_rate, channels, f"PCM_{bit_depth}", format="FLAC")
    except soundfile.LibsndfileError as error:
        raise OutputError(f"FLAC cannot hold {channels} channels at {sample_rate} Hz; write WAV.") from error


def _pushed(stream: soxr.ResampleStream, block: Tensor, last: bool) -> Tensor:
    samples = stream.resample_chunk(np.ascontiguousarray(block.numpy().T), last=last)
    return torch.from_numpy(np.ascontiguousarray(samples.reshape(-1, block.shape[0]).T))
