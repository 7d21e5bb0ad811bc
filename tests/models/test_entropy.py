"""EnCodec's entropy model: the package's own numbers to the bit where it is installed, and blocks equal to steps."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor

from audiogen_cli.errors import InputError, ModelError
from audiogen_cli.models.entropy import (
    ENCODEC_LM_24KHZ,
    ENCODEC_LM_48KHZ,
    NO_CODE,
    EntropyLM,
    EntropyLMConfig,
    ExactEntropyLM,
    shifted,
)

TINY = EntropyLMConfig(3, 16, 16, 2, 2, past_context=5, frame_rate=50.0)


def tiny(config: EntropyLMConfig = TINY) -> EntropyLM:
    torch.manual_seed(0)
    lm = EntropyLM(config).eval()
    for head in lm.heads:
        torch.nn.init.normal_(head.weight, std=0.3)  # probabilities that differ
    return lm


def codes_of(lm: EntropyLM | ExactEntropyLM, frames: int, batch: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, lm.config.num_codebooks, frames)
    return torch.randint(0, lm.config.codebook_size, shape, generator=generator)


def stepped(lm: Any, codes: Tensor) -> Tensor:
    """[B, K, T, V], one frame at a time."""
    state, found = None, []
    for previous in shifted(codes).unbind(-1):
        probabilities, state = lm.step(previous, state)
        found.append(probabilities)
    return torch.stack(found, dim=2)


def test_blocks_steps_and_the_whole_agree_beyond_the_context() -> None:
    lm = tiny()
    codes = codes_of(lm, 23, batch=2)
    slow = stepped(lm, codes)
    for block in (1, 4, 7, 256):
        torch.testing.assert_close(lm.probabilities(codes, block=block), slow, atol=1e-6, rtol=0)
    torch.testing.assert_close(slow.sum(-1), torch.ones(2, 3, 23))


def test_a_frame_is_predicted_from_those_before_it_and_none_beyond_the_context() -> None:
    lm = tiny(dataclasses.replace(TINY, num_layers=1))
    codes = codes_of(lm, 20)
    before = lm.probabilities(codes)
    for frame in (0, 7):
        changed = codes.clone()
        changed[:, :, frame] = (changed[:, :, frame] + 1) % 16
        differs = (lm.probabilities(changed) != before).any(dim=-1).any(dim=1)[0]
        # frame t is the input of position t + 1, which past_context positions after it see
        expected = torch.zeros(20, dtype=torch.bool)
        expected[frame + 1 : frame + 1 + TINY.past_context + 1] = True
        assert torch.equal(differs, expected)


@pytest.mark.parametrize("config", [TINY, dataclasses.replace(TINY, codebook_size=100, dim=40, num_heads=5)])
def test_exact_blocks_batches_and_steps_give_equal_bits(config: EntropyLMConfig) -> None:
    lm = ExactEntropyLM(tiny(config))
    codes = codes_of(lm, 40, batch=3)
    slow = stepped(lm, codes)
    for block in (1, 3, 7, 64):
        assert torch.equal(lm.probabilities(codes, block=block), slow)
    for row in range(3):
        assert torch.equal(lm.probabilities(codes[row : row + 1]), slow[row : row + 1])
    torch.testing.assert_close(slow.sum(-1), torch.ones(slow.shape[:-1]))


def test_exact_streams_go_on_from_their_state() -> None:
    lm = ExactEntropyLM(tiny())
    codes = codes_of(lm, 30)
    previous = shifted(codes)
    first, state = lm.read(previous[..., :13])
    second, state = lm.read(previous[..., 13:], state)
    assert state.offset == 30 and all(past.shape[3] == TINY.past_context for past in state.past)
    assert torch.equal(torch.cat([first, second], dim=2), lm.probabilities(codes))


def test_exact_probabilities_cost_next_to_nothing() -> None:
    lm = tiny(dataclasses.replace(TINY, codebook_size=256, dim=64, num_heads=4, num_layers=4, past_context=30))
    codes = codes_of(lm, 80)
    floating, exact = lm.probabilities(codes).double(), ExactEntropyLM(lm).probabilities(codes).double()
    bits = (floating * (floating / exact.clamp_min(2.0**-23)).log2()).sum(-1)  # a coder floors them likewise
    assert floating.amax() > 0.2 and bits.mean().abs() < 1e-4


def test_exact_probabilities_are_a_format_and_stay_as_they_are() -> None:
    """Streams written with these bits must be read with them, by any later version and on any machine."""
    lm = tiny(dataclasses.replace(TINY, dim=24, num_heads=3))
    for index, parameter in enumerate(lm.parameters()):
        numbers = torch.arange(parameter.numel()) * 7919 + 104729 * index
        parameter.data = ((numbers % 509 - 254) / 512).view_as(parameter) + (0.5 if parameter.dim() == 1 else 0.0)
    codes = torch.arange(3 * 40).mul(37).remainder(16).view(1, 3, 40)
    found = (ExactEntropyLM(lm).probabilities(codes) * 2.0**40).long()
    digest = hashlib.sha256(found.contiguous().numpy().tobytes()).hexdigest()
    assert found.float().std() > 2.0**34
    assert digest[:16] == "093e9ea09344f8e9"


def test_a_model_too_large_for_the_grid_is_refused() -> None:
    for size in ({"dim": 1026, "num_heads": 2}, {"past_context": 2048}):
        with pytest.raises(ModelError, match="train a smaller one"):
            ExactEntropyLM(tiny(dataclasses.replace(TINY, num_layers=1, **size)))


def test_weights_that_overflow_the_grid_are_refused() -> None:
    for name in ("layers.0.linear1.weight", "emb.1.weight", "heads.2.bias"):
        for value in (1e6, math.nan):
            lm = tiny()
            lm.state_dict()[name].view(-1)[3] = value
            with pytest.raises(ModelError, match="too large"):
                ExactEntropyLM(lm)


def test_fewer_codebooks_than_the_model_has_may_be_given() -> None:
    lm = tiny()
    codes = codes_of(lm, 6)[:, :2]
    for model in (lm, ExactEntropyLM(lm)):
        assert model.probabilities(codes).shape == (1, 2, 6, 16)
        with pytest.raises(InputError, match="1 to 3"):
            model.probabilities(codes.repeat(1, 2, 1))


def test_the_loss_is_minus_the_logarithm_of_the_probabilities() -> None:
    lm = tiny()
    codes = codes_of(lm, 9, batch=2)
    given = lm.probabilities(codes).gather(-1, codes[..., None])[..., 0].log()
    torch.testing.assert_close(lm.loss(codes), -given.mean(dim=(0, 2)))
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    real = (given * mask[:, None]).sum(dim=(0, 2)) / mask.sum()
    torch.testing.assert_close(lm.loss(codes, frame_mask=mask), -real)


def test_an_untrained_model_knows_nothing() -> None:
    torch.manual_seed(0)
    lm = EntropyLM(TINY)
    assert lm.loss(codes_of(lm, 50)).mean().item() == pytest.approx(math.log(16), abs=0.1)


@pytest.mark.parametrize("bad", [{"dim": 15}, {"num_heads": 3}, {"past_context": 0}])
def test_sizes_that_cannot_be_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        dataclasses.replace(TINY, **bad)


@pytest.mark.parametrize(("config", "seconds"), [(ENCODEC_LM_24KHZ, 3.5), (ENCODEC_LM_48KHZ, 3.5)])
def test_the_presets_hear_so_many_seconds(config: EntropyLMConfig, seconds: float) -> None:
    assert config.past_context == int(seconds * config.frame_rate)


def theirs(config: EntropyLMConfig, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package's model, of random weights. It imports torchaudio, which it does not need for this."""
    monkeypatch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
    package = pytest.importorskip("encodec.model", reason="pip install --no-deps encodec einops")
    torch.manual_seed(1)
    return package.LMModel(
        config.num_codebooks,
        config.codebook_size,
        config.dim,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        past_context=config.past_context,
    ).eval()


@torch.no_grad()
@pytest.mark.parametrize("config", [TINY, dataclasses.replace(ENCODEC_LM_24KHZ, past_context=40)], ids=["tiny", "24k"])
def test_steps_are_the_packages_to_the_bit(config: EntropyLMConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    other = theirs(config, monkeypatch)
    lm = EntropyLM(config).eval()
    names = {"linears.": "heads.", "transformer.": ""}
    state = {}
    for name, tensor in other.state_dict().items():
        for foreign, ours in names.items():
            name = name.replace(foreign, ours)
        state[name] = tensor
    lm.load_state_dict(state)
    codes = codes_of(lm, 60)[:, : max(2, config.num_codebooks // 4)]
    ours, past, offset = None, None, 0
    for previous in shifted(codes).unbind(-1):
        expected, past, offset = other(1 + previous[..., None], past, offset)
        found, ours = lm.step(previous, ours)
        assert torch.equal(found, expected[..., 0].transpose(1, 2))
    whole, _, _ = other(1 + shifted(codes))
    torch.testing.assert_close(lm.probabilities(codes), whole.permute(0, 2, 3, 1), atol=1e-6, rtol=0)
    assert NO_CODE + 1 == 0
