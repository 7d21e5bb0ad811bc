"""The melody of a recording as MusicGen hears it (2306.05284, section 2.3): the loudest pitch class of each frame.

    waveform [N] --power spectrum--> [F, M] --chroma filter bank--> [12, M] --loudest--> bins [M]

A frame looks at n_fft samples, half a second in the published models, and comes every quarter of that. All but the
loudest pitch class is thrown away, so that a model takes up the tune and not the recording. Silence has the bin 0.

AudioCraft takes drums and bass out first, with Demucs; here the recording is heard as it is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from audiogen_cli.ops.stft import chroma_filter_bank, stft


def loudest_bins(waveform: Tensor, sample_rate: int, n_fft: int, num_bins: int = 12) -> Tensor:
    """waveform [N] -> int64 [M = 1 + N // (n_fft // 4)]; a shorter one than n_fft stands in the middle of silence.

    The spectrum is not divided by its window's power, nor a frame by its largest bin: which one that is stays the same.
    """
    missing = max(0, n_fft - waveform.shape[0])
    waveform = F.pad(waveform, (missing // 2, missing - missing // 2))
    power = stft(waveform, n_fft, n_fft // 4).abs().square()  # [F, M]
    return (chroma_filter_bank(sample_rate, n_fft, num_bins) @ power).argmax(dim=0)


def melody_bins(waveform: Tensor, sample_rate: int, n_fft: int, num_bins: int, num_frames: int) -> Tensor:
    """waveform [N] -> int64 [num_frames], from its start: cut if it is too long, frames repeated if it is too short."""
    heard = waveform[: (num_frames - 1) * (n_fft // 4) + n_fft // 2]  # the last frame sees no further
    bins = loudest_bins(heard, sample_rate, n_fft, num_bins)
    return bins.repeat(-(-num_frames // len(bins)))[:num_frames]


def turned(waveform: Tensor, start: int, num_samples: int) -> Tensor:
    """waveform [N] -> [num_samples] from sample `start` on; where it ends it begins again."""
    return waveform[torch.arange(start, start + num_samples) % len(waveform)]
