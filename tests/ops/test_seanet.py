import dataclasses

import pytest
import torch

from audiogen_cli.config import from_dict, to_dict
from audiogen_cli.errors import ConfigError
from audiogen_cli.ops.seanet import ResidualBlock, ResidualLSTM, SEANetConfig, SEANetDecoder, SEANetEncoder

TINY = SEANetConfig(dimension=6, num_filters=4, ratios=(3, 2), lstm_layers=1, pad_mode="constant")
VARIANTS = {
    "causal": TINY,
    "symmetric": dataclasses.replace(TINY, causal=False),
    "reflect": dataclasses.replace(TINY, pad_mode="reflect"),
    "replicate": dataclasses.replace(TINY, pad_mode="replicate"),
    "group norm": dataclasses.replace(TINY, causal=False, norm="time_group_norm"),
    "no norm": dataclasses.replace(TINY, norm="none"),
    "true skip": dataclasses.replace(TINY, true_skip=True, channels=2),
    "deep": dataclasses.replace(TINY, num_residual_layers=3, dilation_base=3, compress=4, lstm_layers=0),
    "shifted": dataclasses.replace(TINY, trim_right_ratio=0.5),
    "odd": dataclasses.replace(TINY, causal=False, ratios=(5, 1, 3), kernel_size=5, last_kernel_size=3),
}


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_every_length_makes_whole_frames_and_comes_back_at_least_as_long(config):
    torch.manual_seed(0)
    encoder, decoder, hop = SEANetEncoder(config), SEANetDecoder(config), config.hop_length
    for length in (1, 2, hop - 1, hop, hop + 1, 5 * hop + 3):
        latent = encoder(torch.randn(2, config.channels, length))
        assert latent.shape == (2, config.dimension, -(-length // hop))
        waveform = decoder(latent)
        assert waveform.shape == (2, config.channels, latent.shape[-1] * hop)
        assert waveform.isfinite().all()


@pytest.mark.parametrize("config", [TINY, VARIANTS["replicate"], VARIANTS["deep"]])
def test_a_causal_encoder_never_sees_later_samples(config):
    encoder, hop = SEANetEncoder(config), config.hop_length
    waveform = torch.randn(1, config.channels, 8 * hop + 2, requires_grad=True)
    latent = encoder(waveform)
    for frame in range(9):
        (gradient,) = torch.autograd.grad(latent[..., frame].sum(), waveform, retain_graph=True)
        assert not gradient[..., hop * (frame + 1) :].any()
        assert gradient[..., hop * frame : hop * (frame + 1)].any()


@pytest.mark.parametrize("config", [TINY, VARIANTS["replicate"], VARIANTS["deep"]])
def test_a_causal_decoder_never_sees_later_frames(config):
    decoder, hop = SEANetDecoder(config), config.hop_length
    latent = torch.randn(1, config.dimension, 6, requires_grad=True)
    waveform = decoder(latent)
    for sample in range(0, 6 * hop, 2):
        (gradient,) = torch.autograd.grad(waveform[..., sample].sum(), latent, retain_graph=True)
        assert not gradient[..., sample // hop + 1 :].any()


def test_reflection_shows_later_samples_to_the_first_frames_only():
    """Where the padding that the 24 kHz model was published with is not causal: a mirror at the start."""
    config = VARIANTS["reflect"]
    encoder, hop = SEANetEncoder(config), config.hop_length
    waveform = torch.randn(1, 1, 30 * hop, requires_grad=True)
    latent = encoder(waveform)

    def future(frame):
        (gradient,) = torch.autograd.grad(latent[..., frame].sum(), waveform, retain_graph=True)
        return gradient[..., hop * (frame + 1) :].any()

    assert future(0)
    assert not any(future(frame) for frame in range(10, 30))


def test_a_prefix_of_a_causal_latent_is_the_latent_of_the_prefix():
    encoder, hop = SEANetEncoder(TINY), TINY.hop_length
    waveform = torch.randn(1, 1, 9 * hop)
    torch.testing.assert_close(encoder(waveform)[..., :4], encoder(waveform[..., : 4 * hop]))


def test_layers_have_the_numbers_of_published_checkpoints():
    config = dataclasses.replace(SEANetConfig(), num_filters=2, dimension=4)
    encoder = {name.split(".")[0] for name in SEANetEncoder(config).state_dict()}
    decoder = {name.split(".")[0] for name in SEANetDecoder(config).state_dict()}
    assert encoder == {"0", "1", "3", "4", "6", "7", "9", "10", "12", "13", "15"}
    assert decoder == {"0", "1", "3", "4", "6", "7", "9", "10", "12", "13", "15"}
    assert isinstance(SEANetEncoder(config)[13], ResidualLSTM)
    assert isinstance(SEANetDecoder(config)[1], ResidualLSTM)


def test_the_encoder_strides_in_the_reverse_order_of_the_ratios():
    strides = [layer.stride for layer in SEANetEncoder(TINY) if getattr(layer, "stride", 1) > 1]
    assert strides == [2, 3]


def test_a_residual_block_with_a_silent_branch_is_its_shortcut():
    block = ResidualBlock(dataclasses.replace(TINY, true_skip=True, norm="none"), 4, dilation=1)
    for parameter in block.block[3].parameters():
        torch.nn.init.zeros_(parameter)
    signal = torch.randn(1, 4, 9)
    torch.testing.assert_close(block(signal), signal)


def test_residual_blocks_dilate_by_powers_of_the_base():
    encoder = SEANetEncoder(VARIANTS["deep"])
    assert [encoder[n].block[1].conv.dilation[0] for n in (1, 2, 3)] == [1, 3, 9]


def test_a_config_survives_json():
    assert from_dict(SEANetConfig, to_dict(VARIANTS["odd"])) == VARIANTS["odd"]


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"norm": "time_group_norm"}, "weight_norm"),
        ({"causal": False, "trim_right_ratio": 0.5}, "trim_right_ratio"),
        ({"trim_right_ratio": 1.5}, "trim_right_ratio"),
        ({"ratios": []}, "ratios"),
        ({"ratios": [4, 0]}, "ratios"),
        ({"num_filters": 3}, "multiple"),
        ({"channels": 0}, "channels"),
        ({"lstm_layers": -1}, "lstm_layers"),
        ({"pad_mode": "circular"}, "reflect"),
    ],
)
def test_settings_that_make_no_network_are_refused(change, hint):
    with pytest.raises(ConfigError, match=hint):
        from_dict(SEANetConfig, to_dict(TINY) | change)
