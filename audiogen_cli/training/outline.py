"""Fitting an outline (models/outline.py) to sounds as a language model will hear them: repeated, varied and mixed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from torch import Tensor

from audiogen_cli.data.segments import SegmentConfig, Segments
from audiogen_cli.models.outline import Outline, OutlineConfig
from audiogen_cli.training.data import Subset


@dataclass(frozen=True)
class OutlineRecipe:
    """examples: how many are made; patches: how many of their patches are kept, all with the same chance."""

    outline: OutlineConfig = field(default_factory=OutlineConfig)
    segments: SegmentConfig = field(default_factory=SegmentConfig)
    examples: int = 2000
    patches: int = 100_000
    seed: int = 0


def fit(recipe: OutlineRecipe, subset: Subset, heard: Callable[[int], None] | None = None) -> Outline:
    """The outline of a training set. heard: called with the number of examples made so far.

    Raises InputError when the examples have fewer patches than the outline has codes.
    """
    config = replace(recipe.segments, sample_rate=recipe.outline.sample_rate)
    segments = Segments(subset.recordings, [clip.caption for clip in subset.clips], config, recipe.seed)

    def waveforms() -> Iterator[Tensor]:
        for index in range(recipe.examples):
            if heard is not None:
                heard(index + 1)
            yield segments.example(0, index).waveform

    return Outline.fit(waveforms(), recipe.outline, recipe.patches, recipe.seed)
