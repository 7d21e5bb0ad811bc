"""Several candidates for one sound, of which the one is kept that answers its text best, as AudioLDM does (2301.12503).

    seed -> candidate 0, drawn with the seed itself --+
         -> candidate 1, drawn with a hash of both ---+--> CLAP's score against the text -> the best one
         -> candidate 2 ... --------------------------+                                     (of equals the first)

So a sound's candidates are the same however many are drawn, and one is what there is without a scorer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from audiogen_cli.data import audio
from audiogen_cli.errors import InputError
from audiogen_cli.hub.catalog import Model
from audiogen_cli.models.clap import CLAP
from audiogen_cli.pipelines.recipe import MAX_CANDIDATES


class Chosen(NamedTuple):
    """waveform: [C, N]. score: against its text, -1 to 1; None where it was the only candidate."""

    waveform: Tensor
    score: float | None = None


def candidate_seed(seed: int, number: int) -> int:
    """The seed of candidate `number` of a sound, 63 bits; the first one's is the sound's own."""
    if number == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} candidate {number}".encode()).digest()[:8], "big") >> 1


def count_for(model: Model, prompt: str | None, wanted: int | None) -> int:
    """How many candidates a prompt gets: `wanted`, or the model's own number; without a text there is no choice.

    Raises InputError for a number that is out of range, or above 1 where the model has no scorer.
    """
    count = model.card.candidates if wanted is None else wanted
    if not 1 <= count <= MAX_CANDIDATES:
        raise InputError(f"the candidates must number between 1 and {MAX_CANDIDATES}, not {count}; change it.")
    if count > 1 and not model.scored:
        raise InputError(f"{model.name} has no scorer to choose among {count} candidates; ask for 1.")
    return count if prompt else 1


def best(model: Model, prompt: str | None, waveforms: Sequence[Tensor]) -> Chosen:
    """waveforms: [C, N] each, at the model's rate, of one prompt."""
    if len(waveforms) == 1 or model.clap is None:
        return Chosen(waveforms[0])
    found = scores(model, model.clap, prompt, waveforms)
    first = max(range(len(found)), key=found.__getitem__)
    return Chosen(waveforms[first], found[first])


@torch.inference_mode()
def scores(model: Model, clap: CLAP, prompt: str | None, waveforms: Sequence[Tensor]) -> list[float]:
    """How well each of the waveforms [C, N] answers the prompt, each heard by itself."""
    text, rate = model.text([prompt]), clap.config.sample_rate
    heard = [audio.remix(audio.resample(waveform, model.sample_rate, rate), 1)[0] for waveform in waveforms]
    return [clap.score(waveform, text) for waveform in heard]
