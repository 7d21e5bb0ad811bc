"""Short-time Fourier transforms, mel and chroma spectra: on any device, and never in half precision.

Two ways of placing the frames:

    stft(center=True)      frame t is centred on sample t * hop: 1 + N // hop frames (losses, metrics, pictures)
    frame_stft             frame t is centred on the middle of samples [t * hop, (t + 1) * hop): ceil(N / hop) frames,
                           one for each codec frame; `overlap_add` is its inverse
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

_NOISE_BLOCK = 64  # frames drawn from one seed


def stft(
    waveform: Tensor, n_fft: int, hop_length: int, window_length: int | None = None, center: bool = True
) -> Tensor:
    """waveform [..., N] -> complex [..., F = n_fft // 2 + 1, T], Hann window, padded by reflection where that fits."""
    shape = waveform.shape
    flat = waveform.reshape(-1, shape[-1]).float()
    if center and shape[-1] <= n_fft // 2:  # reflection needs more samples than it mirrors
        flat = F.pad(flat, (0, n_fft // 2 + 1 - shape[-1]))
    window = torch.hann_window(window_length or n_fft, device=flat.device)
    spectrum = torch.stft(
        flat, n_fft, hop_length, window_length or n_fft, window, center=center, pad_mode="reflect", return_complex=True
    )
    return spectrum.reshape(*shape[:-1], *spectrum.shape[-2:])


def frame_stft(waveform: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """waveform [..., N] -> complex [..., F, T = ceil(N / hop_length)]; silence is assumed on both sides."""
    samples = waveform.shape[-1]
    frames = -(-samples // hop_length)
    left = (n_fft - hop_length) // 2
    right = (frames - 1) * hop_length + n_fft - left - samples
    padded = F.pad(waveform.float(), (left, right))
    windows = padded.unfold(-1, n_fft, hop_length)  # [..., T, n_fft]
    window = torch.hann_window(n_fft, device=waveform.device)
    return torch.fft.rfft(windows * window).transpose(-1, -2)


def overlap_add(spectrum: Tensor, hop_length: int) -> Tensor:
    """complex [B, F, T] -> waveform [B, T * hop_length], the least-squares inverse of `frame_stft`."""
    n_fft = 2 * (spectrum.shape[-2] - 1)
    frames = spectrum.shape[-1]
    window = torch.hann_window(n_fft, device=spectrum.device)
    windows = torch.fft.irfft(spectrum.transpose(-1, -2), n_fft) * window  # [B, T, n_fft]
    length = (frames - 1) * hop_length + n_fft
    total = _fold(windows, length, hop_length)
    envelope = _fold((window * window).expand(1, frames, n_fft), length, hop_length)
    left = (n_fft - hop_length) // 2
    kept = slice(left, left + frames * hop_length)
    return total[:, kept] / envelope[:, kept].clamp_min(1e-8)


def griffin_lim(
    magnitude: Tensor,
    hop_length: int,
    iterations: int = 32,
    momentum: float = 0.99,
    first_frame: int = 0,
    phases: Tensor | None = None,
) -> Tensor:
    """magnitude [B, F, T] -> waveform [B, T * hop_length] whose `frame_stft` has nearly those magnitudes.

    The fast Griffin-Lim algorithm (Perraudin et al. 2013, algorithm 2; alpha is `momentum`): back and forth between
    waveform and spectrum, keeping the phase found and the magnitude wanted. It starts from `phases` (complex, of
    magnitude 1), or else from the same random ones always, so that the result is a function of the magnitudes alone.
    first_frame: which frame of a longer sound the first one is; then a sample depends on
    `(iterations + 1) * ceil(n_fft / hop_length)` frames to either side.
    """
    n_fft = 2 * (magnitude.shape[-2] - 1)
    if phases is None:
        start = frame_noise(magnitude.shape[-2], magnitude.shape[-1], first_frame, stream=0) * (2 * math.pi)
        phases = torch.polar(torch.ones_like(magnitude), start.to(magnitude).expand_as(magnitude).contiguous())
    before = torch.zeros_like(phases)
    for _ in range(iterations):
        found = frame_stft(overlap_add(magnitude * phases, hop_length), n_fft, hop_length)
        ahead = found + momentum * (found - before)
        phases, before = ahead / ahead.abs().clamp_min(1e-12), found
    return overlap_add(magnitude * phases, hop_length)


def frame_noise(bins: int, frames: int, first_frame: int, stream: int) -> Tensor:
    """Uniform in [0, 1), [bins, frames]: what a frame gets depends on its number and on `stream` (0 or 1) alone."""
    end, block = first_frame + frames, _NOISE_BLOCK
    drawn = [
        torch.rand(block, bins, generator=torch.Generator().manual_seed(2 * number + stream))
        for number in range(first_frame // block, -(-end // block))
    ]
    skipped = first_frame % block
    return torch.cat(drawn)[skipped : skipped + frames].T.contiguous()


def _fold(windows: Tensor, length: int, hop_length: int) -> Tensor:
    """[B, T, n_fft] -> [B, length], frames added where they overlap."""
    n_fft = windows.shape[-1]
    folded = F.fold(windows.transpose(1, 2), (1, length), kernel_size=(1, n_fft), stride=(1, hop_length))
    return folded[:, 0, 0]


@functools.lru_cache(maxsize=32)
def mel_filter_bank(
    sample_rate: int, n_fft: int, num_mels: int, f_min: float = 0.0, f_max: float | None = None
) -> Tensor:
    """[num_mels, n_fft // 2 + 1] triangles on the HTK mel scale, peak 1 (callers must not write into it)."""
    low, high = (2595.0 * math.log10(1.0 + f / 700.0) for f in (f_min, f_max or sample_rate / 2))
    edges = 700.0 * (10.0 ** (torch.linspace(low, high, num_mels + 2, dtype=torch.float64) / 2595.0) - 1.0)
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp_min(0.0).float()


@functools.lru_cache(maxsize=8)
def slaney_filter_bank(sample_rate: int, n_fft: int, num_mels: int, f_max: float | None = None) -> Tensor:
    """[num_mels, n_fft // 2 + 1] triangles of equal area on Slaney's mel scale, which is linear below 1 kHz.

    What librosa makes by default, and so what most published vocoders hear. Callers must not write into it.
    """
    step, knee = 200.0 / 3.0, 1000.0  # Hz a mel up to the knee, a factor of 6.4 every 27 mels above it
    growth = math.log(6.4) / 27.0
    top = f_max or sample_rate / 2
    highest = top / step if top < knee else knee / step + math.log(top / knee) / growth
    mels = torch.linspace(0.0, highest, num_mels + 2, dtype=torch.float64)
    edges = torch.where(mels < knee / step, mels * step, knee * ((mels - knee / step) * growth).exp())
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    area = 2.0 / (edges[2:] - edges[:-2])[:, None]
    return (torch.minimum(rising, falling).clamp_min(0.0) * area).float()


@functools.lru_cache(maxsize=8)
def chroma_filter_bank(sample_rate: int, n_fft: int, num_bins: int = 12) -> Tensor:
    """[num_bins, n_fft // 2 + 1]: how much of each frequency belongs to each pitch class, from C on (A is 440 Hz).

    librosa's: a bump around each pitch class, one class wide or, where frequencies lie farther apart, as wide as their
    distance; a frequency counts 1 in all (L2), and less the more octaves it lies from 880 Hz. Callers must not write
    into it.
    """
    frequency = torch.arange(1, n_fft // 2 + 2, dtype=torch.float64) * (sample_rate / n_fft)
    pitch = num_bins * (frequency / 27.5).log2()  # in pitch classes above A0
    pitch = torch.cat([pitch[:1] - 1.5 * num_bins, pitch])  # what librosa takes for 0 Hz
    width = pitch.diff().clamp_min(1.0)
    pitch, half = pitch[:-1], round(num_bins / 2)
    apart = torch.remainder(pitch - torch.arange(num_bins)[:, None] + half, num_bins) - half  # [num_bins, F]
    bank = (-2.0 * (apart / width) ** 2).exp()
    bank = bank / bank.norm(dim=0) * (-0.5 * ((pitch / num_bins - 5.0) / 2.0) ** 2).exp()
    return bank.roll(-3 * (num_bins // 12), dims=0).float()  # from A to C


def mel_spectrogram(
    waveform: Tensor, sample_rate: int, n_fft: int, hop_length: int, num_mels: int, f_max: float | None = None
) -> Tensor:
    """waveform [..., N] -> mel magnitudes [..., num_mels, T]; a full-scale sine has a magnitude of about 1."""
    magnitude = stft(waveform, n_fft, hop_length).abs() * (4.0 / n_fft)
    with torch.autocast(magnitude.device.type, enabled=False):
        return mel_filter_bank(sample_rate, n_fft, num_mels, 0.0, f_max).to(magnitude.device) @ magnitude


def log_mel(
    waveform: Tensor, sample_rate: int, n_fft: int, hop_length: int, num_mels: int, floor: float = 1e-5
) -> Tensor:
    """Natural logarithm of `mel_spectrogram`, floored: [..., num_mels, T]."""
    return mel_spectrogram(waveform, sample_rate, n_fft, hop_length, num_mels).clamp_min(floor).log()
