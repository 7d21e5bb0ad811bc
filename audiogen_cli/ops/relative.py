"""Relative positions in (frame, level), or (frame, level, group) where a codec quantizes in groups: attention scores
get a learned function of how far apart two tokens lie.

Tokens of one frame are neighbours, however far apart the flattened sequence puts them. The function is a small network
of (sign(d) log(1 + |d|), level distance, group distance), evaluated once for every distance that occurs.
audiolm-pytorch feeds it the raw distance, whose size grows with the sequence; the logarithm does not. It knows no
groups: to it they are more levels.

Pairs with a start token get one learned number per head; so do pairs of different time axes (semantic and acoustic
tokens, whose frames cannot be compared where repeated semantic tokens were removed).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

START = -1


class Places(NamedTuple):
    """Where tokens stand, int64 [S] each. axis: which time it counts, START for a start token; frame; level in its
    group; group."""

    axis: Tensor
    frame: Tensor
    level: Tensor
    group: Tensor

    @staticmethod
    def cat(places: list[Places]) -> Places:
        return Places(*(torch.cat(parts) for parts in zip(*places, strict=True)))


class RelativeBias(nn.Module):
    """grouped: whether tokens of different groups are told apart."""

    def __init__(self, dim: int, num_heads: int, grouped: bool = False) -> None:
        super().__init__()
        hidden, axes = max(8, dim // 2), 3 if grouped else 2
        self.network = nn.Sequential(
            nn.Linear(axes, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, num_heads)
        )
        self.start = nn.Parameter(torch.zeros(num_heads))
        self.grouped = grouped
        self.other_axis = nn.Parameter(torch.zeros(num_heads))

    def forward(self, query: Places, key: Places) -> Tensor:
        """Places of Q queries and K keys -> what is added to the scores, [1, H, Q, K]."""
        distances = [query.frame[:, None] - key.frame, query.level[:, None] - key.level]  # [Q, K] each
        if self.grouped:
            distances.append(query.group[:, None] - key.group)
        every = [torch.arange(int(d.min()), int(d.max()) + 1, device=d.device) for d in distances]
        row = torch.zeros_like(distances[0])
        for distance, known in zip(distances, every, strict=True):
            row = row * len(known) + distance - known[0]
        bias = self._table(every)[row]  # [Q, K, H]
        bias = torch.where((query.axis[:, None] != key.axis)[..., None], self.other_axis, bias)
        either = (query.axis == START)[:, None] | (key.axis == START)
        return torch.where(either[..., None], self.start, bias).permute(2, 0, 1)[None]

    def _table(self, every: list[Tensor]) -> Tensor:
        """All distances that occur along each axis -> [their product, H]."""
        far, *others = (part.float() for part in torch.meshgrid(*every, indexing="ij"))
        points = torch.stack([far.sign() * far.abs().log1p(), *others], dim=-1).flatten(0, -2)
        table: Tensor = self.network(points.to(self.start.dtype))
        return table
