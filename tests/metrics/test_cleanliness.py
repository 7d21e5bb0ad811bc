"""Flaws are found where the test puts them, and not in what only resembles them."""

from __future__ import annotations

import math

import pytest
import torch

from audiogen_cli.metrics.cleanliness import Flaws, count_clicks, hum_share, inspect, summary

RATE = 16_000
TIME = torch.arange(2 * RATE) / RATE


def noise(level: float = 0.05) -> torch.Tensor:
    return level * torch.randn(2 * RATE, generator=torch.Generator().manual_seed(0))


def tone(frequency: float, level: float = 0.3) -> torch.Tensor:
    return level * torch.sin(2 * math.pi * frequency * TIME)


def comb(spacing: float) -> torch.Tensor:
    return sum((tone(spacing * k, 0.1 / k) for k in range(1, 7)), torch.zeros_like(TIME))


def test_lone_samples_and_broken_waves_are_clicks() -> None:
    spoiled = noise()
    spoiled[[8_000, 20_000]] += 1.0
    assert count_clicks(spoiled, RATE) == 2
    broken = torch.cat([tone(100)[:8_040], tone(100)[:8_000]])
    assert count_clicks(broken, RATE) == 1


def test_noise_tones_attacks_and_silence_are_none() -> None:
    attack = torch.cat([torch.zeros(RATE), noise(0.5)[:RATE]])
    faint = tone(200)
    faint[8_000] += 0.001
    for waveform in (noise(), tone(1_000), attack, faint, torch.zeros(RATE), torch.zeros(3)):
        assert count_clicks(waveform, RATE) == 0


@pytest.mark.parametrize("spacing", [50, 60, 100])
def test_a_comb_of_mains_lines_hums(spacing: int) -> None:
    assert hum_share(noise(0.005) + comb(spacing), RATE) > 0.8


def test_other_combs_single_tones_noise_and_short_sounds_do_not() -> None:
    for waveform in (noise(0.005) + comb(73), noise(0.005) + tone(1_000), noise(), comb(50)[:8_000], torch.zeros(RATE)):
        assert hum_share(waveform, RATE) == 0.0


def test_one_sound_is_inspected_for_all_of_them() -> None:
    half = inspect(torch.cat([noise(0.1), torch.zeros(2 * RATE)]), RATE)
    assert half.level_db == pytest.approx(-20.0, abs=0.2), "pauses are no part of the level"
    assert half.pauses == pytest.approx(0.5, abs=0.02)
    assert (half.clipped, half.clicks, half.hum) == (False, 0, 0.0)
    assert inspect(torch.full((800,), 1.0), RATE).clipped
    assert inspect(torch.zeros(100), RATE).pauses == 1.0


def test_shares_and_quantiles_are_those_of_the_set() -> None:
    def flaws(level_db: float, clicks: int = 0, hum: float = 0.0) -> Flaws:
        return Flaws(level_db, clipped=False, clicks=clicks, pauses=0.5, hum=hum)

    usual = [flaws(float(level)) for level in range(-40, -9)]
    found = summary("generated", [flaws(-60.0), flaws(-20.0, clicks=3), flaws(-20.0, hum=0.2), flaws(0.0)], usual)
    assert (found.sounds, found.silent, found.in_range) == (4, 0.25, 0.5)
    assert (found.clicking, found.humming, found.clipped, found.pauses) == (0.25, 0.25, 0.0, 0.5)
    assert found.level_db[1] == -20.0
    assert summary("generated", usual).in_range is None
