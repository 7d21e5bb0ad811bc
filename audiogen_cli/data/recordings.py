"""A set of recordings held in memory at one sample rate, and random pieces of them.

Five hours at 16 kHz in 16 bits are 580 MB: small enough to keep, and reading a file for every crop would cost more than
training on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from audiogen_cli.data import audio
from audiogen_cli.errors import AudioError, InputError

_SCALE = 32_767.0


class Recordings:
    """waveforms: int16 tensors [C, N_i]; weights: how often each is drawn, relative to the others."""

    def __init__(self, waveforms: Sequence[Tensor], weights: Sequence[float] | None = None) -> None:
        if not waveforms:
            raise InputError("there are no recordings to train on; give a folder that holds audio files.")
        if any(waveform.shape[-1] == 0 for waveform in waveforms):
            raise InputError("one of the recordings is empty; take it out of the folder.")
        self.waveforms = list(waveforms)
        self.weights = torch.tensor(list(weights) if weights is not None else [1.0] * len(self.waveforms)).double()

    def __len__(self) -> int:
        return len(self.waveforms)

    def __getitem__(self, index: int) -> Tensor:
        """float32 [C, N] in [-1, 1]."""
        return self.waveforms[index].float() / _SCALE

    @classmethod
    def load(
        cls, paths: Sequence[Path], sample_rate: int, channels: int = 1, weights: Sequence[float] | None = None
    ) -> Recordings:
        """Reads every file, resampled and remixed; a file that cannot be read raises AudioError."""

        def read(path: Path) -> Tensor:
            waveform = audio.read(path, sample_rate, channels).waveform
            return (waveform.clamp(-1.0, 1.0) * _SCALE).round().to(torch.int16)

        with ThreadPoolExecutor() as pool:
            return cls(list(pool.map(read, paths)), weights)

    def crop(self, samples: int, generator: torch.Generator) -> Tensor:
        """[C, samples] of a random recording; after a short one come others, with a pause between them now and then.

        Silence around a short sound would teach a codec little but silence.
        """
        pieces: list[Tensor] = []
        missing = samples
        while missing > 0:
            index = int(torch.multinomial(self.weights, 1, generator=generator))
            pieces.append(_piece(self[index], missing, generator))
            pause = max(0.0, float(torch.rand((), generator=generator)) - 0.5)  # half of the time none, up to half
            pieces.append(pieces[-1].new_zeros(pieces[-1].shape[0], int(pause * pieces[-1].shape[-1])))
            missing -= sum(piece.shape[-1] for piece in pieces[-2:])
        return torch.cat(pieces, -1)[:, :samples]


def _piece(waveform: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """waveform [C, N] -> [C, min(N, samples)] from a random place."""
    start = int(torch.randint(max(0, waveform.shape[-1] - samples) + 1, (1,), generator=generator))
    return waveform[:, start : start + samples]


def balanced_weights(labels: Sequence[str], seconds: Sequence[float]) -> list[float]:
    """A recording's weight: its seconds (at most 10 count), scaled so that a label's total is the root of its own."""
    if len(labels) != len(seconds):
        raise AudioError("every recording needs a label and a length.")
    capped = [min(10.0, s) for s in seconds]
    totals: dict[str, float] = {}
    for label, length in zip(labels, capped, strict=True):
        totals[label] = totals.get(label, 0.0) + length
    return [length / totals[label] ** 0.5 for label, length in zip(labels, capped, strict=True)]
