import dataclasses
import math

import pytest
import torch

from audiogen_cli.models.spectral import (
    NOISE_SPREAD,
    SpectralCodec,
    SpectralConfig,
    _local_mean,
    _noise,
    magnitude_distance,
    textured,
)
from audiogen_cli.ops.stft import frame_stft

TINY = SpectralConfig(
    encoder_dim=16,
    encoder_layers=1,
    decoder_dim=16,
    decoder_layers=1,
    subframe_dim=8,
    subframe_layers=1,
    latent_dim=4,
    num_codebooks=3,
    codebook_size=8,
)


def codec(**options: object) -> SpectralCodec:
    torch.manual_seed(0)
    model = SpectralCodec(dataclasses.replace(TINY, **options))  # type: ignore[arg-type]
    model(torch.randn(2, model.channels, 16_000))  # k-means start
    return model.eval()


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 5000])
def test_a_frame_for_every_started_hop_and_back(samples: int) -> None:
    model = codec()
    codes = model.encode(torch.randn(2, 1, samples))
    frames = -(-samples // 320)
    assert codes.shape == (2, 3, frames) == (2, 3, model.num_frames(samples))
    assert model.decode(codes).shape == (2, 1, frames * 320)
    assert model.decode(codes[:, :1]).shape == (2, 1, frames * 320)


@pytest.mark.parametrize(
    "options",
    [
        {"channels": 2},
        {"sample_rate": 48_000, "hop_length": 960, "analysis_hops": (960, 240), "synthesis_fft": 1920},
        {"subframes": 1},
        {"phase": "griffin-lim"},
        {"analysis_ffts": (512,), "analysis_hops": (160,)},
    ],
)
def test_other_rates_channels_and_windows(options: dict[str, object]) -> None:
    model = codec(**options)
    waveform = torch.randn(1, model.channels, 3 * model.hop_length)
    assert model(waveform).waveform.shape == waveform.shape


def test_an_item_does_not_depend_on_its_batch() -> None:
    model, batch = codec(), torch.randn(3, 1, 3200)
    codes = model.encode(batch)
    assert torch.equal(codes[1:2], model.encode(batch[1:2]))
    torch.testing.assert_close(model.decode(codes)[2:], model.decode(codes[2:]), atol=1e-6, rtol=1e-5)


def test_the_features_lie_between_silence_and_full_scale() -> None:
    features = codec().encoder.features
    torch.testing.assert_close(features(torch.zeros(1, 1, 640)), torch.full((1, 2, 1029), -1.6))
    tone = torch.sin(torch.arange(16_000) * (2 * torch.pi * 1_000 / 16_000))[None, None]
    assert features(tone)[0, 25].max() == pytest.approx(2.4, abs=0.1)


def test_the_gradient_reaches_encoder_and_decoder() -> None:
    model = codec().train()
    output = model(torch.randn(2, 1, 1600))
    (output.waveform.square().mean() + output.commitment).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_fingerprint_names_the_codebooks_and_nothing_else() -> None:
    model = codec()
    before = model.fingerprint()
    torch.nn.init.normal_(model.decoder.head.weight)
    assert model.fingerprint() == before
    model.quantizer.stages[0].embed.add_(1.0)
    assert model.fingerprint() != before


def test_hops_that_do_not_divide_a_frame_are_refused() -> None:
    with pytest.raises(ValueError, match="analysis_hops"):
        SpectralConfig(analysis_hops=(320, 100))


def test_without_predicted_phases_training_borrows_those_of_the_input() -> None:
    """With the right magnitudes, too, the waveform is the input."""
    model, waveform = codec(phase="griffin-lim"), 0.1 * torch.randn(1, 1, 3200)
    level = (frame_stft(waveform, 640, 160).abs() * (4 / 640)).log()
    torch.testing.assert_close(
        model.decoder.synthesize(level, frame_stft(waveform, 640, 160).angle()), waveform, atol=1e-5, rtol=0
    )
    assert magnitude_distance(frame_stft(waveform, 640, 160).abs(), level, 16_000) < 1e-5


def test_silence_may_be_as_quiet_as_it_likes_and_nothing_else_may() -> None:
    model = codec(phase="griffin-lim")
    silence = torch.zeros(1, 1, 321, 4)
    assert magnitude_distance(silence, torch.full_like(silence, -30.0), 16_000) < 1e-5
    too_quiet = torch.full_like(silence, -30.0, requires_grad=True)
    magnitude_distance(torch.ones_like(silence), too_quiet, 16_000).backward()
    assert (too_quiet.grad < 0).all()
    assert model.decoder.magnitude(torch.full_like(silence, -12.0)).max() == 0


def test_the_texture_is_that_of_noise_and_the_same_each_time() -> None:
    model, flat = codec(phase="griffin-lim"), torch.ones(1, 1, 321, 400)
    textured = model.decoder.textured(flat)
    assert float(textured.median()) == pytest.approx(1.0, abs=0.01)
    assert float(textured.square().mean()) == pytest.approx(1 / math.log(2), rel=0.02)  # Rayleigh: 2 sigma^2
    assert torch.equal(textured, model.decoder.textured(flat))
    assert model.decoder.textured(torch.zeros_like(flat)).max() == 0


NOISY = {"phase": "griffin-lim", "texture": "noise"}


def test_white_noise_fluctuates_by_a_spread_of_one() -> None:
    level = _noise(640, 160, 1).abs().log()[None]
    assert float((level - _local_mean(level)).abs().mean()) == pytest.approx(NOISE_SPREAD, rel=0.01)
    assert float(level.median()) == pytest.approx(0.0, abs=1e-3)


def test_with_a_spread_of_nothing_the_magnitudes_are_those_learned_and_with_one_of_zero_noise() -> None:
    model, level = codec(**NOISY), torch.full((1, 1, 321, 100), -3.0)
    noise = model.decoder.noise(torch.tensor([5]), level)
    none = textured(level, torch.full_like(level, -20.0), noise)
    torch.testing.assert_close(none, level, atol=0.03, rtol=0)
    whole = textured(level, torch.zeros_like(level), noise)
    sound = model.decoder.synthesize(whole, noise.angle())
    measured = frame_stft(sound, 640, 160)[..., 5:-5] * (4 / 640)  # it is noise filtered flat, so nothing is lost
    torch.testing.assert_close(measured.abs().log().median(), torch.tensor(-3.0), atol=0.05, rtol=0)


def test_the_noise_begins_again_without_a_seam() -> None:
    noise = codec(**NOISY).decoder.noise(torch.tensor([2047]), torch.zeros(1, 1, 321, 3))
    assert torch.equal(noise[0, ..., 1:], _noise(640, 160, 1)[..., :2])


def test_the_spread_that_fits_a_recording_is_that_of_its_fluctuation() -> None:
    model = codec(**NOISY)
    target = _noise(640, 160, 1)[None].abs().sqrt()  # half the fluctuation of noise
    level = torch.full_like(target, math.log(4 / 640))
    losses = {s: float(model._spread_loss(target, level, torch.full_like(target, s))) for s in (-1.4, -0.69, 0.0)}
    assert min(losses, key=losses.__getitem__) == -0.69


def test_a_codec_with_texture_gives_a_discriminator_its_levels() -> None:
    model = codec(**NOISY).train()
    output = model(torch.randn(2, 1, 3_200))
    assert output.levels is not None
    assert output.levels.recorded.shape == output.levels.made.shape == (2, 1, 321, 20)
    output.levels.made.square().mean().backward()
    assert model.decoder.head.weight.grad is not None
    waveform = model.eval().decode(output.codes)
    assert waveform.shape == (2, 1, 3_200) and torch.equal(waveform, model.decode(output.codes))
