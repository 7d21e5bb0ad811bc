import dataclasses
from typing import Any

import pytest
import torch

from audiogen_cli.errors import InputError
from audiogen_cli.models.soundstream import Denoising, SoundStreamCodec, SoundStreamConfig
from audiogen_cli.models.streaming import decode_blocks, encode_blocks
from audiogen_cli.ops.gateloop import GateLoop

TINY = SoundStreamConfig(
    channels=4,
    strides=(2, 5),
    channel_mults=(2, 4),
    codebook_dim=8,
    codebook_size=16,
    rq_num_quantizers=3,
    attn_window_size=6,
    attn_dim_head=4,
    attn_heads=2,
)
FSQ = {"use_finite_scalar_quantizer": True, "finite_scalar_quantizer_levels": (4, 4), "codebook_size": None}
LFQ = {"use_lookup_free_quantizer": True, "rq_groups": 2}
OPTIONS: list[dict[str, Any]] = [
    {},
    FSQ,
    LFQ,
    {"rq_groups": 2, "rq_rotation_trick": False, "rq_stochastic_sample_codes": True},
    {"input_channels": 2, "use_gate_loop_layers": True, "squeeze_excite": True},
    {"use_local_attn": False, "pad_mode": "constant"},
    {"attn_dynamic_pos_bias": True, "attn_depth": 2, "enc_cycle_dilations": (1,), "dec_cycle_dilations": (1, 2)},
]


def codec(**options: Any) -> SoundStreamCodec:
    torch.manual_seed(0)
    model = SoundStreamCodec(dataclasses.replace(TINY, **options))
    model(torch.randn(2, model.channels, 1_000))  # k-means start
    return model.eval()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_encodes_decodes_and_learns(options: dict[str, Any]) -> None:
    model = codec(**options)
    waveform = torch.randn(2, model.channels, 123)
    codes = model.encode(waveform)
    assert codes.shape == (2, 3 * model.config.rq_groups, 13) == (2, model.num_codebooks, model.num_frames(123))
    assert codes.max() < model.codebook_size == 16
    assert model.decode(codes).shape == (2, model.channels, 130)
    torch.testing.assert_close(model(waveform).waveform, model.decode(codes)[..., :123], atol=1e-4, rtol=1e-3)
    output = model.train()(waveform, denoise=torch.tensor([True, False]))
    (output.waveform.square().mean() + output.commitment).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_block_by_block_it_makes_the_whole(options: dict[str, Any]) -> None:
    model, waveform = codec(**options), torch.randn(1, 2, 777)
    waveform = waveform[:, : model.channels]
    blocks = waveform.split([1, 99, 300, 0, 377], dim=-1)
    codes = torch.cat(list(encode_blocks(model, blocks, frames_per_step=11)), -1)
    assert torch.equal(codes, model.encode(waveform))
    decoded = torch.cat(list(decode_blocks(model, codes.split([5, 1, 40, 32], dim=-1), frames_per_step=11)), -1)
    torch.testing.assert_close(decoded, model.decode(codes), atol=1e-5, rtol=1e-4)


def test_no_frame_sees_later_samples() -> None:
    model = codec(pad_mode="constant", use_gate_loop_layers=True, squeeze_excite=True)
    waveform = torch.randn(1, 1, 200, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.encoder(waveform)[:, :, 9].square().sum(), waveform)
    assert (gradient[..., 100:] == 0).all() and (gradient[..., :100] != 0).any()
    latent = torch.randn(1, 8, 20, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.decoder(latent)[..., 99].square().sum(), latent)
    assert (gradient[..., 10:] == 0).all() and gradient[..., 9].abs().sum() > 0


def test_the_published_settings_make_the_published_rates() -> None:
    config = SoundStreamConfig(codebook_size=1024)
    assert (config.hop_length, config.widths) == (320, [32, 64, 128, 256, 512])
    assert SoundStreamConfig(codebook_size=1024, strides=(3, 4, 5, 8), target_sample_hz=24_000).hop_length == 480


@pytest.mark.parametrize("samples", [1, 9, 10, 11])
def test_sounds_shorter_than_the_padding_are_sounds_too(samples: int) -> None:
    model = codec()
    assert model(torch.randn(1, 1, samples)).waveform.shape == (1, 1, samples)


def test_fewer_codebooks_are_a_lower_rate_and_training_draws_how_many() -> None:
    model, waveform = codec(), torch.randn(1, 1, 400)
    assert torch.equal(model.encode(waveform, 2), model.encode(waveform)[:, :2])
    assert {model.train()(waveform).codes.shape[1] for _ in range(40)} == {2, 3}  # the cutoff index is 1


def test_denoising_is_two_answers_for_each_example_and_nothing_at_first() -> None:
    layer, signal = Denoising(3), torch.randn(2, 3, 5)
    for answer in (None, True, False, torch.tensor([True, False])):
        assert torch.equal(layer(signal, answer), signal)
    with torch.no_grad():
        layer.scale[1] = 2.0
    assert torch.equal(layer(signal, torch.tensor([True, False])), torch.stack([2 * signal[0], signal[1]]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"codebook_size": None}, "codebook_size"),
        ({"use_finite_scalar_quantizer": True}, "levels"),
        ({"finite_scalar_quantizer_levels": (4, 4)}, "levels"),
        (FSQ | {"codebook_size": 16}, "codebook_size"),
        (FSQ | {"use_lookup_free_quantizer": True}, "either"),
        (LFQ | {"codebook_size": 10}, "2, 4, 8"),
        ({"strides": (2, 4, 5)}, "equally long"),
        ({"rq_groups": 3}, "equal groups"),
        ({"rq_kwargs": {"threshold": 2}}, "threshold"),
        ({"channels": 0}, "1 or more"),
    ],
)
def test_settings_that_make_no_codec_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(TINY, **options)


def test_a_stereo_sound_is_no_batch_of_two_mono_ones() -> None:
    with pytest.raises(InputError, match="shape"):
        codec().encode(torch.randn(1, 2, 100))
    with pytest.raises(InputError, match="shape"):
        codec().decode(torch.zeros(1, 4, 5, dtype=torch.int64))


def test_a_gate_loop_that_adds_nothing_changes_nothing() -> None:
    """[12: a GateLoop, which has a shortcut of its own, is wrapped in another]"""
    model = codec(use_gate_loop_layers=True)
    for layers, signal in (
        (model.encoder.layers, torch.randn(1, 1, 100)),
        (model.decoder.layers, torch.randn(1, 8, 5)),
    ):
        gates = [part for part in layers.modules() if isinstance(part, GateLoop)]
        for gate in gates:
            torch.nn.init.zeros_(gate.in_proj.weight)
        others = [layer for layer in layers if not any(gate in layer.modules() for gate in gates)]
        assert gates and torch.equal(layers(signal), torch.nn.Sequential(*others)(signal))
