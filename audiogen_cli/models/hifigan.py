"""HiFi-GAN (2010.05646): the generator, which turns a mel spectrogram into a waveform.

    log mel [B, M, T] --conv--> [B, 512, T] --up x8--> [B, 256, 8T] --up x8--> --up x2--> --up x2--> tanh --> [B, 1, N]
                                                `--> mean of residual blocks that hear 3, 7 and 11 samples, dilated

It has no encoder and no codes: what codes a mel spectrogram in few bits (models/mel.py) sounds through it. Weights are
those of the original's generator with its weight normalization multiplied out (weights/build/convert_hifigan.py).

No part of the paper: a residual convolution may be split (`ranks`) into one that makes few channels and one that mixes
them into all: what a whole one makes of recordings lies in few dimensions (weights/build/narrow_hifigan.py). And after
the first stages a `tail` may make the waveform, one chain of layers at a quarter of its rate that has learned what the
other stages did (weights/build/shorten_hifigan.py):

    [B, 256, 8T] --up x8--> [B, 80, 64T] --ten residual convolutions--> tanh --> [B, 4, 64T] --in turn--> [B, 1, N]
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.ops.stft import frame_stft, overlap_add, slaney_filter_bank

MOST_GAIN = 2.0  # nats that `leveled` turns a band up by; down there is no limit but the floor
PIECE = 256  # mel frames that are made at once
SLOPE = 0.1  # of the leaky ReLUs but the last, which has PyTorch's 0.01


@dataclass(frozen=True)
class TailConfig:
    """A frame of the last stage becomes `rate` frames of `channels`, of which each gives `samples` of the waveform.
    dilations: of each layer in turn."""

    rate: int = 8
    samples: int = 4
    channels: int = 80
    kernel: int = 7
    dilations: tuple[int, ...] = (1, 3, 5, 1, 3, 5, 1, 3, 5, 1)

    def __post_init__(self) -> None:
        if self.rate % 2 or self.kernel % 2 == 0:
            raise ValueError("a tail's rate must be even, and its kernel odd.")

    @property
    def context(self) -> int:
        """Frames of the last stage to either side that the samples of one depend on."""
        reach = self.kernel // 2 * (sum(self.dilations) + 1)
        return -(-(reach + 2 * self.rate) // self.rate)


@dataclass(frozen=True)
class HiFiGANConfig:
    """The defaults are V1 of the paper's appendix A, and the features its published generators hear.

    floor: magnitudes of an unscaled STFT through bands of equal area, below which all is one.
    ranks: channels between the two halves of each convolution of the residual blocks, stage by stage, kernel by kernel,
    dilated and plain in turn; 0 for one that is whole, and none at all where all are.
    tail: what makes the waveform of what the stages leave; None where they make it themselves.
    """

    sample_rate: int = 22_050
    n_fft: int = 1024
    num_mels: int = 80
    f_max: float = 8_000.0
    floor: float = 1e-5
    channels: int = 512
    upsample_rates: tuple[int, ...] = (8, 8, 2, 2)
    upsample_kernels: tuple[int, ...] = (16, 16, 4, 4)
    kernels: tuple[int, ...] = (3, 7, 11)
    dilations: tuple[int, ...] = (1, 3, 5)
    ranks: tuple[int, ...] = ()
    tail: TailConfig | None = None

    def __post_init__(self) -> None:
        count = 2 * len(self.upsample_rates) * len(self.kernels) * len(self.dilations)
        if len(self.ranks) not in (0, count) or any(rank < 0 for rank in self.ranks):
            raise ValueError(f"ranks must be {count} numbers that are not negative, or none.")
        if len(self.upsample_rates) != len(self.upsample_kernels):
            raise ValueError("upsample_rates and upsample_kernels must be equally long.")
        if any((kernel - rate) % 2 or kernel < rate for rate, kernel in self._stages):
            raise ValueError("an upsample kernel must be as long as its rate, or an even number of samples longer.")

    @property
    def hop_length(self) -> int:
        whole = math.prod(self.upsample_rates)
        return whole if self.tail is None else whole * self.tail.rate * self.tail.samples

    @property
    def context(self) -> int:
        """Frames to either side that the samples of a frame depend on."""
        reach = max(self.kernels) // 2 * (sum(self.dilations) + len(self.dilations))
        beyond = 3 if self.tail is None else self.tail.context
        for rate, kernel in reversed(self._stages):
            beyond = -(-(beyond + reach + kernel) // rate)
        return beyond + 3

    @property
    def leveling_context(self) -> int:
        """The same for one round of `HiFiGAN.leveled`: a window's reach, on the way there and on the way back."""
        return -(-self.n_fft // self.hop_length)

    @property
    def _stages(self) -> list[tuple[int, int]]:
        return list(zip(self.upsample_rates, self.upsample_kernels, strict=True))


def _conv(layer: nn.Conv1d | nn.Sequential, x: Tensor) -> Tensor:
    """What the layer makes of [B, C, T], of [B, C, 1, T] and in its dtype."""
    if isinstance(layer, nn.Sequential):
        return functools.reduce(lambda heard, part: _conv(part, heard), layer, x)  # type: ignore[arg-type]
    weight, bias = layer.weight[:, :, None].to(x), None if layer.bias is None else layer.bias.to(x)
    return F.conv2d(x, weight, bias, padding=(0, *layer.padding), dilation=(1, *layer.dilation))


def _up(layer: nn.ConvTranspose1d, x: Tensor) -> Tensor:
    """The same."""
    weight, bias = layer.weight[:, :, None].to(x), layer.bias.to(x)  # type: ignore[union-attr]
    return F.conv_transpose2d(x, weight, bias, stride=(1, *layer.stride), padding=(0, *layer.padding))


def _layer(channels: int, kernel: int, dilation: int, rank: int) -> nn.Conv1d | nn.Sequential:
    """A convolution that keeps the channels and the length: whole (rank 0), or through `rank` channels."""
    padding = kernel // 2 * dilation
    if not rank:
        return nn.Conv1d(channels, channels, kernel, padding=padding, dilation=dilation)
    narrow = nn.Conv1d(channels, rank, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(narrow, nn.Conv1d(rank, channels, 1))


class _Residual(nn.Module):
    """Dilated convolutions, each followed by a plain one, around which the signal passes."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...], ranks: Iterator[int]) -> None:
        super().__init__()
        self.dilated, self.plain = nn.ModuleList(), nn.ModuleList()
        for dilation in dilations:
            self.dilated.append(_layer(channels, kernel, dilation, next(ranks)))
            self.plain.append(_layer(channels, kernel, 1, next(ranks)))

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.dilated, self.plain, strict=True):
            heard = _conv(dilated, F.leaky_relu(x, SLOPE))  # type: ignore[arg-type]
            x = x + _conv(plain, F.leaky_relu(heard, SLOPE))  # type: ignore[arg-type]
        return x


class _Tail(nn.Module):
    def __init__(self, config: TailConfig, channels: int) -> None:
        super().__init__()
        width, kernel, rate = config.channels, config.kernel, config.rate
        self.up = nn.ConvTranspose1d(channels, width, 2 * rate, rate, rate // 2)
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, kernel, padding=kernel // 2 * dilation, dilation=dilation)
            for dilation in config.dilations
        )
        self.post = nn.Conv1d(width, config.samples, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, 1, T] -> [B, 1, T * rate * samples]"""
        x = _up(self.up, F.leaky_relu(x, SLOPE))
        for layer in self.layers:
            x = x + _conv(layer, F.leaky_relu(x, SLOPE))  # type: ignore[arg-type]
        x = _conv(self.post, F.leaky_relu(x, SLOPE))  # [B, samples, 1, T * rate]
        return x[:, :, 0].transpose(1, 2).flatten(1)[:, None]


class HiFiGAN(nn.Module):
    def __init__(self, config: HiFiGANConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.channels >> stage for stage in range(len(config.upsample_rates) + 1)]
        self.pre = nn.Conv1d(config.num_mels, widths[0], 7, padding=3)
        self.up = nn.ModuleList(
            nn.ConvTranspose1d(wide, narrow, kernel, rate, (kernel - rate) // 2)
            for (rate, kernel), wide, narrow in zip(config._stages, widths, widths[1:], strict=False)
        )
        ranks = iter(config.ranks or itertools.repeat(0))
        self.blocks = nn.ModuleList(
            nn.ModuleList(_Residual(width, kernel, config.dilations, ranks) for kernel in config.kernels)
            for width in widths[1:]
        )
        self.post: nn.Module
        if config.tail is None:
            self.post = nn.Conv1d(widths[-1], 1, 7, padding=3)
        else:
            self.post = _Tail(config.tail, widths[-1])

    def mel(self, waveform: Tensor) -> Tensor:
        """waveform [B, 1, N] at `sample_rate` -> what `forward` hears of it, [B, M, T = ceil(N / hop_length)]."""
        config = self.config
        with torch.autocast(waveform.device.type, enabled=False):
            magnitude = frame_stft(waveform[:, 0].float(), config.n_fft, config.hop_length).abs()
            bank = _bank(config).to(magnitude.device)
            return (bank @ magnitude).clamp_min(config.floor).log()

    def forward(self, level: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """log mel [B, M, T] -> waveform [B, 1, T * hop_length] in (-1, 1).

        A long sound is made in pieces that overlap by what a sample depends on: in less memory, which a processor's
        cache can hold, and so nearly twice as fast. All are equally long, for what is compiled for a length stays in
        memory. `dtype` is what is multiplied in (None: that of `level`): bfloat16 moves phases a little (20 dB and more
        below the sound), and levels by nothing that can be heard.
        """
        frames, context, hop = level.shape[-1], self.config.context, self.config.hop_length
        count = max(1, -(-(frames - 2 * context) // PIECE))
        step = -(-(frames - 2 * context) // count)
        length = min(frames, step + 2 * context)
        pieces = []
        for number in range(count):
            start = min(number * step, frames - length)
            first = number * step + context if number else 0
            last = (number + 1) * step + context if number + 1 < count else frames
            made = self._made(level[..., start : start + length], dtype or level.dtype)
            pieces.append(made[..., (first - start) * hop : (last - start) * hop])
        return torch.cat(pieces, dim=-1)

    def _made(self, level: Tensor, dtype: torch.dtype) -> Tensor:
        """[B, M, T] -> [B, 1, T * hop_length]"""
        x = self.staged(level.to(dtype))
        if isinstance(self.post, _Tail):
            return self.post(x).to(level.dtype).tanh()
        return _conv(self.post, F.leaky_relu(x).to(level.dtype)).tanh()[:, :, 0]  # type: ignore[arg-type]

    def staged(self, level: Tensor) -> Tensor:
        """What the stages make of log mels [B, M, T]: [B, C, 1, T'].

        They are images of one row, channels last in memory: convolutions of those are the fastest.
        """
        x = _conv(self.pre, level[:, :, None].contiguous(memory_format=torch.channels_last))
        for up, blocks in zip(self.up, self.blocks, strict=True):
            x = _up(up, F.leaky_relu(x, SLOPE))  # type: ignore[arg-type]
            x = sum(block(x) for block in blocks) / len(blocks)  # type: ignore[assignment, attr-defined, arg-type]
        return x

    def leveled(self, waveform: Tensor, level: Tensor, rounds: int = 1) -> Tensor:
        """What `forward` made of `level`, [B, 1, T * hop_length], turned up and down until it nearly has these levels.

        No part of the paper. The generator is off by a decibel or two, more where it is quiet; its phases are kept.
        """
        bank, spread = _bank(self.config).to(level.device), _spread(self.config).to(level.device)
        for _ in range(rounds):
            spectrum = frame_stft(waveform[:, 0], self.config.n_fft, self.config.hop_length)  # [B, F, T]
            found = (bank @ spectrum.abs()).clamp_min(self.config.floor).log()
            gain = (spread @ (level - found).clamp_max(MOST_GAIN)).exp()
            waveform = overlap_add(spectrum * gain, self.config.hop_length)[:, None]
        return waveform


@functools.lru_cache(maxsize=4)
def _bank(config: HiFiGANConfig) -> Tensor:
    return slaney_filter_bank(config.sample_rate, config.n_fft, config.num_mels, config.f_max)


@functools.lru_cache(maxsize=4)
def _spread(config: HiFiGANConfig) -> Tensor:
    """[F, M]: the shares of the bands in a bin. Bins that no band hears go with the nearest one that is heard."""
    bank = _bank(config).T
    heard = (bank.sum(1) > 0).nonzero()[:, 0]
    nearest = (torch.arange(len(bank))[:, None] - heard).abs().argmin(1)
    bank = bank[heard[nearest]]
    return bank / bank.sum(1, keepdim=True)
