"""Speculative decoding (2211.17192): a small stage proposes ids, the large one checks all of them in one pass.

    draft     x1 ~ q1, x2 ~ q2 .. xn ~ qn, one by one
    target    one pass over x1 .. xn -> p1 .. pn, p(n+1)
    accept    xi with probability min(1, pi(xi) / qi(xi)). At the first that is refused, an id from the positive part of
              pi - qi stands in its place and the rest is forgotten; if none is, one more is drawn from p(n+1)

Ids so made are distributed exactly as the target's own, however bad the draft is: p and q are what would be sampled
from, after guidance, temperature, top-k, top-p and whatever is not allowed. Which ids a seed makes is not the same as
without a draft, except at temperature 0.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch
from torch import Tensor

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.errors import ModelError
from audiogen_cli.models.audiolm import Stage
from audiogen_cli.models.decoding import Sampling, take
from audiogen_cli.models.depth import DepthStage
from audiogen_cli.models.stage_decoding import Item, Reader, allowed, text_lengths
from audiogen_cli.ops.sampling import exponential_noise, probabilities


def speculate(
    stage: Stage,
    draft: Stage,
    items: Sequence[Item],
    condition: Condition | None = None,
    sampling: Sampling | None = None,
    ahead: int = 4,
) -> Generator[int, None, list[Tensor]]:
    """As stage_decoding.decode, with `ahead` ids proposed at a time; items are made one after the other.

    Raises ModelError when the draft has other ids than the stage, or the stage does not read ids one by one.
    """
    check_draft(stage, draft)
    sampling, made = sampling or Sampling(), list[Tensor]()
    lengths = [] if condition is None else text_lengths(condition)
    for number, item in enumerate(items):
        if len(item.prompt) >= item.length:
            made.append(item.prompt[: item.length])
            continue
        text = None if condition is None else take(condition, [number], lengths[number])
        steps = _Pair(stage, draft, item, text, sampling).fill(ahead)
        while True:
            try:
                yield (number * item.length + next(steps)) // len(items)
            except StopIteration as stop:
                made.append(stop.value)
                break
    return made


def check_draft(stage: Stage, draft: Stage) -> None:
    """Raises ModelError where `speculate` would."""
    mine, its = stage.config, draft.config
    if isinstance(stage, DepthStage) or isinstance(draft, DepthStage):
        raise ModelError("a stage that makes frames cannot be drafted for, nor be a draft; leave the draft out.")
    same = [(b.axis, b.codebook_size, b.num_levels, b.first_level) for b in mine.blocks] == [
        (b.axis, b.codebook_size, b.num_levels, b.first_level) for b in its.blocks
    ]
    if not same or (mine.stage, mine.unique_consecutive) != (its.stage, its.unique_consecutive):
        raise ModelError(f"the draft has other ids than the {mine.stage} stage; train it on the same.")


class _Follower:
    """A stage that has read some of an item's ids, and can forget the last of them."""

    def __init__(self, stage: Stage, item: Item, condition: Condition | None, sampling: Sampling) -> None:
        heard = condition if stage.config.conditioning != "none" else None
        if heard is not None:
            heard = heard.to(stage.starts.device)
        self.reader = Reader(stage, [item], heard, sampling)
        self.sampling, self.prompt = sampling, len(item.prompt)
        self.last = self.reader.begin()  # [1, V]

    def follow(self, ids: Tensor, count: int) -> Tensor:
        """Reads what is new of ids [n] -> logits [count, V] of what follows each of the last `count`."""
        new = ids[self.reader.cache.read :]
        logits = torch.cat([self.last, self.reader.more(new[None])[0]]) if len(new) else self.last
        self.last = logits[-1:]
        return logits[-count:]

    def forget(self, length: int) -> None:
        self.reader.stage.cut(self.reader.cache, min(length, self.reader.cache.read))

    def probabilities(self, logits: Tensor, ids: Tensor) -> Tensor:
        """logits [V] of what follows ids [n] -> [V], on the CPU."""
        how = self.sampling
        logits = allowed(self.reader.stage, logits[None], ids[None].to(logits.device), len(ids) - self.prompt)[0]
        return probabilities(logits, how.temperature, how.top_k, how.top_p).cpu()


class _Pair:
    """Target and draft at work on one item."""

    def __init__(self, stage: Stage, draft: Stage, item: Item, condition: Condition | None, sampling: Sampling) -> None:
        self.item, self.end = item, stage.config.end
        self.generator = torch.Generator().manual_seed(item.seed)
        with torch.inference_mode():
            self.target, self.draft = (_Follower(part, item, condition, sampling) for part in (stage, draft))

    @torch.inference_mode()
    def fill(self, ahead: int) -> Generator[int, None, Tensor]:
        """Yields how many ids there are; returns them."""
        ids = self.item.prompt
        while len(ids) < self.item.length:
            guesses = self._guesses(ids, min(ahead, self.item.length - len(ids) - 1))
            found = self._checked(ids, guesses)
            over = self.end is not None and found[-1] == self.end
            ids = torch.cat([ids, torch.tensor(found[: len(found) - over], dtype=ids.dtype)])
            self.target.forget(len(ids) - 1)
            self.draft.forget(len(ids) - 1)
            yield len(ids)
            if over:
                break
        return ids

    def _guesses(self, ids: Tensor, count: int) -> list[tuple[int, Tensor]]:
        """What the draft says next, up to `count` ids or its end, each with the probabilities it was drawn from."""
        guesses: list[tuple[int, Tensor]] = []
        while len(guesses) < count and not (guesses and guesses[-1][0] == self.end):
            likely = self.draft.probabilities(self.draft.follow(ids, 1)[0], ids)
            guesses.append((self._drawn(likely), likely))
            ids = torch.cat([ids, torch.tensor([guesses[-1][0]])])
        return guesses

    def _checked(self, ids: Tensor, guesses: list[tuple[int, Tensor]]) -> list[int]:
        """The guesses as far as the target accepts them, and one id of its own unless the sound has ended."""
        read = torch.cat([ids, torch.tensor([guess for guess, _ in guesses if guess != self.end], dtype=ids.dtype)])
        logits = self.target.follow(read, len(read) - len(ids) + 1)
        for number, (guess, drafted) in enumerate(guesses):
            likely = self.target.probabilities(logits[number], read[: len(ids) + number])
            if float(torch.rand((), generator=self.generator)) * drafted[guess] >= likely[guess]:
                rest = (likely - drafted).clamp_min(0)
                return [*(n for n, _ in guesses[:number]), self._drawn(rest if rest.any() else likely)]
        found = [guess for guess, _ in guesses]
        if found and found[-1] == self.end:
            return found
        return [*found, self._drawn(self.target.probabilities(logits[-1], read))]

    def _drawn(self, likely: Tensor) -> int:
        """An exponential race, as in ops/sampling.py."""
        return int((likely / exponential_noise(tuple(likely.shape), self.generator)).argmax())
