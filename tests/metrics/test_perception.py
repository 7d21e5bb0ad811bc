"""Optional judges: those that are installed order sounds as ears do, and are silent about what they cannot judge."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from audiogen_cli.metrics import perception

PACKAGES = {"stoi": "pystoi", "pesq": "pesq", "visqol": "visqol"}


def syllables(sample_rate: int, seconds: float = 1.5) -> Tensor:
    """[1, N]: noise in bursts, four a second."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(round(seconds * sample_rate)) / sample_rate
    return (0.2 * torch.randn(len(time), generator=generator) * torch.sin(4 * math.pi * time).clamp_min(0))[None]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_sound_is_nearest_to_itself(name: str) -> None:
    pytest.importorskip(PACKAGES[name])
    score = perception.available()[name]
    clean = syllables(16_000)
    noisy = clean + 0.2 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    assert score(clean, clean, 16_000) > score(clean, noisy, 16_000)
    assert score(clean, clean, 16_000) == score(clean.repeat(2, 1), clean.repeat(2, 1), 16_000)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_silent_reference_cannot_be_judged(name: str) -> None:
    pytest.importorskip(PACKAGES[name])
    assert math.isnan(perception.available()[name](torch.zeros(1, 24_000), syllables(16_000), 16_000))


def test_visqol_scores_are_those_of_the_same_model_whatever_else_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = pytest.importorskip("visqol.visqol_manager")
    perception._visqol_api.cache_clear()
    clean = syllables(16_000)
    noisy = clean + 0.05 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    scores = []
    for installed in (True, False):
        monkeypatch.setattr(manager, "has_lattice_runtime", lambda installed=installed: installed)
        perception._visqol_api.cache_clear()
        scores.append(perception.available()["visqol"](clean, noisy, 16_000))
    perception._visqol_api.cache_clear()
    assert scores[0] == scores[1] and 1 < scores[0] < 5


@pytest.mark.parametrize("name", ["stoi", "pesq"])
def test_what_is_too_short_to_judge_is_nan(name: str) -> None:
    pytest.importorskip(PACKAGES[name])
    assert math.isnan(perception.available()[name](torch.zeros(1, 2_000), torch.zeros(1, 2_000), 16_000))


def test_what_is_not_installed_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert perception.available() == {}
