"""An outline: few codes a second that say how the spectrum of a sound moves, and nothing of its detail.

    waveform [B, 1, N] --log mel--> [B, M, T * subframes] --patches--> [B, T, M * subframes] --residual VQ--> [B, K, T]

AudioLM (2209.03143) first writes tokens of low rate that hold a sound together, and then the codec's tokens under them.
Its tokens come from a speech model; these are k-means centres of patches of a log mel spectrum, as those of HuBERT's
first iteration (2106.07447, section III-B) are of MFCCs. They need no other model and hold for every kind of sound.
A language model of outlines plans (models/lm.py); one of the codec's codes hears the plan and fills it in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from audiogen_cli.models.codec import Codec
from audiogen_cli.ops.stft import frame_stft, griffin_lim, mel_filter_bank
from audiogen_cli.quantizers import kmeans

_FLOOR = math.log(1e-4)  # -80 dB
_ITERATIONS = 16


@dataclass(frozen=True)
class OutlineConfig:
    """A frame of codes stands for `hop_length` samples, described by `subframes` mel spectra of `num_mels` bands."""

    sample_rate: int = 16_000
    hop_length: int = 1280
    subframes: int = 4
    n_fft: int = 1024
    num_mels: int = 64
    num_codebooks: int = 4
    codebook_size: int = 512

    def __post_init__(self) -> None:
        if self.hop_length % self.subframes or self.n_fft < self.hop_length // self.subframes:
            raise ValueError("subframes must divide hop_length, and n_fft must cover a subframe.")

    @property
    def dim(self) -> int:
        return self.num_mels * self.subframes

    @property
    def subframe_hop(self) -> int:
        return self.hop_length // self.subframes


class Outline(Codec):
    """Mono. It is fitted, not trained. What it decodes to is a sketch for the ear, by the Griffin-Lim algorithm."""

    channels = 1
    entries: Tensor

    def __init__(self, config: OutlineConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.hop_length = config.sample_rate, config.hop_length
        self.num_codebooks, self.codebook_size = config.num_codebooks, config.codebook_size
        self.encoder_context = -(-(config.n_fft - config.subframe_hop + 1) // (2 * config.hop_length))
        self.register_buffer("entries", torch.zeros(config.num_codebooks, config.codebook_size, config.dim))

    @classmethod
    def fit(cls, waveforms: Iterable[Tensor], config: OutlineConfig, size: int = 100_000, seed: int = 0) -> Outline:
        """An outline for sounds like these [1, N], from `size` of their patches. InputError when they are too few."""
        model = cls(config)
        batches = (model.patches(waveform[None])[0] for waveform in waveforms)
        residual = kmeans.sample(batches, size, seed)
        for level in range(config.num_codebooks):
            model.entries[level] = kmeans.fit(residual, config.codebook_size, seed=seed + level)
            residual = residual - model.entries[level][kmeans.nearest(residual, model.entries[level])]
        return model

    def patches(self, waveform: Tensor) -> Tensor:
        """waveform [B, 1, N] -> natural log of mel magnitudes [B, T, subframes * num_mels]; a full-scale sine is 0."""
        config = self.config
        whole = torch.nn.functional.pad(waveform[:, 0].float(), (0, -waveform.shape[-1] % config.hop_length))
        magnitude = frame_stft(whole, config.n_fft, config.subframe_hop).abs() * (4.0 / config.n_fft)
        level = (self._bank() @ magnitude).clamp_min(math.exp(_FLOOR)).log()  # [B, M, T * subframes]
        return level.transpose(1, 2).reshape(len(level), -1, config.dim)

    @torch.no_grad()
    def encode(self, waveform: Tensor, num_codebooks: int | None = None) -> Tensor:
        """waveform [B, 1, N] in [-1, 1] -> codes [B, K, T]."""
        residual = self.patches(waveform)
        codes = []
        for entries in self.entries[:num_codebooks]:
            codes.append(kmeans.nearest(residual, entries))
            residual = residual - entries[codes[-1]]
        return torch.stack(codes, 1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, K', T], K' <= K -> waveform [B, 1, T * hop_length]."""
        config = self.config
        patches = torch.stack([self.entries[k][codes[:, k]] for k in range(codes.shape[1])]).sum(0)
        level = patches.reshape(len(codes), -1, config.num_mels).transpose(1, 2)  # [B, M, T * subframes]
        heard = level.exp() * (level > _FLOOR + 0.5) * (config.n_fft / 4.0)
        magnitude = (torch.linalg.pinv(self._bank()) @ heard).clamp_min(0.0)
        return griffin_lim(magnitude, config.subframe_hop, _ITERATIONS)[:, None]

    def codebooks(self) -> Tensor:
        return self.entries

    def _bank(self) -> Tensor:
        config = self.config
        return mel_filter_bank(config.sample_rate, config.n_fft, config.num_mels).to(self.entries.device)
