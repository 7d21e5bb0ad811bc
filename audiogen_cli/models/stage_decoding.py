"""The autoregressive loop over a stage of AudioLM: cache, guidance, sampling, and when to stop.

An item's ids are a function of its own prefix, prompt, seed and text, to the bit, whatever else is in the batch: items
advance together only when all their lengths agree, a matrix product takes `lanes` of them at a time, and every item
draws its own noise (see models/decoding.py).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.models.audiolm import Stage
from audiogen_cli.models.decoding import Sampling, take, with_null
from audiogen_cli.ops.sampling import exponential_noise, guide, sample

_TOGETHER = 8
_SHORTEST_TEXT = 32


@dataclass(frozen=True)
class Item:
    """One row to be made. prefix: ids of the block before the last, or none; prompt: ids of the last block to go on
    from; length: ids of the last block to stop at, the prompt included."""

    prompt: Tensor
    length: int
    seed: int
    prefix: Tensor | None = None


def decode(
    stage: Stage,
    items: Sequence[Item],
    condition: Condition | None = None,
    sampling: Sampling | None = None,
    *,
    lanes: int = 1,
    look_back: int = 0,
) -> Generator[int, None, list[Tensor]]:
    """Ids [n] of the last block for each item, its prompt first and its end left out. Yields the ids done so far,
    the mean of the items.

    condition: of as many rows; None is unconditional. A row stops at its end or at its length, never before something
    new. look_back: see `_renewed`, 0 is off. `stage` is expected in eval mode, and unflattened prompts are whole
    frames.
    """
    sampling = sampling or Sampling()
    done, made = 0, dict[int, Tensor]()
    for rows, text in _groups(items, condition):
        filled = rows + rows[-1:] * (-len(rows) % lanes)
        heard = None if condition is None else take(condition, filled, text).to(stage.starts.device)
        group = [items[row] for row in filled]
        steps = _fill(stage, group, heard, sampling, lanes, look_back)
        found = yield from _counted(steps, done, len(rows), len(items))
        made.update(zip(rows, found, strict=False))
        done += group[0].length * len(rows)
    return [made[row] for row in range(len(items))]


def _counted(
    steps: Generator[int, None, list[Tensor]], before: int, rows: int, total: int
) -> Generator[int, None, list[Tensor]]:
    while True:
        try:
            yield (before + next(steps) * rows) // total
        except StopIteration as stop:
            found: list[Tensor] = stop.value
            return found


def _groups(items: Sequence[Item], condition: Condition | None) -> list[tuple[list[int], int]]:
    """Rows whose lengths agree, at most 8 together, and the text length that they share."""
    texts = [0] * len(items) if condition is None else text_lengths(condition)
    keys: dict[tuple[int, ...], list[int]] = {}
    for row, (item, text) in enumerate(zip(items, texts, strict=True)):
        prefix = 0 if item.prefix is None else len(item.prefix)
        keys.setdefault((len(item.prompt), item.length, prefix, text), []).append(row)
    return [
        (same[i : i + _TOGETHER], key[-1]) for key, same in sorted(keys.items()) for i in range(0, len(same), _TOGETHER)
    ]


def text_lengths(condition: Condition) -> list[int]:
    """To how many tokens each row's text is padded: a function of itself alone."""
    return [max(_SHORTEST_TEXT, 1 << (int(n) - 1).bit_length()) for n in condition.mask.sum(dim=1).clamp_min(1)]


class Reader:
    """A stage reading items whose lengths agree, through its cache; both halves of guidance at once."""

    def __init__(
        self, stage: Stage, items: Sequence[Item], condition: Condition | None, sampling: Sampling, lanes: int = 1
    ) -> None:
        guided = condition is not None and stage.config.conditioning != "none" and sampling.guidance != 1
        self.stage, self.guidance, self.halves = stage, sampling.guidance, 2 if guided else 1
        self.condition = with_null(condition) if guided and condition is not None else condition
        blocks = [torch.stack([item.prompt for item in items])]
        if items[0].prefix is not None:
            blocks.insert(0, torch.stack([item.prefix for item in items if item.prefix is not None]))
        self._blocks = [self._doubled(block) for block in blocks]
        lengths = [*(block.shape[1] for block in blocks[:-1]), items[0].length]
        self.cache = stage.cache(len(self._blocks[0]), lengths, self.halves * lanes)

    def begin(self) -> Tensor:
        """Reads the prefixes and the prompts -> logits [B, V] of what follows."""
        return self._guided(self.stage(self._blocks, self.condition, self.cache)[-1][:, -1])

    def more(self, ids: Tensor) -> Tensor:
        """Reads ids [B, n] -> logits [B, n, V] of what follows each."""
        return self._guided(self.stage.more(self._doubled(ids), self.cache, self.condition))

    def _doubled(self, ids: Tensor) -> Tensor:
        return ids.to(self.stage.starts.device).repeat_interleave(self.halves, dim=0)

    def _guided(self, logits: Tensor) -> Tensor:
        """A class that is impossible stays so."""
        if self.halves == 1:
            return logits
        cond, null = logits[0::2], logits[1::2]
        return guide(cond, null, self.guidance).masked_fill(cond == -torch.inf, -torch.inf)


@torch.inference_mode()
def _fill(
    stage: Stage, items: Sequence[Item], condition: Condition | None, sampling: Sampling, lanes: int, look_back: int
) -> Generator[int, None, list[Tensor]]:
    ids, length = torch.stack([item.prompt for item in items]).to(stage.starts.device), items[0].length
    if ids.shape[1] >= length:
        return [row[:length].cpu() for row in ids]
    reader = Reader(stage, items, condition, sampling, lanes)
    generators = [torch.Generator().manual_seed(item.seed) for item in items]
    logits = reader.begin()
    ended = torch.full((len(items),), -1)  # where a row ends, once it has
    while True:
        new = ids.shape[1] - len(items[0].prompt)
        likely = allowed(stage, logits, ids, new)
        found = _draw(likely, generators, sampling)
        if look_back and sampling.temperature:
            found = _renewed(found, likely, generators, ids, look_back)
        over = (found.cpu() == stage.config.end) if stage.config.end is not None else torch.zeros(len(items)).bool()
        ended = torch.where(over & (ended < 0), ids.shape[1], ended)
        ids = torch.cat([ids, found.clamp_max(stage.config.target.codebook_size - 1)[:, None]], dim=1)
        yield ids.shape[1]
        if ids.shape[1] == length or bool((ended >= 0).all()):
            break
        logits = reader.more(ids[:, -1:])[:, -1]
    return [row[: length if end < 0 else int(end)].cpu() for row, end in zip(ids, ended, strict=True)]


def allowed(stage: Stage, logits: Tensor, ids: Tensor, new: int) -> Tensor:
    """Without repeated ids the next one differs from the last; and the end is not the first thing that is made."""
    config = stage.config
    logits = logits.clone()
    if config.stage == "semantic" and config.unique_consecutive and ids.shape[1]:
        logits.scatter_(1, ids[:, -1:], -torch.inf)
    if config.end is not None and not new:
        logits[:, config.end] = -torch.inf
    return logits


def _draw(logits: Tensor, generators: Sequence[torch.Generator], sampling: Sampling) -> Tensor:
    """logits [B, V] -> ids [B], each row with its own noise."""
    noise = None
    if sampling.temperature > 0:
        noise = torch.stack([exponential_noise(logits.shape[1:], generator) for generator in generators])
        noise = noise.to(logits.device)
    return sample(logits, noise, sampling.temperature, sampling.top_k, sampling.top_p)


def _renewed(
    found: Tensor, logits: Tensor, generators: Sequence[torch.Generator], ids: Tensor, look_back: int
) -> Tensor:
    """Repetition-aware sampling (VALL-E 2, 2406.05370): an id [B] that makes up more than a tenth of the last
    `look_back` of ids [B, n] is drawn again, from all that there are and as likely as they are. This leads out of
    loops."""
    repeats = 10 * (ids[:, -look_back:] == found[:, None]).sum(dim=1) > look_back
    for row in repeats.nonzero()[:, 0].tolist():
        found[row] = _draw(logits[row, None], [generators[row]], Sampling(1.0, 0))[0]
    return found
