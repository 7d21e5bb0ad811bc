import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from audiogen_cli.quantizers.lfq import LFQ, LFQConfig


@pytest.mark.parametrize("dim", [4, 10])
def test_residual_codes_agree_with_vector_quantize_pytorch(dim: int) -> None:
    peers = pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(0)
    peer = peers.ResidualLFQ(dim=dim, num_quantizers=3, codebook_size=16).eval()
    module = LFQ(LFQConfig(3, 16, dim)).eval()
    for name in ("project_in", "project_out"):
        getattr(module, name).load_state_dict(getattr(peer, name).state_dict())
    latent = torch.randn(2, dim, 300)
    quantized, codes, _ = peer(latent.transpose(1, 2))
    output = module(latent)
    assert torch.equal(output.codes, codes.transpose(1, 2).long())
    torch.testing.assert_close(output.quantized, quantized.transpose(1, 2))
    torch.testing.assert_close(module.decode(output.codes), peer.get_output_from_indices(codes).transpose(1, 2))


def test_the_entropy_loss_and_its_gradient_agree_with_vector_quantize_pytorch() -> None:
    peers = pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(0)
    options = {"entropy_loss_weight": 0.3, "diversity_gamma": 0.7, "commitment_loss_weight": 0.5}
    peer = peers.LFQ(dim=5, codebook_size=32, **options).train()
    config = LFQConfig(1, 32, 5, entropy_weight=0.3, diversity=0.7, inverse_temperature=1.0, commitment_weight=0.5)
    latent = torch.randn(2, 5, 60, requires_grad=True)
    theirs = peer(latent.transpose(1, 2), inv_temperature=1.0)[2]
    ours = LFQ(config).train()(latent).commitment
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
    gradients = [torch.autograd.grad(loss, latent)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, atol=2e-4, rtol=1e-2)


def test_the_loss_spreads_collapsed_codes() -> None:
    torch.manual_seed(0)
    module = LFQ(LFQConfig(1, 16, 4, inverse_temperature=1.0)).train()
    offset = torch.nn.Parameter(torch.full((4,), 2.0))
    noise, optimizer = torch.randn(1, 4, 500), torch.optim.Adam([offset], 0.1)
    before = len(module.encode(noise + offset[:, None]).unique())
    for _ in range(60):
        optimizer.zero_grad()
        module(noise + offset[:, None]).commitment.backward()
        optimizer.step()
    assert before < 16 and len(module.encode(noise + offset[:, None]).unique()) == 16
    assert offset.abs().max() < 0.5


def test_in_evaluation_mode_it_asks_nothing() -> None:
    assert LFQ(LFQConfig(2, 16, 4)).eval()(torch.randn(1, 4, 9)).commitment == 0


def test_many_bits_are_taken_in_parts_whose_entropies_add_up() -> None:
    torch.manual_seed(0)
    module = LFQ(LFQConfig(1, 2**16, 16, diversity=1.0, inverse_temperature=1.0))
    bits = 3 * torch.randn(2_000, 16).sign()
    whole = module._entropies(bits, 1.0)  # certain and even: - log 2^16, nearly, from 2000 examples of 16 bits
    assert -16 * 0.7 < whole < -9


@pytest.mark.parametrize("options", [{"codebook_size": 1000}, {"codebook_size": 1}, {"soft_clamp": 0.5}])
def test_senseless_settings_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|needs"):
        LFQConfig(**({"num_codebooks": 2, "codebook_size": 16, "dim": 4} | options))  # type: ignore[arg-type]


def _rank(rank: int, store: str, latent: torch.Tensor, results: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    half = latent[rank : rank + 1].requires_grad_()
    loss = LFQ(LFQConfig(1, 16, 4, inverse_temperature=1.0)).train()(half).commitment
    loss.backward()
    results.put((rank, float(loss), half.grad.tolist()))  # type: ignore[union-attr]
    dist.destroy_process_group()


def test_two_processes_spread_their_codes_together(tmp_path: Path) -> None:
    torch.manual_seed(0)
    latent = torch.randn(2, 4, 30) + torch.tensor([1.0, -1.0])[:, None, None]  # apart, each uses few of the codes
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    ranks = [context.Process(target=_rank, args=(r, str(tmp_path / "store"), latent, results)) for r in (0, 1)]
    for process in ranks:
        process.start()
    found = sorted(results.get() for _ in ranks)
    for process in ranks:
        process.join()
    whole = latent.clone().requires_grad_()
    loss = LFQ(LFQConfig(1, 16, 4, inverse_temperature=1.0)).train()(whole).commitment
    loss.backward()
    assert sum(value for _, value, _ in found) / 2 == pytest.approx(float(loss.detach()), abs=1e-5)
    gradients = torch.tensor([gradient for _, _, gradient in found])[:, 0] / 2  # DDP takes their mean
    torch.testing.assert_close(gradients, whole.grad, atol=1e-6, rtol=1e-4)
