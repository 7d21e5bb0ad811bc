"""Spectrograms as PNG files, with nothing but zlib.

Time runs to the right, 100 columns a second unless that gets too wide; frequency runs up to half the sample rate on the
mel scale; colour is the level, over the 80 dB below the loudest point.
"""

from __future__ import annotations

import math
import os
import struct
import zlib

import torch
import torch.nn.functional as F
from torch import Tensor

from audiogen_cli.data.files import replacing
from audiogen_cli.ops.stft import stft

HEIGHT = 256
MAX_WIDTH = 4096
RANGE_DB = 80.0
_COLUMNS_PER_SECOND = 100
_STOPS = ((4, 4, 12), (38, 14, 84), (110, 24, 110), (190, 50, 88), (240, 110, 40), (252, 190, 60), (252, 252, 200))


def write_spectrogram(path: str | os.PathLike[str], waveform: Tensor, sample_rate: int, force: bool = False) -> None:
    """Draws waveform [C, N], its channels mixed. Raises OutputError as data/files.replacing does."""
    with replacing(path, force) as file:
        file.write(encode_png(spectrogram(waveform, sample_rate)))


def spectrogram(waveform: Tensor, sample_rate: int) -> Tensor:
    """waveform [C, N] -> levels [HEIGHT, columns] in 0 .. 1, the highest frequency in the first row."""
    mono = waveform.detach().float().cpu().mean(dim=0)
    hop = max(1, sample_rate // _COLUMNS_PER_SECOND, math.ceil(len(mono) / MAX_WIDTH))
    n_fft = 2 ** round(math.log2(sample_rate * 0.05))
    magnitude = stft(mono, n_fft, hop).abs()  # [F, T]
    rows = _between_bins(magnitude, _mel_spaced(sample_rate) * n_fft / sample_rate)
    level = 20 * torch.log10(rows.clamp_min(1e-9))
    return ((level - level.max()) / RANGE_DB + 1).clamp(0, 1).flip(0)


def encode_png(levels: Tensor) -> bytes:
    """levels [height, width] in 0 .. 1 -> a PNG of 8 bits a pixel with our palette."""
    height, width = levels.shape
    pixels = F.pad((levels * 255).round().to(torch.uint8), (1, 0))  # each row starts with its filter, 0: none
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", palette().numpy().tobytes()),
        (b"IDAT", zlib.compress(pixels.numpy().tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def palette() -> Tensor:
    """[256, 3] uint8, ever lighter: from near black over violet, red and orange to pale yellow."""
    stops = torch.tensor(_STOPS, dtype=torch.float32).T[None]  # [1, 3, stops]
    return F.interpolate(stops, 256, mode="linear", align_corners=True)[0].T.round().to(torch.uint8).contiguous()


def _mel_spaced(sample_rate: int) -> Tensor:
    """[HEIGHT] frequencies in Hz from 0 to half the sample rate."""
    mel = torch.linspace(0, math.log10(1 + sample_rate / 2 / 700), HEIGHT)
    return 700 * (10**mel - 1)


def _between_bins(magnitude: Tensor, position: Tensor) -> Tensor:
    """magnitude [F, T] read at fractional bins [HEIGHT] -> [HEIGHT, T]."""
    below = position.floor().long().clamp(0, len(magnitude) - 2)
    share = (position - below)[:, None]
    return magnitude[below] * (1 - share) + magnitude[below + 1] * share


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
