"""What a codec's training minimises, and EnCodec's gradient balancer (2210.13438, section 3.4).

Reconstruction losses take (reference, estimate), both [B, C, N], and are means over examples of which each counts the
same: they are 0 for equal inputs, finite for silence with finite gradients, and do not change when a batch is repeated.
Spectra are scaled by 4 / n_fft: a full-scale sine has magnitude 1 at every resolution, and a floor means the same.

Adversarial losses take what `MSSTFTDiscriminator` gives, one entry a scale, and are means over scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from audiogen_cli.errors import TrainingError
from audiogen_cli.ops.stft import mel_filter_bank, mel_spectrogram, stft

MEL_FFTS = (32, 64, 128, 256, 512, 1024, 2048)
STFT_FFTS = (2048, 1024, 512, 256)
COMPLEX_FFTS = (1024, 512, 256)
SPECTRAL_WINDOWS = (64, 128, 256, 512, 1024, 2048)
LOG_FLOOR = 1e-5  # a magnitude, -100 dB below a full-scale sine
QUIET = 1e-3  # below this RMS magnitude a spectrum's distance is no longer divided by its own size


def multi_scale_mel_loss(
    reference: Tensor,
    estimate: Tensor,
    sample_rate: int,
    n_ffts: Sequence[int] = MEL_FFTS,
    num_mels: int = 64,
    scale: Literal["log", "linear"] = "log",
) -> Tensor:
    """Mean over windows of ||S - S^||_1 + ||S - S^||_2 of mel spectra S, hop n_fft / 4 (2210.13438, section 3.4).

    The norms are means: of absolute values, and over frames of the root mean square. The paper's spectra are linear;
    the logarithm hears quiet sounds too. A window of n_fft samples has at most n_fft / 8 bands, where the paper has 64:
    a narrower band would hold no bin at all and always agree.
    """
    total = reference.new_zeros(())
    for n_fft in n_ffts:
        bands = max(1, min(num_mels, n_fft // 8))
        spectra = [mel_spectrogram(w, sample_rate, n_fft, n_fft // 4, bands) for w in (reference, estimate)]
        if scale == "log":
            spectra = [spectrum.clamp_min(LOG_FLOOR).log() for spectrum in spectra]
        difference = spectra[0] - spectra[1]  # [B, C, bands, T]
        root_mean_square = torch.linalg.vector_norm(difference, dim=-2) / math.sqrt(bands)
        total = total + difference.abs().mean() + root_mean_square.mean()
    return total / len(n_ffts)


def multi_spectral_loss(
    reference: Tensor,
    estimate: Tensor,
    sample_rate: int,
    windows: Sequence[int] = SPECTRAL_WINDOWS,
    num_mels: int = 64,
    min_fft: int = 512,
    normalized: bool = False,
) -> Tensor:
    """SoundStream's reconstruction loss of mel spectra S, hop s / 4 (2107.03312, equations 4 and 5).

        sum over windows s of the mean over frames of ||S - S^||_1 + sqrt(s / 2) ||log S - log S^||_2

    The paper adds up the frames; a mean does not grow with the length of the crop. Windows below `min_fft` samples are
    padded with zeros to that, so that narrow bands are not empty. normalized: spectra are divided by the root of the
    FFT's size instead of being scaled to 1 for a full-scale sine.
    """
    total = reference.new_zeros(())
    for window in windows:
        n_fft = max(window, min_fft)
        scale = n_fft**-0.5 if normalized else 4.0 / window
        bank = mel_filter_bank(sample_rate, n_fft, num_mels).to(reference.device)
        spectra = [stft(w, n_fft, max(1, window // 4), window).abs() * scale for w in (reference, estimate)]
        target, guess = (bank @ spectrum for spectrum in spectra)  # [B, C, mels, T]
        logs = target.clamp_min(LOG_FLOOR).log() - guess.clamp_min(LOG_FLOOR).log()
        distance = torch.linalg.vector_norm(logs, dim=-2).mean()
        total = total + (target - guess).abs().sum(-2).mean() + math.sqrt(window / 2) * distance
    return total


def multi_resolution_stft_loss(reference: Tensor, estimate: Tensor, n_ffts: Sequence[int] = STFT_FFTS) -> Tensor:
    """Mean over windows of spectral convergence and log-magnitude distance (Parallel WaveGAN, 1910.11480).

        | |X| - |X^| |_F / | |X| |_F   +   mean |log|X| - log|X^||

    An example quieter than `QUIET` is divided by that instead, so that near silence cannot outweigh the batch.
    """
    total = reference.new_zeros(())
    for n_fft in n_ffts:
        target, guess = (_spectrum(waveform, n_fft).abs() for waveform in (reference, estimate))  # [B, C, F, T]
        dims = (-2, -1)
        quietest = QUIET * math.sqrt(target.shape[-1] * target.shape[-2])
        size = torch.linalg.vector_norm(target, dim=dims).clamp_min(quietest)
        convergence = torch.linalg.vector_norm(target - guess, dim=dims) / size  # [B, C]
        log_distance = target.clamp_min(LOG_FLOOR).log() - guess.clamp_min(LOG_FLOOR).log()
        total = total + convergence.mean() + log_distance.abs().mean()
    return total / len(n_ffts)


def complex_stft_loss(
    reference: Tensor, estimate: Tensor, n_ffts: Sequence[int] = COMPLEX_FFTS, compression: float | None = 0.3
) -> Tensor:
    """Mean absolute difference of real and imaginary parts, with magnitudes raised to `compression` (None leaves them).

    This is the loss that hears phase; compressed, it hears the phase of quiet bins as well (after 1811.08521).
    """
    total = reference.new_zeros(())
    for n_fft in n_ffts:
        spectra = [_spectrum(waveform, n_fft) for waveform in (reference, estimate)]
        if compression is not None:
            spectra = [compress_magnitude(spectrum, compression) for spectrum in spectra]
        total = total + torch.view_as_real(spectra[0] - spectra[1]).abs().mean()
    return total / len(n_ffts)


def compress_magnitude(spectrum: Tensor, exponent: float, floor: float = 1e-4) -> Tensor:
    """X -> X (|X|^2 + floor^2)^((exponent - 1) / 2): |X|^exponent at X's phase.

    Below `floor` it is linear, so that the slope stays at most floor^(exponent - 1) where |X|^exponent has none.
    """
    real, imaginary = spectrum.real, spectrum.imag
    gain = (real.square() + imaginary.square() + floor**2) ** ((exponent - 1) / 2)
    return torch.complex(real * gain, imaginary * gain)


def _spectrum(waveform: Tensor, n_fft: int) -> Tensor:
    return stft(waveform, n_fft, n_fft // 4) * (4.0 / n_fft)


def generator_hinge_loss(fake: Sequence[Tensor]) -> Tensor:
    """Logits of decoded audio -> max(0, 1 - D(x^)), a mean over each scale's logits, then over scales."""
    return torch.stack([F.relu(1 - logits.float()).mean() for logits in fake]).mean()


def discriminator_hinge_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """max(0, 1 - D(x)) + max(0, 1 + D(x^)), averaged likewise; `fake` belongs to detached audio."""
    return generator_hinge_loss(real) + generator_hinge_loss([-logits for logits in fake])


def feature_matching_loss(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean over scales and layers of mean |D_l(x) - D_l(x^)| / mean |D_l(x)|; no gradient reaches the real features."""
    distances = []
    for real_layers, fake_layers in zip(real, fake, strict=True):
        for target, guess in zip(real_layers, fake_layers, strict=True):
            target = target.detach().float()
            distance = (target - guess.float()).abs().mean()
            distances.append(distance / target.abs().mean().clamp_min(LOG_FLOOR))
    return torch.stack(distances).mean()


def r1_penalty(logits: Sequence[Tensor], real: Tensor) -> Tensor:
    """Mean over examples of |d(sum of the example's logits) / d(audio)|^2 on real audio (1801.04406).

    `real` [B, C, N] must require a gradient, and `logits` come from it. It is the logits that are differentiated: their
    hinge loss is flat as soon as they exceed 1. Multiply by gamma / 2, and by k where it is taken every k steps.
    """
    total = torch.stack([scale.float().sum() for scale in logits]).sum()
    (gradient,) = torch.autograd.grad(total, real, create_graph=True)
    return gradient.float().square().flatten(1).sum(1).mean()


class GradientBalancer:
    """Gives each loss a fixed share of the gradient, whatever the loss's scale (2210.13438, section 3.4).

        g_i = d loss_i / d output,   g~_i = R * weight_i / sum(weights) * g_i / EMA(|g_i|),   backward(output, sum g~_i)

    The sum runs over the losses of this call, so one that joins later takes nothing before. The average's start is
    corrected for, and a gradient of zero leaves it alone: it says nothing about the scale to come. With several
    processes each has its own averages. What does not pass through `output`, such as the commitment, is added outside.
    """

    def __init__(self, weights: Mapping[str, float], ema_decay: float = 0.999, total_norm: float = 1.0) -> None:
        if not 0 <= ema_decay < 1 or any(weight < 0 for weight in weights.values()):
            raise ValueError("weights must be 0 or more, and ema_decay at least 0 and below 1.")
        self.weights = dict(weights)
        self.ema_decay = ema_decay
        self.total_norm = total_norm
        self._sums: dict[str, float] = {}  # of norms seen, each decayed by its age ...
        self._counts: dict[str, float] = {}  # ... and of ones, decayed likewise: their quotient is the average

    def backward(
        self,
        losses: Mapping[str, Tensor],
        output: Tensor,
        backward: Callable[[Tensor, Tensor], Any] = torch.autograd.backward,
    ) -> dict[str, float]:
        """Calls `backward(output, gradient)` once, and returns each loss's share of the norms behind that gradient.

        Losses of weight 0 are not differentiated. Raises ValueError for a loss without a weight, TrainingError for a
        gradient that is not finite; the averages are then as before.
        """
        if unknown := losses.keys() - self.weights.keys():
            raise ValueError(f"no weight for the loss {min(unknown)!r}; give GradientBalancer one for each loss.")
        gradients = {name: _gradient(loss, output) for name, loss in losses.items() if self.weights[name] > 0}
        norms = _norms(gradients)
        scales = self._scales(norms)
        total = torch.zeros_like(output)
        for name, gradient in gradients.items():
            total += scales[name] * gradient
        backward(output, total)
        reached = {name: scales.get(name, 0.0) * norms.get(name, 0.0) for name in losses}
        whole = sum(reached.values())
        return {name: norm / whole if whole > 0 else 0.0 for name, norm in reached.items()}

    def _scales(self, norms: dict[str, float]) -> dict[str, float]:
        """Takes the norms into the averages -> the factor of each gradient."""
        all_weights = sum(self.weights[name] for name in norms)
        scales = {}
        for name, norm in norms.items():
            if norm > 0:
                self._sums[name] = self.ema_decay * self._sums.get(name, 0.0) + norm
                self._counts[name] = self.ema_decay * self._counts.get(name, 0.0) + 1.0
            share = self.total_norm * self.weights[name] / all_weights
            scales[name] = share * self._counts[name] / self._sums[name] if norm > 0 else 0.0
        return scales

    def state_dict(self) -> dict[str, dict[str, float]]:
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Mapping[str, float]]) -> None:
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])


class WeightedSum:
    """The plain sum of weighted losses, in the balancer's place: for recipes whose weights were chosen for one."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        if any(weight < 0 for weight in weights.values()):
            raise ValueError("weights must be 0 or more.")
        self.weights = dict(weights)

    def backward(self, losses: Mapping[str, Tensor], output: Tensor) -> dict[str, float]:
        """Differentiates the sum, and returns each loss's part of it. Raises ValueError as the balancer does."""
        if unknown := losses.keys() - self.weights.keys():
            raise ValueError(f"no weight for the loss {min(unknown)!r}; give WeightedSum one for each loss.")
        parts = {name: self.weights[name] * loss for name, loss in losses.items()}
        total = torch.stack(list(parts.values())).sum()
        if total.requires_grad:
            torch.autograd.backward(total)
        whole = float(total.detach())
        return {name: float(part.detach()) / whole if whole else 0.0 for name, part in parts.items()}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def _gradient(loss: Tensor, output: Tensor) -> Tensor:
    """d loss / d output, zero where the loss does not depend on it."""
    if not loss.requires_grad:
        return torch.zeros_like(output)
    (gradient,) = torch.autograd.grad(loss, output, retain_graph=True, allow_unused=True)
    return torch.zeros_like(output) if gradient is None else gradient


def _norms(gradients: dict[str, Tensor]) -> dict[str, float]:
    """All at once: one wait for the device. Raises TrainingError."""
    if not gradients:
        return {}
    values = torch.stack([gradient.float().norm() for gradient in gradients.values()]).tolist()
    norms = dict(zip(gradients, values, strict=True))
    for name, norm in norms.items():
        if not math.isfinite(norm):
            raise TrainingError(f"the gradient of the {name} loss became {norm}; resume with a lower learning rate.")
    return norms
