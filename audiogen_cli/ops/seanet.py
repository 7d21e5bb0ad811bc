"""SEANet, the convolutional encoder and decoder inside EnCodec (2210.13438, section 3.1) and SoundStream (2107.03312).

    encoder   conv -> (residual blocks -> ELU -> strided conv)* -> LSTM -> ELU -> conv     [B, C, N] -> [B, D, T]
    decoder   conv -> LSTM -> (ELU -> transposed conv -> residual blocks)* -> ELU -> conv  [B, D, T] -> [B, C, T * hop]

The width doubles at every stride. Layers keep the numbers that published checkpoints give them:
`encoder.N` here is their `encoder.model.N` (AudioCraft) and `encoder.layers.N` (transformers).

Block by block: `stream(SEANetEncoder(...), block, state, last)` of ops/streaming.py, causal or not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from audiogen_cli.ops.conv import ConvStyle, Norm, PaddedConv1d, PadMode, TrimmedConvTranspose1d
from audiogen_cli.ops.streaming import State, stream_sum

_AT_LEAST_ONE = (
    *("channels", "dimension", "num_filters", "kernel_size", "last_kernel_size", "residual_kernel_size"),
    *("dilation_base", "compress"),
)


@dataclass(frozen=True, kw_only=True)
class SEANetConfig:
    """Raises ValueError for numbers that make no network.

    dimension: width D of the latent; num_filters: width at the sample rate.
    ratios: strides in the decoder's order, so the encoder takes them from the last to the first.
    dilation_base: residual block j of a stage has dilation dilation_base ** j.
    compress: a residual block is narrower inside by this factor; true_skip: its shortcut is the identity, not a conv.
    lstm_layers: 0 leaves the LSTM out. For causal, norm, pad_mode and trim_right_ratio see ConvStyle.
    """

    channels: int = 1
    dimension: int = 128
    num_filters: int = 32
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    num_residual_layers: int = 1
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_base: int = 2
    compress: int = 2
    true_skip: bool = False
    lstm_layers: int = 2
    elu_alpha: float = 1.0
    causal: bool = True
    norm: Norm = "weight_norm"
    pad_mode: PadMode = "reflect"
    trim_right_ratio: float = 1.0

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ValueError(f"'{name}' is {getattr(self, name)}; make it 1 or more.")
        if not self.ratios or min(self.ratios) < 1:
            raise ValueError(f"'ratios' is {self.ratios}; give one or more strides of at least 1.")
        if min(self.num_residual_layers, self.lstm_layers) < 0:
            raise ValueError("'num_residual_layers' or 'lstm_layers' is negative; use 0 for none.")
        if self.num_filters % self.compress:
            raise ValueError(
                f"'num_filters' {self.num_filters} is no multiple of 'compress' {self.compress}; make it one."
            )
        if self.causal and self.norm == "time_group_norm":
            raise ValueError("'time_group_norm' looks at the whole sound, so it cannot be causal; use 'weight_norm'.")
        if not 0.0 <= self.trim_right_ratio <= 1.0 or (not self.causal and self.trim_right_ratio != 1.0):
            raise ValueError("'trim_right_ratio' is a share from 0 to 1, and 1 where nothing is causal; set it so.")

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.ratios)

    @property
    def conv_style(self) -> ConvStyle:
        return ConvStyle(self.causal, self.norm, self.pad_mode, self.trim_right_ratio)


class SEANetEncoder(nn.Sequential):
    """[B, channels, N] -> [B, dimension, ceil(N / hop_length)]."""

    def __init__(self, config: SEANetConfig) -> None:
        super().__init__(*_encoder_layers(config))


class SEANetDecoder(nn.Sequential):
    """[B, dimension, T] -> [B, channels, T * hop_length]."""

    def __init__(self, config: SEANetConfig) -> None:
        super().__init__(*_decoder_layers(config))


class ResidualBlock(nn.Module):
    """x -> shortcut(x) + conv1(ELU(conv(ELU(x)))), narrower in the middle. [B, width, N] -> [B, width, N]."""

    def __init__(self, config: SEANetConfig, width: int, dilation: int) -> None:
        super().__init__()
        style, hidden = config.conv_style, width // config.compress
        self.block = nn.Sequential(
            nn.ELU(config.elu_alpha),
            PaddedConv1d(width, hidden, config.residual_kernel_size, style, dilation=dilation),
            nn.ELU(config.elu_alpha),
            PaddedConv1d(hidden, width, 1, style),
        )
        self.shortcut = nn.Identity() if config.true_skip else PaddedConv1d(width, width, 1, style)

    def forward(self, signal: Tensor) -> Tensor:
        return self.shortcut(signal) + self.block(signal)

    def stream(self, signal: Tensor, state: State, last: bool) -> tuple[Tensor, State]:
        return stream_sum([self.shortcut, self.block], signal, state, last)


class ResidualLSTM(nn.Module):
    """x -> x + LSTM(x) along time, from a zero state. [B, width, T] -> [B, width, T]."""

    def __init__(self, width: int, num_layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, num_layers)

    def forward(self, signal: Tensor) -> Tensor:
        frames = signal.permute(2, 0, 1)  # [T, B, width]
        return (self.lstm(frames)[0] + frames).permute(1, 2, 0)

    def stream(self, signal: Tensor, state: State, last: bool) -> tuple[Tensor, State]:
        """One block. State: hidden and cell state of all layers, [num_layers, B, width] each."""
        if not signal.shape[-1]:
            return signal, state
        frames = signal.permute(2, 0, 1)
        output, state = self.lstm(frames, state)
        return (output + frames).permute(1, 2, 0), state


def _encoder_layers(config: SEANetConfig) -> Iterator[nn.Module]:
    style, width = config.conv_style, config.num_filters
    yield PaddedConv1d(config.channels, width, config.kernel_size, style)
    for ratio in reversed(config.ratios):
        yield from _residual_blocks(config, width)
        yield nn.ELU(config.elu_alpha)
        yield PaddedConv1d(width, 2 * width, 2 * ratio, style, stride=ratio)
        width *= 2
    if config.lstm_layers:
        yield ResidualLSTM(width, config.lstm_layers)
    yield nn.ELU(config.elu_alpha)
    yield PaddedConv1d(width, config.dimension, config.last_kernel_size, style)


def _decoder_layers(config: SEANetConfig) -> Iterator[nn.Module]:
    style, width = config.conv_style, config.num_filters * 2 ** len(config.ratios)
    yield PaddedConv1d(config.dimension, width, config.kernel_size, style)
    if config.lstm_layers:
        yield ResidualLSTM(width, config.lstm_layers)
    for ratio in config.ratios:
        yield nn.ELU(config.elu_alpha)
        yield TrimmedConvTranspose1d(width, width // 2, 2 * ratio, style, stride=ratio)
        width //= 2
        yield from _residual_blocks(config, width)
    yield nn.ELU(config.elu_alpha)
    yield PaddedConv1d(width, config.channels, config.last_kernel_size, style)


def _residual_blocks(config: SEANetConfig, width: int) -> Iterator[nn.Module]:
    for layer in range(config.num_residual_layers):
        yield ResidualBlock(config, width, config.dilation_base**layer)
