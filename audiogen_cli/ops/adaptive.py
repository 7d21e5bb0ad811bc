"""Adaptive layer normalisation: one network, another behaviour in every setting (VALL-E, 2301.02111, section 4.2.2).

norm(x, setting) = (1 + a) * layer_norm(x) + b        a, b: linear in the setting's vector
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AdaptiveNorm(nn.Module):
    """At first a plain layer normalisation, whatever the setting."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2 * dim, dim))
        self.bias = nn.Parameter(torch.zeros(2 * dim))

    def forward(self, x: Tensor, setting: Tensor) -> Tensor:
        """x [B, S, D], setting [B, D] -> [B, S, D]."""
        scale, shift = F.linear(setting, self.weight, self.bias)[:, None].chunk(2, dim=-1)  # [B, 1, D] each
        return F.layer_norm(x, x.shape[-1:], eps=1e-5) * (1 + scale) + shift
