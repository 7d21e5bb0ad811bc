"""What every neural codec does, whatever its network: waveform to codes and back, and the arithmetic of frames.

    waveform [B, C, N] --encode--> codes [B, K, T] --decode--> waveform [B, C, T * hop_length]

N samples make T = ceil(N / hop_length) frames; the last frame is completed with silence and the caller cuts the decoded
waveform back to N.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from audiogen_cli.errors import ModelError
from audiogen_cli.ops.blend import blend
from audiogen_cli.ops.streaming import State, stream_overlapping


class Levels(NamedTuple):
    """For a discriminator that hears log magnitudes. recorded, made: [B, C, F, T], about mean 0 and variance 1; heads:
    the decoder's output that `made` comes from."""

    recorded: Tensor
    made: Tensor
    heads: Tensor


class CodecOutput(NamedTuple):
    """One training pass. waveform: [B, C, N]; codes: [B, K, T]; commitment: scalar, summed over the stages.

    magnitude: scalar, the distance of the decoder's own magnitudes from the input's, for a codec that has such. levels:
    of a codec whose magnitudes have a texture.
    """

    waveform: Tensor
    codes: Tensor
    commitment: Tensor
    magnitude: Tensor | None = None
    levels: Levels | None = None


class Latents(Protocol):
    """What a flow makes, [B, D, T], and how it is heard."""

    def latents(self, waveform: Tensor) -> Tensor: ...

    def latents_of(self, codes: Tensor) -> Tensor: ...

    def sound_of(self, latents: Tensor) -> Tensor: ...

    def rough(self, latents: Tensor) -> Tensor: ...

    def mixed(self, latents: Tensor, settings: Sequence[bool]) -> Tensor: ...


class Codec(nn.Module):
    """Base class. A subclass sets the attributes below and writes `encode`, `decode` and `forward`.

    num_groups: parts of the sound (channels, or parts of the latent) that are quantized apart; codebook
        k * num_groups + i is codebook k of group i.
    encoder_context, decoder_context: how many frames to either side a frame of codes, or the samples of a frame, depend
        on. None: on all of them; then `encode_step` and `decode_step` are the subclass's to write, or it cannot stream.
    """

    sample_rate: int
    channels: int
    hop_length: int
    num_codebooks: int
    codebook_size: int
    num_groups: int = 1
    encoder_context: int | None = None
    decoder_context: int | None = None

    @property
    def frame_rate(self) -> float:
        return self.sample_rate / self.hop_length

    def num_frames(self, num_samples: int) -> int:
        return -(-num_samples // self.hop_length)

    def encode(self, waveform: Tensor, num_codebooks: int | None = None) -> Tensor:
        """waveform [B, C, N] in [-1, 1] -> codes [B, K, T]; `num_codebooks` keeps the first ones (a lower rate)."""
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, K', T], K' <= K -> waveform [B, C, T * hop_length]."""
        raise NotImplementedError

    def latents(self, waveform: Tensor) -> Tensor:
        """waveform [B, C, N] -> what is quantized, [B, D, T], for a model that makes these (models/flow.py).

        Raises ModelError for a codec whose latents do not make a sound by themselves.
        """
        raise ModelError("the latents of this codec cannot be modelled; choose another kind of codec.")

    def latents_of(self, codes: Tensor) -> Tensor:
        """codes [B, K', T] -> the latents [B, D, T] that they stand for."""
        raise ModelError("the latents of this codec cannot be modelled; choose another kind of codec.")

    def sound_of(self, latents: Tensor) -> Tensor:
        """latents [B, D, T] -> waveform [B, C, T * hop_length]; `decode` without codes."""
        raise ModelError("the latents of this codec cannot be modelled; choose another kind of codec.")

    def rough(self, latents: Tensor) -> Tensor:
        """`sound_of` in mono, [B, T * hop_length], for a judge: its phases may be anything, where that is quicker."""
        return self.sound_of(latents).mean(dim=1)

    def mixed(self, latents: Tensor, settings: Sequence[bool]) -> Tensor:
        """latents [L, D, T] of L sounds -> all of them at once, waveform [C, T * hop_length].

        settings: of `ops.blend.balance`.
        """
        return blend(self.sound_of(latents), settings)

    def view(self, space: str) -> Latents:
        """This codec with its latents in the terms of a flow's `space`. Raises ModelError when it has no such."""
        if space != "latents":
            raise ModelError(f"this codec makes no sound of {space} spectrograms; choose a mel codec.")
        return self

    def forward(self, waveform: Tensor, num_codebooks: int | None = None) -> CodecOutput:
        raise NotImplementedError

    def encode_step(
        self, waveform: Tensor, state: State, last: bool, num_codebooks: int | None = None
    ) -> tuple[Tensor, State]:
        """A block [B, C, n >= 0] of a longer waveform -> the codes [B, K, t >= 0] that are now certain, and the state.

        state: None at the start, then whatever the call before returned. last: the waveform ends with this block. All
        codes together are `encode` of the whole waveform, up to rounding; models/streaming.py makes a loop of it.
        Where a context is given, each step works through it on both sides once more, so make the blocks long.
        Raises ModelError when the codec needs the whole waveform.
        """

        def encode(piece: Tensor, first: int) -> Tensor:
            return self.encode(piece, num_codebooks)

        context, hop = _context(self.encoder_context), self.hop_length
        codes, state = stream_overlapping(encode, waveform, state, last, context, per_frame=hop)
        if codes is None:
            kept = self.num_codebooks if num_codebooks is None else num_codebooks
            codes = torch.empty(waveform.shape[0], kept, 0, dtype=torch.int64, device=waveform.device)
        return codes, state

    def decode_step(self, codes: Tensor, state: State, last: bool) -> tuple[Tensor, State]:
        """A block of codes [B, K', t >= 0] -> the samples [B, C, n >= 0] that are now certain, and the state."""
        context, hop = _context(self.decoder_context), self.hop_length
        waveform, state = stream_overlapping(self.decode_from, codes, state, last, context, frame_length=hop)
        if waveform is None:
            waveform = torch.empty(codes.shape[0], self.channels, 0, device=codes.device)
        return waveform, state

    def decode_from(self, codes: Tensor, first_frame: int) -> Tensor:
        """`decode` of a sound that begins with frame `first_frame` of another; differs where a decoder draws noise."""
        return self.decode(codes)

    def codebooks(self) -> Tensor:
        """[K, V, D], what the codes stand for."""
        raise NotImplementedError

    @torch.no_grad()
    def fingerprint(self) -> str:
        """Twelve hex digits that name the meaning of the codes. A language model stores those of its codec."""
        return hashlib.sha256(self.codebooks().detach().half().cpu().numpy().tobytes()).hexdigest()[:12]


def _context(frames: int | None) -> int:
    if frames is None:
        raise ModelError("this codec needs the whole sound; encode or decode it in one piece.")
    return frames
