import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from audiogen_cli.conditioners.symbols import Symbols
from audiogen_cli.config import load_toml
from audiogen_cli.data import audio
from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import InputError
from audiogen_cli.hub import checkpoint
from audiogen_cli.hub.card import ModelCard
from audiogen_cli.models.valle import Frames, VallE, VallEConfig, valle_loss
from audiogen_cli.training import valle as training_valle
from audiogen_cli.training.audiolm import DepthRecipe, StageRecipe
from audiogen_cli.training.codec import CodecRecipe
from audiogen_cli.training.loop import LoopConfig, train
from audiogen_cli.training.stage_data import Sound
from audiogen_cli.training.valle import (
    Chosen,
    Utterances,
    VallERecipe,
    VallESettings,
    VallETask,
    configured,
    divided,
    pace,
    set_aside,
    usable,
)

K, V, RATE = 3, 16, 50.0
TEXTS = ("one two", "three", "four five six", "seven", "eight nine")
LOOP = LoopConfig(steps=4, batch_size=2, learning_rate=1e-3, warmup_steps=1, evaluate_every=4, save_every=2, workers=0)
SETTINGS = VallESettings(dim=16, num_layers=1, num_heads=2, window_seconds=1.0, prompt_seconds=0.1, samples=1)


CLIPS = [Clip(f"{i}.wav", text, 2 * len(text) / RATE, "ab"[i % 2]) for i, text in enumerate(TEXTS)]


class Sounds:
    """Recordings of two speakers, in codes; a text of n letters takes 2 n frames."""

    clips = CLIPS

    def __call__(self, index: int, shift: float = 0.0) -> Sound:
        generator = torch.Generator().manual_seed(index + round(1000 * shift))
        return Sound(None, torch.randint(0, V, (4, 2 * len(TEXTS[index])), generator=generator), TEXTS[index])


def codec() -> Any:
    facts = {"sample_rate": 8_000, "num_codebooks": 4, "codebook_size": V, "frame_rate": RATE}
    decode = lambda codes: torch.zeros(1, 1, codes.shape[2] * 160)  # noqa: E731
    return SimpleNamespace(**facts, fingerprint=lambda: "f" * 12, decode=decode)


def task(loop: LoopConfig = LOOP, settings: VallESettings = SETTINGS, **more: Any) -> VallETask:
    torch.manual_seed(0)
    settings = dataclasses.replace(settings, num_codebooks=K, **more)
    symbols = Symbols()
    model = VallE(configured(settings, CLIPS, codec()))
    known, held = (Utterances(Chosen(Sounds(), numbers), symbols, K) for numbers in ([0, 1, 2, 3], [4, 0]))
    return VallETask(model, VallERecipe(settings, loop), codec(), known, held)


def losses(made: VallETask, folder: Path, resume: bool = False) -> list[float]:
    reports = train(made, made.recipe.loop, folder, {}, resume)
    return [report.metrics["loss"] for report in reports if report.kind == "step"]


def test_training_leaves_a_model_that_loads_and_samples_that_can_be_heard(tmp_path: Path) -> None:
    found = losses(task(dropout=0.0), tmp_path)
    assert abs(found[0] - math.log(V)) < 0.7
    loaded = checkpoint.load(tmp_path / "model" / "valle", expect=("valle",))
    assert isinstance(loaded, VallE) and loaded.config.pace.usual == 2.0
    card = ModelCard(**json.loads((tmp_path / "model/model.json").read_text()))
    assert card.name == tmp_path.name
    folder = tmp_path / "samples/step-00000004"
    assert audio.info(folder / "1.wav").sample_rate == 8_000 and (folder / "1.png").is_file()
    assert (folder / "1.txt").read_text() == "one two\n"


def test_killed_and_resumed_it_goes_on_to_the_bit(tmp_path: Path) -> None:
    """[19: resuming takes the step from a file name and forgets the random state]"""
    loop = dataclasses.replace(LOOP, schedule="constant")
    whole = losses(task(loop), tmp_path / "whole")
    first = losses(task(dataclasses.replace(loop, steps=2)), tmp_path / "cut")
    assert first + losses(task(loop), tmp_path / "cut", resume=True) == whole


def test_evaluation_has_the_loss_of_training(tmp_path: Path) -> None:
    """[6: training appends the end, evaluation does not]"""
    made = task(dataclasses.replace(LOOP, steps=1))
    reports = list(train(made, made.recipe.loop, tmp_path, {}))
    [found] = [report.metrics for report in reports if report.kind == "evaluate"]
    losses = {"valid_loss", "valid_first_loss", "valid_rest_loss", "valid_first_loss_other_text"}
    assert {*losses, "samples_ended"} == found.keys()
    model: Any = made.average.module
    examples = [made.held_out(index) for index in range(2)]
    text = torch.nn.utils.rnn.pad_sequence([e.text for e in examples], True, -1)
    first = torch.nn.utils.rnn.pad_sequence([e.codes[0] for e in examples], True, -1)
    loss = valle_loss(model, model.config, text, first, made.batch(0).frames)
    assert found["valid_first_loss"] == pytest.approx(float(loss.first), abs=1e-5)


def test_an_utterance_keeps_its_whole_text_and_a_companion_is_of_its_source() -> None:
    made = task(joined=1.0)
    rng = np.random.default_rng(0)
    whole = {bytes(made._example(rng).text.tolist()).decode() for _ in range(60)}
    pairs = {text for text in whole if text not in TEXTS}
    assert pairs == {"one two four five six", "four five six one two", "three seven", "seven three"}
    for _ in range(20):
        example = made._example(rng)
        parts = bytes(example.text.tolist()).decode()
        assert example.codes.shape == (K, 2 * (len(parts) - (parts in pairs)))
        codes, prompt = made._voiced(example.codes, rng)
        assert 0 <= prompt <= 5
        assert torch.equal(codes[:, -example.codes.shape[1] :], example.codes)


def test_how_long_each_symbol_lasts_is_found_from_whole_utterances() -> None:
    rng = np.random.default_rng(0)
    lasts = {"A": 2.0, "B": 6.0, "C": 4.0}
    texts = [" ".join(rng.choice(list(lasts), 12)) for _ in range(200)]
    clips = [Clip("", text, sum(lasts[name] for name in text.split()) / RATE, "") for text in texts]
    found = pace(clips, Symbols("phonemes", tuple(lasts)), RATE)
    assert [each * found.usual for each in found.each] == pytest.approx([2.0, 6.0, 4.0], rel=0.02)
    assert found.quickest == pytest.approx(found.slowest, rel=0.02)


def test_an_utterance_begins_at_several_places_within_a_frame_in_training_only() -> None:
    made = task(joined=0.0)
    plain = made.train(1).codes
    made.train.shifts = 4
    rng = np.random.default_rng(0)
    found = {tuple(made.train(1, rng).codes.flatten().tolist()) for _ in range(60)}
    assert len(found) == 4 and tuple(plain.flatten().tolist()) in found
    assert torch.equal(made.train(1).codes, plain)


def test_the_loss_with_other_texts_is_that_of_other_texts(tmp_path: Path) -> None:
    """What tells a model that reads from one that only speaks."""
    made = task(dataclasses.replace(LOOP, steps=1))
    reports = list(train(made, made.recipe.loop, tmp_path, {}))
    [found] = [report.metrics for report in reports if report.kind == "evaluate"]
    model: Any = made.average.module
    examples = [made.held_out(index) for index in range(2)]
    text = torch.nn.utils.rnn.pad_sequence([examples[1].text, examples[0].text], True, -1)
    first = torch.nn.utils.rnn.pad_sequence([e.codes[0] for e in examples], True, -1)
    loss = valle_loss(model, model.config, text, first, made.batch(0).frames)
    assert found["valid_first_loss_other_text"] == pytest.approx(float(loss.first), abs=1e-5)
    assert found["valid_first_loss_other_text"] != found["valid_first_loss"]


def test_without_joined_utterances_samples_are_said_in_no_given_voice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[Any]()

    def heard(model: Any, utterances: Any, how: Any) -> Any:
        asked.extend(utterances)
        return speak(model, utterances, how)

    speak = training_valle.speak
    monkeypatch.setattr(training_valle, "speak", heard)
    for joined in (0.5, 0.0):
        losses(task(dataclasses.replace(LOOP, steps=1), joined=joined), tmp_path / str(joined))
    first, second = asked
    assert first.voice.shape[1] > 0 and second.voice.shape == (K, 0)
    assert torch.equal(first.text[-len(second.text) :], second.text) and len(first.text) > len(second.text)


def test_what_is_learnt_from_is_chosen_and_measured() -> None:
    clips = [*CLIPS, Clip("long.wav", "x", 9.0, "a"), Clip("mute.wav", " ", 0.1, "a")]
    assert usable(clips, 1.0) == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="transcript"):
        usable(clips[5:], 1.0)
    kept, held = set_aside(range(60))
    assert held == [0, 20, 40] and sorted([*kept, *held]) == list(range(60))
    assert set_aside([7]) == ([7], [7])
    paces = pace([Clip("", "ab", 0.1 * n, "") for n in range(1, 4)], Symbols(), RATE)
    assert (paces.quickest, paces.usual, paces.slowest) == pytest.approx((2.5, 5.0, 7.5))
    assert set(paces.each) == {1.0}, "what is always said together is equally long"
    with pytest.raises(InputError, match="num_codebooks"):
        configured(dataclasses.replace(SETTINGS, num_codebooks=5), CLIPS, codec())
    empty, sounds = SimpleNamespace(clips=[]), Sounds()
    assert divided(sounds, empty, 1.0) == (Chosen(sounds, [1, 2, 3, 4]), Chosen(sounds, [0]))
    assert divided(sounds, sounds, 0.25)[1] == Chosen(sounds, [1, 3])


def test_the_recipes_of_the_documentation_are_recipes() -> None:
    folder = Path(__file__).parents[2] / "docs" / "recipes"
    for name in ("paper", "small"):
        recipe = load_toml(VallERecipe, folder / f"valle-{name}.toml")
        shape = (recipe.model.num_codebooks or 8, V, recipe.model.dim, recipe.model.num_layers, recipe.model.num_heads)
        assert VallEConfig(*shape).first().dim == recipe.model.dim


def test_the_recipes_of_speech_that_goes_on_are_recipes() -> None:
    folder = Path(__file__).parents[2] / "docs" / "recipes"
    codec_recipe = load_toml(CodecRecipe, folder / "speech-codec.toml")
    assert codec_recipe.mel is not None and codec_recipe.mel.hop_length == 512
    assert load_toml(StageRecipe, folder / "speech-semantic.toml").model.dim % 4 == 0
    assert load_toml(DepthRecipe, folder / "speech-depth.toml").model.depth_dim % 4 == 0


SCRIPT = """
import json, sys
import torch
sys.path.insert(0, {folder!r})
import test_valle as tests
from accelerate import Accelerator
made = tests.task(tests.dataclasses.replace(tests.LOOP, batch_size=6))
made.prepare(Accelerator(cpu=True), made.recipe.loop)
made.optimizers["valle"].step = lambda: None
made.loop = tests.dataclasses.replace(made.loop, clip_norm=1e9)
for step in range(2):
    batch = made.batch(step)
    made.step(batch, step)
    gradient = torch.cat([p.grad.flatten() for p in made.model.parameters()])
    print(json.dumps([made.rank, gradient.double().norm().item(), batch.first.tolist()]), flush=True)
"""


def test_two_processes_share_their_gradients(tmp_path: Path) -> None:
    """[14: what is prepared is not what is trained, so nothing is shared]"""
    (tmp_path / "script.py").write_text(SCRIPT.format(folder=str(Path(__file__).parent)))
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29583", "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
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
    assert len(found[0]) == 2
    for one, other in zip(*found, strict=True):
        assert (one[0], other[0]) == (0, 1)
        assert one[1] == other[1], "the gradients differ"
        assert one[2] != other[2], "both ranks had the same batch"


def test_evaluation_hears_every_held_out_utterance(tmp_path: Path) -> None:
    """[15: one batch is evaluated, whatever was asked for]"""
    made = task(dataclasses.replace(LOOP, steps=1, batch_size=1))
    reports = train(made, made.recipe.loop, tmp_path, {})
    [found] = [r.metrics["valid_first_loss"] for r in reports if r.kind == "evaluate"]
    model: Any = made.average.module
    each = [made.held_out(index) for index in range(2)]
    frames = [Frames(e.codes[None], torch.tensor([0]), torch.tensor([1])) for e in each]
    losses = [
        valle_loss(model, model.config, e.text[None], e.codes[None, 0], asked)
        for e, asked in zip(each, frames, strict=True)
    ]
    assert found == pytest.approx(sum(float(loss.first) for loss in losses) / 2, abs=1e-5)


def test_the_parts_of_a_batch_are_equally_long_and_lose_nothing_but_padding() -> None:
    made = task(dataclasses.replace(LOOP, batch_size=4))
    made.loop = made.recipe.loop
    batch, model = made.batch(0), made.model.eval()
    lengths = (batch.first != -1).sum(dim=1)
    assert lengths.tolist() == sorted(lengths.tolist())
    rows = torch.arange(2)
    part = training_valle._rows(batch, rows, torch.device("cpu"))
    assert part.first.shape[1] == lengths[:2].max() < batch.first.shape[1]
    assert all((ids != -1).flatten(0, -2).any(dim=0).all() for ids in (part.text, part.first, part.frames.codes))
    whole = Frames(*(values[rows] for values in batch.frames))
    for short, long in zip(
        valle_loss(model, model.config, *part),
        valle_loss(model, model.config, batch.text[rows], batch.first[rows], whole),
        strict=True,
    ):
        torch.testing.assert_close(short, long, atol=1e-5, rtol=1e-5)
