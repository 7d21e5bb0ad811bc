"""CLAP, contrastive language-audio pretraining (2206.04769, 2211.06687), small: how well a sound answers a text.

    waveform [N] -> log mel [T, M] -> convolutions, each halving time and pitch -> mean + maximum over time -> [D]
    text         -> T5's vectors [L, text_dim], frozen -> their mean -> two layers                          -> [D]

Both ends have length 1; their product, the cosine of their angle, is the score. It is trained to be high for a sound
and its own caption and low for the captions of others. Levels are relative to the sound's loudest bin, so that how loud
a sound is decides nothing. The papers' text encoders are trained with the rest; here it stands still, being the one
that the language model listens to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.ops.stft import log_mel

RANGE = math.log(1e4)  # 80 dB: what is quieter than that below the loudest bin is not told apart
QUIET = math.log(1e-3)  # a sound whose loudest bin is below -60 dBFS is heard as quieter
HIGHEST_SCALE = math.log(100.0)  # the papers': beyond, training becomes unstable


@dataclass(frozen=True)
class CLAPConfig:
    """text_fingerprint: of the text encoder that the scorer was trained with."""

    sample_rate: int = 16_000
    n_fft: int = 1024
    hop_length: int = 320
    num_mels: int = 64
    channels: tuple[int, ...] = (32, 64, 128, 256)
    text_dim: int = 512
    hidden_dim: int = 256
    dim: int = 128
    dropout: float = 0.2
    text_fingerprint: str = ""

    def __post_init__(self) -> None:
        if not self.channels or self.num_mels < 2 ** len(self.channels):
            raise ValueError("channels must not be empty, and num_mels must be 2 ** len(channels) at least.")


class AudioTower(nn.Module):
    """log mel [B, T, M] -> [B, D]."""

    def __init__(self, config: CLAPConfig) -> None:
        super().__init__()
        pairs = zip((1, *config.channels[:-1]), config.channels, strict=True)
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(pairs):
            size = 5 if index == 0 else 3
            convolution = nn.Conv2d(before, after, size, stride=2, padding=size // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.GELU()]
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.Linear(config.channels[-1], config.dim)

    def forward(self, mel: Tensor) -> Tensor:
        loudest = mel.amax(dim=(1, 2), keepdim=True).clamp_min(QUIET)
        level = 1.0 + 2.0 * (mel - loudest).clamp_min(-RANGE) / RANGE  # -1 .. 1
        x = self.layers(level[:, None]).mean(dim=3)  # [B, C, T / 2^layers]
        return self.project(self.dropout(x.mean(dim=2) + x.amax(dim=2)))


class TextTower(nn.Module):
    """mean text vector [B, text_dim] -> [B, D]."""

    def __init__(self, config: CLAPConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.text_dim)
        self.expand = nn.Linear(config.text_dim, config.hidden_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.Linear(config.hidden_dim, config.dim)

    def forward(self, text: Tensor) -> Tensor:
        return self.project(self.dropout(F.gelu(self.expand(self.norm(text)))))


class CLAP(nn.Module):
    def __init__(self, config: CLAPConfig) -> None:
        super().__init__()
        self.config = config
        self.audio = AudioTower(config)
        self.text = TextTower(config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, mel: Tensor, text: Tensor) -> Tensor:
        """mel [A, T, M], text [B, text_dim] -> logits [A, B]: the cosines, over a learned temperature."""
        cosines = self.embed_sound(mel) @ self.embed_text(text).T
        return cosines * self.log_scale.clamp_max(HIGHEST_SCALE).exp()

    def embed_sound(self, mel: Tensor) -> Tensor:
        """[B, T, M] -> [B, D] of length 1."""
        return F.normalize(self.audio(mel), dim=-1)

    def embed_text(self, text: Tensor) -> Tensor:
        """[B, text_dim], of `mean_vector` -> [B, D] of length 1."""
        return F.normalize(self.text(text), dim=-1)

    def features(self, waveform: Tensor) -> Tensor:
        """waveform [..., N] -> log mel [..., T, M]."""
        config = self.config
        mel = log_mel(waveform, config.sample_rate, config.n_fft, config.hop_length, config.num_mels)
        return mel.transpose(-1, -2)

    @torch.inference_mode()
    def score(self, waveform: Tensor, text: Condition) -> float:
        """How well waveform [N], at the config's rate, answers a text of one row: -1 to 1."""
        sound = self.embed_sound(self.features(waveform[None]))
        return float((sound * self.embed_text(mean_vector(text))).sum())


def mean_vector(text: Condition) -> Tensor:
    """[B, L, text_dim] -> [B, text_dim], over what is not masked; zeros where everything is."""
    weights = text.mask.to(text.embedding.dtype)[..., None]
    return (text.embedding * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1.0)
