import dataclasses
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from audiogen_cli.data.recordings import Recordings
from audiogen_cli.hub import checkpoint, shelf
from audiogen_cli.models import mel
from audiogen_cli.models.hifigan import HiFiGAN, HiFiGANConfig
from audiogen_cli.models.mel import MEAN, SPREAD, MelCodec, MelConfig
from audiogen_cli.training.codec import CodecLossConfig, CodecRecipe, CodecTask, CodecTrainingConfig
from audiogen_cli.training.loop import LoopConfig, train

VOICE = HiFiGANConfig(
    sample_rate=800, n_fft=32, num_mels=6, f_max=400.0, channels=16, upsample_rates=(4, 2), upsample_kernels=(8, 4)
)
SMALL = {"subframe_dim": 8, "dim": 12, "encoder_layers": 1, "decoder_layers": 1, "latent_dim": 6, "kernel_size": 3}
TINY = MelConfig(VOICE, subframes=4, num_codebooks=3, codebook_size=8, **SMALL)  # type: ignore[arg-type]


def codec(config: MelConfig = TINY) -> MelCodec:
    torch.manual_seed(0)
    model = MelCodec(config)
    model(torch.randn(4, 1, 4000))  # k-means start
    return model.eval()


@pytest.mark.parametrize("samples", [1, 31, 32, 33, 500])
def test_a_frame_for_every_started_hop_and_back(samples: int) -> None:
    model = codec()
    codes = model.encode(torch.randn(2, 1, samples))
    frames = -(-samples // 32)
    assert codes.shape == (2, 3, frames)
    assert model.decode(codes).shape == model.decode(codes[:, :1]).shape == (2, 1, frames * 32)


@pytest.mark.parametrize("texture", [False, True])
def test_the_same_codes_give_the_same_sound_in_any_batch(texture: bool) -> None:
    model = codec(dataclasses.replace(TINY, texture=texture))
    codes = torch.randint(8, (3, 3, 20))
    together = model.decode(codes)
    assert torch.equal(together, model.decode(codes))
    assert torch.allclose(together[1:2], model.decode(codes[1:2]), atol=1e-6)


def test_codes_depend_on_the_context_and_nothing_beyond() -> None:
    model = codec()
    waveform = torch.randn(1, 1, 32 * 41)
    other = waveform.clone()
    other[..., 32 * 20 : 32 * 21] = 0.0
    same = (model.encoder(model.level(waveform)) == model.encoder(model.level(other))).all(1)[0]
    assert model.encoder_context is not None
    assert all(same[frame] for frame in range(41) if abs(frame - 20) > model.encoder_context)
    assert not same[20]


@pytest.mark.parametrize("texture", [False, True])
def test_samples_depend_on_the_context_and_nothing_beyond(texture: bool) -> None:
    model = codec(dataclasses.replace(TINY, texture=texture))
    assert model.decoder_context is not None
    frames = 2 * model.decoder_context + 9
    codes = torch.randint(8, (1, 3, frames))
    other = codes.clone()
    other[..., frames // 2] = (other[..., frames // 2] + 1) % 8
    one, two = (model.decode(each).reshape(frames, 32) for each in (codes, other))
    same = (one - two).abs().amax(1) < 1e-6
    assert all(same[frame] for frame in range(frames) if abs(frame - frames // 2) > model.decoder_context)
    assert not same[frames // 2]


@pytest.mark.parametrize("texture", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_texture_goes_by_the_place_in_the_whole_sound(
    texture: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bfloat16 a processor may round a part and the whole differently, by what a number of that kind can tell."""
    monkeypatch.setattr(mel, "quick_dtype", lambda device: dtype)
    model = codec(dataclasses.replace(TINY, texture=texture))
    codes = torch.randint(8, (1, 3, 60))
    context = model.decoder_context
    assert context is not None
    part = model.decode_from(codes[..., 10:], 10)
    whole = model.decode(codes)[..., 32 * 10 :]
    error = (part - whole)[..., 32 * context :].abs().max()
    assert error < (1e-6 if dtype == torch.float32 else 4e-3 * whole.abs().max())
    assert not torch.allclose(part, model.decode(codes[..., 10:]), atol=1e-2 * float(whole.detach().abs().max()))


def test_silence_asks_for_nothing() -> None:
    """Below the vocoder's floor all is one, so that a decoder is not punished for quieter silence."""
    wanted = codec().level(torch.zeros(1, 1, 64))
    assert codec()._distance(wanted, wanted - 3.0) < 1e-6
    assert codec()._distance(wanted, wanted + 1.0) > 0.9


def test_fewer_codebooks_are_the_first_ones() -> None:
    model, waveform = codec(), torch.randn(1, 1, 320)
    assert torch.equal(model.encode(waveform, 2), model.encode(waveform)[:, :2])


def test_a_checkpoint_holds_a_vocoder_of_its_own(tmp_path: Path) -> None:
    model = codec()
    checkpoint.save(tmp_path, model)
    again = checkpoint.load(tmp_path)
    assert isinstance(again, MelCodec)
    codes = torch.randint(8, (1, 3, 5))
    assert torch.equal(again.decode(codes), model.decode(codes))


def test_a_checkpoint_does_not_hold_the_bundled_vocoder_again(tmp_path: Path) -> None:
    model = checkpoint.with_vocoder(codec(dataclasses.replace(TINY, vocoder=None)))
    checkpoint.save(tmp_path, model)
    assert not any(name.startswith("vocoder") for name in load_file(tmp_path / "model.safetensors"))
    again = checkpoint.load(tmp_path)
    bundled = checkpoint.load(shelf.on_shelf(shelf.VOCODER))
    assert isinstance(again, MelCodec) and isinstance(bundled, HiFiGAN)
    for one, other in zip(again.vocoder.parameters(), bundled.parameters(), strict=True):
        assert torch.equal(one, other)
    codes = torch.randint(8, (1, 3, 2))
    assert torch.equal(again.decode(codes), model.decode(codes))


def test_the_bundled_vocoder_gives_a_tone_its_pitch() -> None:
    vocoder = checkpoint.load(shelf.on_shelf(shelf.VOCODER))
    assert isinstance(vocoder, HiFiGAN)
    time = torch.arange(22_050) / 22_050
    tone = sum(0.1 * (2 * torch.pi * 220 * harmonic * time).sin() for harmonic in range(1, 6))
    with torch.inference_mode():
        level = vocoder.mel(torch.as_tensor(tone)[None, None])
        heard = vocoder.leveled(vocoder(level), level, 2)[0, 0]
    spectrum = torch.fft.rfft(heard[4096 : 4096 + 8192] * torch.hann_window(8192)).abs()
    strongest = float(spectrum.argmax()) * 22_050 / 8192
    assert min(abs(strongest - 220 * harmonic) for harmonic in range(1, 6)) < 6
    assert 0.3 < float(heard.std() / torch.as_tensor(tone).std()) < 3


def test_training_goes_through_the_codecs_trainer_and_leaves_the_vocoder(tmp_path: Path) -> None:
    """With the discriminator of mels from the second step on."""
    silent = CodecLossConfig(mel=0.0, stft=0.0, complex=0.0, commitment=0.05, magnitude=1.0)
    config = CodecTrainingConfig(
        seconds=1.0, codebook_choices=(0, 3), codebook_odds=(0.3, 0.7), losses=silent, adversarial_start=1
    )
    loop = LoopConfig(
        steps=4, batch_size=2, evaluate_every=4, save_every=4, precision="fp32", workers=0, learning_rate=1e-2
    )
    recipe = CodecRecipe(mel=TINY, training=config, loop=loop)
    recordings = Recordings([(torch.randn(1, 4000) * 5000).to(torch.int16) for _ in range(4)])
    task = CodecTask(recipe, recordings, [torch.randn(1, 800)], {})
    before = {name: tensor.clone() for name, tensor in task.codec.state_dict().items()}
    reports = list(train(task, loop, tmp_path, {}))
    assert {"adversarial", "feature", "magnitude"} <= set(reports[-3].metrics)
    changed = {name for name, tensor in task.codec.state_dict().items() if not torch.equal(tensor, before[name])}
    assert any(name.startswith("encoder") for name in changed) and any(name.startswith("decoder") for name in changed)
    assert not any(name.startswith("vocoder") for name in changed)
    assert isinstance(checkpoint.load(tmp_path / "model"), MelCodec)


def test_training_comes_nearer() -> None:
    model = codec().train()
    time = torch.arange(1600) / 800
    waveform = torch.stack([(0.3 * (2 * torch.pi * 40 * (i + 1) * time).sin())[None] for i in range(4)])
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), 1e-2)
    distances = []
    for _ in range(30):
        output = model(waveform, 0)
        assert output.magnitude is not None
        distances.append(output.magnitude.item())
        optimizer.zero_grad()
        output.magnitude.backward()
        optimizer.step()
    assert distances[-1] < 0.5 * distances[0]


def test_a_texture_fluctuates_as_noise_does() -> None:
    """A flat spectrum at full spread is the log mel of white noise; at the smallest it stays flat."""
    config = dataclasses.replace(TINY, texture=True)
    model = codec(config)
    flat = torch.zeros(1, 2, 6, 400)
    noise = model.level(torch.randn(1, 1, 400 * 8))
    made = model.textured(flat, torch.tensor([17]))
    assert torch.allclose(made.std(2), noise.std(2), atol=0.08)
    assert made.median(2).values.abs().max() < 0.08
    flat[:, 1] = -5.0
    assert model.textured(flat, torch.tensor([17])).abs().max() < 0.02


def test_a_texture_learns_its_spread() -> None:
    """On noise the likelihood is best at a spread of about 1, on what is known without error as small as it may be."""
    model = codec(dataclasses.replace(TINY, texture=True))
    wanted = model.level(torch.randn(4, 1, 400 * 8))
    found = []
    for level in (wanted.mean(dim=2, keepdim=True).expand_as(wanted), wanted):
        losses = {
            spread: float(model._spread_loss(wanted, torch.stack([level, torch.full_like(level, spread)], 1)))
            for spread in (-4.0, -2.0, -1.0, -0.3, 0.0, 0.3)
        }
        found.append(min(losses, key=lambda spread: losses[spread]))
    assert found[0] in (-0.3, 0.0, 0.3) and found[1] == -4.0


@torch.no_grad()
def test_of_two_sounds_the_energies_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    model, heard = codec(), []

    def listen(level: torch.Tensor) -> torch.Tensor:
        heard.append(level)
        return torch.zeros(1, 1, 8)

    monkeypatch.setattr(model, "sound", listen)
    latents, start = torch.randn(2, TINY.latent_dim, 6), torch.zeros(1, dtype=torch.int64)
    one, other = (model.textured(model.decoder(x[None], start), start) for x in latents)
    assert model.mixed(latents, [False, False]).shape == (1, 8)
    model.mixed(latents[[0, 0]], [False, False])
    energies = [(2 * (SPREAD * level + MEAN)).exp() for level in (one, other, heard[0])]
    assert torch.allclose(energies[0] + energies[1], energies[2], rtol=1e-4)
    assert torch.allclose(heard[1] - one, torch.tensor(math.log(2) / (2 * SPREAD)), atol=1e-5)


@torch.no_grad()
def test_a_setting_has_the_energy_of_the_other_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    model, heard = codec(), []

    def listen(level: torch.Tensor) -> torch.Tensor:
        heard.append((2 * (SPREAD * level + MEAN)).exp().mean())
        return torch.zeros(1, 1, 8)

    monkeypatch.setattr(model, "sound", listen)
    levels = torch.randn(2, 6, 24)
    levels[1] -= 1
    model.added(levels[:1], [False])
    model.added(levels, [False, True])
    assert torch.allclose(heard[1], 2 * heard[0], rtol=1e-4)


@torch.no_grad()
def test_what_is_rough_has_the_levels_and_the_phases_of_noise() -> None:
    model = codec(dataclasses.replace(TINY, leveling_rounds=2))
    latents, start = torch.randn(2, TINY.latent_dim, 6), torch.zeros(2, dtype=torch.int64)
    level = model.textured(model.decoder(latents, start), start)
    rough = model.rough(latents)
    assert rough.shape == (2, 6 * model.hop_length)
    torch.testing.assert_close(rough, model.scattered(level))
    steady = torch.linspace(1.0, -1.0, 6)[None, :, None].expand(1, 6, 400)
    found = model.level(model.scattered(steady)[:, None])
    assert (found - steady)[..., 2:-2].mean(dim=2).abs().max() < 0.2
    others = [model.scattered(level, torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    torch.testing.assert_close(others[0], rough)
    assert not torch.allclose(others[1], rough, atol=0.1 * float(rough.abs().max()))
    mels = model.view("mel")
    torch.testing.assert_close(mels.rough(mels._stacked(level)), rough)  # type: ignore[union-attr]


@torch.no_grad()
def test_the_mels_view_leaves_nothing_out() -> None:
    model = codec(dataclasses.replace(TINY, texture=True))
    mels, waveform = model.view("mel"), 0.1 * torch.randn(2, 1, 32 * 7 + 5)
    latents = mels.latents(waveform)
    assert latents.shape == (2, 4 * 6, 8)
    torch.testing.assert_close(latents[:, 6 * 1 + 3, 2], model.level(waveform)[:, 3, 2 * 4 + 1])  # frame 2, spectrum 1
    torch.testing.assert_close(mels.sound_of(latents), model.sound(model.level(waveform)))
    codes = model.encode(waveform)
    drawn = model.decoder(model.latents_of(codes), torch.zeros(2, dtype=torch.int64))[:, 0]  # without its texture
    torch.testing.assert_close(mels.sound_of(mels.latents_of(codes)), model.sound(drawn))
    torch.testing.assert_close(mels.mixed(mels.latents_of(codes), [False, True]), model.added(drawn, [False, True]))
    assert model.view("latents") is model
