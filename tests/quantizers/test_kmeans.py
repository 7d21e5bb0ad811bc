import pytest
import torch

from audiogen_cli.errors import InputError
from audiogen_cli.quantizers import kmeans


def blobs(count: int = 5, each: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    centres = 20 * torch.randn(count, 6, generator=generator)
    return centres, (centres[:, None] + torch.randn(count, each, 6, generator=generator)).flatten(0, 1)


def test_the_nearest_centre_is_that_of_the_smallest_distance() -> None:
    vectors, centres = torch.randn(3, 7, 6), torch.randn(11, 6)
    codes = kmeans.nearest(vectors, centres)
    assert torch.equal(codes, torch.cdist(vectors, centres).argmin(-1))


def test_separate_clusters_are_found() -> None:
    centres, vectors = blobs()
    found = kmeans.fit(vectors, 5)
    distance = torch.cdist(centres, found)
    assert distance.amin(1).max() < 1.0
    assert sorted(distance.argmin(1).tolist()) == list(range(5))


def test_the_seed_decides() -> None:
    _, vectors = blobs()
    assert torch.equal(kmeans.fit(vectors, 8, seed=1), kmeans.fit(vectors, 8, seed=1))


def test_every_centre_has_vectors_even_when_many_are_equal() -> None:
    vectors = torch.cat([torch.zeros(50, 3), torch.arange(12.0).view(4, 3)])
    found = kmeans.fit(vectors, 5)
    assert len(set(kmeans.nearest(vectors, found).tolist())) == 5


def test_no_worse_than_scikit_learn() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    vectors = torch.randn(600, 8, generator=torch.Generator().manual_seed(3))
    theirs = cluster.MiniBatchKMeans(20, n_init=5, random_state=0).fit(vectors.numpy()).inertia_
    ours = kmeans.fit(vectors, 20)
    assert torch.cdist(vectors, ours).amin(1).square().sum() < 1.05 * theirs


def test_too_few_vectors_are_refused() -> None:
    with pytest.raises(InputError, match="give more recordings"):
        kmeans.fit(torch.randn(3, 2), 4)


def test_a_sample_keeps_all_rows_that_fit_and_draws_fairly_from_more() -> None:
    batches = [torch.arange(0.0, 7)[:, None], torch.arange(7.0, 10)[:, None]]
    assert kmeans.sample(batches, 10)[:, 0].tolist() == list(range(10))
    drawn = torch.cat([kmeans.sample(batches, 4, seed) for seed in range(500)])[:, 0].long()
    share = torch.bincount(drawn, minlength=10) / 500
    assert (share - 0.4).abs().max() < 0.08
