"""Ids of recordings of different lengths: in one row, and padded in a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

PADDING = -1


def unique_consecutive(ids: Tensor) -> Tensor:
    """[n] -> [m]: an id that equals the one before it is removed."""
    return torch.unique_consecutive(ids)


def flatten(codes: Tensor) -> Tensor:
    """codes [Q, T] -> ids [T * Q], time-major, level-minor."""
    return codes.T.reshape(-1)


def unflatten(ids: Tensor, num_levels: int) -> Tensor:
    """ids [T * Q] -> codes [Q, T]; what is left of a frame that is not whole is dropped."""
    whole = len(ids) // num_levels * num_levels
    return ids[:whole].view(-1, num_levels).T


def padded(rows: Sequence[Tensor]) -> Tensor:
    """Ids of different lengths as one tensor [B, longest]."""
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=PADDING)


def trimmed(ids: Tensor) -> Tensor:
    """[B, .., T] without the places at its end that are padding in every row."""
    return ids[..., : int((ids != PADDING).flatten(0, -2).any(dim=0).sum())]
