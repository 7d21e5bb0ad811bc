"""How like the recordings the generated sounds are as a set, in the tagger's embedding: near them, varied as they are,
and no copies of those the model was trained on.

For the Fréchet distance a sound is generated for the caption of each held-out recording, so that both sides hold the
same classes as often; for one that several have, with the seeds 0, 1, 2 and so on. Each distance is taken between all
sounds and between halves: the halves of the recordings hold different recordings, and the other distances of that
column are between the same numbers of sounds.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from audiogen_cli.metrics.fad import frechet_distance, gaussian
from audiogen_cli.metrics.variety import mean_pairwise_distance, nearest_distances
from audiogen_cli.pipelines.listening import Progress, Prompt, Setup, Take, at_level, mean, side_by_side

_FEWEST = 4  # recordings, so that a half has two


@dataclass(frozen=True)
class FrechetReport:
    """sounds: on each side; half of them in the columns `*_half`. real_half: between two halves of the recordings."""

    sounds: int
    generated: float
    coded: float
    generated_half: float
    coded_half: float
    real_half: float


@dataclass(frozen=True)
class VarietyRow:
    """Mean pairwise distances, of the seeds of a prompt and of the recordings that fit it; None for fewer than two."""

    prompt: str
    generated: float | None
    real: float | None
    clips: int


@dataclass(frozen=True)
class VarietyReport:
    """generated, real: means over the `prompts` prompts that have both."""

    rows: tuple[VarietyRow, ...]
    prompts: int
    generated: float | None
    real: float | None


@dataclass(frozen=True)
class NearestReport:
    """Distances to the nearest training clip: the least, and the 5 % and 50 % quantiles, of generated sounds and of
    held-out recordings. near_copies: the share of generated sounds nearer than all but 1 % of the held-out ones."""

    trained: int
    generated: tuple[float, float, float]
    held_out: tuple[float, float, float]
    near_copies: float


@dataclass(frozen=True)
class Likeness:
    """frechet: None for fewer than four held-out recordings."""

    frechet: FrechetReport | None
    variety: VarietyReport
    nearest: NearestReport | None


@dataclass(frozen=True)
class Embedded:
    """A recording's windows [T, 1024] at the one level, and those after the codec, where it went through it."""

    caption: str
    held_out: bool
    windows: Tensor
    coded: Tensor | None

    @property
    def centre(self) -> Tensor:
        return self.windows.mean(dim=0)


def measure_likeness(
    setup: Setup, prompts: Sequence[Prompt], sounds: Sequence[Tensor], recordings: Sequence[Embedded], clips: int
) -> Generator[Progress, None, tuple[Likeness, list[Tensor]]]:
    """sounds: the setup's seeds of each prompt in turn, [N]. clips: of how many held-out recordings, at most, the
    captions are answered. Returns those answers as well."""
    real = chosen(recordings, clips)
    real = real if len(real) >= _FEWEST else []
    captions = [recording.caption for recording in real]
    seeds_of = numbered([setup.model.heard(caption) for caption in captions])
    answers = (yield from setup.sounds(captions, seeds_of, "answering held-out captions")) if real else []
    windows = yield from _embedded(setup, [*sounds, *answers])
    centres = torch.stack([window.mean(dim=0) for window in windows])
    seeds = list(centres[: len(sounds)].unflatten(0, (-1, setup.num_seeds)))
    likeness = Likeness(
        frechet=measure_frechet(real, windows[len(sounds) :]) if real else None,
        variety=measure_variety(prompts, seeds, recordings),
        nearest=measure_nearest(centres, recordings),
    )
    return likeness, answers


def embed(setup: Setup, take: Take) -> Embedded:
    coded = None if take.coded is None else embedding(setup, take.coded)
    windows = embedding(setup, take.example)
    # Of a training clip only the centre is needed: a thousandth of the memory.
    windows = windows if take.recording.held_out else windows.mean(dim=0, keepdim=True)
    return Embedded(take.recording.caption, take.recording.held_out, windows, coded)


def embedding(setup: Setup, waveform: Tensor) -> Tensor:
    """waveform [N] -> [T, 1024]."""
    return setup.tagger.embeddings(at_level(waveform))


def chosen(recordings: Sequence[Embedded], count: int) -> list[Embedded]:
    """Up to `count` held-out ones that went through the codec, evenly from all, shuffled by their contents: the same
    for the same recordings."""
    held_out = [recording for recording in recordings if recording.coded is not None]
    count = min(count, len(held_out))
    spread = [held_out[(2 * i + 1) * len(held_out) // (2 * count)] for i in range(count)]
    return sorted(spread, key=lambda recording: zlib.crc32(recording.windows.numpy().tobytes()))


def numbered(texts: Sequence[str | None]) -> list[int]:
    """How often each was there before."""
    seen = Counter[str | None]()
    found = []
    for text in texts:
        found.append(seen[text])
        seen[text] += 1
    return found


def measure_frechet(real: Sequence[Embedded], generated: Sequence[Tensor]) -> FrechetReport:
    """real: held-out recordings, at least four; generated: windows [T, 1024] of a sound for each one's caption."""
    coded = [recording.coded for recording in real if recording.coded is not None]
    windows = [recording.windows for recording in real]
    first, second = slice(0, len(real) // 2), slice(len(real) // 2, len(real) // 2 * 2)
    reference, half = gaussian(torch.cat(windows)), gaussian(torch.cat(windows[first]))

    def distances(others: Sequence[Tensor]) -> tuple[float, float]:
        whole = frechet_distance(reference, gaussian(torch.cat(list(others))))
        return whole, frechet_distance(half, gaussian(torch.cat(list(others[second]))))

    (of_generated, generated_half), (of_coded, coded_half) = distances(generated), distances(coded)
    real_half = frechet_distance(half, gaussian(torch.cat(windows[second])))
    return FrechetReport(len(real), of_generated, of_coded, generated_half, coded_half, real_half)


def measure_variety(
    prompts: Sequence[Prompt], generated: Sequence[Tensor], recordings: Sequence[Embedded]
) -> VarietyReport:
    """generated: centres [num_seeds, 1024] of each prompt."""
    rows = []
    for prompt, centres in zip(prompts, generated, strict=True):
        own = [recording.centre for recording in recordings if prompt.caption.search(recording.caption)]
        real = mean_pairwise_distance(torch.stack(own)) if len(own) > 1 else None
        seeds = mean_pairwise_distance(centres) if len(centres) > 1 else None
        rows.append(VarietyRow(prompt.text, seeds, real, len(own)))
    both = [row for row in rows if row.generated is not None and row.real is not None]
    means = mean([row.generated for row in both]), mean([row.real for row in both])
    return VarietyReport(tuple(rows), len(both), *means)


def measure_nearest(generated: Tensor, recordings: Sequence[Embedded]) -> NearestReport | None:
    """generated: centres [M, 1024]. None unless there are both held-out recordings and others."""
    trained = [recording.centre for recording in recordings if not recording.held_out]
    held_out = [recording.centre for recording in recordings if recording.held_out]
    if not trained or not held_out:
        return None
    references = torch.stack(trained)
    near, usual = nearest_distances(generated, references), nearest_distances(torch.stack(held_out), references)
    copies = float((near < usual.quantile(0.01)).double().mean())
    return NearestReport(len(trained), _quantiles(near), _quantiles(usual), copies)


def _embedded(setup: Setup, sounds: Sequence[Tensor]) -> Generator[Progress, None, list[Tensor]]:
    windows = []
    for index, window in enumerate(side_by_side(partial(embedding, setup), sounds)):
        yield Progress("listening to generated sounds", index, len(sounds))
        windows.append(window)
    return windows


def _quantiles(distances: Tensor) -> tuple[float, float, float]:
    low, twentieth, middle = distances.quantile(torch.tensor([0.0, 0.05, 0.5], dtype=distances.dtype)).tolist()
    return low, twentieth, middle
