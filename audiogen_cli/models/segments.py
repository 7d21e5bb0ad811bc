"""A sound through any codec as EnCodec cuts it (2210.13438, section 3.4): into segments, each coded on its own.

    blocks [1, C, n] --encode_segments--> Segment, Segment, ... --decode_segments--> blocks [1, C, n]

A codec that normalizes, or whose config names a segment length, codes segments that overlap a little; decoded, they
are faded into each other by weights that rise and fall as a triangle over a segment. For every other codec the whole
sound is one segment, coded block by block (models/streaming.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from audiogen_cli.models.codec import Codec
from audiogen_cli.models.encodec import Encodec, ScaledCodes
from audiogen_cli.models.streaming import decode_blocks, encode_blocks


class Segment(NamedTuple):
    """codes: blocks [1, K, t], to be read before the next segment. scale: the loudness taken out, None: it is not."""

    codes: Iterable[Tensor]
    scale: float | None = None


def is_segmented(codec: Codec) -> bool:
    return isinstance(codec, Encodec) and (codec.config.normalize or codec.config.segment_seconds is not None)


def has_scales(codec: Codec) -> bool:
    return isinstance(codec, Encodec) and codec.config.normalize


def segment_lengths(codec: Codec, length: int) -> Iterator[int]:
    """The samples in each segment of a sound of `length` samples."""
    size, stride = _size_and_stride(codec)
    if size is None:
        yield length
    else:
        yield from (min(size, length - start) for start in range(0, length, stride))


def encode_segments(codec: Codec, blocks: Iterable[Tensor], num_codebooks: int | None = None) -> Iterator[Segment]:
    """blocks [1, C, n >= 0] of one waveform. Raises InputError when they hold no sample."""
    if not isinstance(codec, Encodec) or not is_segmented(codec):
        yield Segment(encode_blocks(codec, blocks, num_codebooks))
        return
    device = next(codec.parameters()).device
    for waveform in _overlapping(blocks, *_size_and_stride(codec)):
        with torch.no_grad():
            scaled = codec.encode_scaled(waveform.to(device), num_codebooks)
        yield Segment([scaled.codes], float(scaled.scale) if codec.config.normalize else None)


def decode_segments(codec: Codec, segments: Iterable[Segment]) -> Iterator[Tensor]:
    """-> blocks [1, C, n], together as long as the frames of the segments, overlap taken off."""
    if not isinstance(codec, Encodec) or not is_segmented(codec):
        for segment in segments:
            yield from decode_blocks(codec, segment.codes)
        return
    _, stride = _size_and_stride(codec)
    device = next(codec.parameters()).device
    yield from _faded((_decoded(codec, segment, device) for segment in segments), stride)


def _size_and_stride(codec: Codec) -> tuple[int | None, int]:
    """None: the whole sound is one segment."""
    config = codec.config if isinstance(codec, Encodec) else None
    if config is None or config.segment_length is None or config.segment_stride is None:
        return None, 1
    return config.segment_length, config.segment_stride


def _decoded(codec: Encodec, segment: Segment, device: torch.device) -> Tensor:
    """[1, C, T * hop_length]."""
    codes = torch.cat([block.to(device) for block in segment.codes], dim=-1)
    scale = torch.tensor(1.0 if segment.scale is None else segment.scale, device=device).view(1, 1, 1)
    with torch.no_grad():
        return codec.decode_scaled(ScaledCodes(codes, scale))


def _overlapping(blocks: Iterable[Tensor], size: int | None, stride: int) -> Iterator[Tensor]:
    """Blocks of any length -> pieces [1, C, size] that start `stride` apart, the last ones shorter."""
    waiting: Tensor | None = None
    for block in blocks:
        waiting = block if waiting is None else torch.cat([waiting, block], dim=-1)
        while size is not None and waiting.shape[-1] >= size:
            yield waiting[..., :size]
            waiting = waiting[..., stride:]
    while waiting is not None and waiting.shape[-1]:
        yield waiting[..., :size]
        waiting = waiting[..., stride if size is not None else waiting.shape[-1] :]


def _faded(pieces: Iterable[Tensor], stride: int) -> Iterator[Tensor]:
    """[1, C, n], each starting `stride` after the one before -> their weighted mean, block by block.

    The weights are a triangle over the first piece, whose ends are not zero; a shorter piece has the start of it.
    """
    weight: Tensor | None = None
    sums = weights = torch.zeros(0)
    for piece in pieces:
        length = piece.shape[-1]
        if weight is None:
            place = torch.linspace(0, 1, length + 2, device=piece.device)[1:-1]
            weight = 0.5 - (place - 0.5).abs()  # [n]
            sums, weights = piece.new_zeros(*piece.shape[:2], 0), piece.new_zeros(0)
        missing = max(0, length - sums.shape[-1])
        sums = torch.nn.functional.pad(sums, (0, missing))
        weights = torch.nn.functional.pad(weights, (0, missing))
        sums[..., :length] += weight[:length] * piece
        weights[:length] += weight[:length]
        yield sums[..., :stride] / weights[:stride]
        sums, weights = sums[..., stride:], weights[stride:]
    if sums.shape[-1]:
        yield sums / weights
