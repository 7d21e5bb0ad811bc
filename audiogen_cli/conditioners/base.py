"""What a prompt becomes: embeddings and the mask that says which of them count.

    Condition(embedding [B, L, D], mask [B, L])      True: this position may be attended to
                   outline [B, K, T]                 the codes of an outline to fill in, for a model that hears one

A dropped, or null, condition is one whose mask is all False: a language model then sees nothing of the text, whatever
the embedding holds. The mask is carried explicitly and never guessed from zeros in the embedding. Of an outline,
NOTHING in the place of every code says that there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NOTHING = -1


@dataclass(frozen=True)
class Condition:
    """embedding: float [B, L, D]; mask: bool [B, L]; outline: int64 [B, K, T] (models/outline.py)."""

    embedding: Tensor
    mask: Tensor
    outline: Tensor | None = None

    @property
    def batch_size(self) -> int:
        return self.embedding.shape[0]

    def null(self) -> Condition:
        """The same shape with nothing to attend to: the unconditional half of classifier-free guidance."""
        return self.drop(torch.ones_like(self.mask[:, 0]))

    def drop(self, rows: Tensor) -> Condition:
        """Rows [B] (bool) lose their whole condition; used to train for guidance."""
        outline = None if self.outline is None else self.outline.masked_fill(rows[:, None, None], NOTHING)
        return Condition(self.embedding, self.mask & ~rows[:, None], outline)

    def under(self, outline: Tensor | None) -> Condition:
        """The same text with an outline [B, K, T] to fill in."""
        return Condition(self.embedding, self.mask, outline)

    def rows(self, rows: Sequence[int] | Tensor) -> Condition:
        """The given rows, in that order."""
        outline = None if self.outline is None else self.outline[rows]
        return Condition(self.embedding[rows], self.mask[rows], outline)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Condition:
        outline = None if self.outline is None else self.outline.to(device)
        return Condition(self.embedding.to(device=device, dtype=dtype), self.mask.to(device=device), outline)

    @staticmethod
    def cat(conditions: Sequence[Condition]) -> Condition:
        """Texts joined into one batch; shorter ones are padded at the end with masked zeros."""
        length = max(c.embedding.shape[1] for c in conditions)
        embedding = [F.pad(c.embedding, (0, 0, 0, length - c.embedding.shape[1])) for c in conditions]
        mask = [F.pad(c.mask, (0, length - c.mask.shape[1])) for c in conditions]
        return Condition(torch.cat(embedding), torch.cat(mask))
