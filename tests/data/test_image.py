"""Spectrogram pictures, read back without an image library."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
import torch

from audiogen_cli.data import image
from audiogen_cli.errors import OutputError


def read(data: bytes) -> tuple[torch.Tensor, dict[bytes, bytes]]:
    """Indexed pixels [height, width], and the chunks, with every checksum checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, start = {}, 8
    while start < len(data):
        size = struct.unpack(">I", data[start : start + 4])[0]
        name, body = data[start + 4 : start + 8], data[start + 8 : start + 8 + size]
        assert struct.unpack(">I", data[start + 8 + size : start + 12 + size])[0] == zlib.crc32(name + body)
        chunks[name] = body
        start += 12 + size
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    rows = torch.frombuffer(bytearray(zlib.decompress(chunks[b"IDAT"])), dtype=torch.uint8).view(height, width + 1)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:], chunks


def test_a_picture_is_a_valid_png_of_the_levels() -> None:
    levels = torch.rand(7, 11)
    pixels, chunks = read(image.encode_png(levels))
    assert torch.equal(pixels, (levels * 255).round().to(torch.uint8))
    assert len(chunks[b"PLTE"]) == 3 * 256


def test_colours_only_get_lighter() -> None:
    light = image.palette().float() @ torch.tensor([0.299, 0.587, 0.114])
    assert (light.diff() >= -0.5).all() and light[0] < 10 and light[-1] > 230


def test_a_tone_is_a_line_and_a_higher_tone_a_higher_line(tmp_path: Path) -> None:
    time = torch.arange(16_000) / 16_000
    rows = []
    for frequency in (500, 4000):
        levels = image.spectrogram(torch.sin(2 * torch.pi * frequency * time)[None], 16_000)
        assert levels.shape == (image.HEIGHT, 101) and levels.max() == 1 and levels.min() >= 0
        rows.append(int(levels.mean(dim=1).argmax()))
    assert rows[1] < rows[0] - 50


@pytest.mark.parametrize("samples", [1, 50, 16_000 * 60])
def test_any_length_can_be_drawn(samples: int) -> None:
    levels = image.spectrogram(torch.zeros(2, samples), 16_000)
    assert levels.shape[1] <= image.MAX_WIDTH + 1
    assert not levels.isnan().any()


def test_a_picture_does_not_overwrite(tmp_path: Path) -> None:
    image.write_spectrogram(tmp_path / "a.png", torch.randn(1, 800), 8000)
    with pytest.raises(OutputError):
        image.write_spectrogram(tmp_path / "a.png", torch.randn(1, 800), 8000)
    image.write_spectrogram(tmp_path / "a.png", torch.randn(1, 800), 8000, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
