"""Which phases a sound has: those that a vocoder finds, or those of noise.

    latents --vocoder---------> waveform --judge--+
            --phases of noise-> waveform --judge--+--> the vocoder's, unless the other answers the text clearly better

A vocoder that learned from speech makes wind hum. What goes on without attacks, and is noise, is noise with any phases;
a judge (models/judge.py) hears which of such sounds is. Others are not asked about: phases of noise smear an attack.
"""

from __future__ import annotations

import torch
from torch import Tensor

from audiogen_cli.data import captions
from audiogen_cli.hub.model import Model

_CLEARLY = 0.25  # nats of the judge


@torch.inference_mode()
def sound(model: Model, text: str | None, latents: Tensor) -> Tensor:
    """Latents [1, D, T] of one sound -> its waveform [C, N]."""
    made: Tensor = model.sound(latents)[0]
    if model.judge is None or not text or not goes_on(text):
        return made
    noise, heard = model.latents.rough(latents)[0], model.text([text])
    marks = [model.judge.score(waveform.float().cpu(), model.sample_rate, heard) for waveform in (made.mean(0), noise)]
    return noise.expand_as(made) if marks[1] - marks[0] > _CLEARLY else made


def goes_on(text: str) -> bool:
    """Whether the sound is a place's (a crowd) or goes on by itself (an engine)."""
    return captions.is_setting(text) or captions.is_steady(text)
