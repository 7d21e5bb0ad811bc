"""How far sounds are from one another in an embedding: whether they vary, and whether one is a copy of another.

The distance is 1 - cosine: 0 for one direction, 1 for none in common (embeddings after a ReLU have no negative side).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def mean_pairwise_distance(vectors: Tensor) -> float:
    """The mean over all pairs of vectors [M, D], M at least 2."""
    if len(vectors) < 2:
        raise ValueError(f"{len(vectors)} vectors have no pairs; give at least 2.")
    unit = _unit(vectors)
    pairs = len(unit) * (len(unit) - 1)
    same = unit.square().sum()
    return float(1 - (unit.sum(dim=0).square().sum() - same) / pairs)


def nearest_distances(vectors: Tensor, references: Tensor) -> Tensor:
    """vectors [M, D] and references [R, D] -> how far the nearest reference is from each vector, [M] in float64."""
    return 1 - (_unit(vectors) @ _unit(references).T).amax(dim=1)


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.to(torch.float64), dim=1, eps=1e-12)
