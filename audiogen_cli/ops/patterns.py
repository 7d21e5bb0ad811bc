"""Codebook patterns (MusicGen, 2306.05284, section 2.2): in which step of the sequence each code is predicted.

A pattern is one integer array `step[k, t]`: code `k` of frame `t` stands at step `step[k, t]`. Applying it is a
scatter, reverting it a gather. Positions of the [K, S] grid that no code claims hold the special token.

    delay, K=3, T=4      parallel     flatten               coarse-first
    k0  0 1 2 3 . .      0 1 2 3      0 . . 1 . . 2 . .     0 1 2 3 . . . .
    k1  . 0 1 2 3 .      0 1 2 3      . 0 . . 1 . . 2 .     . . . . 0 1 2 3
    k2  . . 0 1 2 3      0 1 2 3      . . 0 . . 1 . . 2     . . . . 0 1 2 3

These steps are the ones that are predicted: the all-special step that starts a model's input is not among them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def delay(num_codebooks: int, num_frames: int, delays: Sequence[int] | None = None) -> Tensor:
    """Codebook k comes `delays[k]` steps late (default k). Stereo MusicGen uses 0, 0, 1, 1, 2, 2, 3, 3."""
    late = torch.tensor(range(num_codebooks) if delays is None else delays, dtype=torch.int64)
    return torch.arange(num_frames) + late[:, None]  # [K, T]


def parallel(num_codebooks: int, num_frames: int, delays: Sequence[int] | None = None) -> Tensor:
    """All codes of a frame in one step."""
    return torch.arange(num_frames).expand(num_codebooks, -1).clone()


def flatten(num_codebooks: int, num_frames: int, delays: Sequence[int] | None = None) -> Tensor:
    """One code a step, frame after frame."""
    return torch.arange(num_frames) * num_codebooks + torch.arange(num_codebooks)[:, None]


def coarse_first(num_codebooks: int, num_frames: int, delays: Sequence[int] | None = None) -> Tensor:
    """The first codebook of all frames, then the others in parallel (VALL-E, 2301.02111)."""
    others = (torch.arange(num_codebooks) > 0)[:, None]
    return torch.arange(num_frames) + others * num_frames


PATTERNS: dict[str, Callable[..., Tensor]] = {
    "delay": delay,
    "parallel": parallel,
    "flatten": flatten,
    "coarse-first": coarse_first,
}


def num_steps(step: Tensor) -> int:
    """S, the length of the sequence that a pattern [K, T] needs."""
    return int(step.max()) + 1 if step.numel() else 0


def valid(step: Tensor) -> Tensor:
    """[K, S] bool: which positions hold a code rather than the special token."""
    mask = torch.zeros(step.shape[0], num_steps(step), dtype=torch.bool, device=step.device)
    return mask.scatter(1, step, True)


def apply(codes: Tensor, step: Tensor, special: int) -> Tensor:
    """codes [B, K, T] -> steps [B, K, S], with `special` where no code stands."""
    steps = codes.new_full((*codes.shape[:2], num_steps(step)), special)
    return steps.scatter(2, step.to(codes.device).expand_as(codes), codes)


def revert(steps: Tensor, step: Tensor) -> Tensor:
    """steps [B, K, S] -> codes [B, K, T]; the inverse of `apply`."""
    return steps.gather(2, step.to(steps.device).expand(steps.shape[0], -1, -1))


def frames_done(step: Tensor) -> list[int]:
    """How many frames are complete after each of the S steps."""
    last = step.max(dim=0).values  # [T], non-decreasing in every pattern above
    return torch.bincount(last, minlength=num_steps(step)).cumsum(0).tolist()
