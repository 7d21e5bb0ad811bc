"""Examples for a codec that takes out noise on demand (SoundStream, 2107.03312, section 3.6).

    heard               denoise   target
    clean               either    clean
    clean + noise       yes       clean
    clean + noise       no        clean + noise

The target is what every loss compares with. The noise of an example is another recording of the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

QUIETEST = 1e-4  # a root mean square below which there is nothing to set a level by


class DenoisingBatch(NamedTuple):
    """heard, target: [B, C, N]; denoise: bool [B]."""

    heard: Tensor
    target: Tensor
    denoise: Tensor


def with_noise(clean: Tensor, probability: float, noise_db: tuple[float, float]) -> DenoisingBatch:
    """clean [B, C, N], B >= 2; an example is noisy with `probability`, by a level of `noise_db` below its own."""
    batch = clean.shape[0]
    drawn = torch.rand(3, batch, device=clean.device)
    noisy, denoise = drawn[0] < probability, drawn[1] < 0.5
    decibel = noise_db[0] + (noise_db[1] - noise_db[0]) * drawn[2]
    other = clean.roll(1, 0)
    level, of_other = (x.square().mean((1, 2)).sqrt() for x in (clean, other))
    gain = level / of_other.clamp_min(QUIETEST) * 10 ** (-decibel / 20) * noisy
    heard = clean + gain[:, None, None] * other
    loudest = heard.abs().amax((1, 2), keepdim=True).clamp_min(1.0)  # nothing is clipped, and both are turned down
    heard, clean = heard / loudest, clean / loudest
    return DenoisingBatch(heard, torch.where(denoise[:, None, None], clean, heard), denoise)
