"""Several sounds in one text, each made by itself and heard together: as a sound designer lays tracks over one another.

    "footsteps, then a dog barking in rain"
        footsteps ------------> [....] the loudest half -------+
        a dog barking --+                                      +--> one after the other
        rain -----------+-----> [....] at once, loudest half --+

A small model that makes all of a text at once mostly makes one of its sounds. What is split, and what is not, is said
in data/scenes.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from audiogen_cli.data import audio, captions, scenes
from audiogen_cli.hub.model import Model
from audiogen_cli.pipelines import phases

_SEAM_SECONDS = 0.02  # over which a sound fades where another follows or went before
_GRAIN_SECONDS = 0.01

Scene = Sequence[Sequence[str | None]]


def plan(model: Model, prompt: str | None, layered: bool | None) -> Scene:
    """The sounds of a prompt, in turn and at once. layered: None is the model's own way."""
    apart = model.card.layers if layered is None else layered
    heard = model.heard(prompt)
    return scenes.split(heard) if apart and heard else [[heard]]


def layer_seed(seed: int, number: int) -> int:
    """The seed of layer `number` of a sound, 63 bits; the first one's is the sound's own."""
    if number == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} layer {number}".encode()).digest()[:8], "big") >> 1


@torch.inference_mode()
def together(model: Model, scene: Scene, frames: Tensor, num_samples: int) -> Tensor:
    """frames [L, K or D, T] of a scene's L sounds, in order -> the waveform [C, num_samples] of all, on the CPU."""
    device = next(model.codec.parameters()).device
    turns = frames.to(device).split([len(turn) for turn in scene])
    heard = [_at_once(model, *turn).float().cpu()[:, :num_samples] for turn in zip(scene, turns, strict=True)]
    if len(heard) == 1:
        return heard[0]
    ends = [round(num_samples * (index + 1) / len(heard)) for index in range(len(heard))]
    lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    parts = [
        audio.fade(loudest(sound, length, model.sample_rate), model.sample_rate, _SEAM_SECONDS)
        for sound, length in zip(heard, lengths, strict=True)
    ]
    return torch.cat(parts, dim=1)


def _at_once(model: Model, texts: Sequence[str | None], frames: Tensor) -> Tensor:
    """frames [L, K or D, T] of the sounds of a turn -> all of them, [C, N]."""
    if len(texts) == 1 and frames.is_floating_point():
        return phases.sound(model, texts[0], frames)
    return model.mixed(frames, [captions.is_setting(text or "") for text in texts])


def loudest(waveform: Tensor, length: int, sample_rate: int) -> Tensor:
    """The stretch of waveform [C, N] that holds the most energy, [C, length]; the first one of equals."""
    grain = max(1, round(_GRAIN_SECONDS * sample_rate))
    energy = waveform.double().square().sum(0).cumsum(0)
    energy = torch.cat([energy.new_zeros(1), energy])
    starts = torch.arange(0, waveform.shape[1] - length + 1, grain)
    start = int(starts[(energy[starts + length] - energy[starts]).argmax()])
    return waveform[:, start : start + length]
