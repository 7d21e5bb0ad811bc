"""The ear is the paper's network, hears a sound whatever its level and rate, and lets gradients pass."""

from __future__ import annotations

import math

import pytest
import torch

from audiogen_cli.models import ear
from audiogen_cli.models.ear import BANDS, HIGHEST, N_FFT, SAMPLE_RATE, Ear


def tiny() -> Ear:
    torch.manual_seed(0)
    return Ear(0.1, 5).eval()


def test_at_width_one_it_has_the_papers_size() -> None:
    whole = Ear(1.0, 1000)
    count = sum(parameter.numel() for name, parameter in whole.named_parameters())
    assert count == pytest.approx(5.4e6, rel=0.03)  # 1905.02244, table 3; of one channel, and without normalizations
    assert sum(parameter.numel() for parameter in Ear(0.4, 527).parameters()) == pytest.approx(0.98e6, rel=0.02)


def test_widths_are_multiples_of_eight_and_not_more_than_a_tenth_less() -> None:
    assert [ear._eights(width) for width in (1, 8, 9.6, 11, 12, 44.8, 268.8, 73.6)] == [8, 8, 16, 16, 16, 48, 272, 72]
    for width in torch.linspace(1, 500, 1999).tolist():
        found = ear._eights(width)
        assert found % 8 == 0 and found >= 0.9 * width and found <= max(8, width + 8)


@torch.no_grad()
def test_how_loud_a_sound_is_decides_nothing() -> None:
    hearing, sound = tiny(), torch.randn(2, 8000)
    torch.testing.assert_close(hearing(sound, 16_000), hearing(sound * 0.01, 16_000), rtol=1e-3, atol=1e-4)
    assert hearing.named(hearing(sound, 16_000)).shape == (2, 5)


@torch.no_grad()
def test_silence_and_the_shortest_sounds_are_heard() -> None:
    hearing = tiny()
    assert hearing(torch.zeros(1, 2000), 8000).isfinite().all()
    assert hearing(torch.randn(1, 400), 8000).isfinite().all()


def test_gradients_reach_the_waveform() -> None:
    hearing, sound = tiny(), torch.randn(1, 8000, requires_grad=True)
    hearing.named(hearing(sound, 16_000)).square().sum().backward()
    assert sound.grad is not None and (sound.grad != 0).float().mean() > 0.9


@pytest.mark.parametrize("rate", [8000, 22_050, 32_000, 44_100])
def test_a_tone_is_the_same_tone_at_the_ears_rate(rate: int) -> None:
    tone = torch.sin(2 * math.pi * 500 / rate * torch.arange(rate, dtype=torch.float64))[None]
    wanted = torch.sin(2 * math.pi * 500 / SAMPLE_RATE * torch.arange(SAMPLE_RATE, dtype=torch.float64))[None]
    torch.testing.assert_close(ear.resampled(tone, rate), wanted, rtol=0, atol=1e-6)


def test_the_filter_bank_is_made_of_triangles_on_the_mel_scale() -> None:
    def mel(frequency: float) -> float:
        return 1127.0 * math.log(1 + frequency / 700)

    bank, step = ear.filter_bank(), mel(HIGHEST) / (BANDS + 1)
    for band in (0, 17, 64, 127):
        for index in range(0, N_FFT // 2, 7):
            place = mel(index * SAMPLE_RATE / N_FFT) / step - band
            assert float(bank[band, index]) == pytest.approx(max(0.0, min(place, 2 - place)), abs=1e-4)
    assert not bank[:, -1].any()
