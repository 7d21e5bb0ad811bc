"""From noise to latents along a learned flow (models/flow.py): Euler's steps, with classifier-free guidance.

Guidance is projected (2410.02416, section 4, without its rescaling and momentum): of what a text adds to where a step
would end, the part along that is left out. It makes sound louder and coarser, not likelier.

Exactly `lanes` items are made at a time, missing ones filled in with copies, all of the same padded length of text, as
codes are (models/decoding.py). Made one by one, an item's latents are a function of its own prompt, seed and text, to
the bit; made together, of its neighbours' number and its place among them too, by a few ULP.
"""

from __future__ import annotations

import dataclasses
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
_TOGETHER = 8  # how many latents are judged at a time at most
_JUDGED = 0.5  # the time at which a flow judges: late enough for one that only paints


def integrate(
    flow: Flow,
    condition: Condition,
    num_frames: int,
    seeds: Sequence[int],
    sampling: Sampling | None = None,
    prompt: Tensor | None = None,
    sketch: Tensor | None = None,
    *,
    lanes: int = 1,
) -> Generator[int, None, Tensor]:
    """One item per seed. Yields the number of frames' worth of work done so far; returns latents [B, D, num_frames].

    condition: of B rows. prompt: latents [B, D, P] that are kept as the first P frames. sketch: latents [B, D, T] to
    paint over, from the time `sketched` of the configuration on, in as much fewer steps. Of `sampling` guidance, steps
    and temperature (the size of the noise) count. lanes: items made at a time. `flow` is expected in eval mode. Raises
    InputError when the prompt is longer than what is asked for.
    """
    sampling = sampling or Sampling()
    if prompt is not None and prompt.shape[2] > num_frames:
        raise InputError(f"the prompt has {prompt.shape[2]} frames, more than the {num_frames} asked for; ask for more")
    begin = 0.0 if sketch is None else flow.config.sketched
    guidance = sampling.guidance if sketch is None else 1 + (sampling.guidance - 1) * flow.config.emphasis
    times = torch.linspace(begin, 1, max(1, round(sampling.steps * (1 - begin))) + 1).tolist()
    found: dict[int, Tensor] = {}
    groups = _groups(condition, range(len(seeds)), lanes)
    for number, (rows, length) in enumerate(groups):
        filled = rows + rows[-1:] * (lanes - len(rows))
        own = None if prompt is None else prompt[filled]
        heard = _heard(flow, condition, filled, length, guidance != 1)
        frames = torch.cat([_noise(flow, num_frames, seeds[row], sampling.temperature) for row in filled])
        if sketch is not None:
            frames = frames * (1 - begin) + flow.whitened(sketch[filled].to(frames.device)) * begin
        frames, known = _with_prompt(flow, frames, own)
        memory = _remember(flow, heard)
        for step, span in enumerate(itertools.pairwise(times), start=1):
            frames = _step(flow, frames, known, heard, memory, span, guidance)
            yield num_frames * (number * (len(times) - 1) + step) // (len(groups) * (len(times) - 1))
        found |= zip(rows, _end(flow, frames, own), strict=False)
    return torch.stack([found[row] for row in range(len(seeds))])


def to_sketch(flow: Flow, sampling: Sampling) -> Sampling:
    """How a language model draws what a flow paints over: with the share `sketching` of the guidance."""
    return dataclasses.replace(sampling, guidance=1 + (sampling.guidance - 1) * flow.config.sketching)


@torch.inference_mode()
def answers(flow: Flow, latents: Tensor, condition: Condition) -> list[float]:
    """How well each of latents [B, D, T] answers the one text of a condition: by how much the flow's way back to them
    from under noise is nearer when it hears the text than when it does not, in mean squared error of the velocity, as a
    diffusion model classifies (2303.16203, section 3). The noise is the same for all latents of one length."""
    found: list[float] = []
    for own in latents.split(_TOGETHER):
        (rows, length), *_ = _groups(condition, [0] * len(own), len(own))
        heard = _heard(flow, condition, rows, length, with_nothing=True)
        frames = flow.whitened(own.to(flow.centre.device))
        noise = _noise(flow, frames.shape[1], seed=0, temperature=1.0)
        noisy, wanted = noise + (frames - noise) * _JUDGED, frames - noise
        times = torch.full((heard.batch_size,), _JUDGED, device=frames.device)
        velocity = flow(noisy.repeat_interleave(2, dim=0), times, heard)
        error = (velocity - wanted.repeat_interleave(2, dim=0)).square().mean(dim=(1, 2))
        found += (error[1::2] - error[0::2]).tolist()
    return found


def _groups(condition: Condition, rows: Sequence[int], lanes: int) -> list[tuple[list[int], int]]:
    """The rows that are made at a time, and the length to which their texts are padded: a function of a text alone."""
    lengths = condition.mask.sum(dim=1).tolist()
    padded = {row: max(1, -(-lengths[row] // _SHORTEST_TEXT)) * _SHORTEST_TEXT for row in rows}
    alike = {length: [row for row in rows if padded[row] == length] for length in sorted(set(padded.values()))}
    return [(same[i : i + lanes], length) for length, same in alike.items() for i in range(0, len(same), lanes)]


def _heard(flow: Flow, condition: Condition, rows: list[int], length: int, with_nothing: bool) -> Condition:
    """Texts of one padded length, each followed by its null where that is heard too."""
    alone = take(condition, rows, length)
    return (with_null(alone) if with_nothing else alone).to(flow.centre.device)


def _noise(flow: Flow, num_frames: int, seed: int, temperature: float) -> Tensor:
    """[1, T, D]"""
    shape = (1, num_frames, flow.config.made)
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * temperature).to(flow.centre)


def _with_prompt(flow: Flow, frames: Tensor, prompt: Tensor | None) -> tuple[Tensor, Tensor]:
    """frames [B, T, D] with a prompt in the place of the first ones, and which those are, bool [1, T]."""
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
    """frames [B, T, D] at the first time of a span -> at the second. heard: of B rows, or of 2 B, of which every second
    is a null."""
    rows, halves = heard.batch_size, heard.batch_size // len(frames)
    time = torch.full((rows,), span[0], device=frames.device)
    velocity = flow(frames.repeat_interleave(halves, 0), time, heard, known.expand(rows, -1), memory)
    if halves == 2:
        velocity = guided(frames, velocity[0::2], velocity[1::2], span[0], guidance)
    return frames + velocity.masked_fill(known[..., None], 0.0) * (span[1] - span[0])


def guided(frames: Tensor, velocity: Tensor, null: Tensor, time: float, guidance: float) -> Tensor:
    """frames [B, T, D] at a time, their velocity with the text and without it -> the velocity to take. Guidance up to 1
    lies between the two, and is not projected."""
    added = velocity - null
    if guidance <= 1:
        return null + guidance * added
    end = frames + velocity * (1 - time)
    share = (added * end).sum((1, 2), keepdim=True) / end.square().sum((1, 2), keepdim=True).clamp_min(1e-12)
    along = share * end
    return velocity + (guidance - 1) * (added - along)


@torch.inference_mode()
def _end(flow: Flow, frames: Tensor, prompt: Tensor | None) -> Tensor:
    """The codec's latents [B, D, T] on the CPU; the prompt's are exactly what they were."""
    latents = flow.coloured(frames).cpu()
    if prompt is not None:
        latents[:, :, : prompt.shape[2]] = prompt
    return latents
