"""Finite scalar quantization (2309.15505), and its residual form.

Each of d dimensions has few levels L_i; a code is the number whose digits they are, the first dimension the lowest:

    code = sum of digit_i * product of L_j over j < i,    codebook size = product of L_i

With one codebook the levels are the paper's: tanh, then round. With several, level k works on the residual with steps
finer by L^-k; the latent is clamped softly into a range that the first levels cover, and each level rounds

    2 / (L - 1) * floor((L - 1) (x + 1) / 2 + 1/2) - 1    of x clamped to [-1, 1]

There is no codebook to learn, none to collapse, and no loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from audiogen_cli.quantizers.base import QuantizerDropout
from audiogen_cli.quantizers.lattice import LatticeQuantizer

EDGE = 1e-3  # the share by which tanh reaches beyond the outermost level


@dataclass(frozen=True)
class FSQConfig:
    """levels: e.g. (8, 5, 5, 5), 1000 codes. dim: width D of the latent."""

    levels: tuple[int, ...]
    dim: int
    num_codebooks: int = 1
    dropout: QuantizerDropout | None = None

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 2:
            raise ValueError("finite scalar quantization needs levels, each 2 or more, for example 8, 5, 5, 5.")
        if min(self.dim, self.num_codebooks) < 1:
            raise ValueError("dim and num_codebooks must be 1 or more.")
        if self.num_codebooks == 1 and min(self.levels) < 3:
            raise ValueError("with one codebook every level must be 3 or more; take more codebooks or other levels.")

    @property
    def codebook_size(self) -> int:
        return math.prod(self.levels)


class FSQ(LatticeQuantizer):
    def __init__(self, config: FSQConfig) -> None:
        super().__init__(config.dim, len(config.levels), config.num_codebooks, config.codebook_size, config.dropout)
        self.config = config

    def bound(self, x: Tensor) -> Tensor:
        levels = self._levels(x)
        if self.num_codebooks > 1:
            reach = 1 + 1 / (levels - 1)
            return (x / reach).tanh() * reach
        half = (levels - 1) * (1 + EDGE) / 2
        offset = 0.5 * (levels % 2 == 0)
        return ((x + (offset / half).atanh()).tanh() * half - offset) / (levels // 2)

    def nearest(self, residual: Tensor, k: int) -> Tensor:
        levels = self._levels(residual)
        if self.num_codebooks == 1:
            return (residual * (levels // 2)).round() / (levels // 2)
        scale = levels**-k
        clamped = (residual / scale).clamp(-1.0, 1.0)
        return (2 / (levels - 1) * ((levels - 1) * (clamped + 1) / 2 + 0.5).floor() - 1) * scale

    def index(self, entry: Tensor, k: int) -> Tensor:
        levels = self._levels(entry)
        if self.num_codebooks == 1:
            digits = entry * (levels // 2) + levels // 2
        else:
            digits = (entry / levels**-k + 1) * (levels - 1) / 2
        return (digits.round().long() * self._basis(entry)).sum(-1)

    def entry(self, codes: Tensor, k: int) -> Tensor:
        levels = self._levels(codes)
        digits = codes[..., None] // self._basis(codes) % levels.long()
        if self.num_codebooks == 1:
            return (digits - levels // 2) / (levels // 2)
        return (digits * (2 / (levels - 1)) - 1) * levels**-k

    def _levels(self, like: Tensor) -> Tensor:
        """[d], in float32: what counts levels also divides by them."""
        return torch.tensor(self.config.levels, dtype=torch.float32, device=like.device)

    def _basis(self, like: Tensor) -> Tensor:
        """[d]: the worth of a digit of each dimension."""
        worth = [math.prod(self.config.levels[:i]) for i in range(len(self.config.levels))]
        return torch.tensor(worth, device=like.device)
