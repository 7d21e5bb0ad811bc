"""vq-wav2vec (1910.05453): semantic ids from a network that quantizes by itself, in groups.

    waveform [N] --convolutions, 160 samples a frame--> features [T, D] --G codes of V each--> ids [T], 100 a second

The codes of a frame are one id, g0 V + g1 for two groups of which the first is g0. audiolm-pytorch puts both into one
stream with the same numbers, where removing repeats removes what is none. The two published models differ in how they
choose: "kmeans" takes the nearest vector of every group, "gumbel" the largest of V logits.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.models.semantic import PIECE_SECONDS, SemanticTokenizer

Convolution = tuple[int, int, int]  # channels, kernel, stride

CONVOLUTIONS: tuple[Convolution, ...] = (
    (512, 10, 5),
    (512, 8, 4),
    *((512, 4, 2),) * 3,
    *((512, 1, 1),) * 3,
)


@dataclass(frozen=True)
class VQWav2VecConfig:
    """quantizer_layers: of the network that makes the logits, twice as wide within; "kmeans" has none. shared: whether
    the groups choose among the same vectors. residual: each convolution adds to its input, where the sizes agree."""

    quantizer: Literal["kmeans", "gumbel"] = "kmeans"
    convolutions: tuple[Convolution, ...] = CONVOLUTIONS
    num_groups: int = 2
    num_codes: int = 320
    quantizer_layers: int = 1
    shared: bool = False
    activation: Literal["relu", "gelu"] = "relu"
    residual: bool = False
    residual_scale: float = 0.5
    log_compression: bool = True
    sample_rate: int = 16_000

    def __post_init__(self) -> None:
        if not self.convolutions or self.convolutions[-1][0] % self.num_groups:
            raise ValueError("vq-wav2vec needs convolutions, the last of a width that the groups can share")

    @property
    def hop_length(self) -> int:
        return math.prod(stride for _, _, stride in self.convolutions)

    @property
    def field(self) -> int:
        """How many samples a frame hears."""
        field, hop = 1, 1
        for _, kernel, stride in self.convolutions:
            field, hop = field + (kernel - 1) * hop, hop * stride
        return field


class VQWav2Vec(SemanticTokenizer):
    """A tokenizer that needs no centroids."""

    def __init__(self, config: VQWav2VecConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.sample_rate, self.hop_length = config.sample_rate, config.hop_length
        self.frame_rate = self.sample_rate / self.hop_length
        self.codebook_size = config.num_codes**config.num_groups
        widths = [1, *(channels for channels, _, _ in config.convolutions)]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, channels, kernel, stride, bias=False)
            for before, (channels, kernel, stride) in zip(widths, config.convolutions, strict=False)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, channels) for channels in widths[1:])
        dim, groups = widths[-1], config.num_groups
        if config.quantizer == "kmeans":
            self.projection = nn.Conv1d(dim, dim, 1, groups=groups, bias=False)
            self.projection_norm = nn.GroupNorm(groups, dim)
            shape = (config.num_codes, 1 if config.shared else groups, dim // groups)
            self.codebook = nn.Parameter(torch.randn(shape))
        else:
            inner = [dim, *[2 * dim] * (config.quantizer_layers - 1)]
            self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(inner))
            self.logits = nn.Linear(inner[-1], groups * config.num_codes)
        self.eval().requires_grad_(False)

    def codes(self, waveform: Tensor) -> Tensor:
        """waveform [N] -> codes [T, G], T = ceil(N / hop_length): the end is completed with silence."""
        count = -(-len(waveform) // self.hop_length)
        missing = (count - 1) * self.hop_length + self.config.field - len(waveform)
        x = self._features(F.pad(waveform.float(), (0, max(0, missing)))[None])[:, :, :count]  # [1, D, T]
        if self.config.quantizer == "gumbel":
            x = x[0].T
            for layer in self.hidden:
                x = self._active(layer(x))
            return self.logits(x).unflatten(1, (self.config.num_groups, -1)).argmax(dim=2)
        x = self.projection_norm(self.projection(x)).unflatten(1, (self.config.num_groups, -1))[0]  # [G, D / G, T]
        books = self.codebook.expand(-1, self.config.num_groups, -1).transpose(0, 1)  # [G, V, D / G]
        return torch.cdist(x.transpose(1, 2), books).argmin(dim=2).T

    @torch.no_grad()
    def ids(self, waveform: Tensor) -> Tensor:
        """waveform [N] -> ids [T]."""
        pieces = waveform.to(self.norms[0].weight.device).split(PIECE_SECONDS * self.sample_rate)  # type: ignore[arg-type]
        codes = torch.cat([self.codes(piece) for piece in pieces])
        place = self.config.num_codes ** torch.arange(self.config.num_groups - 1, -1, -1, device=codes.device)
        return (codes * place).sum(dim=1).cpu()

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for _, tensor in sorted(self.state_dict().items()):
            digest.update(tensor.half().cpu().numpy().tobytes())
        return digest.hexdigest()[:12]

    def _features(self, x: Tensor) -> Tensor:
        """[1, n] -> [1, D, frames]."""
        x = x[:, None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            made: Tensor = self._active(norm(convolution(x)))
            if self.config.residual and x.shape[1] == made.shape[1]:
                kept = x[..., :: x.shape[2] // made.shape[2]][..., : made.shape[2]]
                made = (made + kept) * math.sqrt(self.config.residual_scale)
            x = made
        return (x.abs() + 1).log() if self.config.log_compression else x

    def _active(self, x: Tensor) -> Tensor:
        return F.relu(x) if self.config.activation == "relu" else F.gelu(x)
