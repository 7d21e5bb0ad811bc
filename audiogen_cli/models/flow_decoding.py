"""From noise to latents along a learned flow (models/flow.py): Euler's steps, with classifier-free guidance.

Guidance is projected (2410.02416, section 4, without its rescaling and momentum): of what a text adds to where a step
would end, the part along that is left out. It makes sound louder and coarser, not likelier.

An item's latents are a function of its own prompt, seed and text, to the bit: items are made one after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence

import torch
from torch import Tensor

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.errors import InputError
from audiogen_cli.models.decoding import Sampling, take, with_null
from audiogen_cli.models.flow import Flow
from audiogen_cli.ops.attention import Memory

_SHORTEST_TEXT = 32  # texts are padded to this many tokens, or a multiple of them
_JUDGED = (0.5, 0.6, 0.7)  # the times at which a flow judges: late enough for one that only paints


def integrate(
    flow: Flow,
    condition: Condition,
    num_frames: int,
    seeds: Sequence[int],
    sampling: Sampling | None = None,
    prompt: Tensor | None = None,
    sketch: Tensor | None = None,
) -> Generator[int, None, Tensor]:
    """One item per seed. Yields the number of frames' worth of work done so far; returns latents [B, D, num_frames].

    condition: of B rows. prompt: latents [B, D, P] that are kept as the first P frames. sketch: latents [B, D, T] to
    paint over, from the time `sketched` of the configuration on, in as much fewer steps. Of `sampling` guidance, steps
    and temperature (the size of the noise) count. `flow` is expected in eval mode. Raises InputError when the prompt is
    longer than what is asked for.
    """
    sampling = sampling or Sampling()
    if prompt is not None and prompt.shape[2] > num_frames:
        raise InputError(f"the prompt has {prompt.shape[2]} frames, more than the {num_frames} asked for; ask for more")
    begin = 0.0 if sketch is None else flow.config.sketched
    guidance = sampling.guidance if sketch is None else 1 + (sampling.guidance - 1) * flow.config.emphasis
    times = torch.linspace(begin, 1, max(1, round(sampling.steps * (1 - begin))) + 1).tolist()
    found = []
    for row, seed in enumerate(seeds):
        own = None if prompt is None else prompt[row : row + 1]
        heard = _heard(flow, condition, row, guidance)
        frames = _noise(flow, num_frames, seed, sampling.temperature)
        if sketch is not None:
            frames = frames * (1 - begin) + flow.whitened(sketch[row : row + 1].to(frames.device)) * begin
        frames, known = _with_prompt(flow, frames, own)
        memory = _remember(flow, heard)
        for step, span in enumerate(itertools.pairwise(times), start=1):
            frames = _step(flow, frames, known, heard, memory, span, guidance)
            yield num_frames * (row * (len(times) - 1) + step) // (len(seeds) * (len(times) - 1))
        found.append(_end(flow, frames, own))
    return torch.cat(found)


@torch.inference_mode()
def answer(flow: Flow, latents: Tensor, condition: Condition, row: int = 0) -> float:
    """How well latents [1, D, T] answer the text of a row: by how much the flow's way back to them from under noise is
    nearer when it hears the text than when it does not, in mean squared error of the velocity, as a diffusion model
    classifies (2303.16203, section 3). The noise is the same for all latents of one length."""
    heard = _heard(flow, condition, row, guidance=2.0)
    memory, frames, gain = flow.remember(heard), flow.whitened(latents.to(flow.centre.device)), 0.0
    for number, time in enumerate(_JUDGED):
        noise = _noise(flow, frames.shape[1], number, temperature=1.0)
        noisy = noise + (frames - noise) * time
        velocity = flow(noisy.expand(2, -1, -1), torch.full((2,), time, device=frames.device), heard, memory=memory)
        told, untold = (velocity - (frames - noise)).square().mean(dim=(1, 2)).tolist()
        gain += (untold - told) / len(_JUDGED)
    return gain


def _heard(flow: Flow, condition: Condition, row: int, guidance: float) -> Condition:
    """One text, padded by its own length alone; with guidance its null follows."""
    length = int(condition.mask[row].sum())
    alone = take(condition, [row], max(1, -(-length // _SHORTEST_TEXT)) * _SHORTEST_TEXT)
    return (alone if guidance == 1 else with_null(alone)).to(flow.centre.device)


def _noise(flow: Flow, num_frames: int, seed: int, temperature: float) -> Tensor:
    """[1, T, D]"""
    shape = (1, num_frames, flow.config.made)
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * temperature).to(flow.centre)


def _with_prompt(flow: Flow, frames: Tensor, prompt: Tensor | None) -> tuple[Tensor, Tensor]:
    """frames [1, T, D] with a prompt in the place of the first ones, and which those are, bool [1, T]."""
    length = 0 if prompt is None else prompt.shape[2]
    if prompt is not None:
        frames = torch.cat([flow.whitened(prompt.to(frames.device)), frames[:, length:]], dim=1)
    return frames, (torch.arange(frames.shape[1], device=frames.device) < length)[None]


@torch.inference_mode()
def _remember(flow: Flow, heard: Condition) -> list[Memory]:
    return flow.remember(heard)


@torch.inference_mode()
def _step(
    flow: Flow,
    frames: Tensor,
    known: Tensor,
    heard: Condition,
    memory: list[Memory],
    span: tuple[float, float],
    guidance: float,
) -> Tensor:
    """frames [1, T, D] at the first time of a span -> at the second."""
    rows = heard.batch_size
    time = torch.full((rows,), span[0], device=frames.device)
    velocity = flow(frames.expand(rows, -1, -1), time, heard, known.expand(rows, -1), memory)
    if rows == 2:
        velocity = guided(frames, velocity[:1], velocity[1:], span[0], guidance)
    return frames + velocity.masked_fill(known[..., None], 0.0) * (span[1] - span[0])


def guided(frames: Tensor, velocity: Tensor, null: Tensor, time: float, guidance: float) -> Tensor:
    """frames [1, T, D] at a time, their velocity with the text and without it -> the velocity to take. Guidance up to 1
    lies between the two, and is not projected."""
    added = velocity - null
    if guidance <= 1:
        return null + guidance * added
    end = frames + velocity * (1 - time)
    along = (added * end).sum() / end.square().sum().clamp_min(1e-12) * end
    return velocity + (guidance - 1) * (added - along)


@torch.inference_mode()
def _end(flow: Flow, frames: Tensor, prompt: Tensor | None) -> Tensor:
    """The codec's latents [1, D, T] on the CPU; the prompt's are exactly what they were."""
    latents = flow.coloured(frames).cpu()
    if prompt is not None:
        latents[:, :, : prompt.shape[2]] = prompt
    return latents
