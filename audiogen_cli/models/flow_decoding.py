"""From noise to latents along a learned flow (models/flow.py): Euler's steps, with classifier-free guidance.

An item's latents are a function of its own prompt, seed and text, to the bit: items are made one after the other.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch
from torch import Tensor

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.errors import InputError
from audiogen_cli.models.decoding import Sampling, take, with_null
from audiogen_cli.models.flow import Flow
from audiogen_cli.ops.attention import Memory
from audiogen_cli.ops.sampling import guide

_SHORTEST_TEXT = 32  # texts are padded to this many tokens, or a multiple of them


def integrate(
    flow: Flow,
    condition: Condition,
    num_frames: int,
    seeds: Sequence[int],
    sampling: Sampling | None = None,
    prompt: Tensor | None = None,
) -> Generator[int, None, Tensor]:
    """One item per seed. Yields the number of frames' worth of work done so far; returns latents [B, D, num_frames].

    condition: of B rows. prompt: latents [B, D, P] that are kept as the first P frames. Of `sampling` guidance, steps
    and temperature (the size of the noise) count. `flow` is expected in eval mode. Raises InputError when the prompt is
    longer than what is asked for.
    """
    sampling = sampling or Sampling()
    if prompt is not None and prompt.shape[2] > num_frames:
        raise InputError(f"the prompt has {prompt.shape[2]} frames, more than the {num_frames} asked for; ask for more")
    found = []
    for row, seed in enumerate(seeds):
        own = None if prompt is None else prompt[row : row + 1]
        heard = _heard(flow, condition, row, sampling.guidance)
        frames, known = _begin(flow, num_frames, seed, sampling.temperature, own)
        memory = _remember(flow, heard)
        for step in range(sampling.steps):
            frames = _step(flow, frames, known, heard, memory, step, sampling)
            yield num_frames * (row * sampling.steps + step + 1) // (len(seeds) * sampling.steps)
        found.append(_end(flow, frames, own))
    return torch.cat(found)


def _heard(flow: Flow, condition: Condition, row: int, guidance: float) -> Condition:
    """One text, padded by its own length alone; with guidance its null follows."""
    length = int(condition.mask[row].sum())
    alone = take(condition, [row], max(1, -(-length // _SHORTEST_TEXT)) * _SHORTEST_TEXT)
    return (alone if guidance == 1 else with_null(alone)).to(flow.centre.device)


def _begin(flow: Flow, num_frames: int, seed: int, temperature: float, prompt: Tensor | None) -> tuple[Tensor, Tensor]:
    """Noise [1, T, D] behind what is known, and what that is, bool [1, T]."""
    shape = (1, num_frames, flow.config.latent_dim)
    frames = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * temperature).to(flow.centre)
    known = torch.zeros(1, num_frames, dtype=torch.bool, device=frames.device)
    if prompt is not None:
        frames[:, : prompt.shape[2]] = flow.whitened(prompt.to(frames.device))
        known[:, : prompt.shape[2]] = True
    return frames, known


@torch.inference_mode()
def _remember(flow: Flow, heard: Condition) -> list[Memory]:
    return flow.remember(heard)


@torch.inference_mode()
def _step(
    flow: Flow, frames: Tensor, known: Tensor, heard: Condition, memory: list[Memory], step: int, sampling: Sampling
) -> Tensor:
    """frames [1, T, D], one step nearer to sound."""
    rows = heard.batch_size
    time = torch.full((rows,), step / sampling.steps, device=frames.device)
    velocity = flow(frames.expand(rows, -1, -1), time, heard, known.expand(rows, -1), memory)
    if rows == 2:
        velocity = guide(velocity[:1], velocity[1:], sampling.guidance)
    return frames + velocity.masked_fill(known[..., None], 0.0) / sampling.steps


@torch.inference_mode()
def _end(flow: Flow, frames: Tensor, prompt: Tensor | None) -> Tensor:
    """The codec's latents [1, D, T] on the CPU; the prompt's are exactly what they were."""
    latents = flow.coloured(frames).cpu()
    if prompt is not None:
        latents[:, :, : prompt.shape[2]] = prompt
    return latents
