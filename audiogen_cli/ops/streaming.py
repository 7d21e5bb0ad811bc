"""Layers that work through a signal of any length block by block; what one block leaves for the next is passed by hand.

    output, state = stream(layer, block, state, last)        state None: the signal starts here; last: it ends here

The outputs of all blocks, one behind the other, are the layer's output for the whole signal. Each layer consumes what
it can and keeps the tail that it still needs, so a call returns what is ready, often nothing, and with `last` all the
rest. The layer itself is not touched: two streams through one network are two states. Nor does a state hold on to a
block: who gave it may write over it.

Blocks are [B, C, n] with n of 0 or more, and so are outputs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from audiogen_cli.errors import ModelError

State = Any  # of a layer: None at the start, then whatever it returned last (tensors and numbers)


@runtime_checkable
class Streaming(Protocol):
    def stream(self, signal: Tensor, state: State, last: bool) -> tuple[Tensor, State]: ...


POINTWISE = (nn.Identity, nn.ELU, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.Tanh)  # no sample meets another


def stream(layer: nn.Module, signal: Tensor, state: State, last: bool) -> tuple[Tensor, State]:
    """One block through one layer. Raises ModelError for a layer that has to see the whole signal."""
    if isinstance(layer, Streaming):
        return layer.stream(signal, state, last)
    if isinstance(layer, nn.Sequential):
        return _stream_chain(layer, signal, state, last)
    if isinstance(layer, POINTWISE):
        return layer(signal), None
    raise ModelError(f"a {type(layer).__name__} needs the whole sound; encode or decode it in one piece.")


def stream_sum(
    layers: Sequence[nn.Module], signal: Tensor, state: State, last: bool
) -> tuple[Tensor, list[tuple[State, Tensor]]]:
    """The sum of what several layers make of one signal: what one is ahead of the others waits for them."""
    outputs, states = [], []
    for layer, (inner, waiting) in zip(layers, state or [(None, None)] * len(layers), strict=True):
        output, inner = stream(layer, signal, inner, last)
        outputs.append(joined(waiting, output))
        states.append(inner)
    ready = min(output.shape[-1] for output in outputs)
    total = functools.reduce(torch.add, [output[..., :ready] for output in outputs])
    return total, [(inner, output[..., ready:].clone()) for inner, output in zip(states, outputs, strict=True)]


class Pieces(NamedTuple):
    """State of `stream_overlapping`. signal: [B, C, n], from the first item that is still needed; first: the number of
    the frame that it starts with; done: frames returned so far."""

    signal: Tensor
    first: int
    done: int


def stream_overlapping(
    function: Callable[[Tensor, int], Tensor],
    signal: Tensor,
    state: Pieces | None,
    last: bool,
    context: int,
    per_frame: int = 1,
    frame_length: int = 1,
) -> tuple[Tensor | None, Pieces]:
    """A function whose frames see at most `context` frames to either side, run on pieces that overlap by those.

    function(piece, first) -> output: frame 0 of the piece is frame `first` of the signal. A frame is `per_frame` items
    of the input and `frame_length` of the output; the last one of the signal may be incomplete. None: nothing ready.
    """
    items, first, done = joined(state.signal if state else None, signal), *(state[1:] if state else (0, 0))
    whole = -(-items.shape[-1] // per_frame) if last else items.shape[-1] // per_frame
    ready = first + whole - (0 if last else context)
    if ready <= done:
        return None, Pieces(items.clone(), first, done)
    piece = items if last else items[..., : whole * per_frame]
    output = function(piece, first)[..., (done - first) * frame_length : (ready - first) * frame_length]
    start = max(first, ready - context)
    return output, Pieces(items[..., (start - first) * per_frame :].clone(), start, ready)


def joined(before: Tensor | None, signal: Tensor) -> Tensor:
    return signal if before is None else torch.cat([before, signal], dim=-1)


def _stream_chain(
    layers: nn.Sequential, signal: Tensor, state: list[State] | None, last: bool
) -> tuple[Tensor, list[State]]:
    states = []
    for layer, inner in zip(layers, state or [None] * len(layers), strict=True):
        signal, inner = stream(layer, signal, inner, last)
        states.append(inner)
    return signal, states
