"""One-dimensional convolutions that know how many frames they make (EnCodec, 2210.13438, section 3.1).

A convolution of kernel k and dilation d sees spans of `(k - 1) * d + 1` samples. It is padded by `span - stride`, and
at the end by what completes the last frame, so that N samples make exactly ceil(N / stride) frames:

    N = 5, span = 4, stride = 2        p: padding, e: completes the last frame

    causal       p p 0 1 2 3 4 e       symmetric     p 0 1 2 3 4 p e
    frame 0     [p p 0 1]                           [p 0 1 2]
    frame 1         [0 1 2 3]                           [1 2 3 4]
    frame 2             [2 3 4 e]                           [3 4 p e]

A transposed convolution makes `T * stride + span - stride` samples of T frames; the same padding is cut off again.
Shapes are [B, C, N] throughout. Both layers also work block by block, as ops/streaming.py says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from audiogen_cli.errors import ModelError
from audiogen_cli.ops.streaming import joined

Norm = Literal["weight_norm", "time_group_norm", "none"]
PadMode = Literal["reflect", "constant", "replicate"]


@dataclass(frozen=True)
class ConvStyle:
    """What all convolutions of one network share.

    causal: no frame sees later samples. Reflection is the exception: it shows the first frames a mirror of what follows
        them, so only `constant` and `replicate` are causal to the first sample.
    norm: `weight_norm` (w = g * v / |v|), `time_group_norm` (one group over channels and time) or `none`.
    trim_right_ratio: the share of a transposed convolution's surplus that a causal network cuts at the end. Below 1 it
        hears that much of the next frame.
    """

    causal: bool = False
    norm: Norm = "weight_norm"
    pad_mode: PadMode = "reflect"
    trim_right_ratio: float = 1.0


def pad(signal: Tensor, left: int, right: int, mode: PadMode) -> Tensor:
    """[B, C, N] -> [B, C, left + N + right].

    A signal too short to be reflected is extended by zeros first, and the result cut by as many.
    """
    if not left and not right:
        return signal  # padding by nothing would copy it
    if mode != "reflect":
        return F.pad(signal, (left, right), mode)
    missing = max(0, max(left, right) + 1 - signal.shape[-1])  # reflection must find one sample more than it makes
    padded = F.pad(F.pad(signal, (0, missing)) if missing else signal, (left, right), mode)
    return padded[..., : padded.shape[-1] - missing]


class ConvTail(NamedTuple):
    """State of a convolution. signal: the latest samples; start: where in it the next frame begins, None while the
    padding on the left is still to come."""

    signal: Tensor
    start: int | None


class PaddedConv1d(nn.Module):
    """[B, in_channels, N] -> [B, out_channels, ceil(N / stride)] for every N >= 1."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        style: ConvStyle,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.pad_mode = style.pad_mode
        self.left, self.right = _sides((kernel_size - 1) * dilation + 1 - stride, style.causal, ratio=0.0)
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, stride, dilation=dilation)
        self.norm = _normalize(self.conv, style.norm)

    def forward(self, signal: Tensor) -> Tensor:
        completing = -signal.shape[-1] % self.stride
        return self.norm(self.conv(pad(signal, self.left, self.right + completing, self.pad_mode)))

    def stream(self, signal: Tensor, state: ConvTail | None, last: bool) -> tuple[Tensor, ConvTail]:
        """One block. Raises ModelError where the norm averages over the whole sound."""
        _refuse_norm(self.norm)
        signal, start = joined(state.signal if state else None, signal), state.start if state else None
        if start is None:
            if last:  # the whole signal was one block
                whole = self.forward(signal) if signal.shape[-1] else self._nothing(signal)
                return whole, ConvTail(signal[..., :0].clone(), None)
            if signal.shape[-1] < self._mirrored:
                return self._nothing(signal), ConvTail(signal.clone(), None)
            signal, start = pad(signal, self.left, 0, self.pad_mode), 0
        if last:
            completing = (start + self.left - signal.shape[-1]) % self.stride
            signal = pad(signal, 0, self.right + completing, self.pad_mode)
        frames = max(0, (signal.shape[-1] - start - self.left - self.right) // self.stride)
        end = start + frames * self.stride
        made = self.conv(signal[..., start : end + self.left + self.right]) if frames else self._nothing(signal)
        kept = max(0, min(end, signal.shape[-1] - self._mirrored))
        return made, ConvTail(signal[..., kept:].clone(), end - kept)

    @property
    def _mirrored(self) -> int:
        """How many of the first and of the last samples the padding is made of."""
        farthest = max(self.left, self.right + self.stride - 1)
        return {"reflect": farthest + 1, "replicate": 1, "constant": 0}[self.pad_mode]

    def _nothing(self, signal: Tensor) -> Tensor:
        return signal.new_empty(signal.shape[0], self.conv.out_channels, 0)


class TrimmedConvTranspose1d(nn.Module):
    """[B, in_channels, T] -> [B, out_channels, T * stride]."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, style: ConvStyle, stride: int = 1
    ) -> None:
        super().__init__()
        self.stride = stride
        self.left, self.right = _sides(kernel_size - stride, style.causal, style.trim_right_ratio)
        self.conv = nn.ConvTranspose1d(in_channels, out_channels, kernel_size, stride)
        self.norm = _normalize(self.conv, style.norm)

    def forward(self, signal: Tensor) -> Tensor:
        surplus = self.norm(self.conv(signal))  # [B, out_channels, left + T * stride + right]
        return surplus[..., self.left : surplus.shape[-1] - self.right]

    def stream(self, signal: Tensor, state: tuple[Tensor, int] | None, last: bool) -> tuple[Tensor, tuple[Tensor, int]]:
        """One block. State: the earlier frames that later samples hear, and how much of the left is still to be cut.

        Raises ModelError where the norm averages over the whole sound.
        """
        _refuse_norm(self.norm)
        if last and state is None and signal.shape[-1]:  # the whole signal is one block
            return self.forward(signal), (signal[..., :0].clone(), 0)
        heard = -(-(self.left + self.right) // self.stride)
        earlier, cut = state or (signal.new_zeros(*signal.shape[:2], heard), self.left)
        frames = torch.cat([earlier, signal], dim=-1)
        if not signal.shape[-1] and not (last and state and self.left):
            return signal.new_empty(signal.shape[0], self.conv.out_channels, 0), (frames, cut)
        surplus = self.conv(frames)  # what lies before `heard` frames is known already, what lies after is unfinished
        surplus = surplus[..., heard * self.stride : frames.shape[-1] * self.stride + (self.left if last else 0)]
        now = min(cut, surplus.shape[-1])
        return surplus[..., now:], (frames[..., frames.shape[-1] - heard :].clone(), cut - now)


def fold_weight_norm(module: nn.Module) -> None:
    """Replaces, in place, every g and v inside `module` by the weight they stand for: same output, less work."""
    for part in list(module.modules()):
        if isinstance(part, (nn.Conv1d, nn.ConvTranspose1d)) and parametrize.is_parametrized(part, "weight"):
            parametrize.remove_parametrizations(part, "weight")


def _refuse_norm(norm: nn.Module) -> None:
    if not isinstance(norm, nn.Identity):
        raise ModelError("the network's norm averages over the whole sound; encode or decode it segment by segment.")


def _sides(total: int, causal: bool, ratio: float) -> tuple[int, int]:
    """Splits the padding (or the surplus) into left and right; `ratio` is the causal share of the right."""
    if total < 0:
        raise ValueError("a kernel must span at least its stride; make the kernel longer.")
    right = math.ceil(total * ratio) if causal else total // 2
    return total - right, right


def _normalize(conv: nn.Conv1d | nn.ConvTranspose1d, norm: Norm) -> nn.Module:
    """Parametrizes the weight, or returns the layer that follows the convolution."""
    if norm == "weight_norm":
        parametrizations.weight_norm(conv, dim=0)  # which is the input of a transposed convolution: so it was published
    return nn.GroupNorm(1, conv.out_channels) if norm == "time_group_norm" else nn.Identity()
