"""Relative positions in (frame, level): attention scores get a learned function of how far apart two tokens lie.

Tokens of one frame are neighbours, however far apart the flattened sequence puts them. The function is a small network
of (sign(d) log(1 + |d|), level distance), evaluated once for every distance that occurs. audiolm-pytorch feeds it the
raw distance, whose size grows with the sequence; the logarithm does not.

Pairs with a start token get one learned number per head; so do pairs of different time axes (semantic and acoustic
tokens, whose frames cannot be compared where repeated semantic tokens were removed).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

START = -1


class Places(NamedTuple):
    """Where tokens stand, int64 [S] each. axis: which time it counts, START for a start token; frame; level."""

    axis: Tensor
    frame: Tensor
    level: Tensor

    @staticmethod
    def cat(places: list[Places]) -> Places:
        return Places(*(torch.cat(parts) for parts in zip(*places, strict=True)))


class RelativeBias(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        hidden = max(8, dim // 2)
        self.network = nn.Sequential(
            nn.Linear(2, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, num_heads)
        )
        self.start = nn.Parameter(torch.zeros(num_heads))
        self.other_axis = nn.Parameter(torch.zeros(num_heads))

    def forward(self, query: Places, key: Places) -> Tensor:
        """Places of Q queries and K keys -> what is added to the scores, [1, H, Q, K]."""
        frames = query.frame[:, None] - key.frame  # [Q, K]
        levels = query.level[:, None] - key.level
        low, count = levels.min(), int(levels.max() - levels.min()) + 1
        first = frames.min()
        table = self._table(frames, levels)  # [frames, levels, H]
        bias = table.flatten(0, 1)[(frames - first) * count + (levels - low)]  # [Q, K, H]
        bias = torch.where((query.axis[:, None] != key.axis)[..., None], self.other_axis, bias)
        either = (query.axis == START)[:, None] | (key.axis == START)
        return torch.where(either[..., None], self.start, bias).permute(2, 0, 1)[None]

    def _table(self, frames: Tensor, levels: Tensor) -> Tensor:
        def every(distance: Tensor) -> Tensor:
            return torch.arange(int(distance.min()), int(distance.max()) + 1, device=distance.device).float()

        far, across = torch.meshgrid(every(frames), every(levels), indexing="ij")
        pairs = torch.stack([far.sign() * far.abs().log1p(), across], dim=-1)
        table: Tensor = self.network(pairs.to(self.start.dtype))
        return table
