"""Squeeze and excitation (1709.01507) for causal networks: each channel is scaled by what all channels were so far.

gate_t = sigmoid(W2 silu(W1 mean of x over the times up to t));    x_t -> x_t * gate_t
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

REDUCTION, NARROWEST = 4, 32


class SqueezeExcite(nn.Module):
    """[B, width, N] -> [B, width, N]. Block by block as ops/streaming.py says."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(NARROWEST, width // REDUCTION)
        self.gate = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, width), nn.Sigmoid())

    def forward(self, signal: Tensor) -> Tensor:
        return self.stream(signal, None, True)[0]

    def stream(
        self, signal: Tensor, state: tuple[Tensor, int] | None, last: bool
    ) -> tuple[Tensor, tuple[Tensor, int] | None]:
        """State: the sum [B, width, 1] of all samples before, in float64, and their number."""
        if not signal.shape[-1]:
            return signal, state
        before, count = state or (0.0, 0)
        sums = before + signal.double().cumsum(-1)
        counts = torch.arange(count + 1, count + signal.shape[-1] + 1, device=signal.device)
        mean = (sums / counts).to(signal.dtype)
        gated = signal * self.gate(mean.transpose(1, 2)).transpose(1, 2)
        return gated, (sums[..., -1:], count + signal.shape[-1])
