"""Codes to bits and back by how likely an entropy model (models/entropy.py) finds them.

    codes [K, t] -> probabilities [t * K, V] -> cdfs -> arithmetic coder (formats/arithmetic.py)

Both sides need the same probabilities to the bit. Writing, all codes are known; reading, only those before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from audiogen_cli.formats.arithmetic import ArithmeticDecoder, ArithmeticEncoder, quantized_cdf
from audiogen_cli.models.entropy import NO_CODE, EntropyLM, ExactEntropyLM

_BLOCK = 64


class EntropyModel(NamedTuple):
    """How likely the codes of the next S <= `block` frames are: previous [1, K, S], state -> [1, K, S, V], state."""

    read: Callable[[Tensor, Any], tuple[Tensor, Any]]
    block: int


def exact(lm: EntropyLM) -> EntropyModel:
    """The same probabilities whatever the block, on any machine: for our own streams."""
    return EntropyModel(ExactEntropyLM(lm).read, _BLOCK)


def as_published(lm: EntropyLM) -> EntropyModel:
    """Frame by frame, as the `encodec` package computes them on the same machine with as many threads."""

    def read(previous: Tensor, state: Any) -> tuple[Tensor, Any]:
        probabilities, state = lm.step(previous[:, :, 0], state)
        return probabilities[:, :, None], state

    return EntropyModel(read, 1)


class EntropyWriter:
    def __init__(self, file: IO[bytes], model: EntropyModel) -> None:
        self._model, self._encoder = model, ArithmeticEncoder(file)
        self._state: Any = None
        self._before: Tensor | None = None  # [1, K, 1]

    def write(self, codes: np.ndarray) -> None:
        for piece in torch.from_numpy(codes)[None].split(self._model.block, dim=-1):  # [1, K, S]
            before = torch.full_like(piece[..., :1], NO_CODE) if self._before is None else self._before
            previous = torch.cat([before, piece[..., :-1]], dim=-1)
            probabilities, self._state = self._model.read(previous, self._state)
            self._before = piece[..., -1:]
            self._encoder.encode(piece[0].T.reshape(-1).numpy(), _cdfs(probabilities))

    def finish(self) -> None:
        self._encoder.finish()


class EntropyReader:
    def __init__(self, file: IO[bytes], model: EntropyModel, codebooks: int) -> None:
        self._model, self._decoder = model, ArithmeticDecoder(file)
        self._state: Any = None
        self._before = torch.full((1, codebooks, 1), NO_CODE)

    def read(self, frames: int) -> np.ndarray:
        found = []
        for _ in range(frames):
            probabilities, self._state = self._model.read(self._before, self._state)
            found.append(self._decoder.decode(_cdfs(probabilities)))
            self._before = torch.from_numpy(found[-1]).view(1, -1, 1)
        return np.stack(found, axis=1)


def _cdfs(probabilities: Tensor) -> np.ndarray:
    """[1, K, S, V] -> int64 [S * K, V], frame by frame."""
    return quantized_cdf(probabilities[0].transpose(0, 1).flatten(0, 1).numpy())
