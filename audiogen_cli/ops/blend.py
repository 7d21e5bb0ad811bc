"""Sounds heard at once, in proportion: the place of a scene (rain, a crowd) neither drowns the others nor is lost.

    rain, -45 dB --turned to -20--+
    a dog, -20 dB ----------------+--> both

Each sound of a scene is made by itself, and a model makes rain at whatever level rain was recorded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_MOST = 1e3  # 30 dB: what a power is multiplied or divided by at most, so that no silence is made audible


def balance(powers: Tensor, settings: Sequence[bool]) -> Tensor:
    """Mean powers [L] of sounds that are heard at once -> what to multiply each of them by, [L].

    settings: which of them are places, to be as loud as the loudest of the others, or of all where all are places.
    """
    placed = torch.tensor(settings, device=powers.device)
    others = powers if bool(placed.all()) else powers[~placed]
    gains = (others.max() / powers.clamp_min(1e-20)).clamp(1 / _MOST, _MOST)
    return torch.where(placed, gains, torch.ones_like(powers))


def blend(waveforms: Tensor, settings: Sequence[bool]) -> Tensor:
    """waveforms [L, C, N] of sounds -> all of them at once, [C, N]. settings: of `balance`."""
    gains = balance(waveforms.square().mean(dim=(1, 2)), settings).sqrt()
    return (waveforms * gains[:, None, None]).sum(dim=0)
