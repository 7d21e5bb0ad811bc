"""Training the scorer: what counts as right, what is varied, and that it learns to tell a tone from noise."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from audiogen_cli.conditioners.text import T5Conditioner
from audiogen_cli.config import to_dict
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.recordings import Recordings
from audiogen_cli.data.segments import SegmentConfig
from audiogen_cli.errors import ConfigError
from audiogen_cli.hub import checkpoint
from audiogen_cli.models.clap import CLAPConfig
from audiogen_cli.models.codec import Codec
from audiogen_cli.training.clap import (
    CLAPRecipe,
    CLAPTask,
    CLAPTrainingConfig,
    contrastive_loss,
    fitted,
    matches,
    sources,
    through,
    varied,
)
from audiogen_cli.training.data import Subset, TrainingData
from audiogen_cli.training.loop import LoopConfig, train

MODEL = CLAPConfig(8000, n_fft=256, hop_length=160, num_mels=16, channels=(8, 8), hidden_dim=16, dim=8, dropout=0.0)
TRAINING = CLAPTrainingConfig(pool=24, coded=0.0, fewest_codebooks=2)
SEGMENTS = SegmentConfig(seconds=0.5, mix_probability=0.3)
LOOP = LoopConfig(
    steps=6,
    batch_size=8,
    learning_rate=3e-3,
    warmup_steps=1,
    evaluate_every=6,
    save_every=3,
    precision="fp32",
    workers=0,
)
RECIPE = CLAPRecipe(MODEL, TRAINING, SEGMENTS, LOOP)


def subset(seed: int) -> Subset:
    """Two dogs that are tones, two rains that are noise."""
    generator = torch.Generator().manual_seed(seed)
    tone = torch.sin(torch.arange(6_000) * (0.5 + 0.1 * seed))[None]
    noise = torch.randn(1, 6_000, generator=generator).clamp(-3, 3) / 3
    captions = ("a dog barking", "rain", "a dog barking", "rain")
    sounds = [(9_000 * sound).to(torch.int16) for sound in (tone, noise, tone.flip(-1), noise.flip(-1))]
    return Subset([Clip(f"{i}.wav", c, 0.75, "test") for i, c in enumerate(captions)], Recordings(sounds))


def parts(tiny_model: Path) -> tuple[T5Conditioner, Codec]:
    codec: Codec = checkpoint.load(tiny_model / "codec")  # type: ignore[assignment]
    return T5Conditioner.load(tiny_model / "text"), codec


def task(tiny_model: Path, recipe: CLAPRecipe = RECIPE) -> CLAPTask:
    torch.manual_seed(0)
    text, codec = parts(tiny_model)
    recipe = fitted(recipe, text, codec)
    pool, questions = sources(recipe, TrainingData(subset(0), subset(1)), text, codec)
    return CLAPTask(recipe, pool, questions, {"data": "noise"})


def run(tiny_model: Path, folder: Path, recipe: CLAPRecipe = RECIPE, resume: bool = False) -> list[dict[str, float]]:
    made = task(tiny_model, recipe)
    reports = train(made, recipe.loop, folder, to_dict(recipe), resume)
    return [dict(report.metrics) for report in reports if report.kind != "save"]


def test_it_learns_which_sound_a_caption_means(tiny_model: Path, tmp_path: Path) -> None:
    loop = dataclasses.replace(LOOP, steps=60, evaluate_every=60, save_every=60, ema_decay=0.9)
    metrics = run(tiny_model, tmp_path, dataclasses.replace(RECIPE, loop=loop))
    found = metrics[-1]
    assert metrics[-2]["accuracy"] > 0.8
    assert found["captions"] == 2 and found["top1"] == found["top5"] == 1.0
    assert {"top1_coded", "top5_coded"} <= found.keys()
    text, _ = parts(tiny_model)
    clap = checkpoint.load(tmp_path / "model", expect=("clap",))
    assert clap.config.text_fingerprint == text.fingerprint
    noise = subset(2).recordings[1][0]
    assert clap.score(noise, text(["rain"])) > clap.score(noise, text(["a dog barking"]))  # type: ignore[operator]


def test_killed_and_resumed_it_continues_the_loss_curve(tiny_model: Path, tmp_path: Path) -> None:
    constant = dataclasses.replace(RECIPE, loop=dataclasses.replace(LOOP, schedule="constant"))
    short = dataclasses.replace(constant, loop=dataclasses.replace(constant.loop, steps=3))
    whole = [m["loss"] for m in run(tiny_model, tmp_path / "whole", constant) if "loss" in m]
    first = [m["loss"] for m in run(tiny_model, tmp_path / "cut", short) if "loss" in m]
    second = [m["loss"] for m in run(tiny_model, tmp_path / "cut", constant, resume=True) if "loss" in m]
    assert first + second == whole


def test_an_example_is_the_same_in_every_order(tiny_model: Path) -> None:
    config = dataclasses.replace(TRAINING, coded=0.5)
    one, two = (task(tiny_model, dataclasses.replace(RECIPE, training=config)).train for _ in range(2))
    for number in (3, 0, 7):
        assert torch.equal(one[number].mel, one[number].mel)
    for number in (0, 3, 7):
        assert torch.equal(two[number].mel, one[number].mel) and torch.equal(two[number].text, one[number].text)


def test_some_are_heard_through_the_codec(tiny_model: Path) -> None:
    plain = task(tiny_model).train
    coded = task(tiny_model, dataclasses.replace(RECIPE, training=dataclasses.replace(TRAINING, coded=1.0))).train
    assert not torch.equal(plain[0].mel, coded[0].mel)
    assert torch.equal(plain[0].text, coded[0].text)


def test_through_the_codec_a_sound_keeps_its_length(tiny_model: Path) -> None:
    _, codec = parts(tiny_model)
    assert through(codec, torch.rand(1, 1_234) - 0.5, 2).shape == (1, 1_234)


def test_the_same_classes_are_right_and_shared_ones_neither() -> None:
    keys = [frozenset(k) for k in (("dog",), ("rain",), ("dog",), ("dog", "rain"))]
    assert matches(keys).tolist() == [[1, 0, 1, 2], [0, 1, 0, 2], [1, 0, 1, 2], [2, 2, 2, 1]]


def test_with_one_right_answer_each_the_loss_is_the_papers() -> None:
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    target = torch.arange(5)
    both = [torch.nn.functional.cross_entropy(way, target) for way in (logits, logits.T)]
    torch.testing.assert_close(contrastive_loss(logits, torch.eye(5, dtype=torch.int64)), sum(both) / 2)


def test_what_is_neither_right_nor_wrong_does_not_touch_the_loss() -> None:
    logits = torch.randn(4, 4, requires_grad=True)
    match = matches([frozenset(k) for k in (("dog",), ("rain",), ("bell",), ("dog", "rain"))])
    contrastive_loss(logits, match).backward()
    assert logits.grad is not None
    assert (logits.grad[match == 2] == 0).all() and (logits.grad[match != 2] != 0).all()


def test_a_varied_sound_is_near_the_first_and_the_first_is_kept() -> None:
    mel = torch.randn(50, 16) - 4.0
    kept, rng = mel.clone(), np.random.default_rng(0)
    made = [varied(mel, CLAPTrainingConfig(), 50.0, rng) for _ in range(10)]
    assert torch.equal(mel, kept)
    assert all(m.shape == mel.shape and m.isfinite().all() for m in made)
    assert not torch.equal(made[0], made[1])
    still = CLAPTrainingConfig(time_mask_seconds=0.0, pitch_mask=0.0, timbre_db=0.0, noise_db=(-200.0, -200.0))
    torch.testing.assert_close(varied(mel, still, 50.0, rng), mel)


def test_a_codec_with_too_few_codebooks_is_refused(tiny_model: Path) -> None:
    many = dataclasses.replace(RECIPE, training=dataclasses.replace(TRAINING, fewest_codebooks=5))
    with pytest.raises(ConfigError, match="5 of 4 codebooks"):
        fitted(many, *parts(tiny_model))


def test_without_a_codec_nothing_is_coded(tiny_model: Path) -> None:
    text, _ = parts(tiny_model)
    recipe = fitted(RECIPE, text, None)
    pool, questions = sources(recipe, TrainingData(subset(0), subset(1)), text, None)
    assert list(questions.sounds) == [""] and len(pool) == 24 and recipe.model.text_dim == text.dim
