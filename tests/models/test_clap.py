"""A scorer of sounds against texts: what it hears, what it does not, and that a batch is its items."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.hub import checkpoint
from audiogen_cli.models.clap import CLAP, CLAPConfig, mean_vector

CONFIG = CLAPConfig(8000, n_fft=256, hop_length=160, num_mels=16, channels=(4, 8), text_dim=6, hidden_dim=8, dim=5)


@pytest.fixture(scope="module")
def clap() -> CLAP:
    torch.manual_seed(0)
    return CLAP(CONFIG).eval()


def words(count: int, length: int = 3) -> Condition:
    generator = torch.Generator().manual_seed(1)
    return Condition(torch.randn(count, length, 6, generator=generator), torch.ones(count, length, dtype=torch.bool))


def noise(samples: int = 4000) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(2))


def test_both_ends_have_length_one_and_the_logits_are_their_cosines_over_the_temperature(clap: CLAP) -> None:
    mel = clap.features(torch.stack([noise(), noise().flip(0)]))
    assert mel.shape == (2, 26, 16)
    sounds, texts = clap.embed_sound(mel), clap.embed_text(mean_vector(words(3)))
    for ends in (sounds, texts):
        torch.testing.assert_close(ends.norm(dim=-1), torch.ones(len(ends)))
    torch.testing.assert_close(clap(mel, mean_vector(words(3))), sounds @ texts.T / 0.07)


def test_the_temperature_stays_above_a_hundredth() -> None:
    clap = CLAP(CONFIG).eval()
    torch.nn.init.constant_(clap.log_scale, 10.0)
    logits = clap(clap.features(noise()[None]), mean_vector(words(1)))
    assert logits.abs().max() <= math.exp(math.log(100.0)) + 1e-3


def test_the_score_is_one_cosine_whatever_the_level_and_the_length(clap: CLAP) -> None:
    for samples in (400, 4000, 16_000):
        score = clap.score(noise(samples), words(1))
        assert -1.0 <= score <= 1.0
        assert clap.score(0.2 * noise(samples), words(1)) == pytest.approx(score, abs=1e-5)


def test_silence_is_scored_too(clap: CLAP) -> None:
    assert math.isfinite(clap.score(torch.zeros(4000), words(1)))


def test_what_lies_80_db_below_the_loudest_is_not_heard(clap: CLAP) -> None:
    mel = torch.full((1, 20, 16), -1.0)
    mel[:, 10:] = -1.0 - math.log(1e4)
    lower = mel.clone()
    lower[:, 10:] -= 1.0
    assert torch.equal(clap.embed_sound(mel), clap.embed_sound(lower))


def test_a_text_is_the_mean_of_what_is_not_masked() -> None:
    text = words(2, length=4)
    mask = torch.tensor([[True, True, False, False], [False] * 4])
    found = mean_vector(Condition(text.embedding, mask))
    torch.testing.assert_close(found[0], text.embedding[0, :2].mean(dim=0))
    assert (found[1] == 0).all()


def test_a_checkpoint_scores_the_same(clap: CLAP, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, clap, {"data": "noise"})
    again = checkpoint.load(tmp_path, expect=("clap",))
    assert isinstance(again, CLAP) and again.config == CONFIG
    assert again.score(noise(), words(1)) == pytest.approx(clap.score(noise(), words(1)), abs=1e-6)


def test_too_few_bands_for_the_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="num_mels"):
        CLAPConfig(num_mels=8)
