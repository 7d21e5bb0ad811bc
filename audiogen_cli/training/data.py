"""The recordings of a folder as training and validation sets in memory.

A folder prepared by `audiolm prepare` has a manifest that says what is set aside; any other folder of recordings is
split by source here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from audiogen_cli.data import labelled, manifest
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.recordings import Recordings, balanced_weights
from audiogen_cli.errors import InputError


class Subset(NamedTuple):
    """One split: clip i of the manifest is recording i."""

    clips: list[Clip]
    recordings: Recordings


class TrainingData(NamedTuple):
    train: Subset
    valid: Subset


def find_clips(folder: Path, tiers: Sequence[str] = (), fraction: float = 0.1, uncaptioned: bool = False) -> list[Clip]:
    """The clips of a prepared or plain folder, lengths not known yet for a plain one; only of some tiers where given.

    uncaptioned: of a plain folder, those without a caption too. Raises InputError when there are none.
    """
    if (folder / manifest.NAME).is_file():
        clips = manifest.read(folder / manifest.NAME)
    else:
        listing = labelled.find(folder, uncaptioned=uncaptioned)
        clips = [
            Clip(str(r.path.resolve()), r.captions[0], 1.0, r.source or str(r.path.parent), r.licence, tier=r.tier)
            for r in listing.recordings
        ]
        clips = manifest.split_by_source(clips, fraction)
    chosen = manifest.select(clips, tiers=tiers or None)
    if not manifest.select(chosen, "train"):
        raise InputError(
            f"{folder} holds no recordings to train on" + (f" of tier {', '.join(tiers)}." if tiers else ".")
        )
    return chosen


def load(clips: Sequence[Clip], sample_rate: int, channels: int) -> TrainingData:
    """Reads every recording. Without a validation split the training set's first recordings stand in for one."""
    train, valid = manifest.select(clips, "train"), manifest.select(clips, "valid")
    return TrainingData(_read(train, sample_rate, channels), _read(valid or train[:8], sample_rate, channels))


def _read(clips: list[Clip], sample_rate: int, channels: int) -> Subset:
    recordings = Recordings.load([Path(clip.path) for clip in clips], sample_rate, channels)
    seconds = [waveform.shape[-1] / sample_rate for waveform in recordings.waveforms]
    clips = [replace(clip, seconds=length) for clip, length in zip(clips, seconds, strict=True)]
    # transcribed speech has a caption for every clip: one label keeps it from outnumbering the sounds
    labels = [clip.caption if len(clip.caption.split()) < 8 else f"speech of {clip.source}" for clip in clips]
    return Subset(clips, Recordings(recordings.waveforms, balanced_weights(labels, seconds)))
