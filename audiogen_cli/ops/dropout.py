"""Dropout, drawn three times as fast on a processor: a byte of chance for each number instead of a real one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dropout(x: Tensor, share: float) -> Tensor:
    """x with a random share of it zero and the rest larger, so that the mean stays; in training.

    On a processor the share is rounded to 1/256; a share below 1/512 is drawn as everywhere else.
    """
    bytes_dropped = round(256 * share)
    if x.device.type != "cpu" or not 0 < bytes_dropped < 256:
        return F.dropout(x, share)
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    chance = words.view(torch.uint8)[: x.numel()].view(x.shape)
    return x * ((chance >= bytes_dropped).to(x.dtype) * (256 / (256 - bytes_dropped)))
