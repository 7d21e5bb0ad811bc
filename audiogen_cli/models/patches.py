"""What a flow of mel spectrograms (models/flow.py) hears and says, beneath and above its transformer.

    [B, T, S * M] --split--> [B, T * S, M] --ConvNeXt--> fine [B, T * S, W] --stacked--> [B, T, D] --> transformer
    transformer --> [B, T, D] --split--> [B, T * S, W] + fine --ConvNeXt--> [B, T * S, M] --stacked--> [B, T, S * M]

A frame of the transformer stands for S spectra of M bands. It is too narrow to carry all that is fine in them; so that
goes round it, and the convolutions, which hear every spectrum in the same way, put the two together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiogen_cli.models.spectral import ConvNeXtBlock
from audiogen_cli.ops.attention import Linear

_KERNEL = 7
_EXPANSION = 2


def _blocks(layers: int, width: int) -> nn.Sequential:
    return nn.Sequential(*(ConvNeXtBlock(width, _EXPANSION * width, _KERNEL, 1.0 / layers) for _ in range(layers)))


class PatchReader(nn.Module):
    def __init__(self, patch: int, subframes: int, width: int, dim: int) -> None:
        """patch: S * M, of `subframes` S; width: W; dim: D."""
        super().__init__()
        self.subframes = subframes
        self.embed = Linear(2 * patch // subframes + 1, width)
        self.setting = Linear(dim, width)
        self.blocks = _blocks(1, width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.stack = Linear(width * subframes, dim)

    def forward(self, noisy: Tensor, marked: Tensor, setting: Tensor) -> tuple[Tensor, Tensor]:
        """noisy [B, T, S * M], marked [B, T, 1] where it is known, setting [B, D] -> [B, T, D], fine [B, T * S, W]."""
        spectra = noisy.reshape(len(noisy), noisy.shape[1] * self.subframes, -1)
        mark = marked.repeat_interleave(self.subframes, dim=1)
        fine = self.embed(torch.cat([spectra * (1 - mark), spectra * mark, mark], dim=-1))
        fine = self.blocks(fine + self.setting(setting)[:, None])
        stacked: Tensor = self.stack(self.norm(fine).reshape(len(fine), noisy.shape[1], -1))
        return stacked, fine


class PatchWriter(nn.Module):
    def __init__(self, patch: int, subframes: int, width: int, dim: int, layers: int) -> None:
        super().__init__()
        self.split = Linear(dim, width * subframes)
        self.join = Linear(width, width)
        self.blocks = _blocks(layers, width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = Linear(width, patch // subframes)

    def forward(self, frames: Tensor, fine: Tensor) -> Tensor:
        """[B, T, D] and fine [B, T * S, W] -> [B, T, S * M]."""
        x = self.split(frames).reshape(fine.shape) + self.join(fine)
        out: Tensor = self.head(self.norm(self.blocks(x)))
        return out.reshape(*frames.shape[:2], -1)
