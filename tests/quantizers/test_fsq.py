import pytest
import torch

from audiogen_cli.quantizers.fsq import FSQ, FSQConfig


def copy_projections(peer: torch.nn.Module, module: FSQ) -> None:
    for name in ("project_in", "project_out"):
        getattr(module, name).load_state_dict(getattr(peer, name).state_dict())


@pytest.mark.parametrize(("levels", "dim"), [((8, 5, 5, 5), 4), ((7, 5, 3), 3), ((8, 6, 5), 16)])
def test_one_codebook_agrees_with_vector_quantize_pytorch(levels: tuple[int, ...], dim: int) -> None:
    peers = pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(0)
    peer, module = peers.FSQ(levels=list(levels), dim=dim).eval(), FSQ(FSQConfig(levels, dim)).eval()
    copy_projections(peer, module)
    latent = 2 * torch.randn(2, dim, 300, requires_grad=True)
    quantized, codes = peer(latent.transpose(1, 2))
    output = module(latent)
    assert torch.equal(output.codes[:, 0], codes.long())
    torch.testing.assert_close(output.quantized, quantized.transpose(1, 2))
    torch.testing.assert_close(module.decode(output.codes).transpose(1, 2), peer.indices_to_codes(codes))
    weight = torch.randn_like(latent)
    gradients = [torch.autograd.grad((q * weight).sum(), latent)[0] for q in (output.quantized, quantized.mT)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(("levels", "dim"), [((8, 5, 5, 5), 4), ((2, 3), 2), ((8, 5, 5, 5), 16)])
def test_residual_codes_agree_with_vector_quantize_pytorch(levels: tuple[int, ...], dim: int) -> None:
    peers = pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(0)
    peer = peers.ResidualFSQ(levels=list(levels), num_quantizers=3, dim=dim).eval()
    module = FSQ(FSQConfig(levels, dim, 3)).eval()
    copy_projections(peer, module)
    latent = 1.5 * torch.randn(2, dim, 300)
    quantized, codes = peer(latent.transpose(1, 2))
    output = module(latent)
    assert torch.equal(output.codes, codes.transpose(1, 2).long())
    torch.testing.assert_close(output.quantized, quantized.transpose(1, 2))
    torch.testing.assert_close(module.decode(output.codes), peer.get_output_from_indices(codes).transpose(1, 2))


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (3, 4)])
def test_all_codes_of_one_codebook_can_be_reached(levels: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    codes = FSQ(FSQConfig(levels, len(levels))).encode(2 * torch.randn(4, len(levels), 20_000))
    assert len(codes.unique()) == FSQConfig(levels, 1).codebook_size


@pytest.mark.parametrize(("levels", "count"), [((), 1), ((8, 1), 2), ((2, 8), 1)])
def test_senseless_levels_are_refused(levels: tuple[int, ...], count: int) -> None:
    with pytest.raises(ValueError, match="level"):
        FSQConfig(levels, 4, count)
