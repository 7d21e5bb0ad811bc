"""How well a sound answers a text, by an ear that knows the classes of sounds, and by what a text leads it to expect.

    text  -> T5's vectors, frozen -> their mean -> two layers -> expected classes p [527]
    sound -> models/ear.py                      -> heard classes q [527]       score = sum of p log q

Both are distributions over AudioSet's classes. It is no CLAP (models/clap.py): the ear was trained by others on two
million recordings, of which the captions at hand are a drop; only the two layers are trained here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.models.clap import mean_vector
from audiogen_cli.models.ear import Ear


@dataclass(frozen=True)
class JudgeConfig:
    """width: of the ear. text_fingerprint: of the text encoder that the expectations were trained with."""

    width: float = 0.4
    num_classes: int = 527
    text_dim: int = 512
    hidden_dim: int = 256
    dropout: float = 0.2
    text_fingerprint: str = ""


class Judge(nn.Module):
    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        self.ear = Ear(config.width, config.num_classes)
        self.norm = nn.LayerNorm(config.text_dim)
        self.expand = nn.Linear(config.text_dim, config.hidden_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.Linear(config.hidden_dim, config.num_classes)

    def expected(self, text: Tensor) -> Tensor:
        """[B, text_dim], of `mean_vector` -> log probabilities [B, num_classes]."""
        hidden = self.dropout(F.gelu(self.expand(self.norm(text))))
        return self.project(hidden).log_softmax(dim=1)

    def heard(self, waveform: Tensor, sample_rate: int) -> Tensor:
        """waveform [B, N] -> log probabilities [B, num_classes]."""
        return self.ear.named(self.ear(waveform, sample_rate)).log_softmax(dim=1)

    @torch.inference_mode()
    def score(self, waveform: Tensor, sample_rate: int, text: Condition) -> float:
        """How well waveform [N] answers a text of one row: 0 or below, in nats."""
        expected = self.expected(mean_vector(text)).exp()
        return float((expected * self.heard(waveform[None], sample_rate)).sum())
