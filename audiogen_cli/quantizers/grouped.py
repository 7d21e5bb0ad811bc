"""Grouped quantization (HiFi-Codec, 2305.02765): the latent's channels in equal parts, one quantizer for each.

Codebook k * groups + i is codebook k of group i, so that the first codebooks are the coarse ones of every group.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.quantizers.base import Quantizer, QuantizerOutput, unquantized


class GroupedQuantizer(Quantizer):
    """Every rate is a multiple of the number of groups; ValueError for others."""

    def __init__(self, groups: Sequence[Quantizer]) -> None:
        super().__init__()
        self.groups = nn.ModuleList(groups)
        self.num_codebooks = sum(group.num_codebooks for group in groups)
        self.codebook_size, self.dropout = groups[0].codebook_size, groups[0].dropout

    def forward(self, latent: Tensor, num_codebooks: int | None = None) -> QuantizerOutput:
        each = self._each(self.drawn(num_codebooks, latent.device))
        if each == 0:
            return unquantized(latent)
        parts = latent.chunk(len(self.groups), 1)
        outputs = [group(part, each) for group, part in zip(self.groups, parts, strict=True)]
        commitment = torch.stack([output.commitment for output in outputs]).mean()
        return QuantizerOutput(
            torch.cat([o.quantized for o in outputs], 1), _merge([o.codes for o in outputs]), commitment
        )

    def encode(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        each = self._each(self.num_codebooks if num_codebooks is None else num_codebooks)
        parts = latent.chunk(len(self.groups), 1)
        return _merge([group.encode(part, each) for group, part in zip(self._quantizers, parts, strict=True)])

    def decode(self, codes: Tensor) -> Tensor:
        self._each(codes.shape[1])
        count = len(self.groups)
        return torch.cat([group.decode(codes[:, i::count]) for i, group in enumerate(self._quantizers)], 1)

    def codebooks(self) -> Tensor:
        """[K, V, D], zero in the channels of the other groups."""
        books, count = [group.codebooks() for group in self._quantizers], len(self.groups)
        width = books[0].shape[-1]
        placed = [F.pad(book, (i * width, (count - 1 - i) * width)) for i, book in enumerate(books)]
        return torch.stack(placed, 1).flatten(0, 1)

    def drawn(self, num_codebooks: int | None, device: torch.device) -> int:
        if num_codebooks is None and self.training and self.dropout is not None:
            return self.dropout.draw(self.num_codebooks // len(self.groups), device) * len(self.groups)
        return super().drawn(num_codebooks, device)

    def _each(self, num_codebooks: int) -> int:
        if num_codebooks % len(self.groups):
            raise ValueError(f"{num_codebooks} codebooks are not shared by {len(self.groups)} groups; give a multiple.")
        return num_codebooks // len(self.groups)

    @property
    def _quantizers(self) -> list[Quantizer]:
        return list(self.groups)  # type: ignore[arg-type]


def _merge(codes: Sequence[Tensor]) -> Tensor:
    """[B, K, T] of each group -> [B, K * groups, T]."""
    return torch.stack(list(codes), 2).flatten(1, 2)
