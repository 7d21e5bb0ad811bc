"""The judge's score is a cross entropy of what a text lets expect and what is heard; the bundled one knows sounds."""

from __future__ import annotations

import math

import pytest
import torch

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.hub import catalog
from audiogen_cli.hub.catalog import Model
from audiogen_cli.models.judge import Judge, JudgeConfig

TINY = JudgeConfig(width=0.1, num_classes=5, text_dim=6, hidden_dim=8)


def judge() -> Judge:
    torch.manual_seed(0)
    return Judge(TINY).eval()


@torch.no_grad()
def test_the_score_is_the_expected_log_probability_of_what_is_heard() -> None:
    judging, sound = judge(), torch.randn(8000)
    text = Condition(torch.randn(1, 3, 6), torch.tensor([[True, True, False]]))
    expected = judging.expected(text.embedding[:, :2].mean(dim=1))[0]
    heard = judging.heard(sound[None], 16_000)[0]
    for row in (expected, heard):
        assert float(row.exp().sum()) == pytest.approx(1, abs=1e-5)
    by_hand = sum(math.exp(p) * q for p, q in zip(expected.tolist(), heard.tolist(), strict=True))
    assert judging.score(sound, 16_000, text) == pytest.approx(by_hand, abs=1e-5)
    assert by_hand < 0


@pytest.fixture(scope="module")
def bundled() -> Model:
    return catalog.load()


def test_the_bundled_judge_tells_noise_sirens_and_ticks_apart(bundled: Model) -> None:
    noise = torch.randn(48_000, generator=torch.Generator().manual_seed(0))
    pitch = 900 + 400 * torch.sin(2 * math.pi * 0.5 * torch.arange(48_000) / 16_000)
    wail = torch.sin((2 * math.pi * pitch / 16_000).cumsum(0))
    ticks = noise * (torch.arange(48_000) % 16_000 < 60)
    sounds = {"white noise": noise, "a siren": wail, "a clock ticking": ticks}
    found = bundled.judge
    assert found is not None
    for text in sounds:
        scores = {name: found.score(sound, 16_000, bundled.text([text])) for name, sound in sounds.items()}
        assert max(scores, key=scores.__getitem__) == text, scores
