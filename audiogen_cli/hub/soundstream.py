"""SoundStream as programs written for audiolm-pytorch know it: their arguments, shapes and methods on our codec.

    soundstream = SoundStream(codebook_size=1024, rq_num_quantizers=8, attn_window_size=128)
    codes = soundstream.tokenize(audio)                             # [groups, B, T, levels]
    audio = soundstream.decode_from_codebook_indices(codes)         # [B, C, N]
    soundstream.save(folder);   SoundStream.init_and_load_from(folder)

Audio may be [N], [B, N] for a mono codec or [C, N] for one of more channels, or [B, C, N]. What we do otherwise:

    - Nothing is cut to whole frames unless `curtail_from_left` asks for it: the last frame is completed, and what is
      decoded for an input is as long as the input.
    - A checkpoint is a folder of safetensors and JSON. Theirs hold pickled arguments, which run code when read.
    - Losses and discriminators belong to training and are no part of the model or its copies; the public SoundStream is
      that of training/soundstream_losses.py, which has them beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Self, overload

import torch
from torch import Tensor, nn

from audiogen_cli.config import from_dict, to_dict
from audiogen_cli.data import audio as sound
from audiogen_cli.errors import InputError
from audiogen_cli.models.soundstream import SoundStreamCodec, SoundStreamConfig


class SoundStream(SoundStreamCodec):
    """Raises ConfigError for arguments that SoundStreamConfig has not, or that make no codec."""

    @overload
    def __init__(self, config: SoundStreamConfig) -> None: ...
    @overload
    def __init__(self, **options: Any) -> None: ...
    def __init__(self, config: SoundStreamConfig | None = None, **options: Any) -> None:
        super().__init__(config or from_dict(SoundStreamConfig, options, where="SoundStream"))

    def forward(
        self,
        waveform: Tensor,
        num_codebooks: int | None = None,
        denoise: Tensor | bool | None = None,
        *,
        is_denoising: bool | None = None,
        return_recons_only: bool = False,
        return_codes_only: bool = False,
        return_encoded: bool = False,
        input_sample_hz: int | None = None,
        curtail_from_left: bool = False,
    ) -> Any:
        """A CodecOutput, or what is asked for: the reconstruction, shaped like the input (with a channel dimension);
        the codes [groups, B, T, levels]; or the quantized latent [B, T, D], codes [B, T, groups * levels] and the
        commitment loss."""
        denoise = is_denoising if denoise is None else denoise
        batched = self._batched(waveform, input_sample_hz, curtail_from_left)
        if return_codes_only:
            return self._by_group(self.encode(batched, num_codebooks, denoise))
        if return_encoded:
            quantized, codes, commitment = self.quantizer(self.encoder(batched, denoise), num_codebooks)
            flat = self._by_group(codes).permute(1, 2, 0, 3).flatten(2)
            return quantized.transpose(1, 2), flat, commitment
        output = super().forward(batched, num_codebooks, denoise)
        if return_recons_only:
            return output.waveform[0] if waveform.ndim == 1 or self._is_one_sound(waveform) else output.waveform
        return output

    @torch.no_grad()
    def tokenize(self, audio: Tensor, input_sample_hz: int | None = None, curtail_from_left: bool = False) -> Tensor:
        """audio -> codes [groups, B, T, levels]; nothing is dropped or learned, whatever the mode."""
        return self._by_group(self.encode(self._batched(audio, input_sample_hz, curtail_from_left)))

    @torch.no_grad()
    def decode_from_codebook_indices(self, codes: Tensor) -> Tensor:
        """codes [groups, B, T, levels] or [B, T, groups * levels], in this order -> audio [B, C, T * hop].

        -1 stands for nothing, and fewer levels are a lower rate.
        """
        groups = self.config.rq_groups
        if codes.ndim == 3 and not codes.shape[2] % groups:
            codes = codes.unflatten(2, (groups, -1)).permute(2, 0, 1, 3)
        if codes.ndim != 4 or codes.shape[0] != groups:
            expected = f"[{groups}, batch, frames, levels] or [batch, frames, {groups} * levels]"
            raise InputError(f"codes have the shape {list(codes.shape)}; give {expected}.")
        return self.decode(codes.permute(1, 3, 0, 2).flatten(1, 2))

    @property
    def downsample_factor(self) -> int:
        """Samples per frame."""
        return self.hop_length

    @property
    def seq_len_multiple_of(self) -> int:
        return self.hop_length

    @property
    def configs(self) -> dict[str, Any]:
        """The arguments that make this codec again."""
        return to_dict(self.config)

    def non_discr_parameters(self) -> Iterator[nn.Parameter]:
        return self.parameters()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a checkpoint folder. Raises OutputError."""
        from audiogen_cli.hub import checkpoint

        checkpoint.save(path, self)

    def load(self, path: str | os.PathLike[str], strict: bool = True) -> SoundStream:
        """The weights of a checkpoint folder into this codec. Raises CheckpointError; see init_and_load_from."""
        found = self.init_and_load_from(path).state_dict()
        mine = self.state_dict()
        fitting = {name: tensor for name, tensor in found.items() if name in mine and tensor.shape == mine[name].shape}
        self.load_state_dict(found if strict else fitting, strict=strict)
        return self

    @classmethod
    def init_and_load_from(cls, path: str | os.PathLike[str], strict: bool = True) -> Self:
        """The codec of a checkpoint folder, in evaluation mode. Raises CheckpointError for one that is not ours.

        `strict` is theirs: here every tensor must be the one that the stored arguments make, either way.
        """
        from audiogen_cli.hub import checkpoint

        found = checkpoint.load(path, expect=("soundstream",))
        assert isinstance(found, SoundStream)
        if isinstance(found, cls):
            return found
        made = cls(found.config).eval()
        made.load_state_dict(found.state_dict())
        return made

    def _batched(self, audio: Tensor, sample_hz: int | None, curtail_from_left: bool) -> Tensor:
        """-> [B, C, N] at the codec's rate."""
        one = self._is_one_sound(audio)
        batch = audio[None] if one else audio[None, None] if audio.ndim == 1 else audio
        batch = batch[:, None] if batch.ndim == 2 else batch
        if sample_hz is not None and sample_hz != self.sample_rate:
            resampled = [sound.resample(each.cpu(), sample_hz, self.sample_rate) for each in batch.detach()]
            batch = torch.stack(resampled).to(batch.device)
        return batch[..., batch.shape[-1] % self.hop_length :] if curtail_from_left else batch

    def _is_one_sound(self, audio: Tensor) -> bool:
        """[C, N] of a codec with more than one channel: no batch of as many mono sounds."""
        return audio.ndim == 2 and self.channels > 1

    def _by_group(self, codes: Tensor) -> Tensor:
        """[B, levels * groups, T] -> [groups, B, T, levels]."""
        return codes.unflatten(1, (-1, self.config.rq_groups)).permute(2, 0, 3, 1)
