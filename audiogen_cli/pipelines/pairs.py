"""Prompts of two sounds, "dog barking in rain": whether the tagger finds both of them in one answer.

Each sound counts as found when one of its classes is among the first five of at least one window of about a second.
Over all of the time, as single sounds are judged, rain hides a bark, and of two sounds in turn each has half of it.
Real mixtures are made as training mixes them, from held-out recordings of both. Of 92 such mixtures of the committed
pairs (5 s), this rule finds both sounds in 71 % and, as the control, both sounds of a pair without a common class in
0.5 %; the first five over all of the time are 14 % and 0.0 %, the first ten 51 % and 0.1 %.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from audiogen_cli.data.segments import Segments
from audiogen_cli.errors import InputError
from audiogen_cli.metrics.tagger import among_first
from audiogen_cli.pipelines.listening import (
    Progress,
    Prompt,
    Setup,
    Take,
    at_level,
    example_config,
    mean,
    named,
    read_rows,
    share,
    strangers,
)

FIRST = 5
MIXTURES = 4  # of each prompt, at most
CODED = 2  # of these are heard after the codec too

_ORDERS = {"together": False, "then": True}


class Pair(NamedTuple):
    """following: the second sound comes after the first, not with it."""

    text: str
    first: Prompt
    second: Prompt
    following: bool


@dataclass(frozen=True)
class PairRow:
    """Shares in which both sounds were found; None where there was nothing to hear. mixed, coded: of real mixtures, as
    they are, and of those that went through the codec. control: generated sounds judged by the pairs that have no class
    in common."""

    prompt: str
    generated: float | None
    control: float | None
    mixed: float | None
    coded: float | None
    mixtures: int


@dataclass(frozen=True)
class PairReport:
    first: int
    rows: tuple[PairRow, ...]
    mean: PairRow


def read_pairs(path: Path, prompts: Sequence[Prompt]) -> list[Pair]:
    """A CSV with the columns prompt, first, second and order ("together" or "then"); or InputError.

    first, second: the plain prompts of the two sounds, whose classes count and whose recordings are mixed.
    """

    def pair(text: str, first: str, second: str, order: str) -> Pair:
        if order not in _ORDERS:
            raise InputError(f"the order of '{text}' is '{order}' in {path}; write together or then.")
        return Pair(text, named(prompts, first), named(prompts, second), _ORDERS[order])

    return read_rows(path, ("prompt", "first", "second", "order"), pair)


def measure_pairs(
    setup: Setup, pairs: Sequence[Pair], takes: Sequence[Take] = ()
) -> Generator[Progress, None, PairReport]:
    """takes: held-out recordings to mix."""
    judge = _Judge(setup, pairs)
    sounds = yield from setup.answers([pair.text for pair in pairs], "generating two sounds")
    generated = torch.stack([judge.hits(sound) for sound in sounds]).unflatten(0, (len(pairs), setup.num_seeds))
    rows = []
    for index, pair in enumerate(pairs):
        yield Progress("mixing recordings", index, len(pairs))
        mixed = list(mixtures(pair, takes, setup.seconds))
        rows.append(
            PairRow(
                prompt=pair.text,
                generated=share([generated[index, :, index]]),
                control=share([generated[index][:, judge.strangers[index]]]),
                mixed=share([judge.hits(sound)[index] for sound in mixed]),
                coded=share([judge.hits(setup.coded(sound)[0])[index] for sound in mixed[:CODED]]),
                mixtures=len(mixed),
            )
        )
    return PairReport(FIRST, tuple(rows), mean_row(rows))


def mixtures(pair: Pair, takes: Sequence[Take], seconds: float) -> Iterator[Tensor]:
    """Up to four mixtures [N] of recordings that fit the pair's two sounds, spread over all ways to choose them."""
    firsts, seconds_ = (
        [take for take in takes if prompt.caption.search(take.recording.caption)] for prompt in pair[1:3]
    )
    both = [(a, b) for a, b in itertools.product(firsts, seconds_) if a.recording.path != b.recording.path]
    count = min(MIXTURES, len(both))
    for number in range(count):
        a, b = both[(2 * number + 1) * len(both) // (2 * count)]
        captions = [take.recording.caption for take in (a, b)]
        segments = Segments([a.waveform, b.waveform], captions, example_config(seconds))
        rng = np.random.default_rng((zlib.crc32(pair.text.encode()), number))
        yield segments.pair(0, 1, pair.following, rng).waveform[0]


def mean_row(rows: Sequence[PairRow]) -> PairRow:
    """Every pair counts the same."""
    names = ("generated", "control", "mixed", "coded")
    shares = {name: mean([getattr(row, name) for row in rows]) for name in names}
    return PairRow(f"mean of {len(rows)} pairs", mixtures=sum(row.mixtures for row in rows), **shares)


class _Judge:
    def __init__(self, setup: Setup, pairs: Sequence[Pair]) -> None:
        self._setup = setup
        self._classes = [(setup.tagger.indices(a.classes), setup.tagger.indices(b.classes)) for _, a, b, _ in pairs]
        self.strangers = strangers([pair.first.classes + pair.second.classes for pair in pairs])

    def hits(self, waveform: Tensor) -> Tensor:
        """waveform [N] -> bool [Q], whether both sounds of each pair are found."""
        scores = self._setup.tagger.window_scores(at_level(waveform))

        def found(classes: Tensor) -> bool:
            return any(among_first(window, classes, FIRST) for window in scores)

        return torch.tensor([found(one) and found(other) for one, other in self._classes])
