"""Distances between sounds, against the plain way of computing them."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from audiogen_cli.metrics.variety import mean_pairwise_distance, nearest_distances


def test_the_mean_is_over_all_pairs() -> None:
    vectors = torch.rand(5, 7, generator=torch.Generator().manual_seed(0))
    pairs = [1 - F.cosine_similarity(a, b, dim=0) for a, b in itertools.combinations(vectors, 2)]
    assert mean_pairwise_distance(vectors) == pytest.approx(float(torch.stack(pairs).mean()), rel=1e-5)


def test_copies_are_no_distance_apart_however_loud_and_strangers_one() -> None:
    one = torch.tensor([1.0, 0.0])
    assert mean_pairwise_distance(torch.stack([one, 3 * one])) == pytest.approx(0.0, abs=1e-12)
    assert mean_pairwise_distance(torch.eye(4)) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="at least 2"):
        mean_pairwise_distance(one[None])


def test_the_nearest_reference_counts() -> None:
    references = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    distances = nearest_distances(torch.tensor([[0.0, 2.0], [1.0, 1.0]]), references)
    assert distances.tolist() == pytest.approx([0.0, 1 - 0.5**0.5], abs=1e-12)
