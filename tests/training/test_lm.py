import dataclasses
import math
from pathlib import Path

import pytest
import torch

from audiogen_cli.conditioners.text import T5Conditioner
from audiogen_cli.config import to_dict
from audiogen_cli.data import manifest
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.recordings import Recordings
from audiogen_cli.data.tokens import TokenInfo, Tokens, TokenWriter
from audiogen_cli.errors import ConfigError, InputError
from audiogen_cli.hub import catalog, checkpoint
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.lm import LMConfig
from audiogen_cli.training.data import Subset, TrainingData
from audiogen_cli.training.lm import LMRecipe, LMTask, LMTrainingConfig, example_sources, fitted, token_sources
from audiogen_cli.training.loop import LoopConfig, train

MODEL = LMConfig(3, 16, 16, 1, 2, positions="rope", window_seconds=0.5)
LOOP = LoopConfig(
    steps=6,
    batch_size=2,
    learning_rate=1e-3,
    warmup_steps=1,
    evaluate_every=6,
    save_every=3,
    precision="fp32",
    workers=0,
)
RECIPE = LMRecipe(MODEL, LMTrainingConfig(samples=("dog barking", "rain")), loop=LOOP)


def subset(captions: tuple[str, ...]) -> Subset:
    generator = torch.Generator().manual_seed(0)
    sounds = [torch.randint(-9_000, 9_000, (1, 6_000), generator=generator).to(torch.int16) for _ in captions]
    return Subset([Clip(f"{c}.wav", c, 0.75, "test") for c in captions], Recordings(sounds))


def task(tiny_model: Path, recipe: LMRecipe = RECIPE) -> LMTask:
    torch.manual_seed(0)
    codec: Codec = checkpoint.load(tiny_model / "codec")  # type: ignore[assignment]
    text = T5Conditioner.load(tiny_model / "text")
    recipe = fitted(recipe, codec, text)
    sources = example_sources(recipe, codec, TrainingData(subset(("a dog barking", "rain")), subset(("a bell",))))
    folders = {part: tiny_model / part for part in ("codec", "text")}
    return LMTask(recipe, codec, text, *sources, {"data": "noise"}, None, folders)


def run(tiny_model: Path, folder: Path, recipe: LMRecipe = RECIPE, resume: bool = False) -> list[dict[str, float]]:
    made = task(tiny_model, recipe)
    reports = train(made, recipe.loop, folder, to_dict(recipe), resume)
    return [dict(report.metrics) for report in reports if report.kind != "save"]


def test_training_leaves_a_whole_model_that_generates(tiny_model: Path, tmp_path: Path) -> None:
    metrics = run(tiny_model, tmp_path)
    assert math.log(16) - 0.5 < metrics[0]["loss"] < math.log(16) + 1.0
    assert {"valid_loss", "valid_loss_without_text", "valid_loss_2"} <= metrics[-1].keys()
    assert len(list((tmp_path / "samples/step-00000006").glob("*.wav"))) == 2
    model = catalog.load(tmp_path / "model")
    assert model.lm.config.codec_fingerprint == model.codec.fingerprint()


def test_killed_and_resumed_it_continues_the_loss_curve(tiny_model: Path, tmp_path: Path) -> None:
    constant = dataclasses.replace(RECIPE, loop=dataclasses.replace(LOOP, schedule="constant"))
    short = dataclasses.replace(constant, loop=dataclasses.replace(constant.loop, steps=3))
    whole = [m["loss"] for m in run(tiny_model, tmp_path / "whole", constant) if "loss" in m]
    first = [m["loss"] for m in run(tiny_model, tmp_path / "cut", short) if "loss" in m]
    second = [m["loss"] for m in run(tiny_model, tmp_path / "cut", constant, resume=True) if "loss" in m]
    assert first + second == whole


def test_accumulation_changes_memory_and_not_the_loss(tiny_model: Path, tmp_path: Path) -> None:
    split = dataclasses.replace(RECIPE, loop=dataclasses.replace(LOOP, accumulate=2))
    whole, parts = run(tiny_model, tmp_path / "a"), run(tiny_model, tmp_path / "b", split)
    for one, two in zip(whole[:6], parts[:6], strict=True):
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-4)


def test_a_loss_on_one_batch_falls_when_it_is_learned(tiny_model: Path, tmp_path: Path) -> None:
    loop = dataclasses.replace(LOOP, steps=60, learning_rate=1e-2, evaluate_every=60, save_every=60)
    made = task(tiny_model, dataclasses.replace(RECIPE, loop=loop))
    batch = made.batch(0)
    made.batch = lambda step: batch  # type: ignore[method-assign]
    losses = [r.metrics["loss"] for r in train(made, loop, tmp_path, {}) if r.kind == "step"]
    assert losses[-1] < 0.8 * losses[0]


def test_dropped_conditions_are_whole_rows_and_the_right_share(tiny_model: Path) -> None:
    training = dataclasses.replace(RECIPE.training, condition_dropout=0.5)
    made = task(tiny_model, dataclasses.replace(RECIPE, training=training))
    masks = [made.batch(step).condition.mask.any(1) for step in range(60)]
    assert 0.35 < 1 - torch.cat(masks).float().mean() < 0.65


def test_a_batch_is_a_function_of_its_step(tiny_model: Path) -> None:
    one, two = task(tiny_model).batch(4), task(tiny_model).batch(4)
    assert torch.equal(one.codes, two.codes) and torch.equal(one.condition.embedding, two.condition.embedding)
    assert not torch.equal(one.codes, task(tiny_model).batch(5).codes)


def test_a_codec_with_too_few_codebooks_is_refused(tiny_model: Path) -> None:
    recipe = dataclasses.replace(RECIPE, model=dataclasses.replace(MODEL, num_codebooks=5))
    with pytest.raises(ConfigError, match="lower num_codebooks"):
        task(tiny_model, recipe)


@pytest.fixture
def prepared(tiny_model: Path, tmp_path: Path) -> Path:
    """Two sounds as codes: 40 frames and 10, of a window of 25."""
    codec: Codec = checkpoint.load(tiny_model / "codec")  # type: ignore[assignment]
    folder = tmp_path / "prepared"
    folder.mkdir()
    writer = TokenWriter(folder, TokenInfo(codec.fingerprint(), codec.frame_rate, 4, 16))
    for name, frames in (("long.wav", 40), ("short.wav", 10)):
        writer.add(str(folder / name), torch.arange(frames).remainder(16).expand(4, -1))
    writer.flush()
    clips = [Clip(str(folder / "long.wav"), "rain", 0.8, "a"), Clip(str(folder / "short.wav"), "a bell", 0.2, "b")]
    manifest.write(folder / manifest.NAME, clips)
    return folder


def test_prepared_tokens_train_without_the_sound(tiny_model: Path, prepared: Path, tmp_path: Path) -> None:
    made = task(tiny_model)
    made.train, made.validation = token_sources(made.recipe, Tokens(prepared))
    examples = made.train(0)
    assert examples.frames.shape == (2, 3, 25) and torch.equal(examples.frames, made.train(0).frames)
    lengths = {int(row.sum()) for step in range(20) for row in made.train(step).frame_mask}  # type: ignore[union-attr]
    assert lengths == {25, 10}
    metrics = [r.metrics for r in train(made, LOOP, tmp_path / "run", {})]
    assert math.isfinite(metrics[0]["loss"]) and any("valid_loss" in m for m in metrics)


def test_tokens_of_another_codec_are_refused(tiny_model: Path, prepared: Path) -> None:
    made = task(tiny_model)
    other = dataclasses.replace(made.recipe, model=dataclasses.replace(made.recipe.model, codec_fingerprint="beef"))
    with pytest.raises(InputError, match="not of beef"):
        token_sources(other, Tokens(prepared))


def test_repeated_examples_come_again_later_and_resumed_runs_see_the_same(tiny_model: Path) -> None:
    recipe = dataclasses.replace(
        RECIPE,
        training=dataclasses.replace(RECIPE.training, repeats=2),
        loop=dataclasses.replace(LOOP, batch_size=4),
    )
    source = task(tiny_model, recipe).train
    again = source.AGAIN  # type: ignore[attr-defined]
    batches = {step: source(step) for step in (0, 1, again)}
    assert batches[0].frames.shape[0] == len(batches[0].captions) == 4
    assert torch.equal(batches[0].frames[2:], batches[again].frames[:2])
    assert batches[0].captions[2:] == batches[again].captions[:2]
    assert not torch.equal(batches[0].frames[:2], batches[1].frames[:2])
    resumed = task(tiny_model, recipe).train(again)
    assert torch.equal(resumed.frames, batches[again].frames) and resumed.captions == batches[again].captions


def test_training_hears_of_a_text_what_generation_hears(tiny_model: Path) -> None:
    """[25: the end mark is masked in training and attended to in generation]"""
    training = dataclasses.replace(RECIPE.training, condition_dropout=0.0)
    made = task(tiny_model, dataclasses.replace(RECIPE, training=training))
    condition = made.batch(0).condition
    for embedding, mask, caption in zip(condition.embedding, condition.mask, made.train(0).captions, strict=True):
        assert torch.equal(embedding[mask], made.text.embed_one(caption))
