import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from audiogen_cli.models.hifigan import SLOPE, HiFiGAN, HiFiGANConfig, TailConfig

TINY = HiFiGANConfig(
    sample_rate=800, n_fft=32, num_mels=6, f_max=400.0, channels=16, upsample_rates=(4, 2), upsample_kernels=(8, 4)
)
NARROW = dataclasses.replace(TINY, ranks=(3, 0, 2, 4, 0, 0) * 6)
SHORT = dataclasses.replace(
    TINY, upsample_rates=(4,), upsample_kernels=(8,), tail=TailConfig(rate=2, samples=3, channels=5, dilations=(1, 3))
)


def vocoder(config: HiFiGANConfig = TINY) -> HiFiGAN:
    torch.manual_seed(0)
    return HiFiGAN(config).eval()


def test_a_frame_becomes_a_hop_of_samples() -> None:
    waveform = vocoder()(torch.randn(2, 6, 9))
    assert waveform.shape == (2, 1, 9 * 8)
    assert waveform.abs().max() < 1


@pytest.mark.parametrize("samples", [1, 8, 9, 100])
def test_a_mel_frame_for_every_started_hop(samples: int) -> None:
    assert vocoder().mel(torch.randn(2, 1, samples)).shape == (2, 6, -(-samples // 8))


def test_silence_is_the_floor() -> None:
    level = vocoder().mel(torch.zeros(1, 1, 80))
    assert torch.allclose(level, torch.tensor(TINY.floor).log())


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        NARROW,
        SHORT,
        HiFiGANConfig(channels=16, num_mels=4),
        HiFiGANConfig(channels=16, num_mels=4, kernels=(3,)),
        HiFiGANConfig(channels=16, num_mels=4, upsample_rates=(8,), upsample_kernels=(16,), tail=TailConfig()),
    ],
)
def test_a_sample_depends_on_the_context_and_nothing_beyond(config: HiFiGANConfig) -> None:
    model, frames = vocoder(config).double(), 2 * config.context + 9
    level = torch.randn(1, config.num_mels, frames, dtype=torch.float64, requires_grad=True)
    middle = frames // 2
    hop = config.hop_length
    model(level)[..., middle * hop : (middle + 1) * hop].square().sum().backward()
    assert level.grad is not None
    reached = level.grad.abs().sum((0, 1)).nonzero().flatten()
    assert reached.min() >= middle - config.context and reached.max() <= middle + config.context
    assert reached.min() <= middle - config.context + 4, "the context is far too wide"


def test_the_published_generator_has_its_size() -> None:
    """13.92 M parameters: table 1 of the paper."""
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in HiFiGAN(HiFiGANConfig()).parameters())
    assert round(count / 1e6, 2) == 13.92 or round(count / 1e6, 1) == 13.9


def test_kernels_must_fit_their_rates() -> None:
    with pytest.raises(ValueError, match="upsample kernel"):
        HiFiGANConfig(upsample_rates=(4, 2), upsample_kernels=(7, 4))
    with pytest.raises(ValueError, match="equally long"):
        HiFiGANConfig(upsample_rates=(4, 2), upsample_kernels=(8,))


def test_ranks_are_one_for_each_convolution_or_none() -> None:
    with pytest.raises(ValueError, match="ranks must be 36 numbers"):
        dataclasses.replace(TINY, ranks=(3, 0, 2))
    with pytest.raises(ValueError, match="ranks must be 36 numbers"):
        dataclasses.replace(TINY, ranks=(-1,) * 36)


def test_a_narrowed_convolution_is_the_product_of_its_halves() -> None:
    whole, narrow, level = vocoder(), vocoder(NARROW), torch.randn(1, 6, 9)
    with torch.no_grad():
        for name in ("pre", "up", "post"):
            getattr(whole, name).load_state_dict(getattr(narrow, name).state_dict())
        for one, other in zip(convolutions(whole), convolutions(narrow), strict=True):
            if isinstance(other, torch.nn.Sequential):
                one.weight.copy_(torch.einsum("cr,rik->cik", other[1].weight[:, :, 0], other[0].weight))
                one.bias.copy_(other[1].bias)
            else:
                one.load_state_dict(other.state_dict())
    torch.testing.assert_close(whole(level), narrow(level))


def convolutions(model: HiFiGAN) -> list[Any]:
    blocks: Any = [block for blocks in model.blocks for block in blocks]  # type: ignore[union-attr]
    return [layer for block in blocks for pair in zip(block.dilated, block.plain, strict=True) for layer in pair]


@pytest.mark.parametrize("config", [TINY, NARROW])
@pytest.mark.parametrize("frames", [1, 9, 700])
def test_what_is_made_with_images_is_what_the_layers_make(frames: int, config: HiFiGANConfig) -> None:
    model, level = vocoder(config).double(), torch.randn(2, 6, frames, dtype=torch.float64)
    x = model.pre(level)
    for up, blocks in zip(model.up, model.blocks, strict=True):
        x, every = up(F.leaky_relu(x, SLOPE)), []
        for block in blocks:  # type: ignore[union-attr, attr-defined]
            y = x
            for dilated, plain in zip(block.dilated, block.plain, strict=True):
                y = y + plain(F.leaky_relu(dilated(F.leaky_relu(y, SLOPE)), SLOPE))
            every.append(y)
        x = torch.stack(every).mean(0)
    torch.testing.assert_close(model(level), model.post(F.leaky_relu(x)).tanh())


@pytest.mark.parametrize("frames", [1, 9, 700])
def test_a_tail_gives_samples_of_every_frame_in_turn(frames: int) -> None:
    model, level = vocoder(SHORT).double(), torch.randn(2, 6, frames, dtype=torch.float64)
    tail: Any = model.post
    x = tail.up(F.leaky_relu(model.staged(level)[:, :, 0], SLOPE))
    for layer in tail.layers:
        x = x + layer(F.leaky_relu(x, SLOPE))
    x = tail.post(F.leaky_relu(x, SLOPE))
    samples = [x[:, sample, frame] for frame in range(x.shape[2]) for sample in range(3)]
    assert SHORT.hop_length == 4 * 2 * 3
    torch.testing.assert_close(model(level)[:, 0], torch.stack(samples, dim=1).tanh())


def test_a_tail_keeps_frames_in_their_places() -> None:
    with pytest.raises(ValueError, match="rate must be even"):
        TailConfig(rate=3)
    with pytest.raises(ValueError, match="kernel odd"):
        TailConfig(kernel=4)


def test_fewer_bits_are_nearly_the_same_sound() -> None:
    model, level = vocoder(), torch.randn(1, 6, 99)
    whole, quick = model(level), model(level, torch.bfloat16)
    assert quick.dtype == torch.float32
    assert 0 < (whole - quick).square().sum() < 0.01 * whole.square().sum()
