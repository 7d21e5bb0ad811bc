"""The autoregressive loop over a language model: cache, classifier-free guidance, sampling; progress by yielding.

An item's codes are a function of its own prompt, seed and condition, to the bit, whatever else is in the batch. Matrix
kernels round differently for different numbers of rows, so a matrix product takes exactly `lanes` items at a time
(zeros where some are missing); items advance together when their text has the same padded length, which is a
function of the text alone unless `keep_padding` asks for AudioCraft's batches; and every item draws its own noise.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.errors import InputError
from audiogen_cli.models.lm import LM
from audiogen_cli.ops import patterns
from audiogen_cli.ops.attention import KVCache
from audiogen_cli.ops.sampling import exponential_noise, guide, sample

T = TypeVar("T")

_UNKNOWN = -1  # stands in a sequence of steps where a code is still to be found
_TOGETHER = 8  # how many items advance together at most: they share the cost of reading the weights
_SHORTEST_TEXT = 32  # masked text is padded to this many tokens, or to the next power of two


@dataclass(frozen=True)
class Sampling:
    """temperature 0: the likeliest code. top_p > 0 overrides top_k; top_k 0: all codes. guidance 1: off. steps: from
    noise to sound, of a flow (models/flow_decoding.py), to which top_k and top_p mean nothing."""

    temperature: float = 1.0
    top_k: int = 250
    top_p: float = 0.0
    guidance: float = 3.0
    steps: int = 32

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("steps must be 1 or more; change them")
        if self.temperature < 0 or self.top_k < 0 or not 0 <= self.top_p <= 1:
            raise ValueError("temperature and top_k must not be negative and top_p must lie in 0 .. 1; change them")


def decode(
    lm: LM,
    condition: Condition | None,
    num_frames: int,
    seeds: Sequence[int],
    sampling: Sampling | None = None,
    prompt: Tensor | None = None,
    *,
    lanes: int = 1,
    keep_padding: bool = False,
) -> Generator[int, None, Tensor]:
    """One item per seed. Yields the number of frames done so far; returns codes [B, K, num_frames].

    condition: of B rows; None is unconditional. prompt: codes [B, K, P] that are kept as the first P frames.
    lanes: items per matrix product; more are faster for a large batch on a GPU, and slower for one item. The codes
    depend on this number as on the machine, by a few ULP of the logits. What is yielded is the mean of the items.
    keep_padding: a model of padding "audiocraft" hears each text with all the padding that `condition` has, as in a
    batch of AudioCraft, and not as AudioCraft hears that text alone; a masked model hears none either way.
    `lm` is expected in eval mode. Raises InputError when the prompt is longer than what is asked for.
    """
    sampling = sampling or Sampling()
    pattern = lm.config.steps(num_frames)  # [K, T]
    steps = _known_steps(lm, pattern, len(seeds), prompt)  # [B, K, S]
    done = patterns.frames_done(pattern)
    groups = _groups(lm, condition, len(seeds), lanes, keep_padding)
    for number, (rows, length) in enumerate(groups):
        heard = None if condition is None else take(condition, rows, length).to(_device(lm))
        group = steps[rows]
        for step in _fill(lm, heard, group, [seeds[row] for row in rows], sampling, lanes):
            yield (number * num_frames + done[step]) // len(groups)
        steps[rows] = group
    return patterns.revert(steps, pattern)


def finish(steps: Generator[Any, None, T]) -> T:
    """Runs a generator to its end and returns what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result


def _known_steps(lm: LM, pattern: Tensor, batch: int, prompt: Tensor | None) -> Tensor:
    """[B, K, S]: the prompt's codes, the special id where the pattern has no code, and _UNKNOWN for the rest."""
    num_codebooks, num_frames = pattern.shape
    codes = torch.full((batch, num_codebooks, num_frames), _UNKNOWN, device=_device(lm))
    if prompt is not None:
        if prompt.shape[2] > num_frames:
            raise InputError(
                f"the prompt has {prompt.shape[2]} frames, more than the {num_frames} asked for; ask for more"
            )
        codes[:, :, : prompt.shape[2]] = prompt
    return patterns.apply(codes, pattern, lm.config.special)


def _groups(
    lm: LM, condition: Condition | None, batch: int, lanes: int, keep_padding: bool
) -> list[tuple[list[int], int]]:
    """The batch in groups that advance together: their rows, and the text length they share.

    Without a mask the padding is heard, so there the length is exactly the text's, or that of `condition` if asked for.
    """
    lengths = [0] * batch
    if condition is not None:
        position = torch.arange(1, condition.mask.shape[1] + 1, device=condition.mask.device)
        lengths = (condition.mask * position).amax(dim=1).tolist()
    if lm.config.padding == "masked":
        lengths = [max(_SHORTEST_TEXT, 1 << (length - 1).bit_length()) for length in lengths]
    elif keep_padding and condition is not None:
        lengths = [condition.mask.shape[1]] * batch
    else:
        lengths = [max(length, 1) for length in lengths]
    rows = {length: [i for i in range(batch) if lengths[i] == length] for length in sorted(set(lengths))}
    size = -(-_TOGETHER // lanes) * lanes
    return [(same[i : i + size], length) for length, same in rows.items() for i in range(0, len(same), size)]


def take(condition: Condition, rows: list[int], length: int) -> Condition:
    """The given rows, cut or padded to `length` tokens."""
    more = max(0, length - condition.mask.shape[1])
    embedding = F.pad(condition.embedding[rows, :length], (0, 0, 0, more))
    melody = None if condition.melody is None else condition.melody[rows]
    return Condition(embedding, F.pad(condition.mask[rows, :length], (0, more)), melody)


def _fill(
    lm: LM, condition: Condition | None, steps: Tensor, seeds: Sequence[int], sampling: Sampling, lanes: int
) -> Iterator[int]:
    """Finds the unknown codes of steps [B, K, S], in place; yields the number of each step that is complete."""
    unknown = (steps[0] == _UNKNOWN).any(dim=0)  # [S]; the same for all rows
    if not unknown.any():
        return
    guidance = 1.0 if condition is None or lm.config.conditioning == "none" else sampling.guidance
    halves = 1 if guidance == 1 else 2
    if condition is not None and guidance != 1:
        condition = with_null(condition)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    cache = lm.cache(halves * len(steps), steps.shape[2], condition, rows=halves * lanes)
    inputs = F.pad(steps, (1, 0), value=lm.config.special)  # one step later: column s is read to predict steps[.., s]
    read = 0
    for step in range(int(unknown.nonzero()[0]), steps.shape[2]):
        logits = _next_logits(lm, inputs[:, :, read : step + 1], condition, cache, guidance)
        read = step + 1
        codes = _draw(logits, generators, sampling)
        steps[:, :, step] = torch.where(steps[:, :, step] == _UNKNOWN, codes, steps[:, :, step])
        inputs[:, :, read] = steps[:, :, step]
        yield step


def with_null(condition: Condition) -> Condition:
    """[2 B, L, D]: every row followed by its null, so that an item's two halves are neighbours."""
    embedding, mask = condition.embedding.repeat_interleave(2, dim=0), condition.mask.repeat_interleave(2, dim=0)
    mask[1::2] = False
    melody = None if condition.melody is None else condition.melody.repeat_interleave(2, dim=0)
    if melody is not None:
        melody[1::2] = 0
    return Condition(embedding, mask, melody)


@torch.inference_mode()
def _next_logits(lm: LM, steps: Tensor, condition: Condition | None, cache: KVCache, guidance: float) -> Tensor:
    """steps [B, K, s] -> guided logits [B, K, V] of the step that follows; one pass over both halves."""
    if guidance == 1:
        return lm(steps, condition, cache)[:, :, -1]
    logits = lm(steps.repeat_interleave(2, dim=0), condition, cache)[:, :, -1]  # [2 B, K, V]
    return guide(logits[0::2], logits[1::2], guidance)


@torch.inference_mode()
def _draw(logits: Tensor, generators: Sequence[torch.Generator], sampling: Sampling) -> Tensor:
    """logits [B, K, V] -> codes [B, K], each row with its own noise."""
    noise = None
    if sampling.temperature > 0:
        noise = torch.stack([exponential_noise(logits.shape[1:], generator) for generator in generators])
        noise = noise.to(logits.device)
    return sample(logits, noise, sampling.temperature, sampling.top_k, sampling.top_p)


def _device(lm: LM) -> torch.device:
    return lm.out_norm.weight.device
