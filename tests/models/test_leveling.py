"""HiFi-GAN in pieces, and its sound brought nearer to the levels that were asked of it, alone and within a codec."""

import dataclasses

import pytest
import torch
from torch import Tensor

from audiogen_cli.hub import checkpoint, shelf
from audiogen_cli.models import hifigan
from audiogen_cli.models.hifigan import HiFiGAN, HiFiGANConfig
from audiogen_cli.models.mel import MelCodec, MelConfig
from audiogen_cli.models.streaming import decode_blocks

VOICE = HiFiGANConfig(
    sample_rate=800, n_fft=32, num_mels=6, f_max=400.0, channels=16, upsample_rates=(4, 2), upsample_kernels=(8, 4)
)
CODEC = MelConfig(
    VOICE, 4, 8, 1, 1, 12, 1, 1, 3, noise_dim=2, latent_dim=6, num_codebooks=3, codebook_size=8, leveling_rounds=2
)


def vocoder(config: HiFiGANConfig = VOICE) -> HiFiGAN:
    torch.manual_seed(0)
    return HiFiGAN(config).eval()


def codec(config: MelConfig = CODEC) -> MelCodec:
    torch.manual_seed(0)
    model = MelCodec(config)
    model(torch.randn(4, 1, 4000))  # k-means start
    return model.eval()


def distance(model: HiFiGAN, waveform: Tensor, level: Tensor) -> float:
    return float((model.mel(waveform) - level).abs().mean())


def test_every_round_brings_the_sound_nearer_to_the_levels() -> None:
    model = vocoder()
    level = model.mel(0.1 * torch.randn(2, 1, 8 * 40))
    sound = 0.1 * torch.randn(2, 1, 8 * 40)
    found = [distance(model, model.leveled(sound, level, rounds), level) for rounds in (0, 1, 2)]
    assert found[1] < 0.7 * found[0] and found[2] < found[1]


def test_a_sound_that_has_its_levels_stays() -> None:
    model, sound = vocoder(), 0.1 * torch.randn(1, 1, 8 * 40)
    assert torch.allclose(model.leveled(sound, model.mel(sound), 3), sound, atol=1e-5)


def test_silence_becomes_silent_and_nothing_becomes_loud_out_of_nothing() -> None:
    model, noise = vocoder(), 0.01 * torch.randn(1, 1, 8 * 40)
    floor = model.mel(torch.zeros_like(noise))
    assert model.leveled(noise, floor).abs().max() < 1e-3
    loud = model.leveled(noise, floor + 20.0)
    assert loud.square().mean().sqrt() < 8 * noise.square().mean().sqrt()


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_sample_depends_on_the_context_and_nothing_beyond(rounds: int) -> None:
    model = vocoder().double()
    reach = rounds * VOICE.leveling_context
    frames = 2 * reach + 9
    sound = torch.randn(1, 1, 8 * frames)
    level = model.mel(torch.randn(1, 1, 8 * frames))
    other = sound.clone()
    middle = frames // 2
    other[..., 8 * middle : 8 * (middle + 1)] = 0.0
    one, two = (model.leveled(each, level, rounds).reshape(frames, 8) for each in (sound, other))
    same = (one - two).abs().amax(1) < 1e-6
    assert all(same[frame] for frame in range(frames) if abs(frame - middle) > reach)
    assert not same[middle]


def test_the_samples_of_a_codec_depend_on_its_context_and_nothing_beyond() -> None:
    model = codec()
    assert model.decoder_context is not None and model.decoder_context > codec(without()).decoder_context
    frames = 2 * model.decoder_context + 9
    codes = torch.randint(8, (1, 3, frames))
    other = codes.clone()
    other[..., frames // 2] = (other[..., frames // 2] + 1) % 8
    one, two = (model.decode(each).reshape(frames, 32) for each in (codes, other))
    same = (one - two).abs().amax(1) < 1e-5
    assert all(same[frame] for frame in range(frames) if abs(frame - frames // 2) > model.decoder_context)
    assert not same[frames // 2]


def test_blocks_say_what_the_whole_says() -> None:
    model = codec()
    codes = torch.randint(8, (1, 3, 150))
    blocks = torch.cat(list(decode_blocks(model, codes.split(37, dim=-1))), dim=-1)
    assert torch.allclose(blocks, model.decode(codes), atol=1e-5)


def test_the_bundled_vocoder_comes_nearer_to_a_recording() -> None:
    model = checkpoint.load(shelf.on_shelf(shelf.VOCODER))
    assert isinstance(model, HiFiGAN)
    time = torch.arange(22_050) / 22_050
    tone = sum(0.1 * (2 * torch.pi * 220 * harmonic * time).sin() for harmonic in range(1, 6))
    level = model.mel((torch.as_tensor(tone) + 1e-3 * torch.randn(22_050))[None, None])
    with torch.inference_mode():
        plain = model(level)
        found = [distance(model, model.leveled(plain, level, rounds), level) for rounds in (0, 1, 2)]
    assert found[0] > found[1] > found[2]


def without() -> MelConfig:
    return dataclasses.replace(CODEC, leveling_rounds=0)


def test_pieces_of_a_long_sound_say_what_the_whole_says(monkeypatch: pytest.MonkeyPatch) -> None:
    model, level = vocoder(), torch.randn(2, 6, 150)
    whole = model(level)
    assert whole.shape == (2, 1, 150 * 8)
    for piece in (1, 40, 149, 150):
        monkeypatch.setattr(hifigan, "PIECE", piece)
        assert torch.allclose(model(level), whole, atol=1e-5)
