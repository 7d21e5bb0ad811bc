"""Residual quantization to points that need no table: project, round level by level, project back.

    x = bound(W_in z);    entry_k = nearest point of lattice k to residual_k;    residual_{k+1} = residual_k - entry_k
    z_q = W_out (sum of entries)

What the lattices are, fsq.py and lfq.py say. The gradient passes straight through from the sum of the entries to the
bounded x. All of it is computed in float32: near a border half precision would choose another point.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audiogen_cli.quantizers.base import Quantizer, QuantizerDropout, QuantizerOutput, unquantized


class LatticeQuantizer(Quantizer):
    """Base class. A subclass writes `bound`, `nearest`, `index`, `entry` and, where it asks something, `loss`.

    dim: width D of the latent; width: d, that of the lattice. Equal widths need no projection and have none.
    """

    def __init__(
        self, dim: int, width: int, num_codebooks: int, codebook_size: int, dropout: QuantizerDropout | None
    ) -> None:
        super().__init__()
        self.num_codebooks, self.codebook_size, self.dropout = num_codebooks, codebook_size, dropout
        self.project_in = nn.Linear(dim, width) if dim != width else nn.Identity()
        self.project_out = nn.Linear(width, dim) if dim != width else nn.Identity()

    def forward(self, latent: Tensor, num_codebooks: int | None = None) -> QuantizerOutput:
        drawn = self.drawn(num_codebooks, latent.device)
        if drawn == 0:
            return unquantized(latent)
        projected = self.project_in(latent.transpose(1, 2))  # [B, T, d]
        with torch.autocast(latent.device.type, enabled=False):
            bounded = self.bound(projected.float())
            residual, codes, losses = bounded, [], []
            for k in range(drawn):
                entry = self.nearest(residual, k).detach()
                codes.append(self.index(entry, k))
                losses.append(self.loss(residual, entry, k))
                residual = residual - entry
            passed = bounded - residual.detach()  # their sum, with the gradient of the bounded latent
        quantized = self.project_out(passed.to(projected.dtype)).transpose(1, 2)
        return QuantizerOutput(quantized, torch.stack(codes, 1), torch.stack(losses).sum())

    @torch.no_grad()
    def encode(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        drawn = self.num_codebooks if num_codebooks is None else num_codebooks
        if not 1 <= drawn <= self.num_codebooks:
            raise ValueError(f"num_codebooks must be between 1 and {self.num_codebooks}, not {drawn}.")
        residual = self.bound(self.project_in(latent.transpose(1, 2)).float())
        codes = []
        for k in range(drawn):
            entry = self.nearest(residual, k)
            codes.append(self.index(entry, k))
            residual = residual - entry
        return torch.stack(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, K', T] -> [B, D, T]; -1 stands for the middle of its lattice."""
        entries = [self.entry(codes[:, k], k) for k in range(codes.shape[1])]
        return self.project_out(self._present(entries, codes)).transpose(1, 2)

    def codebooks(self) -> Tensor:
        """[K, V, D]; the constant of the projection is the first one's."""
        every = torch.arange(self.codebook_size, device=self._device)
        entries = torch.stack([self.entry(every, k) for k in range(self.num_codebooks)])  # [K, V, d]
        if isinstance(self.project_out, nn.Identity):
            return entries
        projected = entries @ self.project_out.weight.T
        return torch.cat([projected[:1] + self.project_out.bias, projected[1:]])

    @staticmethod
    def _present(entries: Sequence[Tensor], codes: Tensor) -> Tensor:
        """Sums entries [B, T, d] of codes [B, K, T], leaving out those of -1."""
        return (torch.stack(list(entries), 1) * (codes[..., None] >= 0)).sum(1)

    @property
    def _device(self) -> torch.device | None:
        return next((parameter.device for parameter in self.parameters()), None)

    def bound(self, x: Tensor) -> Tensor:
        """[..., d] into the range of the lattices, with a gradient."""
        raise NotImplementedError

    def nearest(self, residual: Tensor, k: int) -> Tensor:
        """[..., d] -> the point of lattice k."""
        raise NotImplementedError

    def index(self, entry: Tensor, k: int) -> Tensor:
        """A point [..., d] of lattice k -> its code [...]."""
        raise NotImplementedError

    def entry(self, codes: Tensor, k: int) -> Tensor:
        """codes [...] -> points [..., d] of lattice k."""
        raise NotImplementedError

    def loss(self, residual: Tensor, entry: Tensor, k: int) -> Tensor:
        return residual.new_zeros(())
