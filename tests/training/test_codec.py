import dataclasses
from pathlib import Path

import pytest
import torch

from audiogen_cli.config import from_dict, to_dict
from audiogen_cli.data.recordings import Recordings
from audiogen_cli.errors import ConfigError
from audiogen_cli.hub import checkpoint
from audiogen_cli.hub.soundstream import SoundStream
from audiogen_cli.models.discriminators import MSSTFTDiscriminatorConfig, SpectrogramDiscriminator
from audiogen_cli.models.encodec import EncodecConfig
from audiogen_cli.models.soundstream import SoundStreamConfig
from audiogen_cli.models.soundstream_discriminators import (
    ComplexSTFTDiscriminatorConfig,
    MultiScaleWaveDiscriminator,
    WaveDiscriminatorConfig,
)
from audiogen_cli.models.spectral import SpectralConfig
from audiogen_cli.quantizers.vq import VectorQuantizer
from audiogen_cli.training.codec import CodecRecipe, CodecTask, CodecTrainingConfig, validation_pieces
from audiogen_cli.training.codec_losses import CodecLossConfig
from audiogen_cli.training.loop import LoopConfig, new_accelerator, train

SPECTRAL = SpectralConfig(
    encoder_dim=16,
    encoder_layers=1,
    decoder_dim=16,
    decoder_layers=1,
    subframe_dim=16,
    subframe_layers=1,
    latent_dim=8,
    num_codebooks=3,
    codebook_size=16,
)
ENCODEC = EncodecConfig(num_filters=2, dimension=8, ratios=(8, 5), num_codebooks=2, codebook_size=16, lstm_layers=1)
TRAINING = CodecTrainingConfig(
    seconds=0.2,
    codebook_choices=(1, 3),
    codebook_odds=(0.5, 0.5),
    adversarial_start=2,
    discriminator=MSSTFTDiscriminatorConfig(filters=2, n_ffts=(256, 128)),
)
LOOP = LoopConfig(steps=4, batch_size=2, warmup_steps=1, evaluate_every=4, save_every=2, precision="fp32", workers=0)
RECIPE = CodecRecipe(spectral=SPECTRAL, training=TRAINING, loop=LOOP)


def task(recipe: CodecRecipe = RECIPE) -> CodecTask:
    torch.manual_seed(0)
    tones = [(torch.sin(torch.arange(8_000) * f) * 9_000).to(torch.int16)[None] for f in (0.05, 0.2, 0.6)]
    recordings = Recordings(tones)
    return CodecTask(recipe, recordings, validation_pieces(recordings, 16_000, seconds=0.3), {"data": "tones"})


def run(folder: Path, recipe: CodecRecipe = RECIPE, resume: bool = False) -> tuple[CodecTask, list[dict[str, float]]]:
    made = task(recipe)
    reports = list(train(made, recipe.loop, folder, to_dict(recipe), resume))
    return made, [dict(r.metrics) for r in reports if r.kind != "save"]


@pytest.mark.parametrize("recipe", [RECIPE, CodecRecipe(encodec=ENCODEC, training=TRAINING, loop=LOOP)])
def test_either_family_trains_and_leaves_a_checkpoint_samples_and_spectrograms(
    tmp_path: Path, recipe: CodecRecipe
) -> None:
    if recipe.encodec:
        training = dataclasses.replace(TRAINING, codebook_choices=(1, 2))
        recipe = dataclasses.replace(recipe, training=training)
    _, metrics = run(tmp_path, recipe)
    assert "adversarial" not in metrics[1] and "adversarial" in metrics[2] and "discriminator" in metrics[2]
    assert {"mel_distance_1", "si_snr_1", "used_0", "used_1"} <= metrics[-1].keys()
    codec = checkpoint.load(tmp_path / "model")
    assert codec.encode(torch.randn(1, 1, 4_000)).shape[1] == codec.num_codebooks  # type: ignore[operator]
    assert {path.suffix for path in (tmp_path / "samples/step-00000004").iterdir()} == {".wav", ".png"}


def test_a_codec_with_texture_learns_against_a_spectrogram_discriminator(tmp_path: Path) -> None:
    spectral = dataclasses.replace(SPECTRAL, phase="griffin-lim", texture="noise")
    made, metrics = run(tmp_path, dataclasses.replace(RECIPE, spectral=spectral))
    assert isinstance(made.discriminator, SpectrogramDiscriminator)
    assert "adversarial" not in metrics[1] and {"adversarial", "feature", "discriminator"} <= metrics[2].keys()


def test_a_resumed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole")
    short = dataclasses.replace(RECIPE, loop=dataclasses.replace(LOOP, schedule="constant", steps=2))
    long = dataclasses.replace(RECIPE, loop=dataclasses.replace(LOOP, schedule="constant"))
    whole, _ = run(tmp_path / "constant", long)
    run(tmp_path / "cut", short)
    resumed, _ = run(tmp_path / "cut", long, resume=True)
    for name, tensor in whole.codec.state_dict().items():
        assert torch.equal(tensor, resumed.codec.state_dict()[name]), name


def test_from_freeze_codes_at_on_only_the_decoder_learns(tmp_path: Path) -> None:
    training = dataclasses.replace(TRAINING, freeze_codes_at=0)
    made = task(dataclasses.replace(RECIPE, training=training))
    made.codec(torch.randn(2, 1, 16_000))  # k-means start
    before = {name: tensor.clone() for name, tensor in made.codec.state_dict().items()}
    list(train(made, LOOP, tmp_path, {}))
    changed = {
        name.split(".")[0] for name, tensor in made.codec.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == {"decoder"}


def test_the_codebooks_of_a_checkpoint_to_begin_with_learn_too(tmp_path: Path) -> None:
    first, _ = run(tmp_path / "first")
    begun = checkpoint.load(tmp_path / "first/model")
    assert not begun.training
    made = CodecTask(RECIPE, first.train, first.validation, {}, begun)  # type: ignore[arg-type]
    before = made.codec.codebooks().clone()
    list(train(made, LOOP, tmp_path / "second", {}))
    assert not torch.equal(made.codec.codebooks(), before)


def test_the_generator_step_leaves_no_gradient_in_the_discriminator(tmp_path: Path) -> None:
    made, _ = run(tmp_path)
    made.optimizers["discriminator"].zero_grad()
    batch = made.batch(7)
    decoded = made.codec(batch).waveform
    sum(made._adversarial(batch, decoded).values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is None for p in made.discriminator.parameters())
    assert all(p.requires_grad for p in made.discriminator.parameters())


def test_a_batch_is_a_function_of_its_step() -> None:
    assert torch.equal(task().batch(3), task().batch(3))
    assert not torch.equal(task().batch(3), task().batch(4))


def test_an_example_played_faster_has_a_higher_pitch_and_its_length() -> None:
    plain = dataclasses.replace(TRAINING, mix_probability=0.0)
    doubled = dataclasses.replace(plain, speed=(2.0, 2.0))

    def pitches(training: CodecTrainingConfig) -> set[float]:
        made = task(dataclasses.replace(RECIPE, training=training))
        batches = torch.cat([made.batch(step) for step in range(8)])[:, 0]  # [B, 3200]
        strongest = (torch.fft.rfft(batches * torch.hann_window(3_200)).abs()).argmax(1) * 2 * torch.pi / 3_200
        return {round(float(radians), 1) for radians in strongest}

    assert pitches(plain) <= {0.0, 0.1, 0.2, 0.6} and 0.6 in pitches(plain)
    assert pitches(doubled) <= {0.1, 0.4, 1.2} and 1.2 in pitches(doubled)


def test_examples_are_played_at_speeds_of_the_whole_range_and_a_senseless_one_is_refused() -> None:
    made = task(dataclasses.replace(RECIPE, training=dataclasses.replace(TRAINING, speed=(0.5, 2.0))))
    speeds = [made._speed(torch.Generator().manual_seed(seed)) for seed in range(200)]
    assert 0.5 <= min(speeds) < 0.55 and 1.85 < max(speeds) <= 2.0
    assert 0.4 < sum(speed < 1 for speed in speeds) / 200 < 0.6
    with pytest.raises(ValueError, match="slower end first"):
        CodecTrainingConfig(speed=(1.2, 0.8))


def test_a_recipe_for_more_codebooks_than_there_are_is_refused() -> None:
    training = dataclasses.replace(TRAINING, codebook_choices=(4, 1))
    with pytest.raises(ConfigError, match="4 of 3 codebooks"):
        task(dataclasses.replace(RECIPE, training=training))


def test_a_recipe_with_two_codecs_is_refused() -> None:
    with pytest.raises(ConfigError, match="names two codecs"):
        from_dict(CodecRecipe, {"spectral": {}, "encodec": to_dict(ENCODEC)})


SOUNDSTREAM = SoundStreamConfig(
    channels=2,
    strides=(8, 5),
    channel_mults=(2, 4),
    codebook_dim=8,
    codebook_size=16,
    rq_num_quantizers=2,
    input_channels=2,
    attn_window_size=4,
    attn_dim_head=4,
    attn_heads=2,
)
ADVERSARIES = dataclasses.replace(
    TRAINING,
    codebook_choices=(),
    codebook_odds=(),
    adversarial_start=0,
    discriminator=dataclasses.replace(TRAINING.discriminator, channels=2),
    wave_discriminator=WaveDiscriminatorConfig(channels=2, scales=(1.0, 0.5), filters=4, max_filters=8, num_layers=1),
    complex_discriminator=ComplexSTFTDiscriminatorConfig(
        channels=2, strides=((2, 2),), chan_mults=(1,), input_channels=2, n_fft=64, hop_length=32, win_length=64
    ),
    r1_weight=10.0,
    r1_every=2,
    noise_probability=0.5,
    losses=CodecLossConfig(mel_ffts=(64,), stft_ffts=(64,), complex=0.0, l1=1.0, spectral=1.0, spectral_windows=(64,)),
)


def stereo_task(training: CodecTrainingConfig = ADVERSARIES) -> CodecTask:
    torch.manual_seed(0)
    recipe = CodecRecipe(soundstream=SOUNDSTREAM, training=training, loop=LOOP)
    recordings = Recordings([torch.randint(-9_000, 9_000, (2, 8_000), dtype=torch.int16) for _ in range(3)])
    return CodecTask(recipe, recordings, validation_pieces(recordings, 16_000, seconds=0.3), {})


def test_soundstream_trains_in_stereo_with_every_discriminator_noise_and_penalty(tmp_path: Path) -> None:
    made = stereo_task()
    steps = [dict(r.metrics) for r in train(made, LOOP, tmp_path, to_dict(made.recipe)) if r.kind != "save"]
    assert ["r1" in metrics for metrics in steps] == [True, False, True, False, False]
    logged = {"l1", "spectral", "adversarial", "feature", "gradient_norm", "discriminator_gradient_norm"}
    assert logged | {"perplexity_0", "used_0"} <= steps[0].keys()
    assert {"si_snr_2", "mel_distance_2", "stft_distance_2", "used_1", "perplexity_1"} <= steps[-1].keys()
    assert isinstance(checkpoint.load(tmp_path / "model"), SoundStream)
    assert not any("discriminator" in name for name in made.average.state_dict())  # no copy of what only trains


def test_every_loss_compares_with_the_target_when_a_codec_learns_to_denoise(tmp_path: Path) -> None:
    made = stereo_task(dataclasses.replace(ADVERSARIES, noise_probability=1.0))
    list(train(made, dataclasses.replace(LOOP, steps=1), tmp_path, {}))
    seen: dict[str, torch.Tensor] = {}
    reconstruction, adversarial = made._reconstruction, made._adversarial
    made._reconstruction = lambda real, fake: seen.update(mel=real) or reconstruction(real, fake)  # type: ignore
    made._adversarial = lambda real, fake: seen.update(feature=real) or adversarial(real, fake)  # type: ignore
    batch = made.batch(0)
    torch.manual_seed(1)
    heard, target, _ = made._heard(batch)
    assert not torch.equal(heard, target)
    torch.manual_seed(1)
    made.step(batch, 1)
    assert torch.equal(seen["mel"], target) and torch.equal(seen["feature"], target)


def test_the_penalty_flattens_the_discriminator_where_its_hinge_is_long_satisfied(tmp_path: Path) -> None:
    made = stereo_task()
    list(train(made, dataclasses.replace(LOOP, steps=1), tmp_path, {}))
    with torch.no_grad():
        for name, bias in made.discriminator.named_parameters():
            if "post.bias" in name:
                bias.fill_(50.0)  # every logit of real sound is far above 1
    batch = made.batch(0)
    for group in made.optimizers["discriminator"].param_groups:
        group["lr"] = 1e-3
    penalties = [float(made._r1_step(batch)) for _ in range(15)]
    assert penalties[-1] < 0.9 * penalties[0]


def test_one_discriminator_stays_what_it_was() -> None:
    keys = task().discriminator.state_dict().keys()
    assert all(name.startswith("scales.") for name in keys)
    only_wave = dataclasses.replace(ADVERSARIES, ms_stft=False, complex_discriminator=None)
    assert type(stereo_task(only_wave).discriminator) is MultiScaleWaveDiscriminator


def test_the_discriminator_is_updated_with_its_probability_and_by_the_step_alone(tmp_path: Path) -> None:
    training = dataclasses.replace(ADVERSARIES, discriminator_probability=2 / 3, adversarial_start=3)
    made, again = stereo_task(training), stereo_task(training)
    turns = [made._discriminators_turn(step) for step in range(2_000)]
    assert turns[::-1] == [again._discriminators_turn(step) for step in reversed(range(2_000))]
    assert not any(turns[:3]) and 0.64 < sum(turns) / 2_000 < 0.69
    longer = dataclasses.replace(LOOP, steps=9, evaluate_every=9, save_every=9)
    steps = [dict(r.metrics) for r in train(made, longer, tmp_path, to_dict(made.recipe)) if r.kind == "step"]
    assert ["discriminator" in metrics for metrics in steps] == turns[:9] and False in turns[3:9]
    assert all(("adversarial" in metrics) == (step >= 3) for step, metrics in enumerate(steps))
    every_other = stereo_task(dataclasses.replace(training, discriminator_every=2))
    assert [every_other._discriminators_turn(step) for step in range(20)] == [
        turn and step % 2 == 0 for step, turn in enumerate(turns[:20])
    ]


def test_noise_for_a_codec_that_cannot_be_told_is_refused() -> None:
    training = dataclasses.replace(TRAINING, noise_probability=0.5)
    with pytest.raises(ConfigError, match="only SoundStream"):
        task(dataclasses.replace(RECIPE, training=training))
    with pytest.raises(ConfigError, match="no discriminator"):
        from_dict(CodecTrainingConfig, {"ms_stft": False})


def test_the_codebooks_learn_once_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[int] = []
    learn = VectorQuantizer.learn
    monkeypatch.setattr(VectorQuantizer, "learn", lambda self, *rest: learned.append(id(self)) or learn(self, *rest))
    made = stereo_task(dataclasses.replace(ADVERSARIES, codebook_choices=(2,), codebook_odds=(1.0,)))
    list(train(made, dataclasses.replace(LOOP, steps=1), tmp_path, {}))
    assert len(learned) == len(set(learned)) == 2


def test_a_discriminator_with_a_head_start_learns_before_the_codec_hears_of_it(tmp_path: Path) -> None:
    training = dataclasses.replace(TRAINING, discriminator_start=1, adversarial_start=3)
    _, metrics = run(tmp_path, dataclasses.replace(RECIPE, training=training))
    assert ["discriminator" in step for step in metrics[:4]] == [False, True, True, True]
    assert ["adversarial" in step for step in metrics[:4]] == [False, False, False, True]


def test_every_held_out_recording_is_scored(tmp_path: Path) -> None:
    """[15: one batch is evaluated, whatever was asked for]"""
    made, heard = task(), list[tuple[float, int]]()
    score = made._score
    made._score = lambda codec, waveform, size: (
        heard.append((float(waveform[0, 5]), size))
        or score(  # type: ignore
            codec, waveform, size
        )
    )
    list(train(made, dataclasses.replace(LOOP, steps=1), tmp_path, {}))
    assert set(heard) == {(float(sound[0, 5]), size) for sound in made.validation for size in (1, 3)}
    assert len(heard) == 6


def test_discriminator_and_penalty_hear_the_target_as_real_and_nothing_else(tmp_path: Path) -> None:
    """[13: what is heard stands for the target; 10: the penalty is taken on decoded sound too]"""
    made = stereo_task(dataclasses.replace(ADVERSARIES, noise_probability=1.0))
    made.prepare(new_accelerator("fp32"), LOOP)
    seen: dict[str, torch.Tensor] = {}
    judge, penalise = made._discriminator_loss, made._r1_step
    made._discriminator_loss = lambda real, fake: seen.update(judged=real) or judge(real, fake)  # type: ignore
    made._r1_step = lambda real: seen.update(penalised=real) or penalise(real)  # type: ignore
    batch = made.batch(0)
    torch.manual_seed(1)
    target = made._heard(batch)[1]
    torch.manual_seed(1)
    made.step(batch, 0)
    assert torch.equal(seen["judged"], target) and torch.equal(seen["penalised"], target)


def test_each_gradient_norm_is_that_of_its_own_weights() -> None:
    """[18: the discriminators' gradients count in the norm that the codec's are clipped by]"""
    made = stereo_task()
    made.prepare(new_accelerator("fp32"), dataclasses.replace(LOOP, clip_norm=1e9))
    logged = made.step(made.batch(1), 1)
    for name, norm in (("codec", "gradient_norm"), ("discriminator", "discriminator_gradient_norm")):
        own = [p.grad.flatten() for p in made.modules[name].parameters() if p.grad is not None]
        torch.testing.assert_close(logged[norm], torch.cat(own).norm())


def test_a_resumed_run_has_the_discriminator_that_it_had(tmp_path: Path) -> None:
    """[19: what is not saved begins anew]"""
    ends = []
    for name, stops in (("whole", (3,)), ("cut", (2, 3))):
        for steps in stops:
            loop = dataclasses.replace(LOOP, schedule="constant", steps=steps)
            training = dataclasses.replace(TRAINING, adversarial_start=0)
            recipe = dataclasses.replace(RECIPE, training=training, loop=loop)
            made, _ = run(tmp_path / name, recipe, resume=steps != stops[0])
        ends.append(made.discriminator.state_dict())
    assert all(torch.equal(ends[1][name], weight) for name, weight in ends[0].items())
