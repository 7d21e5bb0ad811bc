import pytest
import torch

from audiogen_cli.quantizers.rvq import ResidualVQ, RVQConfig


def rvq(**options: int) -> ResidualVQ:
    torch.manual_seed(0)
    module = ResidualVQ(RVQConfig(**({"num_codebooks": 4, "codebook_size": 16, "dim": 6} | options)))
    module(torch.randn(4, 6, 50))  # k-means start
    return module


def test_decoding_the_codes_gives_the_quantized_latent() -> None:
    module, latent = rvq().eval(), torch.randn(2, 6, 9)
    output = module(latent)
    assert torch.equal(output.codes, module.encode(latent))
    torch.testing.assert_close(module.decode(output.codes), output.quantized)


def test_each_further_codebook_brings_the_result_nearer() -> None:
    module, latent = rvq().eval(), torch.randn(2, 6, 200)
    errors = [(module.decode(module.encode(latent, k)) - latent).square().mean() for k in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)


def test_fewer_codebooks_are_the_first_ones() -> None:
    module, latent = rvq().eval(), torch.randn(2, 6, 9)
    assert torch.equal(module.encode(latent, 2), module.encode(latent)[:, :2])
    assert module(latent, 3).codes.shape == (2, 3, 9)


def test_the_commitment_of_every_stage_reaches_the_latent() -> None:
    module = rvq().eval()
    latent = torch.randn(1, 6, 5, requires_grad=True)
    output = module(latent)
    (whole,) = torch.autograd.grad(output.commitment, latent)
    residual, expected = latent.detach(), torch.zeros_like(latent)
    for k in range(4):  # by hand: 2 (residual_k - entry_k) / numel, summed over the stages
        entry = module.stages[k].decode(output.codes[:, k]).transpose(1, 2)
        expected += 2 * (residual - entry) / latent.numel()
        residual = residual - entry
    torch.testing.assert_close(whole, expected)


def test_the_gradient_passes_straight_through() -> None:
    module = rvq().eval()
    latent = torch.randn(1, 6, 5, requires_grad=True)
    weight = torch.randn(1, 6, 5)
    (gradient,) = torch.autograd.grad((module(latent).quantized * weight).sum(), latent)
    torch.testing.assert_close(gradient, weight)


def test_nothing_is_learned_in_evaluation_mode() -> None:
    module = rvq().eval()
    before = module.codebooks().clone()
    module(torch.randn(2, 6, 30))
    assert torch.equal(before, module.codebooks())


def test_codes_agree_with_vector_quantize_pytorch() -> None:
    peers = pytest.importorskip("vector_quantize_pytorch")
    module, latent = rvq().eval(), torch.randn(2, 6, 40)
    peer = peers.ResidualVQ(dim=6, num_quantizers=4, codebook_size=16).eval()
    for stage, layer in zip(module.stages, peer.layers, strict=True):
        layer._codebook.embed.data.copy_(stage.embed[None])
    quantized, codes, _ = peer(latent.transpose(1, 2))
    assert torch.equal(module.encode(latent), codes.transpose(1, 2))
    torch.testing.assert_close(module.decode(module.encode(latent)), quantized.transpose(1, 2))


def test_an_impossible_number_of_codebooks_is_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and 4"):
        rvq().encode(torch.randn(1, 6, 3), 5)


def test_with_no_codebook_the_latent_passes_and_nothing_is_learned() -> None:
    module, latent = rvq().train(), torch.randn(2, 6, 9)
    before = module.codebooks().clone()
    output = module(latent, 0)
    assert torch.equal(output.quantized, latent) and output.codes.shape == (2, 0, 9) and output.commitment == 0
    assert torch.equal(before, module.codebooks())
