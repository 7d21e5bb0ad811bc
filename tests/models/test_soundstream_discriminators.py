import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from audiogen_cli.models.soundstream_discriminators import (
    ComplexSTFTDiscriminator,
    ComplexSTFTDiscriminatorConfig,
    Discriminators,
    MultiScaleWaveDiscriminator,
    WaveDiscriminatorConfig,
)

WAVE = WaveDiscriminatorConfig(filters=4, max_filters=16, num_layers=2)
STFT = ComplexSTFTDiscriminatorConfig(channels=2, strides=((1, 2), (2, 2)), chan_mults=(1, 2), n_fft=64, win_length=64)


def wave(**options: Any) -> MultiScaleWaveDiscriminator:
    torch.manual_seed(0)
    return MultiScaleWaveDiscriminator(dataclasses.replace(WAVE, **options))


def spectral(**options: Any) -> ComplexSTFTDiscriminator:
    torch.manual_seed(0)
    return ComplexSTFTDiscriminator(dataclasses.replace(STFT, hop_length=16, **options))


def test_the_published_sizes_have_the_published_layers() -> None:
    scale = MultiScaleWaveDiscriminator(WaveDiscriminatorConfig()).scales[0]
    layers: Any = scale.layers
    assert [layer.out_channels for layer in layers] == [16, 64, 256, 1024, 1024, 1024]
    assert [layer.groups for layer in layers] == [1, 4, 16, 64, 256, 1]
    assert [layer.stride[0] for layer in layers] == [1, 4, 4, 4, 4, 1]
    units: Any = ComplexSTFTDiscriminator(ComplexSTFTDiscriminatorConfig()).units
    assert [unit.second.out_channels for unit in units] == [32, 64, 128, 128, 256, 256]
    assert [unit.stride for unit in units] == [(1, 2), (2, 2)] * 3


def test_each_scale_hears_half_the_rate_of_the_one_before() -> None:
    outputs = wave()(torch.randn(2, 1, 1600))
    assert [output.logits.shape[-1] for output in outputs] == [100, 51, 26]
    assert [len(output.features) for output in outputs] == [4, 4, 4]


def test_the_stft_discriminator_has_a_logit_for_every_other_frame_and_sees_all_bins() -> None:
    [output] = spectral()(torch.randn(2, 1, 640))
    assert output.logits.shape == (2, 1, 21)  # 41 frames, one stride of 2
    assert [tuple(f.shape[1:]) for f in output.features] == [(2, 41, 33), (2, 41, 17), (4, 21, 9)]


def test_no_parameter_and_no_feature_is_complex() -> None:
    module = spectral()
    assert not any(p.is_complex() for p in module.parameters())
    [output] = module(torch.randn(1, 1, 640))
    assert not any(f.is_complex() for f in (output.logits, *output.features))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(torch.randn(1, 1, 640))[0].logits.isfinite().all()


@pytest.mark.parametrize("make", [lambda c: wave(channels=c), lambda c: spectral(input_channels=c)])
@pytest.mark.parametrize("channels", [1, 2])
def test_stereo_is_heard_and_a_gradient_reaches_every_weight_and_sample(make: Any, channels: int) -> None:
    module, waveform = make(channels), torch.randn(2, channels, 700, requires_grad=True)
    torch.stack([output.logits.square().mean() for output in module(waveform)]).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())
    assert waveform.grad is not None and (waveform.grad.abs().sum((0, 2)) > 0).all()


@pytest.mark.parametrize("samples", [1, 17, 63])
def test_sounds_shorter_than_a_window_are_heard(samples: int) -> None:
    module = Discriminators([wave(), spectral(logits_abs=True)])
    outputs = module(torch.randn(1, 1, samples))
    assert len(outputs) == 4 and all(output.logits.isfinite().all() for output in outputs)


def test_lengths_of_logit_pairs_are_never_negative() -> None:
    [output] = spectral(logits_abs=True)(torch.randn(2, 1, 640))
    assert output.logits.shape[1] == 1 and (output.logits > 0).all()


def test_examples_of_a_batch_do_not_see_each_other() -> None:
    module: nn.Module = Discriminators([wave(), spectral()])
    waveform = torch.randn(3, 1, 500)
    for whole, single in zip(module(waveform), module(waveform[1:2]), strict=True):
        torch.testing.assert_close(whole.logits[1:2], single.logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [{"scales": (0.3,)}, {"scales": ()}, {"filters": 3}])
def test_senseless_wave_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"scales|filters"):
        dataclasses.replace(WAVE, **options)


def test_senseless_stft_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="equally long"):
        dataclasses.replace(STFT, chan_mults=(1,))
