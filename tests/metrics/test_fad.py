"""The Fréchet distance against closed forms and against scipy's matrix root."""

from __future__ import annotations

import pytest
import torch

from audiogen_cli.metrics.fad import Gaussian, frechet_distance, gaussian, square_root


def covariance(size: int, seed: int, rank: int | None = None) -> torch.Tensor:
    factor = torch.randn(size, rank or size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return factor @ factor.T / size


def test_independent_gaussians_have_a_closed_form() -> None:
    a = Gaussian(torch.tensor([0.0, 1.0]).double(), torch.diag(torch.tensor([4.0, 9.0])).double())
    b = Gaussian(torch.tensor([3.0, 1.0]).double(), torch.diag(torch.tensor([1.0, 16.0])).double())
    assert frechet_distance(a, b) == pytest.approx(3.0**2 + (2 - 1) ** 2 + (3 - 4) ** 2, abs=1e-12)


@pytest.mark.parametrize("rank", [12, 3])
def test_it_is_what_scipys_matrix_root_gives(rank: int) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    a = Gaussian(torch.zeros(12).double(), covariance(12, seed=1))
    b = Gaussian(torch.ones(12).double(), covariance(12, seed=2, rank=rank))
    cross = linalg.sqrtm((a.covariance @ b.covariance).numpy())
    expected = 12 + float(a.covariance.trace() + b.covariance.trace()) - 2 * float(cross.trace().real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)


def test_equal_gaussians_are_no_distance_apart_even_when_they_are_flat() -> None:
    flat = gaussian(torch.randn(5, 40, generator=torch.Generator().manual_seed(0)))
    assert frechet_distance(flat, flat) == pytest.approx(0.0, abs=1e-6)


def test_the_fit_is_that_of_torch() -> None:
    vectors = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) + 100
    fitted = gaussian(vectors)
    assert torch.allclose(fitted.mean, vectors.double().mean(dim=0))
    assert torch.allclose(fitted.covariance, torch.cov(vectors.double().T))
    with pytest.raises(ValueError, match="at least 2"):
        gaussian(vectors[:1])


def test_the_root_times_itself_is_the_matrix() -> None:
    matrix = covariance(8, seed=3, rank=4)
    root = square_root(matrix)
    assert torch.allclose(root @ root, matrix, atol=1e-12)
    assert torch.allclose(root, root.T)


def test_few_vectors_of_one_distribution_seem_farther_apart_than_many() -> None:
    vectors = torch.randn(2, 400, 16, generator=torch.Generator().manual_seed(0))
    few, many = (frechet_distance(gaussian(vectors[0, :n]), gaussian(vectors[1, :n])) for n in (20, 400))
    assert few > 5 * many
