"""Opus by its measured bits, and Lyra where its files are (AUDIOLM_LYRA names the folder)."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from audiogen_cli.errors import InputError, ModelError
from audiogen_cli.metrics.similarity import si_snr
from audiogen_cli.pipelines import peers

LYRA = Path(os.environ.get("AUDIOLM_LYRA", "/work/shared/peers/lyra"))


def tones(sample_rate: int, seconds: float = 1.0, channels: int = 1) -> Tensor:
    """[C, N], with vibrato, so that a delay shows."""
    time = torch.arange(round(sample_rate * seconds)) / sample_rate
    tone = 0.3 * torch.sin(2 * math.pi * (220 * time + 3 * torch.sin(2 * math.pi * 2 * time)))
    return torch.stack([tone * (1 + channel) / channels for channel in range(channels)])


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (24_000, 1), (48_000, 2)])
def test_opus_keeps_the_place_and_length_of_a_sound_and_takes_about_the_bits_it_was_asked_for(
    rate: int, channels: int
) -> None:
    waveform = tones(rate, 2.0, channels)
    coder = peers.Opus(16.0, rate, channels)
    stream = coder.encode(waveform)
    decoded = coder.decode(stream)
    assert decoded.shape == waveform.shape
    assert float(si_snr(waveform, decoded).min()) > 5
    assert 8 * len(stream.content) > stream.bits  # the container is not counted
    assert stream.bits / 2.0 / 1000 == pytest.approx(16.0 * channels, rel=0.3)


def test_more_bits_bring_opus_nearer() -> None:
    waveform = tones(16_000)
    coders = [peers.Opus(kbps, 16_000) for kbps in (8.0, 16.0, 32.0)]
    streams = [coder.encode(waveform) for coder in coders]
    assert streams[0].bits < streams[1].bits < streams[2].bits
    decoded = [coder.decode(stream) for coder, stream in zip(coders, streams, strict=True)]
    assert float(si_snr(waveform, decoded[0])) < float(si_snr(waveform, decoded[2]))


@pytest.mark.parametrize(("asked", "used"), [(8_000, 8_000), (11_025, 12_000), (22_050, 24_000), (96_000, 48_000)])
def test_opus_runs_at_the_next_rate_that_it_knows(asked: int, used: int) -> None:
    assert peers.Opus(12.0, asked).sample_rate == used


@pytest.mark.parametrize("kbps", [0.0, 5.0, 300.0, math.nan])
def test_opus_refuses_rates_that_it_has_not(kbps: float) -> None:
    with pytest.raises(InputError, match="ask for 6 to 256"):
        peers.Opus(kbps, 16_000)


def test_lyra_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"3.2, 6.0, 9.2"):
        peers.Lyra(tmp_path, 4.0)
    with pytest.raises(ModelError, match="soundstream_encoder"):
        peers.Lyra(tmp_path, 3.2)
    pytest.importorskip("ai_edge_litert")
    for name in peers.LYRA_FILES:
        (tmp_path / name).write_bytes(b"no model at all")
    with pytest.raises(ModelError, match="cannot be run"):
        peers.Lyra(tmp_path, 3.2)


@pytest.mark.skipif(not LYRA.is_dir(), reason="Lyra's tflite files are not here")
def test_lyra_is_the_same_for_every_clip_and_counts_its_bits() -> None:
    pytest.importorskip("ai_edge_litert")
    waveform = tones(16_000, 0.25)[:, :3970]  # 13 hops, the last one not full
    coder = peers.Lyra(LYRA, 6.0)
    first, again = coder.encode(waveform), coder.encode(waveform)
    assert first.bits == 13 * 120
    assert all((a == b).all() for a, b in zip(first.content, again.content, strict=True))
    assert all((codes[:30] >= 0).all() and (codes[30:] == -1).all() for codes in first.content)
    decoded = coder.decode(first)
    assert decoded.shape == (1, 13 * 320) and torch.equal(decoded, coder.decode(again))
