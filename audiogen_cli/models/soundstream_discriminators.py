"""The discriminators of SoundStream (2107.03312, section 3.5): of the waveform at several rates, and of its STFT.

    waveform [B, C, N] --halved 0, 1, 2 times--> grouped 1D convolutions (MelGAN, 1910.06711) --> logits [B, 1, T_i]
    waveform --STFT--> real and imaginary part as channels --2D residual units--> logits [B, 1, T']

Both give `DiscriminatorOutput` as the multi-scale STFT discriminator does, and `Discriminators` asks several at once.
The STFT's complex bins are two real channels, so that half precision, DDP and export meet nothing complex.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from audiogen_cli.models.discriminators import HANN_POWER, DiscriminatorOutput
from audiogen_cli.ops.stft import stft

WAVE_SLOPE, STFT_SLOPE = 0.2, 0.1


@dataclass(frozen=True)
class WaveDiscriminatorConfig:
    """scales: rates relative to the input's, each a power of a half. filters: of the first layer; each strided layer
    has four times as many, up to `max_filters`, in groups of 4 inputs."""

    channels: int = 1
    scales: tuple[float, ...] = (1.0, 0.5, 0.25)
    filters: int = 16
    max_filters: int = 1024
    num_layers: int = 4

    def __post_init__(self) -> None:
        if not self.scales or any(
            scale <= 0 or not (-math.log2(scale)).is_integer() or scale > 1 for scale in self.scales
        ):
            raise ValueError(
                "the scales of the waveform discriminators are 1, 0.5, 0.25 ..; give one or more of these."
            )
        if self.filters % 4 or min(self.channels, self.filters, self.num_layers) < 1 or self.max_filters < self.filters:
            raise ValueError("filters must be a multiple of 4 and at most max_filters; layers and channels 1 or more.")


@dataclass(frozen=True)
class ComplexSTFTDiscriminatorConfig:
    """strides: (frames, bins) of each residual unit; chan_mults: its width as a multiple of `channels`.

    logits_abs: make two logits a frame and take the length of the pair, as the complex original takes |.|; such logits
    are never negative, so the hinge has no other side. Otherwise one real logit.
    """

    channels: int = 32
    strides: tuple[tuple[int, int], ...] = ((1, 2), (2, 2)) * 3
    chan_mults: tuple[int, ...] = (1, 2, 4, 4, 8, 8)
    input_channels: int = 1
    n_fft: int = 1024
    hop_length: int = 256
    win_length: int = 1024
    logits_abs: bool = False

    def __post_init__(self) -> None:
        if not self.strides or len(self.strides) != len(self.chan_mults):
            raise ValueError("strides and chan_mults need one entry a residual unit each; make them equally long.")
        if min(self.channels, self.input_channels, self.hop_length) < 1 or not 4 <= self.win_length <= self.n_fft:
            raise ValueError("channels and hop_length must be 1 or more, and win_length from 4 to n_fft.")

    @property
    def bins_left(self) -> int:
        """Bins after the last residual unit, all of which the last convolution sees."""
        bins = self.n_fft // 2 + 1
        for _, stride in self.strides:
            bins = -(-bins // stride)
        return bins


class WaveDiscriminator(nn.Module):
    """One scale; see the paper's figure 4 and MelGAN's table."""

    def __init__(self, config: WaveDiscriminatorConfig) -> None:
        super().__init__()
        widths = [min(config.filters * 4**i, config.max_filters) for i in range(config.num_layers + 1)]
        self.layers = nn.ModuleList([_conv1d(config.channels, widths[0], 15)])
        for width, wider in itertools.pairwise(widths):
            self.layers.append(_conv1d(width, wider, 41, stride=4, groups=width // 4))
        self.layers.append(_conv1d(widths[-1], widths[-1], 5))
        self.post = _conv1d(widths[-1], 1, 3)

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        """[B, C, N], N >= 1 -> logits [B, 1, T] and the features of every layer."""
        features = []
        for layer in self.layers:
            waveform = F.leaky_relu(layer(waveform), WAVE_SLOPE)
            features.append(waveform)
        return DiscriminatorOutput(self.post(waveform), features)


class MultiScaleWaveDiscriminator(nn.Module):
    def __init__(self, config: WaveDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.scales = nn.ModuleList(WaveDiscriminator(config) for _ in config.scales)

    def forward(self, waveform: Tensor) -> list[DiscriminatorOutput]:
        """waveform [B, C, N] -> one output a scale."""
        outputs = []
        for scale, rate in zip(self.scales, self.config.scales, strict=True):
            slower = waveform
            for _ in range(round(-math.log2(rate))):
                slower = F.avg_pool1d(slower, 4, 2, padding=2, count_include_pad=False)
            outputs.append(scale(slower))
        return outputs


class STFTResidualUnit(nn.Module):
    """[B, width, T, F] -> [B, wider, T / stride, F / stride]: a 3x3 and a strided convolution beside a strided 1x1."""

    def __init__(self, width: int, wider: int, stride: tuple[int, int]) -> None:
        super().__init__()
        kernel = (stride[0] + 2, stride[1] + 2)
        self.first = parametrizations.weight_norm(nn.Conv2d(width, width, 3, padding=1))
        self.second = parametrizations.weight_norm(nn.Conv2d(width, wider, kernel, stride))
        self.shortcut = parametrizations.weight_norm(nn.Conv2d(width, wider, 1, stride))
        self.stride, self.kernel = stride, kernel

    def forward(self, x: Tensor) -> Tensor:
        branch = F.leaky_relu(self.first(x), STFT_SLOPE)
        sides = []
        for size, stride, kernel in zip(x.shape[:1:-1], self.stride[::-1], self.kernel[::-1], strict=True):
            missing = (-(-size // stride) - 1) * stride + kernel - size  # so that ceil(size / stride) come out
            sides += [missing // 2, missing - missing // 2]
        return F.leaky_relu(self.shortcut(x) + self.second(F.pad(branch, sides)), STFT_SLOPE)


class ComplexSTFTDiscriminator(nn.Module):
    def __init__(self, config: ComplexSTFTDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.first = parametrizations.weight_norm(nn.Conv2d(2 * config.input_channels, config.channels, 7, padding=3))
        widths = [config.channels, *(config.channels * multiple for multiple in config.chan_mults)]
        self.units = nn.ModuleList(
            STFTResidualUnit(width, wider, stride)
            for (width, wider), stride in zip(itertools.pairwise(widths), config.strides, strict=True)
        )
        logits = 2 if config.logits_abs else 1
        self.post = parametrizations.weight_norm(nn.Conv2d(widths[-1], logits, (1, config.bins_left)))

    def forward(self, waveform: Tensor) -> list[DiscriminatorOutput]:
        """waveform [B, C, N] -> one output, logits [B, 1, T]."""
        x = F.leaky_relu(self.first(self.spectrum(waveform)), STFT_SLOPE)
        features = [x]
        for unit in self.units:
            x = unit(x)
            features.append(x)
        logits = self.post(x)[..., 0]
        if self.config.logits_abs:
            logits = (logits.square().sum(1, keepdim=True) + 1e-12).sqrt()
        return [DiscriminatorOutput(logits, features)]

    def spectrum(self, waveform: Tensor) -> Tensor:
        """[B, C, N] -> float32 [B, 2C, T, F]; white noise of variance 1 has bins of variance 1."""
        config = self.config
        with torch.autocast(waveform.device.type, enabled=False):
            bins = stft(waveform, config.n_fft, config.hop_length, config.win_length).transpose(-1, -2)  # [B, C, T, F]
            parts = torch.view_as_real(bins).permute(0, 1, 4, 2, 3).flatten(1, 2)
            return parts / math.sqrt(HANN_POWER * config.win_length)


class Discriminators(nn.Module):
    """Several at once: the outputs of all, in their order."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, waveform: Tensor) -> list[DiscriminatorOutput]:
        return [output for member in self.members for output in member(waveform)]


def _conv1d(width: int, wider: int, kernel: int, **options: Any) -> nn.Module:
    return parametrizations.weight_norm(nn.Conv1d(width, wider, kernel, padding=kernel // 2, **options))
