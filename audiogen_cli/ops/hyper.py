"""Hyper-Connections (2409.19606): the residual stream kept in S copies, mixed anew around every branch.

    n = RMSNorm(x_s),   A = A0 + a tanh(n W_a)  [S, 1 + S],   B = B0 + b tanh(n w_b)  [S]
    input = sum_s A[s, 0] x_s,   kept_t = sum_s A[s, 1 + t] x_s,   x_t = kept_t + B_t branch(input)

At the start A0 = [one-hot | identity], B0 = 1 and W_a = w_b = 0: S plain residual streams, each fed to some branches.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.ops.attention import product


class HyperConnection(nn.Module):
    """Around one branch; `index` numbers the branches of the network and chooses the stream that feeds this one."""

    def __init__(self, dim: int, streams: int, index: int) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.ones(dim))
        feeds = F.one_hot(torch.tensor(index % streams), streams).float()[:, None]
        self.width = nn.Parameter(torch.cat([feeds, torch.eye(streams)], dim=1))  # [S, 1 + S]
        self.depth = nn.Parameter(torch.ones(streams))
        self.dynamic_width = nn.Parameter(torch.zeros(1 + streams, dim))
        self.dynamic_depth = nn.Parameter(torch.zeros(1, dim))
        self.scales = nn.Parameter(torch.full((2,), 0.01))

    def forward(self, x: Tensor, branch: Callable[[Tensor], Tensor], rows: int | None = None) -> Tensor:
        """x [B, S, T, D] -> the same shape; `branch` maps [B, T, D] to [B, T, D]. rows: see ops.attention.Linear."""
        normed = F.rms_norm(x, x.shape[-1:], self.norm)
        width = self.width[:, None] + self.scales[0] * product(normed, self.dynamic_width, None, rows).tanh()
        depth = self.depth[:, None, None] + self.scales[1] * product(normed, self.dynamic_depth, None, rows).tanh()
        mixed = torch.einsum("bstj,bstd->bjtd", width, x)  # [B, 1 + S, T, D]
        return mixed[:, 1:] + depth * branch(mixed[:, 0])[:, None]


def expand(x: Tensor, streams: int) -> Tensor:
    """[B, T, D] -> [B, S, T, D], S equal copies."""
    return x[:, None].expand(-1, streams, -1, -1)
