"""k-means: the centres that minimise the summed squared distance of each vector to its nearest one (Lloyd, 1982).

It starts from k-means++ (Arthur and Vassilvitskii, 2007): each centre is drawn with a probability proportional to the
squared distance from those drawn before. A centre that nobody is nearest to moves onto the vector that is served worst.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from audiogen_cli.errors import InputError

_CHUNK = 16_384


def nearest(vectors: Tensor, centres: Tensor) -> Tensor:
    """vectors [..., D], centres [V, D] -> codes [...]: argmin of |c|^2 / 2 - x.c, the nearest by Euclidean distance."""
    scores = torch.addmm(centres.square().sum(1), vectors.reshape(-1, vectors.shape[-1]), centres.T, beta=0.5, alpha=-1)
    return scores.argmin(1).view(vectors.shape[:-1])


def fit(vectors: Tensor, num_centres: int, iterations: int = 30, seed: int = 0) -> Tensor:
    """vectors [M, D] -> centres [V, D]; stops early when no vector changes its centre. InputError when M < V."""
    if len(vectors) < num_centres:
        raise InputError(f"{len(vectors)} vectors are too few for {num_centres} centres; give more recordings.")
    vectors = vectors.float()
    centres = _spread(vectors, num_centres, torch.Generator().manual_seed(seed))
    codes = torch.full((len(vectors),), -1)
    for _ in range(iterations):
        before, codes = codes, torch.cat([nearest(part, centres) for part in vectors.split(_CHUNK)])
        if torch.equal(before, codes):
            break
        centres = _moved(vectors, codes, centres)
    return centres


def sample(batches: Iterable[Tensor], size: int, seed: int = 0) -> Tensor:
    """At most `size` of all rows of the batches [m, D], each with the same chance (Vitter's reservoir, 1985)."""
    generator, kept, seen = torch.Generator().manual_seed(seed), torch.empty(0), 0
    for batch in batches:
        room = max(0, size - seen)
        kept = torch.cat([kept, batch[:room]]) if len(kept) else batch[:room].clone()
        for number, row in enumerate(batch[room:], start=seen + min(room, len(batch)) + 1):
            place = int(torch.randint(number, (), generator=generator))
            if place < size:
                kept[place] = row
        seen += len(batch)
    return kept


def _spread(vectors: Tensor, num_centres: int, generator: torch.Generator) -> Tensor:
    chosen = [int(torch.randint(len(vectors), (), generator=generator))]
    distance = (vectors - vectors[chosen[0]]).square().sum(1)
    while len(chosen) < num_centres:
        cumulated = distance.double().cumsum(0)
        point = torch.rand((), generator=generator, dtype=torch.float64) * cumulated[-1]
        chosen.append(min(int(torch.searchsorted(cumulated, point, right=True)), len(vectors) - 1))
        distance = torch.minimum(distance, (vectors - vectors[chosen[-1]]).square().sum(1))
    return vectors[chosen]


def _moved(vectors: Tensor, codes: Tensor, centres: Tensor) -> Tensor:
    """Every centre to the mean of its vectors; the idle ones to the vectors farthest from theirs."""
    counts = torch.bincount(codes, minlength=len(centres))
    sums = torch.zeros_like(centres).index_add_(0, codes, vectors)
    moved = sums / counts.clamp_min(1)[:, None]
    idle = (counts == 0).nonzero()[:, 0]
    if len(idle):
        worst = (vectors - moved[codes]).square().sum(1).topk(len(idle)).indices
        moved[idle] = vectors[worst]
    return moved
