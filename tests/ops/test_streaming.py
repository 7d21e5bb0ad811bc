import dataclasses
import random

import pytest
import torch
from torch import nn

from audiogen_cli.errors import ModelError
from audiogen_cli.ops.conv import ConvStyle, PaddedConv1d, TrimmedConvTranspose1d
from audiogen_cli.ops.seanet import ResidualBlock, ResidualLSTM, SEANetConfig, SEANetDecoder, SEANetEncoder
from audiogen_cli.ops.streaming import stream, stream_overlapping

TINY = SEANetConfig(dimension=6, num_filters=4, ratios=(3, 2), lstm_layers=1)


def cut(signal, seed, longest):
    """Random blocks of 0 to `longest`, all of `signal` in all."""
    rng, start = random.Random(seed), 0
    while start < signal.shape[-1]:
        length = rng.randint(0, longest)
        yield signal[..., start : start + length]
        start += length


@torch.no_grad()
def streamed(layer, signal, seed=0, longest=3):
    outputs, state = [], None
    for block in cut(signal, seed, longest):
        output, state = stream(layer, block, state, last=False)
        outputs.append(output)
    outputs.append(stream(layer, signal[..., :0], state, last=True)[0])
    return torch.cat(outputs, dim=-1)


def check(layer, channels, lengths=(1, 2, 3, 7, 40)):
    with torch.no_grad():
        for length in lengths:
            signal = torch.randn(2, channels, length)
            for longest in (1, 6):
                torch.testing.assert_close(
                    streamed(layer, signal, length, longest), layer(signal), atol=1e-6, rtol=1e-6
                )


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("mode", ["reflect", "constant", "replicate"])
def test_convolutions_make_of_blocks_what_they_make_of_the_whole(causal, mode):
    rng = random.Random(mode)
    for _ in range(12):
        stride, dilation = rng.randint(1, 4), rng.randint(1, 3)
        kernel = rng.randint(stride, stride + 4)
        check(PaddedConv1d(2, 3, kernel, ConvStyle(causal, "weight_norm", mode), stride, dilation), 2)


@pytest.mark.parametrize(("causal", "ratio"), [(True, 1.0), (True, 0.5), (True, 0.0), (False, 1.0)])
def test_transposed_convolutions_make_of_blocks_what_they_make_of_the_whole(causal, ratio):
    for stride, kernel in ((1, 1), (1, 3), (2, 2), (2, 4), (3, 4), (2, 7)):
        check(TrimmedConvTranspose1d(2, 3, kernel, ConvStyle(causal, "none", trim_right_ratio=ratio), stride), 2)


@pytest.mark.parametrize("true_skip", [True, False])
def test_blocks_with_a_shortcut_and_recurrent_ones_do(true_skip):
    check(ResidualBlock(dataclasses.replace(TINY, causal=False, true_skip=true_skip), 4, dilation=2), 4)
    check(ResidualLSTM(4, 2), 4)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("mode", ["reflect", "constant"])
def test_seanet_does(causal, mode):
    config = dataclasses.replace(TINY, causal=causal, pad_mode=mode, num_residual_layers=2)
    check(SEANetEncoder(config), 1, (1, 11, 60))
    check(SEANetDecoder(config), 6, (1, 2, 15))


def test_a_causal_network_answers_each_hop_at_once():
    config = dataclasses.replace(TINY, pad_mode="constant")
    encoder, decoder, states = SEANetEncoder(config), SEANetDecoder(config), [None, None]
    for _ in range(4):
        latent, states[0] = stream(encoder, torch.randn(1, 1, 6), states[0], last=False)
        waveform, states[1] = stream(decoder, latent, states[1], last=False)
        assert (latent.shape[-1], waveform.shape[-1]) == (1, 6)


def test_two_streams_through_one_network_do_not_meet():
    encoder, signals, states, outputs = SEANetEncoder(TINY).eval(), torch.randn(2, 1, 1, 60), [None, None], [[], []]
    with torch.no_grad():
        for start in range(0, 60, 5):
            for i in (0, 1):
                block = signals[i][..., start : start + 5]
                output, states[i] = stream(encoder, block, states[i], last=start == 55)
                outputs[i].append(output)
        for i in (0, 1):
            torch.testing.assert_close(torch.cat(outputs[i], -1), encoder(signals[i]), atol=1e-6, rtol=1e-6)


def test_a_state_is_not_changed_by_its_use():
    """So that a stream can go on twice from one place."""
    encoder, signal = SEANetEncoder(TINY).eval(), torch.randn(1, 1, 60)
    with torch.no_grad():
        _, state = stream(encoder, signal[..., :31], None, last=False)
        first, second = (stream(encoder, signal[..., 31:], state, last=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_layers_that_see_the_whole_sound_are_refused():
    with pytest.raises(ModelError, match="GroupNorm"):
        stream(nn.Sequential(nn.ELU(), nn.GroupNorm(1, 2)), torch.zeros(1, 2, 5), None, last=False)
    style = ConvStyle(norm="time_group_norm")
    for layer in (PaddedConv1d(2, 2, 3, style), TrimmedConvTranspose1d(2, 2, 3, style)):
        with pytest.raises(ModelError, match="segment by segment"):
            stream(layer, torch.zeros(1, 2, 5), None, last=False)


def test_pieces_that_overlap_by_what_a_function_sees_make_the_whole():
    def function(piece, first):
        """Frame t is (its number, the sum of frames t - 2 to t + 2), and a frame is 3 samples."""
        whole = nn.functional.pad(piece, (0, -piece.shape[-1] % 3))
        frames = nn.functional.pad(whole.unflatten(-1, (-1, 3)).sum(-1), (2, 2)).unfold(-1, 5, 1).sum(-1)
        numbers = torch.arange(first, first + frames.shape[-1]).expand_as(frames)
        return torch.stack([numbers, frames], dim=-1).flatten(-2)

    for length in (1, 3, 14, 60):
        signal = torch.randint(9, (1, 1, length)).float()
        outputs, state = [], None
        for block in cut(signal, length, 7):
            output, state = stream_overlapping(function, block, state, False, context=2, per_frame=3, frame_length=2)
            outputs += [] if output is None else [output]
        output, _ = stream_overlapping(function, signal[..., :0], state, True, context=2, per_frame=3, frame_length=2)
        assert torch.equal(torch.cat([*outputs, output], dim=-1), function(signal, 0))
