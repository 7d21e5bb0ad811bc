"""What every neural codec does, whatever its network: waveform to codes and back, and the arithmetic of frames.

    waveform [B, C, N] --encode--> codes [B, K, T] --decode--> waveform [B, C, T * hop_length]

N samples make T = ceil(N / hop_length) frames; the last frame is completed with silence and the caller cuts the decoded
waveform back to N.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Levels(NamedTuple):
    """For a discriminator that hears log magnitudes. recorded, made: [B, C, F, T], about mean 0 and variance 1; heads:
    the decoder's output that `made` comes from."""

    recorded: Tensor
    made: Tensor
    heads: Tensor


class CodecOutput(NamedTuple):
    """One training pass. waveform: [B, C, N]; codes: [B, K, T]; commitment: scalar, summed over the stages.

    magnitude: scalar, the distance of the decoder's own magnitudes from the input's, for a codec that has such. levels:
    of a codec whose magnitudes have a texture.
    """

    waveform: Tensor
    codes: Tensor
    commitment: Tensor
    magnitude: Tensor | None = None
    levels: Levels | None = None


class Codec(nn.Module):
    """Base class. A subclass sets the attributes below and writes `encode`, `decode` and `forward`."""

    sample_rate: int
    channels: int
    hop_length: int
    num_codebooks: int
    codebook_size: int

    @property
    def frame_rate(self) -> float:
        return self.sample_rate / self.hop_length

    def num_frames(self, num_samples: int) -> int:
        return -(-num_samples // self.hop_length)

    def encode(self, waveform: Tensor, num_codebooks: int | None = None) -> Tensor:
        """waveform [B, C, N] in [-1, 1] -> codes [B, K, T]; `num_codebooks` keeps the first ones (a lower rate)."""
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, K', T], K' <= K -> waveform [B, C, T * hop_length]."""
        raise NotImplementedError

    def forward(self, waveform: Tensor, num_codebooks: int | None = None) -> CodecOutput:
        raise NotImplementedError

    def codebooks(self) -> Tensor:
        """[K, V, D], what the codes stand for."""
        raise NotImplementedError

    @torch.no_grad()
    def fingerprint(self) -> str:
        """Twelve hex digits that name the meaning of the codes. A language model stores those of its codec."""
        return hashlib.sha256(self.codebooks().detach().half().cpu().numpy().tobytes()).hexdigest()[:12]
