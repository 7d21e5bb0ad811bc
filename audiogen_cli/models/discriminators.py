"""The multi-scale STFT discriminator (High Fidelity Neural Audio Compression, 2210.13438, section 3.4), and one that
hears magnitudes alone.

    waveform --STFT, once for each n_fft--> real and imaginary part as channels --2D convolutions--> one logit a patch
     [B, C, N]                                    [B, 2C, T, F]                                       [B, 1, T, F']

The convolutions see real numbers only, so that autocast, DDP and export meet nothing complex. The channels lie
innermost in memory (`channels_last`): a CPU is then up to 1.5 times as fast with few channels, and it is the layout
that half precision on a GPU wants; the spectrum of a mono waveform comes in it.

Where this leaves the paper: frames are centred and reflected at the edges, so that an input may be shorter than n_fft.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from audiogen_cli.ops.stft import stft

LEAKY_SLOPE = 0.2
HANN_POWER = 3 / 8  # the mean square of a Hann window


@dataclass(frozen=True)
class MSSTFTDiscriminatorConfig:
    """`n_ffts` has one entry a scale; a scale's hop is n_fft / 4.

    kernel_size, stride: (frames, bins). dilations: in frames, one strided layer for each. filters: of the first layer;
    each next one has `filter_growth` times as many, up to `max_filters`.
    """

    channels: int = 1
    n_ffts: tuple[int, ...] = (1024, 2048, 512, 256, 128)
    filters: int = 32
    filter_growth: int = 1
    max_filters: int = 1024
    dilations: tuple[int, ...] = (1, 2, 4)
    kernel_size: tuple[int, int] = (3, 9)
    stride: tuple[int, int] = (1, 2)

    def __post_init__(self) -> None:
        if not self.n_ffts or any(n_fft < 4 or n_fft % 4 for n_fft in self.n_ffts):
            raise ValueError("n_ffts needs one size or more, each a multiple of 4.")
        if any(size % 2 == 0 for size in self.kernel_size):
            raise ValueError("kernel_size must be odd in both directions.")
        if min(self.channels, self.filters, self.filter_growth, self.max_filters) < 1:
            raise ValueError("channels, filters, filter_growth and max_filters must be 1 or more.")

    def widths(self) -> list[int]:
        """The output channels of every layer but the one that makes the logits."""
        steps = range(len(self.dilations) + 2)
        return [min(self.filters * self.filter_growth**step, self.max_filters) for step in steps]


class DiscriminatorOutput(NamedTuple):
    """logits: [B, 1, T, F'], above 0 for what sounds real; features: [B, D, T, F_i], one tensor a layer."""

    logits: Tensor
    features: list[Tensor]


class STFTDiscriminator(nn.Module):
    """One scale."""

    def __init__(self, config: MSSTFTDiscriminatorConfig, n_fft: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        first, *strided, last = config.widths()
        square = (config.kernel_size[0], config.kernel_size[0])
        self.layers = nn.ModuleList([_conv(2 * config.channels, first, config.kernel_size)])
        width = first
        for dilation, wider in zip(config.dilations, strided, strict=True):
            self.layers.append(_conv(width, wider, config.kernel_size, config.stride, dilation))
            width = wider
        self.layers.append(_conv(width, last, square))
        self.post = _conv(last, 1, square)

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        """waveform [B, C, N] of any N >= 1."""
        hidden = self.spectrum(waveform)
        features = []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), LEAKY_SLOPE, inplace=True)  # [B, D, T, F_i]
            features.append(hidden)
        return DiscriminatorOutput(self.post(hidden), features)

    def spectrum(self, waveform: Tensor) -> Tensor:
        """[B, C, N] -> float32 [B, 2C, T, F]; white noise of variance 1 has bins of variance 1."""
        with torch.autocast(waveform.device.type, enabled=False):
            complex_bins = stft(waveform, self.n_fft, self.n_fft // 4).transpose(-1, -2)  # [B, C, T, F]
            parts = torch.view_as_real(complex_bins).permute(0, 1, 4, 2, 3)  # [B, C, 2, T, F]
            scaled = parts.flatten(1, 2) / math.sqrt(HANN_POWER * self.n_fft)
        return scaled.contiguous(memory_format=torch.channels_last)


class MSSTFTDiscriminator(nn.Module):
    def __init__(self, config: MSSTFTDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.scales = nn.ModuleList(STFTDiscriminator(config, n_fft) for n_fft in config.n_ffts)

    def forward(self, waveform: Tensor) -> list[DiscriminatorOutput]:
        """waveform [B, C, N] -> one output a scale, in the order of `n_ffts`."""
        return [scale(waveform) for scale in self.scales]


@dataclass(frozen=True)
class SpectrogramDiscriminatorConfig:
    """kernel_size, stride: (frames, bins); one strided layer for each of `filters`."""

    filters: tuple[int, ...] = (16, 32, 32, 48)
    kernel_size: tuple[int, int] = (3, 7)
    stride: tuple[int, int] = (1, 3)


class SpectrogramDiscriminator(nn.Module):
    """Tells recorded log magnitudes from made ones, for a codec that makes magnitudes and no waveform.

    A second input channel says how high a bin lies: what is natural at 100 Hz is not at 7 kHz.
    """

    def __init__(self, config: SpectrogramDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        widths = (2, *config.filters)
        self.layers = nn.ModuleList(
            _conv(narrow, wide, config.kernel_size, config.stride) for narrow, wide in itertools.pairwise(widths)
        )
        self.post = _conv(widths[-1], 1, (3, 3))

    def forward(self, level: Tensor) -> list[DiscriminatorOutput]:
        """level [B, C, F, T] of about mean 0 and variance 1 -> one output; a channel is an example of its own."""
        frames = level.flatten(0, 1).transpose(1, 2)  # [B * C, T, F]
        height = torch.linspace(-1.0, 1.0, frames.shape[-1], device=frames.device, dtype=frames.dtype)
        hidden = torch.stack([frames, height.expand_as(frames)], dim=1).contiguous(memory_format=torch.channels_last)
        features = []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), LEAKY_SLOPE)
            features.append(hidden)
        return [DiscriminatorOutput(self.post(hidden), features)]


def _conv(
    in_channels: int,
    out_channels: int,
    kernel_size: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: int = 1,
) -> nn.Module:
    """Weight-normalized; keeps the number of frames, and that of bins but for the stride."""
    padding = (dilation * (kernel_size[0] // 2), kernel_size[1] // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, (dilation, 1))
    return parametrizations.weight_norm(conv)
