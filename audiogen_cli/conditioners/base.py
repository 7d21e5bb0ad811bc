"""What a prompt becomes: embeddings and the mask that says which of them count.

    Condition(embedding [B, L, D], mask [B, L])      True: this position may be attended to

A dropped, or null, condition is one whose mask is all False: a language model then sees nothing of the text, whatever
the embedding holds. The mask is carried explicitly and never guessed from zeros in the embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """embedding: float [B, L, D]; mask: bool [B, L]."""

    embedding: Tensor
    mask: Tensor

    @property
    def batch_size(self) -> int:
        return self.embedding.shape[0]

    def null(self) -> Condition:
        """The same shape with nothing to attend to: the unconditional half of classifier-free guidance."""
        return Condition(self.embedding, torch.zeros_like(self.mask))

    def drop(self, rows: Tensor) -> Condition:
        """Rows [B] (bool) lose their whole condition; used to train for guidance."""
        return Condition(self.embedding, self.mask & ~rows[:, None])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Condition:
        return Condition(self.embedding.to(device=device, dtype=dtype), self.mask.to(device=device))

    @staticmethod
    def cat(conditions: Sequence[Condition]) -> Condition:
        """Batches joined; shorter ones are padded at the end with masked zeros."""
        length = max(c.embedding.shape[1] for c in conditions)
        embedding = [F.pad(c.embedding, (0, 0, 0, length - c.embedding.shape[1])) for c in conditions]
        mask = [F.pad(c.mask, (0, length - c.mask.shape[1])) for c in conditions]
        return Condition(torch.cat(embedding), torch.cat(mask))
