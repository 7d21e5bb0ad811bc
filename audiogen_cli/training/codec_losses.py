"""The terms of a codec's loss, and what weighs them: for a recipe (training/codec.py), and for SoundStream's own.

target, decoded [B, C, N] --> mel, stft, complex, l1, mse, spectral ----+--> balancer --> the codec
                     `--> discriminators --> adversarial, feature ------'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audiogen_cli.training import losses


@dataclass(frozen=True)
class CodecLossConfig:
    """Shares of the gradient that reaches the decoded waveform, and the windows of the spectral ones. A loss of share 0
    is not computed. `commitment` and `magnitude` do not pass through the waveform and are weights outside the balancer;
    with a discriminator that hears magnitudes, `magnitude` is balanced with it and the waveform's losses are left out.
    l1 and mse compare waveforms, `spectral` is SoundStream's loss. Without `balance`, shares are plain weights.
    """

    mel: float = 2.0
    stft: float = 1.0
    complex: float = 0.5
    adversarial: float = 1.0
    feature: float = 2.0
    commitment: float = 0.01
    magnitude: float = 1.0
    l1: float = 0.0
    mse: float = 0.0
    spectral: float = 0.0
    balance: bool = True
    spectral_windows: tuple[int, ...] = losses.SPECTRAL_WINDOWS
    spectral_mels: int = 64
    spectral_min_fft: int = 512
    spectral_normalized: bool = False
    mel_ffts: tuple[int, ...] = losses.MEL_FFTS
    stft_ffts: tuple[int, ...] = losses.STFT_FFTS
    complex_ffts: tuple[int, ...] = losses.COMPLEX_FFTS

    def balancer(self) -> losses.GradientBalancer | losses.WeightedSum:
        names = ("mel", "stft", "complex", "adversarial", "feature", "magnitude", "l1", "mse", "spectral")
        weights = {name: getattr(self, name) for name in names}
        return losses.GradientBalancer(weights) if self.balance else losses.WeightedSum(weights)


def reconstruction(config: CodecLossConfig, target: Tensor, decoded: Tensor, sample_rate: int) -> dict[str, Tensor]:
    """What compares the two waveforms, by name; means over examples."""
    terms: dict[str, Callable[[], Tensor]] = {
        "mel": lambda: losses.multi_scale_mel_loss(target, decoded, sample_rate, config.mel_ffts),
        "stft": lambda: losses.multi_resolution_stft_loss(target, decoded, config.stft_ffts),
        "complex": lambda: losses.complex_stft_loss(target, decoded, config.complex_ffts),
        "l1": lambda: (target - decoded).abs().mean(),
        "mse": lambda: (target - decoded).square().mean(),
        "spectral": lambda: losses.multi_spectral_loss(
            target,
            decoded,
            sample_rate,
            config.spectral_windows,
            config.spectral_mels,
            config.spectral_min_fft,
            config.spectral_normalized,
        ),
    }
    return {name: term() for name, term in terms.items() if getattr(config, name) > 0}


def adversarial(discriminator: nn.Module, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """What the discriminator says of the decoded waveform; no gradient reaches its own weights."""
    learns = [parameter.requires_grad for parameter in discriminator.parameters()]
    discriminator.requires_grad_(False)
    made = discriminator(fake)
    with torch.no_grad():
        recorded = discriminator(real)
    for parameter, learn in zip(discriminator.parameters(), learns, strict=True):
        parameter.requires_grad_(learn)
    return {
        "adversarial": losses.generator_hinge_loss([output.logits for output in made]),
        "feature": losses.feature_matching_loss([o.features for o in recorded], [o.features for o in made]),
    }
