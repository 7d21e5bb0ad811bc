import math

import pytest
import torch
import torch.nn.functional as F

from audiogen_cli.models.discriminators import (
    MSSTFTDiscriminator,
    MSSTFTDiscriminatorConfig,
    SpectrogramDiscriminator,
    SpectrogramDiscriminatorConfig,
    STFTDiscriminator,
)

TINY = MSSTFTDiscriminatorConfig(filters=2, n_ffts=(64, 32), dilations=(1, 2))


def tiny(**options: object) -> MSSTFTDiscriminator:
    torch.manual_seed(0)
    fields = {name: getattr(TINY, name) for name in ("filters", "n_ffts", "dilations")}
    return MSSTFTDiscriminator(MSSTFTDiscriminatorConfig(**(fields | options)))  # type: ignore[arg-type]


def test_each_scale_gives_logits_and_the_features_of_every_layer() -> None:
    outputs = tiny()(torch.randn(3, 1, 400))
    assert [len(output.features) for output in outputs] == [4, 4]
    for output, frames, bins in zip(outputs, (26, 51), (33, 17), strict=True):
        halves = math.ceil(bins / 2), math.ceil(math.ceil(bins / 2) / 2)
        shapes = [(3, 2, frames, width) for width in (bins, *halves, halves[-1])]
        assert [tuple(feature.shape) for feature in output.features] == shapes
        assert tuple(output.logits.shape) == (3, 1, frames, halves[-1])


def test_the_published_size_has_the_published_layers() -> None:
    scale = STFTDiscriminator(MSSTFTDiscriminatorConfig(), 1024)
    shapes = [tuple(layer.weight.shape) for layer in (*scale.layers, scale.post)]
    assert shapes == [(32, 2, 3, 9), *[(32, 32, 3, 9)] * 3, (32, 32, 3, 3), (1, 32, 3, 3)]
    assert [layer.stride for layer in scale.layers] == [(1, 1), (1, 2), (1, 2), (1, 2), (1, 1)]
    assert [layer.dilation for layer in scale.layers] == [(1, 1), (1, 1), (2, 1), (4, 1), (1, 1)]


def test_filters_grow_up_to_their_maximum() -> None:
    assert MSSTFTDiscriminatorConfig(filters=8, filter_growth=2, max_filters=20).widths() == [8, 16, 20, 20, 20]


def test_a_gradient_reaches_every_weight_and_the_waveform() -> None:
    module, waveform = tiny(), torch.randn(2, 1, 200, requires_grad=True)
    torch.stack([output.logits.square().mean() for output in module(waveform)]).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())
    assert waveform.grad is not None and (waveform.grad.abs() > 0).all()


def test_examples_of_a_batch_do_not_see_each_other() -> None:
    module, waveform = tiny().eval(), torch.randn(3, 1, 300)
    for whole, single in zip(module(waveform), module(waveform[1:2]), strict=True):
        torch.testing.assert_close(whole.logits[1:2], single.logits)


def test_the_memory_layout_changes_no_value() -> None:
    scale, waveform = tiny().scales[0], torch.randn(2, 1, 300)
    assert scale.spectrum(waveform).is_contiguous(memory_format=torch.channels_last)
    hidden = scale.spectrum(waveform).contiguous()
    for layer in scale.layers:
        hidden = F.leaky_relu(layer(hidden), 0.2)
    torch.testing.assert_close(scale(waveform).logits, scale.post(hidden))


def test_the_spectrum_keeps_the_variance_of_noise() -> None:
    torch.manual_seed(0)
    parts = tiny().scales[0].spectrum(torch.randn(1, 1, 50_000))  # [1, 2, T, F]
    torch.testing.assert_close(parts.square().sum(1).mean(), torch.tensor(1.0), atol=0.03, rtol=0)


def test_the_channels_of_a_stereo_waveform_stand_side_by_side() -> None:
    scale, waveform = tiny(channels=2).scales[0], torch.randn(2, 2, 300)
    parts = scale.spectrum(waveform)
    torch.testing.assert_close(parts[:, 2:], tiny().scales[0].spectrum(waveform[:, 1:]))
    assert scale(waveform).logits.shape[:2] == (2, 1)


@pytest.mark.parametrize("samples", [1, 5, 16, 33])
def test_a_waveform_may_be_shorter_than_the_window(samples: int) -> None:
    assert all(output.logits.isfinite().all() for output in tiny()(torch.randn(1, 1, samples)))


def test_silence_gives_finite_logits_and_gradients() -> None:
    waveform = torch.zeros(1, 1, 200, requires_grad=True)
    torch.stack([output.logits.sum() for output in tiny()(waveform)]).sum().backward()
    assert waveform.grad is not None and waveform.grad.isfinite().all()


def test_under_autocast_the_convolutions_are_half_precision_and_the_spectrum_is_not() -> None:
    module, waveform = tiny(), torch.randn(2, 1, 300, requires_grad=True)
    exact = module(waveform)
    with torch.autocast("cpu", torch.bfloat16):
        assert module.scales[0].spectrum(waveform.bfloat16()).dtype == torch.float32
        outputs = module(waveform)
    torch.stack([output.logits.float().mean() for output in outputs]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    for half, whole in zip(outputs, exact, strict=True):
        assert half.logits.dtype == torch.bfloat16
        torch.testing.assert_close(half.logits.float(), whole.logits, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("options", [{"n_ffts": ()}, {"n_ffts": (30,)}, {"kernel_size": (2, 9)}, {"filters": 0}])
def test_an_impossible_config_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"n_ffts|kernel_size|filters"):
        tiny(**options)


def test_a_spectrogram_discriminator_hears_how_high_a_bin_lies() -> None:
    torch.manual_seed(0)
    module = SpectrogramDiscriminator(SpectrogramDiscriminatorConfig(filters=(4, 4)))
    [output] = module(torch.zeros(2, 1, 81, 12))
    assert [tuple(f.shape) for f in output.features] == [(2, 4, 12, 27), (2, 4, 12, 9)]
    assert output.logits.shape == (2, 1, 12, 9)
    inner = output.logits[0, 0, 6, 2:-2]
    assert (inner.diff().abs() > 1e-6).all()
