"""The Fréchet distance between two sets of sounds in a tagger's embedding (Fréchet audio distance, 1812.08466).

Each set becomes a Gaussian, fitted to one vector for each window of each sound:

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2)

Few vectors make it too large: two sets drawn from the very same sounds are far from zero when D is not much smaller
than the number of independent vectors, and windows of one sound are not independent. So a figure means something only
beside another one made with as many sounds on both sides, such as the distance between two halves of the real ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Gaussian(NamedTuple):
    """mean [D] and covariance [D, D], float64."""

    mean: Tensor
    covariance: Tensor


def gaussian(vectors: Tensor) -> Gaussian:
    """Fits vectors [M, D], M at least 2; the covariance is the unbiased one."""
    if vectors.ndim != 2 or len(vectors) < 2:
        raise ValueError(f"vectors must be [M, D] with M of at least 2, not {tuple(vectors.shape)}; give more sounds.")
    wide = vectors.double()
    centred = wide - wide.mean(dim=0)
    return Gaussian(wide.mean(dim=0), centred.T @ centred / (len(wide) - 1))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Squared, as the literature gives it; 0 for equal Gaussians, whatever their rank."""
    root = square_root(a.covariance)
    inner = root @ b.covariance @ root
    cross = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp_min(0).sqrt().sum()
    spread = a.covariance.trace() + b.covariance.trace() - 2 * cross
    return max(0.0, float((a.mean - b.mean).square().sum() + spread))


def square_root(matrix: Tensor) -> Tensor:
    """The symmetric root of a symmetric positive semidefinite matrix [D, D]; rounding below zero counts as zero."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T
