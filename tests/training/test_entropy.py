import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from audiogen_cli.config import to_dict
from audiogen_cli.data.recordings import Recordings
from audiogen_cli.hub import checkpoint
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.entropy import EntropyLM, EntropyLMConfig
from audiogen_cli.training.entropy import (
    EntropyRecipe,
    EntropyTask,
    EntropyTrainingConfig,
    encode,
    fitted,
    model_bits,
    unigram_bits,
)
from audiogen_cli.training.loop import LoopConfig, train

LOOP = LoopConfig(6, 4, learning_rate=1e-2, warmup_steps=1, evaluate_every=6, save_every=3, workers=0, precision="fp32")
MODEL = EntropyLMConfig(3, 8, 16, 1, 2, past_context=6, frame_rate=10.0)
RECIPE = EntropyRecipe(MODEL, EntropyTrainingConfig(window_seconds=2.0, offset_seconds=3.0), LOOP)


def counting(lengths: tuple[int, ...]) -> list[Tensor]:
    """Codes that a frame before tells all of: each counts up, from somewhere."""
    starts = torch.randint(8, (len(lengths), 3, 1), generator=torch.Generator().manual_seed(0))
    return [((torch.arange(n) + start) % 8).to(torch.int16) for n, start in zip(lengths, starts, strict=True)]


def task(recipe: EntropyRecipe = RECIPE) -> EntropyTask:
    torch.manual_seed(0)
    return EntropyTask(recipe, counting((30, 5, 60, 25)), counting((20, 12)), {"data": "counting"})


def test_what_can_be_foretold_costs_few_bits_and_a_fixed_table_saves_none(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, loop=dataclasses.replace(LOOP, steps=150, evaluate_every=150, ema_decay=0.9))
    reports = list(train(task(recipe), recipe.loop, tmp_path, to_dict(recipe)))
    [found] = [report.metrics for report in reports if report.kind == "evaluate"]
    assert found["valid_bits"] < 1.0 < 2.9 < found["unigram_bits"] < 3.1 and found["plain_bits"] == 3.0
    assert found["saving"] == pytest.approx(1 - found["valid_bits"] / 3)
    lm = checkpoint.load(tmp_path / "model", expect=("entropy-lm",))
    bits = model_bits(lm, counting((20, 12))).sum() / (3 * 32)  # type: ignore[arg-type]
    assert bits == pytest.approx(found["valid_bits"], abs=0.01)


def test_killed_and_resumed_it_continues_the_loss_curve(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, loop=dataclasses.replace(LOOP, schedule="constant"))
    short = dataclasses.replace(recipe, loop=dataclasses.replace(recipe.loop, steps=3))

    def losses(plan: EntropyRecipe, folder: str, resume: bool = False) -> list[float]:
        reports = train(task(plan), plan.loop, tmp_path / folder, to_dict(plan), resume)
        return [report.metrics["loss"] for report in reports if report.kind == "step"]

    whole = losses(recipe, "whole")
    assert whole[0] == pytest.approx(math.log(8), abs=0.1)
    assert losses(short, "cut") + losses(recipe, "cut", resume=True) == whole


def test_accumulation_changes_memory_and_not_the_loss(tmp_path: Path) -> None:
    def losses(accumulate: int) -> list[float]:
        loop = dataclasses.replace(LOOP, accumulate=accumulate)
        made = task(dataclasses.replace(RECIPE, loop=loop))
        return [r.metrics["loss"] for r in train(made, loop, tmp_path / str(accumulate), {}) if r.kind == "step"]

    assert losses(2) == pytest.approx(losses(1), abs=1e-4)


def test_a_batch_is_a_function_of_its_step_and_of_all_rates_and_places() -> None:
    made = task()
    batches = [made.batch(step) for step in range(60)]
    assert torch.equal(batches[7].codes, task().batch(7).codes)
    assert {batch.codes.shape[1] for batch in batches} == {1, 2, 3}
    offsets = [batch.offset for batch in batches]
    assert 15 < offsets.count(0) < 45 and max(offsets) <= 30
    for batch in batches:
        padded = batch.codes.masked_select(~batch.frame_mask[:, None].expand_as(batch.codes))
        assert batch.codes.shape[2] == 20 and not padded.any()


def test_a_fixed_table_costs_what_its_frequencies_say() -> None:
    train = [torch.tensor([[0, 0, 0, 1]], dtype=torch.int16)]
    expected = -math.log2(3.5 / 6) - math.log2(0.5 / 6)  # one half more for each of four codes
    assert float(unigram_bits(train, [torch.tensor([[0, 2]])], 4)[0]) == pytest.approx(expected)


def test_codes_are_those_of_the_codec_and_the_model_is_made_for_them(tiny_model: Path) -> None:
    codec: Codec = checkpoint.load(tiny_model / "codec")  # type: ignore[assignment]
    recordings = Recordings([torch.randint(-9_000, 9_000, (1, n)).to(torch.int16) for n in (4_000, 1_300)])
    codes = encode(codec, recordings)
    assert [tuple(found.shape) for found in codes] == [(4, 25), (4, 9)]
    assert torch.equal(codes[1].long(), codec.encode(recordings[1][None])[0])
    model = fitted(RECIPE, codec).model
    assert (model.num_codebooks, model.codebook_size, model.past_context) == (4, 16, 175)
    assert model.codec_fingerprint == codec.fingerprint() and model.dim == MODEL.dim
    EntropyLM(model)


def test_training_begins_at_the_cost_of_a_fixed_table() -> None:
    torch.manual_seed(0)
    lopsided = [(torch.rand(3, 400) ** 4 * 8).to(torch.int16)]
    made = EntropyTask(RECIPE, lopsided, lopsided, {})
    bits = float(model_bits(made.lm, lopsided).sum())
    assert bits == pytest.approx(float(unigram_bits(lopsided, lopsided, 8).sum()), rel=0.02)
