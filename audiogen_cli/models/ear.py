"""A network that names what it hears: MobileNetV3 (1905.02244, table 1) on mel spectrograms, as EfficientAT trains it
(2211.04772, section 3) to know the 527 classes of AudioSet.

    waveform, 32 kHz --pre-emphasis, log mel--> [B, 1, 128, T] --convolutions--> [B, C, 4, T / 32]
             --mean--> what is heard, [B, C] --two layers--> a logit for each class, [B, 527]

Batch normalizations are multiplied into the convolutions that they follow: this network is used, not trained. Gradients
pass through it to the waveform.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SAMPLE_RATE, N_FFT, WINDOW, HOP, BANDS, HIGHEST = 32_000, 1024, 800, 320, 128, 15_000.0
LEVEL_DB = -20.0  # at which it hears everything

# MobileNetV3-Large: kernel, widened, width after it, whether it is squeezed and excited, stride. The first six bend by
# ReLU, the others by hard swish.
BLOCKS = (
    (3, 16, 16, False, 1),
    (3, 64, 24, False, 2),
    (3, 72, 24, False, 1),
    (5, 72, 40, True, 2),
    (5, 120, 40, True, 1),
    (5, 120, 40, True, 1),
    (3, 240, 80, False, 2),
    (3, 200, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 480, 112, True, 1),
    (3, 672, 112, True, 1),
    (5, 672, 160, True, 2),
    (5, 960, 160, True, 1),
    (5, 960, 160, True, 1),
)
RELU_BLOCKS, HIDDEN = 6, 1280


class Ear(nn.Module):
    """width: by what the paper's widths are multiplied."""

    def __init__(self, width: float, num_classes: int) -> None:
        super().__init__()
        first = _eights(BLOCKS[0][2] * width)
        self.first, before = nn.Conv2d(1, first, 3, stride=2, padding=1), first
        self.blocks = nn.ModuleList()
        for index, (kernel, widened, after, squeezed, stride) in enumerate(BLOCKS):
            sizes = before, _eights(widened * width), _eights(after * width)
            self.blocks.append(Block(*sizes, kernel, stride, squeezed, index < RELU_BLOCKS))
            before = sizes[2]
        self.last = nn.Conv2d(before, _eights(BLOCKS[-1][1] * width), 1)
        self.hidden = nn.Linear(self.last.out_channels, _eights(HIDDEN * width))
        self.output = nn.Linear(self.hidden.out_features, num_classes)

    def forward(self, waveform: Tensor, sample_rate: int, level_db: float = LEVEL_DB) -> Tensor:
        """waveform [B, N], brought to a level -> what is heard, [B, C]."""
        power = waveform.square().mean(dim=-1, keepdim=True).clamp_min(1e-10)
        leveled = waveform * power.rsqrt() * 10 ** (level_db / 20)
        x = F.hardswish(self.first(log_mel(resampled(leveled, sample_rate))[:, None]))
        for block in self.blocks:
            x = block(x)
        return F.hardswish(self.last(x)).mean(dim=(2, 3))

    def named(self, heard: Tensor) -> Tensor:
        """[B, C] -> logits [B, num_classes]."""
        logits: Tensor = self.output(F.hardswish(self.hidden(heard)))
        return logits


class Block(nn.Module):
    """Inverted residual: widen, depthwise, squeeze and excite in some, narrow (section 5, figure 4)."""

    def __init__(
        self, before: int, widened: int, after: int, kernel: int, stride: int, squeezed: bool, relu: bool
    ) -> None:
        super().__init__()
        self.bend = F.relu if relu else F.hardswish
        self.widen = nn.Conv2d(before, widened, 1) if widened != before else None
        self.depthwise = nn.Conv2d(widened, widened, kernel, stride, kernel // 2, groups=widened)
        self.squeeze = nn.Linear(widened, _eights(widened / 4)) if squeezed else None
        self.excite = nn.Linear(_eights(widened / 4), widened) if squeezed else None
        self.narrow = nn.Conv2d(widened, after, 1)
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        made = x if self.widen is None else self.bend(self.widen(x))
        made = self.bend(self.depthwise(made))
        if self.squeeze is not None and self.excite is not None:
            share = self.excite(F.relu(self.squeeze(made.mean(dim=(2, 3))))).sigmoid()
            made = made * share[:, :, None, None]
        made = self.narrow(made)
        return x + made if self.residual else made


def log_mel(waveform: Tensor) -> Tensor:
    """[B, N] at 32 kHz -> log mel powers [B, 128, T], after pre-emphasis, scaled as the network learnt them."""
    sharp = waveform[:, 1:] - 0.97 * waveform[:, :-1]
    window = torch.hann_window(WINDOW, periodic=False, device=waveform.device)
    spectrum = torch.stft(sharp, N_FFT, HOP, WINDOW, window, center=True, return_complex=True)
    power = spectrum.real.square() + spectrum.imag.square()
    return ((filter_bank().to(power) @ power + 1e-5).log() + 4.5) / 5.0


def filter_bank() -> Tensor:
    """[128, 513]: triangles that are straight on the mel scale itself, as Kaldi's are."""
    top = 1127.0 * math.log1p(HIGHEST / 700.0)
    mels = 1127.0 * torch.log1p(torch.arange(N_FFT // 2) * (SAMPLE_RATE / N_FFT) / 700.0)
    place = mels * ((BANDS + 1) / top) - torch.arange(BANDS)[:, None]
    return F.pad(torch.minimum(place, 2.0 - place).clamp_min(0.0), (0, 1))


def resampled(waveform: Tensor, sample_rate: int) -> Tensor:
    """[B, N] -> [B, N * 32000 // sample_rate], through the spectrum of the whole, so that gradients pass."""
    length = waveform.shape[-1] * SAMPLE_RATE // sample_rate
    return torch.fft.irfft(torch.fft.rfft(waveform), length) * (length / waveform.shape[-1])


def _eights(width: float) -> int:
    """The nearest multiple of eight, and not more than a tenth less (1704.04861's reference code rounds so)."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest
