import pytest
import torch

from audiogen_cli.quantizers.base import QuantizerDropout
from audiogen_cli.quantizers.choice import build
from audiogen_cli.quantizers.grouped import GroupedQuantizer
from audiogen_cli.quantizers.rvq import RVQConfig


def grouped(**options: object) -> GroupedQuantizer:
    torch.manual_seed(0)
    module = build(RVQConfig(3, 16, 8, **options), groups=2)  # type: ignore[arg-type]
    module(torch.randn(4, 8, 50))  # k-means start
    assert isinstance(module, GroupedQuantizer)
    return module


def test_each_group_quantizes_its_own_channels_and_the_coarse_codebooks_come_first() -> None:
    module, latent = grouped().eval(), torch.randn(2, 8, 9)
    codes = module.encode(latent)
    low, high = (group.encode(part) for group, part in zip(module.groups, latent.chunk(2, 1), strict=True))
    assert torch.equal(codes[:, [0, 2, 4]], low) and torch.equal(codes[:, [1, 3, 5]], high)
    assert torch.equal(module(latent).codes, codes)
    torch.testing.assert_close(module.decode(codes), module(latent).quantized)
    torch.testing.assert_close(module.decode(codes[:, :2]), module(latent, 2).quantized)


def test_codes_agree_with_vector_quantize_pytorch() -> None:
    peers = pytest.importorskip("vector_quantize_pytorch")
    module, latent = grouped().eval(), torch.randn(2, 8, 40)
    peer = peers.GroupedResidualVQ(dim=8, groups=2, num_quantizers=3, codebook_size=16).eval()
    for group, rvq in zip(module.groups, peer.rvqs, strict=True):
        for stage, layer in zip(group.stages, rvq.layers, strict=True):  # type: ignore[arg-type]
            layer._codebook.embed.data.copy_(stage.embed[None])
    quantized, codes, _ = peer(latent.transpose(1, 2))  # codes [groups, B, T, K]
    assert torch.equal(module.encode(latent), codes.permute(1, 3, 0, 2).flatten(1, 2))
    torch.testing.assert_close(module(latent).quantized, quantized.transpose(1, 2))


def test_the_decoded_latent_is_the_sum_of_the_codebooks_entries() -> None:
    module = grouped().eval()
    codes = module.encode(torch.randn(2, 8, 9))
    entries = [book[codes[:, k]] for k, book in enumerate(module.codebooks())]
    torch.testing.assert_close(module.decode(codes), torch.stack(entries).sum(0).transpose(1, 2))


def test_dropout_draws_once_for_all_groups() -> None:
    module, latent = grouped(dropout=QuantizerDropout()).train(), torch.randn(2, 8, 9)
    assert {module(latent).codes.shape[1] for _ in range(40)} == {2, 4, 6}


def test_a_rate_that_the_groups_do_not_share_is_refused() -> None:
    with pytest.raises(ValueError, match="not shared by 2 groups"):
        grouped().encode(torch.randn(1, 8, 3), 3)
    with pytest.raises(ValueError, match="between 1 and 6"):
        grouped()(torch.randn(1, 8, 3), 8)
