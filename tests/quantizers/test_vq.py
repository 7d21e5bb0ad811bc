import pytest
import torch
import torch.nn.functional as F

from audiogen_cli.quantizers.vq import VectorQuantizer, rotate


def quantizer(size: int = 8, dim: int = 3, **options: float) -> VectorQuantizer:
    settings = {"decay": 0.9, "kmeans_iterations": 10, "dead_code_threshold": 0.5} | options
    torch.manual_seed(0)
    return VectorQuantizer(size, dim, **settings)  # type: ignore[arg-type]


def test_encode_finds_the_nearest_entry() -> None:
    vq = quantizer()
    vq.embed.copy_(torch.randn(8, 3))
    vectors = torch.randn(5, 7, 3)
    assert torch.equal(vq.encode(vectors), torch.cdist(vectors, vq.embed.expand(5, 8, 3)).argmin(-1))


def test_every_entry_decodes_to_a_vector_that_encodes_to_itself_the_last_one_too() -> None:
    vq = quantizer()
    vq.embed.copy_(torch.randn(8, 3))
    assert torch.equal(vq.encode(vq.decode(torch.arange(8))), torch.arange(8))


def test_kmeans_start_finds_separate_clusters() -> None:
    centres = torch.eye(3).repeat_interleave(50, 0) * 10
    vq = quantizer(size=16)
    vq.learn(centres + 0.01 * torch.randn(150, 3))
    error = (vq.decode(vq.encode(torch.eye(3) * 10)) - torch.eye(3) * 10).norm(dim=1)
    assert error.max() < 0.5


def test_the_moving_average_moves_an_entry_towards_the_mean_of_its_vectors() -> None:
    vq = quantizer(size=2, dim=1, dead_code_threshold=0.0)
    vq.embed.copy_(torch.tensor([[0.0], [10.0]]))
    vq.embed_avg.copy_(vq.embed)
    vq.cluster_size.fill_(1.0)
    vq.inited.fill_(1.0)
    for _ in range(100):
        vq.learn(torch.tensor([[1.0], [3.0], [11.0]]))
    torch.testing.assert_close(vq.embed, torch.tensor([[2.0], [11.0]]), atol=1e-3, rtol=0)


def test_a_dead_code_is_put_onto_a_vector_of_the_batch() -> None:
    vq = quantizer(size=2, dim=1)
    vq.embed.copy_(torch.tensor([[0.0], [1e6]]))
    vq.embed_avg.copy_(vq.embed)
    vq.cluster_size.fill_(0.55)
    vq.inited.fill_(1.0)
    for _ in range(3):
        vq.learn(torch.tensor([[0.0], [4.0]] * 4))
    assert vq.embed.max() < 5


def test_fewer_vectors_than_codes_is_a_start_too() -> None:
    vq = quantizer(size=64)
    codes = vq.learn(torch.randn(5, 3))
    assert codes.shape == (5,) and vq.embed.isfinite().all()


def test_the_rotation_ends_on_the_entry_and_turns_the_gradient_as_the_vector_was_turned() -> None:
    torch.manual_seed(0)
    vectors, entries, weight = (torch.randn(50, 6, dtype=torch.float64) for _ in range(3))
    vectors.requires_grad_()
    reached = rotate(vectors, entries)
    assert torch.equal(reached, entries)
    (gradient,) = torch.autograd.grad((reached * weight).sum(), vectors)
    stretch = entries.norm(dim=1) / vectors.norm(dim=1)
    torch.testing.assert_close(gradient.norm(dim=1), stretch * weight.norm(dim=1))
    angle = F.cosine_similarity(gradient, vectors)  # to the vector, as the weight's was to the entry
    torch.testing.assert_close(angle, F.cosine_similarity(weight, entries))


@pytest.mark.parametrize("vector", [[0.0, 0.0], [1e-9, 0.0], [-3.0, -4.0], [-3.0, -4.0 + 1e-6]])
def test_no_direction_and_the_opposite_one_have_finite_gradients_too(vector: list[float]) -> None:
    vectors = torch.tensor([vector], requires_grad=True)
    reached = rotate(vectors, torch.tensor([[3.0, 4.0]]))
    assert torch.equal(reached, torch.tensor([[3.0, 4.0]]))
    (gradient,) = torch.autograd.grad(reached[0, 0], vectors)
    assert gradient.isfinite().all() and 0.5 < gradient.norm() < 2


def test_sampling_follows_the_distances_and_becomes_the_nearest_when_cold() -> None:
    vq = quantizer(size=3, dim=1)
    vq.embed.copy_(torch.tensor([[0.0], [1.0], [3.0]]))
    vectors = torch.zeros(20_000, 1)
    shares = torch.bincount(vq.sample(vectors, 1.0), minlength=3) / len(vectors)
    torch.testing.assert_close(shares, torch.tensor([0.0, -1.0, -3.0]).softmax(0), atol=0.02, rtol=0)
    points = torch.randn(100, 1)
    assert torch.equal(vq.sample(points, 1e-6), vq.encode(points))


def test_the_code_of_nothing_decodes_to_zero() -> None:
    vq = quantizer()
    vq.embed.copy_(torch.randn(8, 3))
    decoded = vq.decode(torch.tensor([2, -1]))
    assert torch.equal(decoded, torch.stack([vq.embed[2], torch.zeros(3)]))
