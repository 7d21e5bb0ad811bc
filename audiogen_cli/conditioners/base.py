"""What a prompt becomes: embeddings and the mask that says which of them count.

    Condition(embedding [B, L, D], mask [B, L])      True: this position may be attended to
    Condition(embedding, mask, melody [B, M])        and a melody (conditioners/melody.py): the bin of each frame

A dropped, or null, condition is one whose mask is all False: a language model then sees nothing of the text, whatever
the embedding holds. The mask is carried explicitly and never guessed from zeros in the embedding. The null melody is
that of silence: its bins are all 0, and no melody means the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """embedding: float [B, L, D]; mask: bool [B, L]; melody: int64 [B, M], or None."""

    embedding: Tensor
    mask: Tensor
    melody: Tensor | None = None

    @property
    def batch_size(self) -> int:
        return self.embedding.shape[0]

    def null(self) -> Condition:
        """The same shape with nothing to attend to: the unconditional half of classifier-free guidance."""
        melody = None if self.melody is None else torch.zeros_like(self.melody)
        return Condition(self.embedding, torch.zeros_like(self.mask), melody)

    def drop(self, rows: Tensor) -> Condition:
        """Rows [B] (bool) lose their whole condition; used to train for guidance."""
        melody = None if self.melody is None else self.melody.masked_fill(rows[:, None], 0)
        return Condition(self.embedding, self.mask & ~rows[:, None], melody)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Condition:
        melody = None if self.melody is None else self.melody.to(device=device)
        return Condition(self.embedding.to(device=device, dtype=dtype), self.mask.to(device=device), melody)

    @staticmethod
    def cat(conditions: Sequence[Condition]) -> Condition:
        """Batches joined; shorter ones are padded at the end with masked zeros, and beside a melody none is silence."""
        length = max(c.embedding.shape[1] for c in conditions)
        embedding = [F.pad(c.embedding, (0, 0, 0, length - c.embedding.shape[1])) for c in conditions]
        mask = [F.pad(c.mask, (0, length - c.mask.shape[1])) for c in conditions]
        heard = next((c.melody for c in conditions if c.melody is not None), None)
        if heard is None:
            return Condition(torch.cat(embedding), torch.cat(mask))
        melody = [heard.new_zeros(c.batch_size, heard.shape[1]) if c.melody is None else c.melody for c in conditions]
        return Condition(torch.cat(embedding), torch.cat(mask), torch.cat(melody))
