"""Residual vector quantization (SoundStream, 2107.03312, algorithm 1).

    residual_1 = z;   codes_k = nearest(residual_k);   residual_{k+1} = residual_k - entry_k;   z_q = sum of entries

The commitment loss |residual_k - sg(entry_k)|^2 is taken at every stage on a residual whose gradient reaches z: the
entries subtracted on the way are constants. (EnCodec's published training code loses it after the first stage.)

The nearest entry of a stage need not be that of the nearest sum. Beam search keeps the `search_width` best sums from
stage to stage: better codes for the same decoder, no part of the paper; those for fewer codebooks are then not always
the first of those for more. Training takes the nearest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.quantizers.base import Quantizer, QuantizerDropout, QuantizerOutput, unquantized
from audiogen_cli.quantizers.vq import VectorQuantizer, rotate

PART = 1024  # frames that are searched at once, to bound memory


@dataclass(frozen=True)
class RVQConfig:
    """`dead_code_threshold` is a count per training batch, averaged over batches.

    rotation_trick: every stage's gradient is turned and stretched as its vector is (see `vq.rotate`) and they are
        added; otherwise one gradient passes straight through all stages.
    sample_temperature: above 0, training draws codes by their distance instead of taking the nearest.
    search_width: the sums that `encode` keeps from stage to stage; 1 is the paper's algorithm.
    """

    num_codebooks: int
    codebook_size: int
    dim: int
    decay: float = 0.99
    kmeans_iterations: int = 10
    dead_code_threshold: float = 2.0
    rotation_trick: bool = False
    sample_temperature: float = 0.0
    search_width: int = 1
    dropout: QuantizerDropout | None = None

    def __post_init__(self) -> None:
        if min(self.num_codebooks, self.codebook_size, self.dim, self.search_width) < 1:
            raise ValueError("num_codebooks, codebook_size, dim and search_width must be 1 or more.")
        if self.sample_temperature < 0:
            raise ValueError("sample_temperature must be 0 (the nearest code) or more.")


class ResidualVQ(Quantizer):
    def __init__(self, config: RVQConfig) -> None:
        super().__init__()
        self.config, self.search_width = config, config.search_width
        self.num_codebooks, self.codebook_size, self.dropout = (
            config.num_codebooks,
            config.codebook_size,
            config.dropout,
        )
        self.stages = nn.ModuleList(
            VectorQuantizer(
                config.codebook_size, config.dim, config.decay, config.kmeans_iterations, config.dead_code_threshold
            )
            for _ in range(config.num_codebooks)
        )

    def forward(self, latent: Tensor, num_codebooks: int | None = None) -> QuantizerOutput:
        """latent [B, D, T]; in training mode the codebooks in use learn from it. With 0 codebooks it passes."""
        drawn = self.drawn(num_codebooks, latent.device)
        if drawn == 0:
            return unquantized(latent)
        vectors = latent.transpose(1, 2)  # [B, T, D]
        residual = vectors.float()
        found_codes, losses, rotated = [], [], []
        for stage in self._first(drawn):
            found = self._codes(stage, residual.detach())
            entry = stage.decode(found).detach()
            losses.append(F.mse_loss(residual, entry))
            if self.config.rotation_trick:
                rotated.append(rotate(residual, entry))
            residual = residual - entry
            found_codes.append(found)
        if rotated:
            quantized = torch.stack(rotated).sum(0).to(vectors.dtype)
        else:
            quantized = vectors + (vectors.float() - residual - vectors).detach()  # straight-through estimator
        return QuantizerOutput(quantized.transpose(1, 2), torch.stack(found_codes, 1), torch.stack(losses).sum())

    @torch.no_grad()
    def encode(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        """latent [B, D, T] -> codes [B, K, T]."""
        stages, residual = self._first(num_codebooks), latent.transpose(1, 2).float()
        if self.search_width > 1:
            codes = torch.cat([self._search(stages, part) for part in residual.flatten(0, 1).split(PART)])
            return codes.unflatten(0, residual.shape[:2]).transpose(1, 2)
        found = []
        for stage in stages:
            found.append(stage.encode(residual))
            residual = residual - stage.decode(found[-1])
        return torch.stack(found, 1)

    def _search(self, stages: list[VectorQuantizer], vectors: Tensor) -> Tensor:
        """vectors [M, D] -> the codes [M, K] of the best sum that is found."""
        residual, codes = vectors[:, None], torch.empty(len(vectors), 1, 0, dtype=torch.int64, device=vectors.device)
        for stage in stages:
            distance = residual.square().sum(-1, keepdim=True) - 2 * residual @ stage.embed.T
            distance = (distance + stage.embed.square().sum(1)).flatten(1)  # [M, W * V]
            best = distance.topk(min(self.search_width, distance.shape[1]), largest=False).indices  # [M, W]
            kept, code = best // len(stage.embed), best % len(stage.embed)
            residual = residual.take_along_dim(kept[..., None], 1) - stage.decode(code)
            codes = torch.cat([codes.take_along_dim(kept[..., None], 1), code[..., None]], -1)
        return codes[:, 0]

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, K', T], K' <= K -> [B, D, T]: the sum of the entries."""
        stages = self._first(codes.shape[1])
        return torch.stack([stage.decode(codes[:, k]) for k, stage in enumerate(stages)]).sum(0).transpose(1, 2)

    def codebooks(self) -> Tensor:
        """[K, V, D]."""
        return torch.stack([stage.embed for stage in self._first(None)])

    def _codes(self, stage: VectorQuantizer, residual: Tensor) -> Tensor:
        """residual [B, T, D] -> codes [B, T]."""
        flat = residual.reshape(-1, residual.shape[-1])
        found = stage.learn(flat, self.config.sample_temperature) if self.training else stage.encode(flat)
        return found.view(residual.shape[:-1])

    def _first(self, num_codebooks: int | None) -> list[VectorQuantizer]:
        wanted = self.config.num_codebooks if num_codebooks is None else num_codebooks
        if not 1 <= wanted <= self.config.num_codebooks:
            raise ValueError(f"num_codebooks must be between 1 and {self.config.num_codebooks}, not {wanted}.")
        return list(self.stages)[:wanted]  # type: ignore[return-value]
