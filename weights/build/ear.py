"""An AudioSet tagger to learn from, not to be judged by: mn04 of EfficientAT (2211.04772, table 1), in plain functions.

MobileNetV3 (1905.02244) of width 0.4, which hears mel spectrograms of 32 kHz and names 527 classes. Its weights are not
part of this repository: `mn04_as_mAP_432.pt` of that project's releases (MIT licence), 4 MB. Gradients pass through.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLE_RATE, N_FFT, WINDOW, HOP, BANDS, F_MAX = 32_000, 1024, 800, 320, 128, 15_000.0
STRIDED = (1, 3, 6, 12)  # blocks that halve the picture
BENT = 6  # blocks before this one have ReLU, the others hard swish

Layer = Callable[[Tensor], Tensor]


class Ear:
    def __init__(self, path: Path) -> None:
        self._state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        self._layers = [self._conv("features.0", 2, F.hardswish), *map(self._block, range(15))]
        self._layers.append(self._conv("features.16", 1, F.hardswish))
        self._bank, self._window = _bank(), torch.hann_window(WINDOW, periodic=False)

    def logits(self, waveform: Tensor, sample_rate: int, level_db: float = -20.0) -> Tensor:
        """waveform [B, N], brought to a level -> [B, 527]."""
        return self.named(self.heard(waveform, sample_rate, level_db))

    def heard(self, waveform: Tensor, sample_rate: int, level_db: float = -20.0) -> Tensor:
        """waveform [B, N], brought to a level -> what it is named by, the means of its last picture [B, D]."""
        power = waveform.square().mean(dim=-1, keepdim=True).clamp_min(1e-10)
        x = self.mel(_resampled(waveform * power.rsqrt() * 10 ** (level_db / 20), sample_rate))[:, None]
        for layer in self._layers:
            x = layer(x)
        return x.mean(dim=(2, 3))

    def named(self, heard: Tensor) -> Tensor:
        """[B, D] -> logits [B, 527]."""
        state = self._state
        hidden = F.linear(heard, state["classifier.2.weight"], state["classifier.2.bias"])
        return F.linear(F.hardswish(hidden), state["classifier.5.weight"], state["classifier.5.bias"])

    def mel(self, waveform: Tensor) -> Tensor:
        """[B, N] at 32 kHz -> log mel powers [B, 128, T], after pre-emphasis, scaled as it learnt them."""
        sharp = waveform[:, 1:] - 0.97 * waveform[:, :-1]
        spectrum = torch.stft(sharp, N_FFT, HOP, WINDOW, self._window, center=True, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        return ((self._bank @ power + 1e-5).log() + 4.5) / 5.0

    def _conv(self, name: str, stride: int, bend: Layer) -> Layer:
        """A convolution with its batch normalization multiplied in; one of few inputs to each output is depthwise."""
        state = self._state
        scale = state[f"{name}.1.weight"] * (state[f"{name}.1.running_var"] + 1e-3).rsqrt()
        weight = state[f"{name}.0.weight"] * scale[:, None, None, None]
        bias = state[f"{name}.1.bias"] - state[f"{name}.1.running_mean"] * scale
        depthwise = weight.shape[1] == 1 and weight.shape[2] > 1 and name != "features.0"
        groups, padding = (len(weight) if depthwise else 1), weight.shape[2] // 2
        step = stride if depthwise or name == "features.0" else 1
        return lambda x: bend(F.conv2d(x, weight, bias, step, padding, groups=groups))

    def _squeeze(self, name: str) -> Layer:
        state = self._state
        narrow, wide = ((state[f"{name}.{part}.weight"], state[f"{name}.{part}.bias"]) for part in ("fc1", "fc2"))

        def excite(x: Tensor) -> Tensor:
            share = F.linear(F.relu(F.linear(x.mean(dim=(2, 3)), *narrow)), *wide).sigmoid()
            return x * share[:, :, None, None]

        return excite

    def _block(self, index: int) -> Layer:
        """Inverted residual: widen, depthwise, squeeze and excite in some, narrow."""
        prefix, stride = f"features.{index + 1}.block", 2 if index in STRIDED else 1
        bend: Layer = F.relu if index < BENT else F.hardswish
        numbers = sorted({int(key.split(".")[3]) for key in self._state if key.startswith(f"{prefix}.")})
        layers: list[Layer] = []
        for number in numbers:
            name = f"{prefix}.{number}"
            if f"{name}.conc_se_layers.0.fc1.weight" in self._state:
                layers.append(self._squeeze(f"{name}.conc_se_layers.0"))
            else:
                layers.append(self._conv(name, stride, bend if number != numbers[-1] else _as_it_is))

        def block(x: Tensor) -> Tensor:
            made = x
            for layer in layers:
                made = layer(made)
            return x + made if made.shape == x.shape else made

        return block


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _resampled(waveform: Tensor, sample_rate: int) -> Tensor:
    """[B, N] -> [B, N * 32000 // sample_rate], through the spectrum of the whole."""
    length = waveform.shape[-1] * SAMPLE_RATE // sample_rate
    return torch.fft.irfft(torch.fft.rfft(waveform), length) * (length / waveform.shape[-1])


def _bank() -> Tensor:
    """[128, 513]: triangles that are straight on the mel scale itself, as Kaldi's are."""
    top = 1127.0 * math.log1p(F_MAX / 700.0)
    mels = 1127.0 * torch.log1p(torch.arange(N_FFT // 2) * (SAMPLE_RATE / N_FFT) / 700.0)
    step = top / (BANDS + 1)
    place = mels / step - torch.arange(BANDS)[:, None]
    return F.pad(torch.minimum(place, 2.0 - place).clamp_min(0.0), (0, 1))
