"""What every quantizer does, whatever its codes stand for.

    latent [B, D, T] --encode--> codes [B, K, T] --decode--> [B, D, T]

A code of -1 stands for nothing and decodes to zero, so that examples of fewer codebooks can share a batch with others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn


class QuantizerOutput(NamedTuple):
    """quantized: [B, D, T], with a gradient to the latent; codes: [B, K, T]; commitment: scalar, what the quantizer
    itself asks of the encoder, summed over the codebooks (0 where it asks nothing)."""

    quantized: Tensor
    codes: Tensor
    commitment: Tensor


@dataclass(frozen=True)
class QuantizerDropout:
    """How many codebooks a training step uses (SoundStream, 2107.03312, section 3.3).

    The index of the last one is drawn evenly from `cutoff` to K - 1, and the count rounded up to `multiple_of`.
    """

    cutoff: int = 0
    multiple_of: int = 1

    def __post_init__(self) -> None:
        if self.cutoff < 0 or self.multiple_of < 1:
            raise ValueError("quantizer dropout needs a cutoff of 0 or more and a multiple of 1 or more.")

    def draw(self, num_codebooks: int, device: torch.device) -> int:
        """1 to `num_codebooks`, the same on every rank."""
        last = torch.randint(min(self.cutoff, num_codebooks - 1), num_codebooks, (1,), device=device)
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(last, 0)
        return min(num_codebooks, -(-(int(last) + 1) // self.multiple_of) * self.multiple_of)


class Quantizer(nn.Module):
    """Base class. A subclass sets the attributes and writes the rest."""

    num_codebooks: int
    codebook_size: int
    dropout: QuantizerDropout | None

    def forward(self, latent: Tensor, num_codebooks: int | None = None) -> QuantizerOutput:
        """latent [B, D, T]. With 0 codebooks it passes; None is all of them, or what the dropout draws in training."""
        raise NotImplementedError

    def encode(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        """latent [B, D, T] -> codes [B, K, T]; `num_codebooks` keeps the first ones."""
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, K', T], K' <= K -> [B, D, T]."""
        raise NotImplementedError

    def codebooks(self) -> Tensor:
        """[K, V, D]; `decode` is the sum of the entries, one of each codebook."""
        raise NotImplementedError

    def drawn(self, num_codebooks: int | None, device: torch.device) -> int:
        """How many codebooks a call uses; raises ValueError for more than there are."""
        if num_codebooks is None and self.training and self.dropout is not None:
            return self.dropout.draw(self.num_codebooks, device)
        wanted = self.num_codebooks if num_codebooks is None else num_codebooks
        if not 0 <= wanted <= self.num_codebooks:
            raise ValueError(f"num_codebooks must be between 1 and {self.num_codebooks}, not {wanted}.")
        return wanted


def unquantized(latent: Tensor) -> QuantizerOutput:
    """What a quantizer gives with 0 codebooks."""
    codes = torch.empty(latent.shape[0], 0, latent.shape[2], dtype=torch.int64, device=latent.device)
    return QuantizerOutput(latent, codes, latent.new_zeros(()))
