"""Whether a model's sounds are recognised: a prompt's classes among the tagger's first five.

The control scores each generated sound against the classes of every other prompt that shares none with its own: the
mean over all ways of shuffling the prompts, without the luck of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from audiogen_cli.metrics.tagger import SAMPLE_RATE, among_first
from audiogen_cli.pipelines.listening import (
    Prompt,
    Recording,
    Setup,
    Take,
    at_level,
    mean,
    share,
    side_by_side,
    strangers,
)

# placed, coded (placed, then through the codec), as_is: held-out recordings. trained: other recordings, placed.
Kind = Literal["generated", "placed", "coded", "as_is", "trained"]


class Trial(NamedTuple):
    """One sound heard by the tagger. hits: bool [P], whether each prompt's classes are among the first five."""

    prompt: int
    kind: Kind
    hits: Tensor


@dataclass(frozen=True)
class Row:
    """Shares recognised; None where there was nothing to hear. placed and as_is are those of `clips` held-out
    recordings, coded of those of them that went through the codec, all_placed of all_clips recordings, held out or
    not."""

    prompt: str
    generated: float | None
    control: float | None
    placed: float | None
    coded: float | None
    as_is: float | None
    clips: int
    all_placed: float | None
    all_clips: int


class Listener:
    """The tagger, with the prompts whose classes it is asked for."""

    def __init__(self, setup: Setup, prompts: Sequence[Prompt]) -> None:
        self.prompts, self._setup = prompts, setup
        self.strangers = strangers([prompt.classes for prompt in prompts])
        self._classes = [setup.tagger.indices(prompt.classes) for prompt in prompts]

    def generated(self, sounds: Sequence[Tensor]) -> list[Trial]:
        """The setup's seeds of each prompt in turn, [N]."""
        hits = list(side_by_side(lambda sound: self.hits(at_level(sound)), sounds))
        return [Trial(i // self._setup.num_seeds, "generated", hit) for i, hit in enumerate(hits)]

    def hits(self, waveform: Tensor) -> Tensor:
        """waveform [N] -> bool [P]."""
        scores = self._setup.tagger.scores(waveform)
        return torch.tensor([among_first(scores, classes) for classes in self._classes])

    def fitting(self, recording: Recording) -> list[int]:
        """The prompts that its caption fits."""
        return [i for i, prompt in enumerate(self.prompts) if prompt.caption.search(recording.caption)]

    def trials(self, take: Take) -> list[Trial]:
        """The ways of presenting one recording, for each prompt that its caption fits; [] when none does."""
        fitting = self.fitting(take.recording)
        if not fitting:
            return []
        held_out = take.recording.held_out
        heard: dict[Kind, Tensor] = {"placed" if held_out else "trained": self.hits(take.example)}
        if take.coded is not None:
            heard["coded"] = self.hits(at_level(take.coded))
        if held_out:
            heard["as_is"] = self.hits(take.waveform[: round(self._setup.seconds * SAMPLE_RATE)])
        return [Trial(index, kind, hits) for index in fitting for kind, hits in heard.items()]


def table(prompts: Sequence[Prompt], trials: Iterable[Trial], strangers: Tensor) -> list[Row]:
    """A row for each prompt. strangers [P, P]: the pairs that the control may shuffle."""
    groups: dict[tuple[int, Kind], list[Tensor]] = {}
    for trial in trials:
        groups.setdefault((trial.prompt, trial.kind), []).append(trial.hits)

    def row(index: int, prompt: Prompt) -> Row:
        def own(*kinds: Kind) -> list[Tensor]:
            return [hits[index] for kind in kinds for hits in groups.get((index, kind), [])]

        others = [hits[strangers[index]] for hits in groups.get((index, "generated"), [])]
        return Row(
            prompt=prompt.text,
            generated=share(own("generated")),
            control=share(others),
            placed=share(own("placed")),
            coded=share(own("coded")),
            as_is=share(own("as_is")),
            clips=len(own("placed")),
            all_placed=share(own("placed", "trained")),
            all_clips=len(own("placed", "trained")),
        )

    return [row(index, prompt) for index, prompt in enumerate(prompts)]


def mean_row(rows: Sequence[Row]) -> Row:
    """Every prompt counts the same; one without a share is left out of that column's mean."""
    names = ("generated", "control", "placed", "coded", "as_is", "all_placed")
    shares = {name: mean([getattr(row, name) for row in rows]) for name in names}
    clips, all_clips = sum(row.clips for row in rows), sum(row.all_clips for row in rows)
    return Row(prompt=f"mean of {len(rows)} prompts", clips=clips, all_clips=all_clips, **shares)
