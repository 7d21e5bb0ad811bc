"""Several candidates for one sound, of which the one is kept that answers its text best, as AudioLDM does (2301.12503).

    seed -> candidate 0, drawn with the seed itself --+
         -> candidate 1, drawn with a hash of both ---+--> its score against the text -> the best one
         -> candidate 2 ... --------------------------+                      (the first of those as good as that)

What chooses is a CLAP, which hears finished sounds; or, where there is none, a judge (models/judge.py) or the model's
own flow, to which latents are enough, each sound of a scene for itself. A judge is not that sure: what is nearly as
good as the best one is as good, or else the seeds of a text would all have the one sound that pleases it most. And it
does not mind that rain stops for a second: of what goes on, one that pauses is taken only when all do. A sound's
candidates are the same whatever their number, but for rounding: some of them are made at a time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.data import audio
from audiogen_cli.errors import InputError
from audiogen_cli.hub.catalog import Model
from audiogen_cli.metrics.cleanliness import pause_share
from audiogen_cli.models.clap import CLAP
from audiogen_cli.models.flow_decoding import answers
from audiogen_cli.pipelines.phases import goes_on
from audiogen_cli.pipelines.recipe import MAX_CANDIDATES

_TOGETHER = 8  # candidates whose latents are made at a time, at most
_DRAWN = 16  # items of a product of matrices while codes are drawn: hardly slower than the few of a lone sound
_NEARLY = 0.25  # nats of a judge below its best mark that are as good as that
_PAUSE = 0.05  # of its time, from which on a sound that should go on does not


class Lanes(NamedTuple):
    """How many are made at a time: of codes (models/decoding.py), and of latents (models/flow_decoding.py)."""

    codes: int
    latents: int


class Chosen(NamedTuple):
    """waveform: [C, N]. score: against its text: a cosine, nats, or a flow's gain by the text; None where it was the
    only candidate."""

    waveform: Tensor
    score: float | None = None


def candidate_seed(seed: int, number: int) -> int:
    """The seed of candidate `number` of a sound, 63 bits; the first one's is the sound's own."""
    if number == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} candidate {number}".encode()).digest()[:8], "big") >> 1


def count_for(model: Model, prompt: str | None, wanted: int | None) -> int:
    """How many candidates a prompt gets: `wanted`, or the model's own number; without a text there is no choice.

    Raises InputError for a number that is out of range, or above 1 where the model has neither scorer nor flow.
    """
    count = model.card.candidates if wanted is None else wanted
    if not 1 <= count <= MAX_CANDIDATES:
        raise InputError(f"the candidates must number between 1 and {MAX_CANDIDATES}, not {count}; change it.")
    if count > 1 and not model.chooses:
        raise InputError(f"{model.name} has no scorer and no flow to choose among {count} candidates; ask for 1.")
    return count if prompt else 1


def lanes_for(model: Model, count: int) -> Lanes:
    """How many candidates are made at a time. Latents: a number that divides a sound's, so that what a product of
    matrices takes are always the same of them, whatever else is made. The model's own numbers for a lone one."""
    if count == 1:
        return Lanes(model.card.lanes, model.card.lanes)
    return Lanes(_DRAWN, max(n for n in range(1, _TOGETHER + 1) if count % n == 0))


def answering(model: Model, texts: Sequence[str | None], items: Tensor) -> tuple[Tensor, float]:
    """items: N candidates of a scene of L sounds, latents [N, L, D, T] -> the scene of what is chosen of each sound,
    [L, D, T], and the mean of their scores."""
    found, total = [], 0.0
    for text, own in zip(texts, items.unbind(dim=1), strict=True):
        marks = _answers(model, own, model.text([text]), text)
        enough = max(marks) - (_NEARLY if model.judge is not None else 0.0)
        first = next(number for number, mark in enumerate(marks) if mark >= enough)
        found.append(own[first])
        total += marks[first] / len(texts)
    return torch.stack(found), total


@torch.inference_mode()
def _answers(model: Model, latents: Tensor, heard: Condition, text: str | None) -> list[float]:
    """Of each of latents [N, D, T]: by the judge, one by one; by the flow window by window."""
    flow, judge = model.flow, model.judge
    if judge is not None:
        device = next(model.codec.parameters()).device
        waveforms = [model.latents.rough(item[None].to(device))[0].float().cpu() for item in latents]
        found = [judge.score(waveform, model.sample_rate, heard) for waveform in waveforms]
        if text and goes_on(text):
            pausing = [pause_share(waveform.numpy(), model.sample_rate) > _PAUSE for waveform in waveforms]
            if not all(pausing):
                return [-math.inf if out else score for score, out in zip(found, pausing, strict=True)]
        return found
    assert flow is not None
    parts = latents.split(model.window_frames, dim=2)
    marks = torch.tensor([answers(flow, part, heard) for part in parts], dtype=torch.float64)
    shares = torch.tensor([part.shape[2] / latents.shape[2] for part in parts], dtype=torch.float64)
    gains: list[float] = (marks * shares[:, None]).sum(dim=0).tolist()
    return gains


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
