"""From a text and a voice to codes, with VALL-E (2301.02111, section 4.3): the first codebook is drawn, the rest found.

An utterance's codes are a function of its own text, voice and seed, to the bit, whatever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from audiogen_cli.models.decoding import Sampling
from audiogen_cli.models.stage_decoding import Item, decode
from audiogen_cli.models.valle import Frames, VallE

LOOK_BACK = 10
"""Codes in which a repetition is looked for (VALL-E 2, 2406.05370, section 4.2)."""


@dataclass(frozen=True)
class Utterance:
    """Something to say. text: symbols [L]; voice: codes [K, P] of a recording, P may be 0; frames: of speech at most.

    transcribed: whether the text begins with what the recording says; then it is gone on from, and else only the
    codebooks after the first follow its voice.
    """

    text: Tensor
    voice: Tensor
    frames: int
    seed: int
    transcribed: bool = True


class Made(NamedTuple):
    """codes: [K, T] of the new speech, without the voice; ended: whether it came to its end before its last frame."""

    codes: Tensor
    ended: bool


def speak(
    model: VallE, utterances: Sequence[Utterance], sampling: Sampling | None = None, *, lanes: int = 1
) -> Generator[int, None, list[Made]]:
    """Yields how many frames are done, the mean of the utterances. `model` is expected in eval mode."""
    said = [u.voice[0] if u.transcribed else u.voice[0, :0] for u in utterances]
    items = [Item(before, len(before) + u.frames, u.seed, u.text) for u, before in zip(utterances, said, strict=True)]
    found = yield from decode(model.first, items, None, sampling, lanes=lanes, look_back=LOOK_BACK)
    return [
        Made(_filled(model, u, ids[len(before) :]), len(ids) < item.length)
        for u, before, item, ids in zip(utterances, said, items, found, strict=True)
    ]


@torch.inference_mode()
def _filled(model: VallE, utterance: Utterance, first: Tensor) -> Tensor:
    """[T] -> [K, T]: codebook after codebook the likeliest codes."""
    device = model.rest.text.weight.device
    voice, text = utterance.voice, utterance.text[None].to(device)
    codes = torch.zeros(len(voice), len(first), dtype=torch.int64)
    codes[0] = first
    codes = torch.cat([voice, codes], dim=1)[None].to(device)  # [1, K, P + T]
    for level in range(1, len(voice)):
        frames = Frames(codes, torch.tensor([voice.shape[1]], device=device), torch.tensor([level], device=device))
        codes[0, level, voice.shape[1] :] = model.rest(text, frames)[0, voice.shape[1] :].argmax(dim=-1)
    return codes[0, :, voice.shape[1] :].cpu()
