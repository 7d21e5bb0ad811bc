"""A sound of any length through a codec, block by block, in memory that does not grow with it.

    for codes in encode_blocks(codec, blocks): ...      [B, C, n] of any n each  ->  [B, K, t]
    for sound in decode_blocks(codec, codes): ...       [B, K, t] of any t each  ->  [B, C, m]

All that comes out, joined, is `codec.encode` (`codec.decode`) of all that went in, joined. Where the input is cut makes
no difference, not even to the last bit: the codec is always given the same steps of `frames_per_step` frames. A sound
of one step is the whole sound; beyond, steps and whole are the same sums, which matrix products of other sizes may
round otherwise in the last bit of float32.

For live sound, where what is certain is wanted at once, call `codec.encode_step` and `codec.decode_step` with the state
by hand, on blocks of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from audiogen_cli.errors import InputError
from audiogen_cli.models.codec import Codec
from audiogen_cli.ops.streaming import State

FRAMES_PER_STEP = 500
_WAITING = 1000


def encode_blocks(
    codec: Codec, blocks: Iterable[Tensor], num_codebooks: int | None = None, frames_per_step: int = FRAMES_PER_STEP
) -> Iterator[Tensor]:
    """blocks [B, C, n_i], n_i >= 0, of one waveform, on any device -> codes [B, K, t_i > 0] on the codec's.

    Raises InputError when a block's shape does not fit or no block holds a sample; ModelError when the codec needs the
    whole sound (EnCodec at 48 kHz: its segments are sounds of their own).
    """

    def step(block: Tensor, state: State, last: bool) -> tuple[Tensor, State]:
        return codec.encode_step(block, state, last, num_codebooks)

    checked = _checked(blocks, codec.channels, codec.channels, "[batch, {}, samples]")
    return _steps(codec, step, regrouped(checked, frames_per_step * codec.hop_length))


def decode_blocks(codec: Codec, blocks: Iterable[Tensor], frames_per_step: int = FRAMES_PER_STEP) -> Iterator[Tensor]:
    """blocks [B, K', t_i], t_i >= 0, on any device -> waveform [B, C, m_i > 0] on the codec's. Raises as above."""
    checked = _checked(blocks, 1, codec.num_codebooks, "[batch, 1 to {}, frames], all alike")
    return _steps(codec, codec.decode_step, regrouped(checked, frames_per_step))


def regrouped(blocks: Iterable[Tensor], length: int) -> Iterator[tuple[Tensor, bool]]:
    """[..., n_i] -> blocks [..., length], the last one of 1 to `length`; each with whether it is the last.

    Raises InputError when there is nothing at all.
    """
    waiting, count = list[Tensor](), 0
    for part in (part for block in blocks for part in block.split(length, dim=-1)):
        waiting.append(part.clone())  # who gave the block may write over it
        count += part.shape[-1]
        if count > length:
            step, rest = torch.cat(waiting, dim=-1).split([length, count - length], dim=-1)
            yield step, False
            waiting, count = [rest.clone()], count - length
        elif len(waiting) == _WAITING:  # tiny blocks: a thousand tensors weigh more than their samples
            waiting = [torch.cat(waiting, dim=-1)]
    if not count:
        raise InputError("there is no sound to encode or decode; give a sample or more.")
    yield torch.cat(waiting, dim=-1), True


def _steps(
    codec: Codec,
    step: Callable[[Tensor, State, bool], tuple[Tensor, State]],
    blocks: Iterable[tuple[Tensor, bool]],
) -> Iterator[Tensor]:
    device, state = next(codec.parameters()).device, None
    for block, last in blocks:
        with torch.no_grad():
            output, state = step(block.to(device), state, last)
        if output.shape[-1]:
            yield output


def _checked(blocks: Iterable[Tensor], least: int, most: int, expected: str) -> Iterator[Tensor]:
    """The same blocks, whose dimensions but the last must all be alike."""
    shape = None
    for block in blocks:
        shape = shape or block.shape[:2]
        if block.ndim != 3 or block.shape[:2] != shape or not least <= shape[1] <= most:
            raise InputError(f"a block has the shape {list(block.shape)}; give {expected.format(most)}.")
        yield block
