import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from audiogen_cli.conditioners.text import T5Conditioner
from audiogen_cli.config import to_dict
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.recordings import Recordings
from audiogen_cli.errors import ConfigError, ModelError
from audiogen_cli.hub import catalog, checkpoint
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.decoding import finish
from audiogen_cli.models.flow import Flow, FlowConfig
from audiogen_cli.models.hifigan import HiFiGANConfig
from audiogen_cli.models.mel import MelCodec, MelConfig
from audiogen_cli.pipelines.generate import generate
from audiogen_cli.training.data import Subset, TrainingData
from audiogen_cli.training.flow import FlowRecipe, FlowTask, FlowTrainingConfig, example_sources, fitted
from audiogen_cli.training.loop import LoopConfig, train

MODEL = FlowConfig(dim=16, num_layers=1, num_heads=2, window_seconds=0.5)
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
RECIPE = FlowRecipe(MODEL, FlowTrainingConfig(samples=("dog barking", "rain")), loop=LOOP)


def subset(captions: tuple[str, ...]) -> Subset:
    generator = torch.Generator().manual_seed(0)
    sounds = [torch.randint(-9_000, 9_000, (1, 6_000), generator=generator).to(torch.int16) for _ in captions]
    return Subset([Clip(f"{c}.wav", c, 0.75, "test") for c in captions], Recordings(sounds))


def task(tiny_model: Path, recipe: FlowRecipe = RECIPE, start: Flow | None = None) -> FlowTask:
    torch.manual_seed(0)
    codec: Codec = checkpoint.load(tiny_model / "codec")  # type: ignore[assignment]
    text = T5Conditioner.load(tiny_model / "text")
    recipe = fitted(recipe, codec, text)
    sources = example_sources(recipe, codec, TrainingData(subset(("a dog barking", "rain")), subset(("a bell",))))
    folders = {part: tiny_model / part for part in ("codec", "text")}
    return FlowTask(recipe, codec, text, *sources, {"data": "noise"}, start, folders)


def run(tiny_model: Path, folder: Path, recipe: FlowRecipe = RECIPE, resume: bool = False) -> list[dict[str, float]]:
    made = task(tiny_model, recipe)
    reports = train(made, recipe.loop, folder, to_dict(recipe), resume)
    return [dict(report.metrics) for report in reports if report.kind != "save"]


def test_training_leaves_a_whole_model_that_generates(tiny_model: Path, tmp_path: Path) -> None:
    metrics = run(tiny_model, tmp_path)
    assert 1.0 < metrics[0]["loss"] < 4.0  # the variance of noise, and of latents made as wide
    assert {"valid_loss", "valid_loss_without_text"} <= metrics[-1].keys()
    assert len(list((tmp_path / "samples/step-00000006").glob("*.wav"))) == 2
    model = catalog.load(tmp_path / "model")
    assert model.maker.config.codec_fingerprint == model.codec.fingerprint()
    assert model.maker.config.latent_dim == 8


def test_killed_and_resumed_it_continues_the_loss_curve(tiny_model: Path, tmp_path: Path) -> None:
    constant = dataclasses.replace(RECIPE, loop=dataclasses.replace(LOOP, schedule="constant"))
    short = dataclasses.replace(constant, loop=dataclasses.replace(constant.loop, steps=3))
    whole = [m["loss"] for m in run(tiny_model, tmp_path / "whole", constant) if "loss" in m]
    first = [m["loss"] for m in run(tiny_model, tmp_path / "cut", short) if "loss" in m]
    second = [m["loss"] for m in run(tiny_model, tmp_path / "cut", constant, resume=True) if "loss" in m]
    assert first + second == whole


def test_accumulation_changes_memory_and_not_the_loss(tiny_model: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, training=dataclasses.replace(RECIPE.training, known=0.0))
    split = dataclasses.replace(recipe, loop=dataclasses.replace(LOOP, accumulate=2))
    whole, parts = run(tiny_model, tmp_path / "a", recipe), run(tiny_model, tmp_path / "b", split)
    for one, two in zip(whole[:6], parts[:6], strict=True):
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-4)


def test_a_loss_on_one_batch_falls_when_it_is_learned(tiny_model: Path, tmp_path: Path) -> None:
    loop = dataclasses.replace(LOOP, steps=80, learning_rate=1e-2, evaluate_every=80, save_every=80)
    made = task(tiny_model, dataclasses.replace(RECIPE, loop=loop))
    batch = made.batch(0)
    made.batch = lambda step: batch  # type: ignore[method-assign]
    losses = [r.metrics["loss"] for r in train(made, loop, tmp_path, {}) if r.kind == "step"]
    assert losses[-1] < 0.7 * losses[0]


def test_a_batch_is_a_function_of_its_step(tiny_model: Path) -> None:
    one, two = task(tiny_model).batch(4), task(tiny_model).batch(4)
    for name in ("latents", "noise", "time", "known"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    other = task(tiny_model).batch(5)
    assert not torch.equal(one.latents, other.latents) and not torch.equal(one.noise, other.noise)


def test_texts_are_dropped_and_beginnings_known_in_the_shares_asked_for(tiny_model: Path) -> None:
    training = dataclasses.replace(RECIPE.training, condition_dropout=0.5, known=0.5)
    made = task(tiny_model, dataclasses.replace(RECIPE, training=training))
    batches = [made.batch(step) for step in range(60)]
    heard = torch.cat([batch.condition.mask.any(1) for batch in batches])
    known = torch.cat([batch.known for batch in batches])
    assert 0.35 < 1 - heard.float().mean() < 0.65
    assert 0.35 < known.any(1).float().mean() < 0.65
    assert (known.float().diff(dim=1) <= 0).all() and known.sum(1).max() <= 0.75 * known.shape[1] + 1


def test_times_begin_where_asked(tiny_model: Path) -> None:
    for earliest in (0.0, 0.6):
        training = dataclasses.replace(RECIPE.training, earliest=earliest)
        loop = dataclasses.replace(LOOP, batch_size=64)
        time = task(tiny_model, dataclasses.replace(RECIPE, training=training, loop=loop)).batch(1).time
        assert earliest < time.min() < earliest + 0.2 and 0.8 < time.max() < 1
    with pytest.raises(ValueError, match="earliest must lie"):
        FlowTrainingConfig(earliest=1.0)


def test_an_example_comes_back_with_other_noise(tiny_model: Path) -> None:
    loop = dataclasses.replace(LOOP, batch_size=4)
    training = dataclasses.replace(RECIPE.training, repeats=2)
    made = task(tiny_model, dataclasses.replace(RECIPE, loop=loop, training=training))
    first, again = made.batch(25), made.batch(0)
    assert torch.equal(first.latents[:2], again.latents[2:]) and not torch.equal(first.noise[:2], again.noise[2:])


def test_the_latents_are_whitened_as_asked(tiny_model: Path) -> None:
    for evenness in (0.0, 1.0):
        training = dataclasses.replace(RECIPE.training, evenness=evenness)
        made = task(tiny_model, dataclasses.replace(RECIPE, training=training))
        frames = torch.cat([made.flow.whitened(made.train(step).frames) for step in range(8)]).flatten(0, 1)
        variances = torch.linalg.eigvalsh(torch.cov(frames.T))
        assert (variances[-1] < 1.1 * variances[0]) == (evenness == 1.0)


@pytest.fixture
def mel_model(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model's text encoder beside a codec of mels."""
    voice = HiFiGANConfig(
        sample_rate=8_000,
        n_fft=160,
        num_mels=6,
        f_max=4000.0,
        channels=16,
        upsample_rates=(5, 4),
        upsample_kernels=(9, 8),
    )
    torch.manual_seed(0)
    small = {"subframe_dim": 8, "dim": 12, "encoder_layers": 1, "decoder_layers": 1, "latent_dim": 6, "kernel_size": 3}
    codec = MelCodec(MelConfig(voice, subframes=4, num_codebooks=3, codebook_size=8, **small))  # type: ignore[arg-type]
    codec(torch.randn(4, 1, 4_000))  # k-means start
    checkpoint.save(tmp_path / "mels" / "codec", codec)
    shutil.copytree(tiny_model / "text", tmp_path / "mels" / "text")
    return tmp_path / "mels"


MELS = dataclasses.replace(RECIPE, model=dataclasses.replace(MODEL, space="mel", latent_dim=24, axes=10))


def test_a_flow_of_mels_is_trained_and_generates(mel_model: Path, tmp_path: Path) -> None:
    metrics = run(mel_model, tmp_path, MELS)
    assert 1.0 < metrics[0]["loss"] < 4.0
    model = catalog.load(tmp_path / "model")
    assert (model.maker.config.space, model.maker.config.latent_dim) == ("mel", 24)
    [sound] = finish(generate(model, ["rain"], 0.4, [0]))
    [same] = finish(generate(model, ["rain"], 0.4, [0]))
    assert sound.shape == (1, 3_200) and torch.equal(sound, same) and sound.abs().max() > 0
    assert model.frames(sound[None]).shape == (1, 24, 40)


def test_it_begins_with_a_flow_of_latents(mel_model: Path) -> None:
    former = task(mel_model).flow
    torch.nn.init.normal_(former.out_norm.weight)
    begun = task(mel_model, MELS, former).flow
    assert begun.config.space == "mel" and torch.equal(begun.out_norm.weight, former.out_norm.weight)
    assert begun.rest.abs().max() > 0  # fitted to the recordings
    assert task(mel_model, RECIPE, former).flow is former
    fewer = dataclasses.replace(MELS, model=dataclasses.replace(MELS.model, axes=5))
    assert task(mel_model, fewer, begun).flow.config.axes == 5


def test_mels_need_a_codec_of_mels(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="makes no sound of mel spectrograms; choose a mel codec"):
        task(tiny_model, MELS)


def test_more_axes_than_a_frame_has_are_refused(tiny_model: Path) -> None:
    model = dataclasses.replace(MODEL, axes=20)
    with pytest.raises(ConfigError, match="makes 20 axes and a frame of the codec has 8; lower axes"):
        task(tiny_model, dataclasses.replace(RECIPE, model=model))


def drawing(codebooks: tuple[int, ...] = (1, 2), drawn: float = 1.0) -> FlowRecipe:
    training = dataclasses.replace(RECIPE.training, drawn=drawn, drawn_codebooks=codebooks, known=0.0)
    return dataclasses.replace(RECIPE, training=training, loop=dataclasses.replace(LOOP, batch_size=32))


def test_drawings_are_what_the_codec_makes_of_so_many_codes_in_turn(tiny_model: Path) -> None:
    made = task(tiny_model, drawing())
    latents, drawings = made.train(2).frames.chunk(2, dim=1)
    for index, count in enumerate((1, 2, 1, 2)):
        codes = made.codec.quantizer.encode(latents[index : index + 1], count)  # type: ignore[operator, union-attr]
        assert torch.equal(drawings[index : index + 1], made.codec.latents_of(codes))


def test_from_a_drawing_under_noise_the_way_leads_to_the_recording(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = task(tiny_model, drawing())
    latents, drawings = made.train(2).frames.chunk(2, dim=1)
    batch = made.batch(2)
    assert (batch.time >= 0.5).all()
    given: list[torch.Tensor] = []
    monkeypatch.setattr(made.flow, "loss", lambda *inputs: given.extend(inputs[:1] + inputs[2:3]) or torch.zeros(()))
    made.prepare(Accelerator(cpu=True), LOOP)
    made.prepared(batch)
    end, start = given
    assert torch.equal(end, made.flow.whitened(latents))
    half = 0.5 * start + 0.5 * end  # where `integrate` begins to paint: `sketched` is 0.5
    assert torch.allclose(half, 0.5 * batch.noise + 0.5 * made.flow.whitened(drawings), atol=1e-4)


def test_a_share_of_the_examples_begins_with_drawings(tiny_model: Path) -> None:
    astray = torch.cat([task(tiny_model, drawing(drawn=0.5)).batch(step).astray for step in range(4)])
    assert 0.3 < astray.any(2).any(1).float().mean() < 0.7
    assert task(tiny_model).batch(0).astray is None


def test_a_flow_of_drawings_is_trained(mel_model: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(MELS, training=dataclasses.replace(MELS.training, drawn=0.8, drawn_codebooks=(3,)))
    recipe = dataclasses.replace(recipe, loop=dataclasses.replace(LOOP, accumulate=2))
    metrics = run(mel_model, tmp_path, recipe)
    assert metrics[0]["loss"] > 0 and "valid_loss" in metrics[-1]
    assert catalog.load(tmp_path / "model").maker.config.latent_dim == 24


def test_drawings_of_codes_that_are_not_there_are_refused(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="drawn_codebooks asks for 99 codebooks and the codec has"):
        task(tiny_model, drawing((1, 99)))
    at_the_end = dataclasses.replace(drawing(), model=dataclasses.replace(MODEL, sketched=1.0))
    with pytest.raises(ConfigError, match="from sketched = 1 on there is no way to learn"):
        task(tiny_model, at_the_end)
    with pytest.raises(ValueError, match="drawn must lie in"):
        FlowTrainingConfig(drawn=1.5)
    for wrong in ((), (0,)):
        with pytest.raises(ValueError, match="drawn_codebooks must name one number or more"):
            FlowTrainingConfig(drawn=0.5, drawn_codebooks=wrong)
