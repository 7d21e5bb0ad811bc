import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from audiogen_cli.conditioners.text import T5Conditioner
from audiogen_cli.errors import InputError
from audiogen_cli.hub import checkpoint
from audiogen_cli.models.audiolm import Block, Stage, StageConfig, stage_loss
from audiogen_cli.models.depth import DepthConfig, DepthStage
from audiogen_cli.models.semantic import HubertWithKmeans
from audiogen_cli.ops.ids import padded
from audiogen_cli.training import audiolm as training_audiolm
from audiogen_cli.training.audiolm import DepthSettings, StageSettings, StageTask, build, configured, fitted
from audiogen_cli.training.loop import LoopConfig, new_accelerator, train
from audiogen_cli.training.stage_data import Sound, Tokenizers, crop

STAGES = ("semantic", "coarse", "fine")
DEPTH = ("depth",)
RATES = (50.0, 50.0)
LOOP = LoopConfig(steps=4, batch_size=2, learning_rate=1e-3, warmup_steps=1, evaluate_every=4, save_every=2, workers=0)


def config(stage: str, **more: Any) -> StageConfig:
    blocks = {
        "semantic": (Block("semantic", 12),),
        "coarse": (Block("semantic", 12), Block("acoustic", 16, 2)),
        "fine": (Block("acoustic", 16, 2), Block("acoustic", 16, 2, 2)),
        "depth": (Block("semantic", 12), Block("acoustic", 16, 4)),
    }
    settings = {"window_seconds": 0.4, "num_heads": 2, "unique_consecutive": False, "residual_streams": 2} | more
    if stage == "depth":
        return DepthConfig("coarse", blocks[stage], 16, 1, depth_dim=16, depth_layers=1, **settings)  # type: ignore[arg-type]
    return StageConfig(stage, blocks[stage], 16, 1, **settings)  # type: ignore[arg-type]


def sound(frames: int, seed: int = 0) -> Sound:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 16, (4, frames), generator=generator)
    return Sound(torch.randint(0, 12, (frames,), generator=generator), codes, "a dog")


def task(stage: str, loop: LoopConfig = LOOP, text: T5Conditioner | None = None, **more: Any) -> StageTask:
    torch.manual_seed(0)
    model = build(config(stage, **more))
    return StageTask(model, loop, lambda i: sound(30 + i, i), 5, [sound(25, 9)], RATES, text)


def losses(made: StageTask, folder: Path, resume: bool = False) -> list[float]:
    reports = train(made, made.loop, folder, {}, resume)
    return [report.metrics["loss"] for report in reports if report.kind == "step"]


@pytest.mark.parametrize("stage", STAGES + DEPTH)
def test_training_leaves_a_stage_that_loads(stage: str, tmp_path: Path) -> None:
    found = losses(task(stage), tmp_path)
    assert abs(found[0] - math.log(14)) < 1.5
    loaded = checkpoint.load(tmp_path / "model", expect=("depth" if stage == "depth" else "stage",))
    assert (
        isinstance(loaded, Stage)
        and isinstance(loaded, DepthStage) == (stage == "depth")
        and loaded.config == config(stage)
    )


def test_evaluation_and_training_have_the_same_loss(tmp_path: Path) -> None:
    """[6: training appends the end, evaluation does not]"""
    made = task("coarse", forget=0.0)
    reports = train(made, dataclasses.replace(LOOP, steps=1), tmp_path, {})
    [valid] = [report.metrics["valid_loss"] for report in reports if report.kind == "evaluate"]
    [example] = made.validation
    stage: Any = made.average.module
    blocks = [padded([block]) for block in example.blocks]
    expected = stage_loss(stage, stage.config, blocks, torch.tensor([example.ends]), training=True)
    assert valid == pytest.approx(float(expected.target), abs=1e-5)


def test_killed_and_resumed_it_goes_on_to_the_bit(tmp_path: Path) -> None:
    """[19: resuming takes the step from a file name and forgets the random state]"""
    loop = dataclasses.replace(LOOP, schedule="constant")
    whole = losses(task("coarse", loop), tmp_path / "whole")
    first = losses(task("coarse", dataclasses.replace(loop, steps=2)), tmp_path / "cut")
    assert first + losses(task("coarse", loop), tmp_path / "cut", resume=True) == whole


def test_a_stage_learns_what_there_is_to_learn(tmp_path: Path) -> None:
    made = task("semantic", dataclasses.replace(LOOP, steps=80, learning_rate=1e-2, evaluate_every=80, save_every=80))
    made.sounds = lambda i: Sound(torch.arange(40) % 12, None, "")
    found = losses(made, tmp_path)
    assert found[-1] < 0.5 * found[0]


def test_captions_become_conditions_and_are_dropped_for_a_share(tiny_model: Path, tmp_path: Path) -> None:
    text = T5Conditioner.load(tiny_model / "text")
    more = {"conditioning": "cross", "condition_dim": 16, "condition_dropout": 0.5}
    made = task("semantic", text=text, **more)
    masks = torch.cat([made.batch(step).condition.mask.any(1) for step in range(60)])  # type: ignore[union-attr]
    assert 0.35 < masks.float().mean() < 0.65
    [report] = [r for r in train(made, made.loop, tmp_path, {}) if r.kind == "evaluate"]
    assert report.metrics.keys() == {"valid_loss", "valid_loss_without_text"}
    for stage, encoder in (("semantic", text), ("coarse", None)):
        with pytest.raises(InputError, match="text encoder"):
            task(stage, text=encoder, **(more if encoder is None else {}))


@pytest.fixture
def tokenizers(speech_model: Path, tiny_model: Path) -> Tokenizers:
    codec: Any = checkpoint.load(tiny_model / "codec")
    return Tokenizers(HubertWithKmeans(speech_model, speech_model / "kmeans.safetensors"), codec)


def test_a_recipe_becomes_the_three_stages(tokenizers: Tokenizers) -> None:
    small = StageSettings(dim=16, num_layers=1, num_heads=2)
    made = [configured(stage, small, tokenizers) for stage in STAGES]  # type: ignore[arg-type]
    assert [c.window_seconds for c in made] == [30.0, 10.0, 3.0]
    assert [[b.num_levels for b in c.blocks] for c in made] == [[1], [1, 2], [2, 2]]
    assert made[0].codec == "" and made[1].semantic == tokenizers.semantic.fingerprint() and made[2].semantic == ""  # type: ignore[union-attr]
    inner = DepthSettings(dim=16, num_layers=1, num_heads=2, depth_dim=8)
    whole, half = (configured("coarse", dataclasses.replace(inner, num_coarse=n), tokenizers) for n in (None, 2))
    assert isinstance(whole, DepthConfig) and (whole.target.num_levels, half.target.num_levels) == (4, 2)
    assert whole.depth_dim == 8 and whole.blocks[0].time_scale == made[1].blocks[0].time_scale
    with pytest.raises(InputError, match="4 cannot be coarse"):
        configured("fine", dataclasses.replace(small, num_coarse=4), tokenizers)
    with pytest.raises(InputError, match="build it with those"):
        fitted(StageConfig("semantic", (Block("semantic", 13),), 16, 1, num_heads=2), tokenizers)
    with pytest.raises(InputError, match="semantic ids; give"):
        fitted(made[1], Tokenizers(codec=tokenizers.codec))


SCRIPT = """
import json, sys
import torch
sys.path.insert(0, {folder!r})
import test_audiolm as tests
from accelerate import Accelerator
for stage in tests.STAGES + tests.DEPTH:
    made = tests.task(stage)
    made.prepare(Accelerator(cpu=True), made.loop)
    made.optimizers["stage"].step = lambda: None
    made.loop = tests.dataclasses.replace(made.loop, clip_norm=1e9)
    batch = made.batch(0)
    made.step(batch, 0)
    gradient = torch.cat([p.grad.flatten() for p in made.stage.parameters() if p.grad is not None])
    print(json.dumps([made.rank, stage, gradient.double().norm().item(), batch.blocks[-1].sum().item()]), flush=True)
"""


def test_two_processes_share_their_gradients_in_every_stage(tmp_path: Path) -> None:
    """[14: the fine trainer prepares the transformer and trains the wrapper around it, so nothing is shared]"""
    (tmp_path / "script.py").write_text(SCRIPT.format(folder=str(Path(__file__).parent)))
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29581", "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    root = str(Path(__file__).parents[2])
    runs = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "script.py")],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": root},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    found = [[json.loads(line) for line in run.communicate(timeout=300)[0].splitlines()] for run in runs]
    for one, other in zip(*found, strict=True):
        assert (one[0], other[0]) == (0, 1) and one[1] == other[1]
        assert one[2] == other[2], "the gradients differ"
        assert one[3] != other[3], "both ranks had the same batch"
    assert [line[1] for line in found[0]] == list(STAGES + DEPTH)


def test_evaluation_hears_every_held_out_recording_and_its_end(tmp_path: Path) -> None:
    """[15: one batch is evaluated, whatever was asked for; 6]"""
    made = task("coarse", dataclasses.replace(LOOP, steps=1, batch_size=1), forget=0.0)
    made.validation = [crop(sound(15 + i, i), made.stage.config, RATES, None) for i in range(3)]
    [found] = [r.metrics["valid_loss"] for r in train(made, made.loop, tmp_path, {}) if r.kind == "evaluate"]
    stage: Any = made.average.module
    each = [([block[None] for block in e.blocks], torch.tensor([e.ends])) for e in made.validation]
    assert all(bool(ends) for _, ends in each)
    expected = [float(stage_loss(stage, stage.config, *example, training=False).target) for example in each]
    assert found == pytest.approx(sum(expected) / 3, abs=1e-5)


def test_a_batch_in_parts_has_the_gradient_of_the_whole() -> None:
    gradients = []
    for parts in (1, 3):
        made = task("fine", dataclasses.replace(LOOP, batch_size=6, accumulate=parts, clip_norm=1e9), forget=0.0)
        made.sounds = lambda i: sound(15, i)
        made.prepare(new_accelerator("fp32", cpu=True), made.loop)
        made.optimizers["stage"].step = lambda: None  # type: ignore[assignment,method-assign]
        made.step(made.batch(0), 0)
        gradients.append(torch.cat([p.grad.flatten() for p in made.stage.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)


def test_the_parts_of_a_batch_are_of_like_length() -> None:
    made = task("coarse", dataclasses.replace(LOOP, batch_size=4, accumulate=2))
    made.sounds = lambda i: sound(3 + 2 * i, i)
    batch = made.batch(0)
    lengths = (batch.blocks[-1] != -1).sum(dim=1).tolist()
    assert lengths == sorted(lengths) and lengths[1] < lengths[3]
    blocks, ends, _ = training_audiolm._rows(batch, torch.arange(2), torch.device("cpu"))
    assert blocks[-1].shape == (2, lengths[1]) and len(ends) == 2


def test_training_hears_of_a_text_what_generation_hears(tiny_model: Path) -> None:
    """[25: the end mark is masked in training and attended to in generation]"""
    text = T5Conditioner.load(tiny_model / "text")
    made = task("semantic", text=text, conditioning="cross", condition_dim=16, condition_dropout=0.0)
    condition = made.batch(0).condition
    assert condition is not None
    for embedding, mask in zip(condition.embedding, condition.mask, strict=True):
        assert torch.equal(embedding[mask], text.embed_one("a dog"))
