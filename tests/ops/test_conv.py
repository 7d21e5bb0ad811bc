import math

import pytest
import torch
from torch import nn

from audiogen_cli.ops.conv import ConvStyle, PaddedConv1d, TrimmedConvTranspose1d, fold_weight_norm, pad

AWKWARD = (1, 2, 3, 4, 5, 7, 16, 17)
PAD_MODES = ("reflect", "constant", "replicate")


@pytest.mark.parametrize("mode", PAD_MODES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(7, 1, 1), (3, 1, 4), (4, 2, 1), (10, 5, 1), (5, 5, 1)])
def test_n_samples_make_ceil_n_over_stride_frames(mode, causal, kernel, stride, dilation):
    conv = PaddedConv1d(1, 2, kernel, ConvStyle(causal, "none", mode), stride, dilation)
    for length in AWKWARD:
        assert conv(torch.randn(1, 1, length)).shape == (1, 2, math.ceil(length / stride))


@pytest.mark.parametrize(("causal", "ratio"), [(True, 1.0), (True, 0.5), (True, 0.0), (False, 1.0)])
@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (6, 3), (10, 5), (7, 1)])
def test_t_frames_make_t_times_stride_samples(causal, ratio, kernel, stride):
    conv = TrimmedConvTranspose1d(1, 2, kernel, ConvStyle(causal, "none", trim_right_ratio=ratio), stride)
    for frames in (1, 2, 9):
        assert conv(torch.randn(1, 1, frames)).shape == (1, 2, frames * stride)


def test_reflection_mirrors_around_the_edge():
    assert pad(torch.tensor([[[1.0, 2, 3, 4]]]), 2, 1, "reflect").tolist() == [[[3, 2, 1, 2, 3, 4, 3]]]


def test_a_signal_too_short_to_reflect_is_extended_by_zeros_and_cut_again():
    assert pad(torch.tensor([[[5.0]]]), 3, 2, "reflect").tolist() == [[[0, 0, 0, 5, 0, 0]]]
    assert pad(torch.tensor([[[1.0, 2]]]), 3, 0, "reflect").tolist() == [[[0, 0, 2, 1, 2]]]


def test_the_drawing_of_the_padding_is_right():
    signal = torch.arange(1.0, 6).view(1, 1, 5)  # sample i of the drawing is i + 1 here
    for causal, sums in ((True, [3, 10, 12]), (False, [6, 14, 9])):
        conv = PaddedConv1d(1, 1, 4, ConvStyle(causal, "none", "constant"), stride=2)
        nn.init.ones_(conv.conv.weight)
        nn.init.zeros_(conv.conv.bias)
        assert conv(signal).flatten().tolist() == sums


@pytest.mark.parametrize("mode", ["constant", "replicate"])
def test_a_causal_convolution_never_sees_later_samples(mode):
    conv = PaddedConv1d(1, 1, 6, ConvStyle(True, "weight_norm", mode), stride=3)
    signal = torch.randn(1, 1, 20, requires_grad=True)
    for frame in range(7):
        (gradient,) = torch.autograd.grad(conv(signal)[0, 0, frame], signal)
        assert not gradient[0, 0, 3 * (frame + 1) :].any()


def test_a_causal_transposed_convolution_never_sees_later_frames():
    conv = TrimmedConvTranspose1d(1, 1, 6, ConvStyle(causal=True), stride=3)
    frames = torch.randn(1, 1, 5, requires_grad=True)
    for sample in range(15):
        (gradient,) = torch.autograd.grad(conv(frames)[0, 0, sample], frames)
        assert not gradient[0, 0, sample // 3 + 1 :].any()
        assert gradient[0, 0, sample // 3]


@pytest.mark.parametrize("layer", [PaddedConv1d, TrimmedConvTranspose1d])
def test_weight_norm_keeps_one_length_per_first_dimension(layer):
    conv = layer(4, 6, 4, ConvStyle(norm="weight_norm"), stride=2)
    g, v = conv.conv.parametrizations.weight.original0, conv.conv.parametrizations.weight.original1
    nn.init.uniform_(g, 0.5, 2.0)
    assert g.shape == (v.shape[0], 1, 1)
    torch.testing.assert_close(conv.conv.weight, g * v / v.norm(dim=(1, 2), keepdim=True))


@pytest.mark.parametrize("layer", [PaddedConv1d, TrimmedConvTranspose1d])
def test_folding_weight_norm_leaves_the_output_and_only_a_weight(layer):
    conv, signal = layer(4, 6, 4, ConvStyle(norm="weight_norm"), stride=2), torch.randn(2, 4, 11)
    before = conv(signal)
    fold_weight_norm(conv)
    torch.testing.assert_close(conv(signal), before)
    assert sorted(conv.state_dict()) == ["conv.bias", "conv.weight"]


def test_group_norm_follows_the_convolution_before_anything_is_trimmed():
    conv = TrimmedConvTranspose1d(3, 2, 4, ConvStyle(norm="time_group_norm"), stride=2)
    frames = torch.randn(1, 3, 5)
    full = conv.norm(conv.conv(frames))
    torch.testing.assert_close(conv(frames), full[..., 1:-1])
    torch.testing.assert_close(full.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)


def test_a_kernel_shorter_than_its_stride_is_refused():
    with pytest.raises(ValueError, match="longer"):
        PaddedConv1d(1, 1, 2, ConvStyle(), stride=3)
