"""How near decoded audio is to what was coded, and how well the codes are used. All of it runs without a gradient."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from audiogen_cli.ops.stft import log_mel, stft

MEL_FFT, MEL_HOP, MEL_BANDS, MEL_FLOOR = 512, 160, 64, 1e-5
SMALLEST_SHARE = 1e-10  # of the energy: SI-SNR ends at 100 dB


class CodebookUsage(NamedTuple):
    """used: the share of the codebook's entries that occur; perplexity: e^entropy of them, from 1 to the size."""

    used: float
    perplexity: float


@torch.no_grad()
def si_snr(reference: Tensor, estimate: Tensor) -> Tensor:
    """Scale-invariant signal-to-noise ratio (1811.02508), [..., N] -> dB [...], between -100 and 100.

        10 log10 |a s|^2 / |s^ - a s|^2,    a = <s^, s> / |s|^2,    means removed

    Silence has no scale: two silences are 0 dB apart.
    """
    _check_shapes(reference, estimate)
    target, guess = (_direction(waveform) for waveform in (reference, estimate))
    projection = (target * guess).sum(-1, keepdim=True) * target
    energy, noise = projection.square().sum(-1), (guess - projection).square().sum(-1)
    return 10 * ((energy + SMALLEST_SHARE) / (noise + SMALLEST_SHARE)).log10().clamp(-10, 10)


@torch.no_grad()
def mel_distance(reference: Tensor, estimate: Tensor, sample_rate: int) -> Tensor:
    """Mean absolute difference of log10 mel magnitudes, [..., N] -> a scalar: 0.05 is 1 dB.

    64 bands, Hann windows of 512 samples every 160, magnitudes floored at 1e-5 of a full-scale sine.
    """
    _check_shapes(reference, estimate)
    mels = [log_mel(w, sample_rate, MEL_FFT, MEL_HOP, MEL_BANDS, MEL_FLOOR) for w in (reference, estimate)]
    return (mels[0] - mels[1]).abs().mean() / math.log(10)


@torch.no_grad()
def log_spectral_distance(reference: Tensor, estimate: Tensor, n_fft: int = 1024, floor: float = 1e-5) -> Tensor:
    """Root mean square over bins of the difference in dB, a mean over frames: [..., N] -> a scalar, in dB."""
    _check_shapes(reference, estimate)
    levels = [
        20 * (stft(waveform, n_fft, n_fft // 4).abs() * (4.0 / n_fft)).clamp_min(floor).log10()  # [..., F, T]
        for waveform in (reference, estimate)
    ]
    return (levels[0] - levels[1]).square().mean(-2).sqrt().mean()


@torch.no_grad()
def codebook_usage(codes: Tensor, codebook_size: int) -> list[CodebookUsage]:
    """codes [B, K, T] -> one entry for each of K codebooks."""
    usages = []
    for stream in codes.transpose(0, 1).flatten(1):  # [B * T]
        counts = torch.bincount(stream, minlength=codebook_size).double()
        share = counts / counts.sum().clamp_min(1)
        entropy = -torch.special.xlogy(share, share).sum()  # nats
        usages.append(CodebookUsage(float((counts > 0).double().mean()), float(entropy.exp())))
    return usages


def _direction(waveform: Tensor) -> Tensor:
    """[..., N] without its mean and with norm 1; zeros stay zeros."""
    centred = waveform.float() - waveform.float().mean(-1, keepdim=True)
    return torch.nn.functional.normalize(centred, dim=-1, eps=1e-12)


def _check_shapes(reference: Tensor, estimate: Tensor) -> None:
    if reference.shape != estimate.shape:
        raise ValueError(
            f"reference and estimate must have one shape, not {tuple(reference.shape)} and {tuple(estimate.shape)}; "
            "cut both to the shorter length."
        )
