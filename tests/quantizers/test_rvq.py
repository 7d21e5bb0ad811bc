from dataclasses import replace
from typing import Any

import pytest
import torch

from audiogen_cli.quantizers.base import QuantizerDropout
from audiogen_cli.quantizers.rvq import ResidualVQ, RVQConfig


def rvq(**options: Any) -> ResidualVQ:
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


def searching(width: int) -> ResidualVQ:
    module = ResidualVQ(replace(rvq().config, search_width=width))
    module.load_state_dict(rvq().state_dict())
    return module.eval()


def test_a_wider_search_finds_nearer_sums() -> None:
    latent = 2 * torch.randn(2, 6, 200)
    errors = [(m.decode(m.encode(latent)) - latent).square().mean() for m in map(searching, (1, 2, 8))]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.97 * errors[0]


def test_a_search_that_forgets_nothing_finds_the_nearest_of_all_sums() -> None:
    module, latent = searching(16 * 16), torch.randn(1, 6, 30)
    first, second = module.codebooks()[:2]
    sums = (first[:, None] + second).flatten(0, 1)  # [V * V, D]
    nearest = torch.cdist(latent[0].T, sums).argmin(1)
    assert torch.equal(module.encode(latent, 2)[0], torch.stack([nearest // 16, nearest % 16]))


def test_a_search_is_nearer_than_that_of_vector_quantize_pytorch() -> None:
    peers = pytest.importorskip("vector_quantize_pytorch")
    module = ResidualVQ(RVQConfig(6, 32, 8, search_width=4)).eval()
    peer = peers.ResidualVQ(dim=8, num_quantizers=6, codebook_size=32, beam_size=4).eval()
    generator, latent = torch.Generator().manual_seed(0), torch.randn(2, 8, 200)
    for k, (stage, layer) in enumerate(zip(module.stages, peer.layers, strict=True)):
        stage.embed.copy_(0.7**k * torch.randn(32, 8, generator=generator))  # type: ignore[operator, union-attr]
        layer._codebook.embed.data.copy_(stage.embed[None])  # type: ignore[index, union-attr]
        layer._codebook.initted.fill_(True)
    with torch.no_grad():
        theirs = peer(latent.transpose(1, 2))[0].transpose(1, 2)  # prunes by the sum of all stages' errors
    ours = module.decode(module.encode(latent))
    assert (ours - latent).square().mean() < 0.9 * (theirs - latent).square().mean()


def test_a_search_by_parts_is_the_whole_search(monkeypatch: pytest.MonkeyPatch) -> None:
    module, latent = searching(4), torch.randn(3, 6, 50)
    whole = module.encode(latent)
    monkeypatch.setattr("audiogen_cli.quantizers.rvq.PART", 7)
    assert torch.equal(module.encode(latent), whole)
    assert whole.shape == (3, 4, 50)


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


@pytest.mark.parametrize("num_codebooks", [1, 4])
def test_the_gradients_of_the_rotation_trick_agree_with_vector_quantize_pytorch(num_codebooks: int) -> None:
    peers = pytest.importorskip("vector_quantize_pytorch")
    module = rvq(num_codebooks=num_codebooks, rotation_trick=True).eval()
    peer = peers.ResidualVQ(dim=6, num_quantizers=num_codebooks, codebook_size=16, rotation_trick=True).train()
    for stage, layer in zip(module.stages, peer.layers, strict=True):
        layer._codebook.embed.data.copy_(stage.embed[None])
    latent, weight = torch.randn(2, 6, 40, requires_grad=True), torch.randn(2, 6, 40)
    ours = module(latent)
    theirs = peer(latent.transpose(1, 2), freeze_codebook=True)[0].transpose(1, 2)
    torch.testing.assert_close(ours.quantized, theirs)
    gradients = [torch.autograd.grad((quantized * weight).sum(), latent)[0] for quantized in (ours.quantized, theirs)]
    torch.testing.assert_close(*gradients)


def test_sampled_codes_are_for_training_only() -> None:
    module, latent = rvq(sample_temperature=50.0), torch.randn(2, 6, 40)
    sampled = module.train()(latent).codes[:, 0]
    assert (sampled != module.encode(latent)[:, 0]).float().mean() > 0.5
    assert torch.equal(module.eval()(latent).codes, module.encode(latent))


def test_dropout_is_for_training_only_and_each_example_of_a_step_has_as_many_codebooks() -> None:
    module, latent = rvq(dropout=QuantizerDropout(cutoff=1)), torch.randn(2, 6, 9)
    seen = {module.train()(latent).codes.shape[1] for _ in range(60)}
    assert seen == {2, 3, 4}
    assert module(latent, 1).codes.shape[1] == 1
    assert module.eval()(latent).codes.shape[1] == 4


def test_a_code_of_minus_one_adds_nothing() -> None:
    module = rvq().eval()
    codes = module.encode(torch.randn(2, 6, 9))
    dropped = codes.clone()
    dropped[:, 2:] = -1
    torch.testing.assert_close(module.decode(dropped), module.decode(codes[:, :2]))


def test_the_options_add_nothing_to_a_checkpoint() -> None:
    keys = rvq().state_dict().keys()
    assert keys == rvq(rotation_trick=True, sample_temperature=1.0, dropout=QuantizerDropout()).state_dict().keys()
    assert set(keys) == {f"stages.{k}.{n}" for k in range(4) for n in ("embed", "embed_avg", "cluster_size", "inited")}
