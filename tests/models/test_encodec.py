import dataclasses
import functools
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from audiogen_cli.config import from_dict, to_dict
from audiogen_cli.errors import ConfigError, InputError, ModelError
from audiogen_cli.models.encodec import (
    AUDIOGEN_16KHZ,
    ENCODEC_24KHZ,
    ENCODEC_48KHZ,
    MUSICGEN_32KHZ,
    Encodec,
    EncodecConfig,
    ScaledCodes,
)

TINY = EncodecConfig(
    sample_rate=600,
    dimension=6,
    num_filters=4,
    ratios=(3, 2),
    lstm_layers=1,
    pad_mode="constant",
    num_codebooks=3,
    codebook_size=16,
)
NORMALIZED = dataclasses.replace(TINY, channels=2, causal=False, norm="time_group_norm", normalize=True)
PRESETS = [ENCODEC_24KHZ, ENCODEC_48KHZ, AUDIOGEN_16KHZ, MUSICGEN_32KHZ]

# Foreign name of a tensor -> ours. Weight norm is called g and v in older files, original0 and original1 in newer ones.
AUDIOCRAFT_NAMES = [
    (r"^(encoder|decoder)\.model\.", r"\1."),
    (r"\.(conv|convtr)\.\1\.", ".conv."),
    (r"\.conv\.norm\.", ".norm."),
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
    (r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.stages.\1."),
]
TRANSFORMERS_NAMES = [
    (r"^(encoder|decoder)\.layers\.", r"\1."),
    (r"^quantizer\.layers\.(\d+)\.codebook\.", r"quantizer.stages.\1."),
]


def rename(state, table):
    return {functools.reduce(lambda name, rule: re.sub(*rule, name), table, name): state[name] for name in state}


def tiny(config=TINY):
    torch.manual_seed(0)
    codec = Encodec(config).eval()
    for stage in codec.quantizer.stages:
        stage.embed.normal_(std=0.1)
    return codec


def noise(config, length, batch=2):
    return torch.randn(batch, config.channels, length, generator=torch.Generator().manual_seed(length)) * 0.3


# ---- lengths, rates, codes


@pytest.mark.parametrize("length", [1, 2, 5, 6, 7, 11, 12, 13, 100])
def test_any_length_makes_ceil_of_length_over_hop_frames(length):
    codec = tiny()
    codes = codec.encode(noise(TINY, length))
    assert codes.shape == (2, 3, codec.num_frames(length)) == (2, 3, -(-length // 6))
    assert codes.dtype == torch.int64
    assert codec.decode(codes).shape == (2, 1, codec.num_frames(length) * 6)
    assert codec(noise(TINY, length)).waveform.shape == (2, 1, length)


def test_fewer_codebooks_are_the_first_codebooks():
    codec, waveform = tiny(), noise(TINY, 60)
    codes = codec.encode(waveform)
    assert torch.equal(codec.encode(waveform, num_codebooks=2), codes[:, :2])
    assert codec.decode(codes[:, :2]).shape == codec.decode(codes).shape
    assert not torch.equal(codec.decode(codes[:, :2]), codec.decode(codes))


def test_the_training_pass_says_what_encode_and_decode_say():
    codec, waveform = tiny(), noise(TINY, 50)
    output = codec(waveform)
    assert torch.equal(output.codes, codec.encode(waveform))
    torch.testing.assert_close(output.waveform, codec.decode(output.codes)[..., :50])
    assert output.commitment.ndim == 0


def test_training_reaches_every_parameter():
    codec = tiny().train()
    output = codec(noise(TINY, 96))
    (output.waveform.square().mean() + output.commitment).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in codec.parameters())


def test_a_batch_says_what_its_rows_say_alone():
    codec, waveform = tiny(), noise(TINY, 50)
    rows = torch.cat([codec.encode(row[None]) for row in waveform])
    assert torch.equal(codec.encode(waveform), rows)


@pytest.mark.parametrize("pad_mode", ["constant", "replicate"])
def test_a_causal_codec_never_hears_the_future(pad_mode):
    codec = tiny(dataclasses.replace(TINY, pad_mode=pad_mode))
    waveform = noise(TINY, 60, batch=1)
    latent_of = waveform.clone().requires_grad_()
    latent = codec.encoder(latent_of)
    for frame in range(10):
        (gradient,) = torch.autograd.grad(latent[..., frame].sum(), latent_of, retain_graph=True)
        assert not gradient[..., 6 * (frame + 1) :].any()
    codes = codec.encode(waveform)
    assert torch.equal(codec.encode(waveform[..., :36]), codes[..., :6])
    torch.testing.assert_close(codec.decode(codes[..., :6]), codec.decode(codes)[..., :36])


def test_a_waveform_of_the_wrong_shape_is_refused():
    for shape in ((1, 2, 50), (1, 50), (1, 1, 0)):
        with pytest.raises(InputError, match="samples"):
            tiny().encode(torch.zeros(shape))
    for shape in ((1, 4, 5), (3, 5), (1, 3, 0)):
        with pytest.raises(InputError, match="frames"):
            tiny().decode(torch.zeros(shape, dtype=torch.int64))


# ---- loudness beside the codes


def test_a_model_that_normalizes_gives_codes_that_do_not_depend_on_loudness():
    codec, waveform = tiny(NORMALIZED), noise(NORMALIZED, 60)
    quiet, loud = codec.encode_scaled(waveform), codec.encode_scaled(8.0 * waveform)
    assert torch.equal(quiet.codes, loud.codes)
    torch.testing.assert_close(loud.scale, 8.0 * quiet.scale)
    torch.testing.assert_close(codec.decode_scaled(loud), 8.0 * codec.decode_scaled(quiet))
    torch.testing.assert_close(quiet.scale, waveform.mean(1).square().mean(1).sqrt()[:, None, None] + 1e-8)
    torch.testing.assert_close(codec(waveform).waveform, codec.decode_scaled(quiet))


def test_a_model_that_normalizes_survives_silence():
    codec = tiny(NORMALIZED)
    silent = codec.encode_scaled(torch.zeros(1, 2, 60))
    assert silent.scale.item() == pytest.approx(1e-8)
    assert codec.decode_scaled(silent).abs().max() < 1e-6


def test_a_model_that_normalizes_refuses_to_lose_the_loudness():
    codec = tiny(NORMALIZED)
    with pytest.raises(ModelError, match="encode_scaled"):
        codec.encode(noise(NORMALIZED, 60))
    with pytest.raises(ModelError, match="decode_scaled"):
        codec.decode(torch.zeros(1, 3, 5, dtype=torch.int64))


def test_a_model_that_does_not_normalize_has_scale_one():
    codec, waveform = tiny(), noise(TINY, 60)
    scaled = codec.encode_scaled(waveform)
    assert scaled.scale.eq(1.0).all()
    assert torch.equal(codec.decode_scaled(scaled), codec.decode(codec.encode(waveform)))


# ---- configuration and presets


def test_segments_of_the_48_khz_model_share_a_hundredth():
    assert (ENCODEC_48KHZ.segment_length, ENCODEC_48KHZ.segment_stride) == (48_000, 47_520)
    assert (ENCODEC_24KHZ.segment_length, ENCODEC_24KHZ.segment_stride) == (None, None)


@pytest.mark.parametrize(
    ("config", "hop", "rate"),
    [(ENCODEC_24KHZ, 320, 75), (ENCODEC_48KHZ, 320, 150), (AUDIOGEN_16KHZ, 320, 50), (MUSICGEN_32KHZ, 640, 50)],
)
def test_presets_have_the_published_frame_rates(config, hop, rate):
    with torch.device("meta"):
        codec = Encodec(config)
    assert (codec.hop_length, codec.frame_rate) == (hop, rate)
    assert codec.num_frames(codec.sample_rate) == rate


# published: tensors of the file, millions of values (93.1, 235.7 and 236.0 MB of float32)
@pytest.mark.parametrize(
    ("config", "tensors", "millions"),
    [(ENCODEC_24KHZ, 252, 93.1 / 4), (AUDIOGEN_16KHZ, 116, 58.92), (MUSICGEN_32KHZ, 116, 236.0 / 4)],
)
def test_presets_are_as_large_as_the_published_files(config, tensors, millions):
    with torch.device("meta"):
        state = Encodec(config).state_dict()
    assert len(state) == tensors
    assert sum(tensor.numel() for tensor in state.values()) / 1e6 == pytest.approx(millions, rel=1e-3)


@pytest.mark.parametrize("config", [*PRESETS, TINY, NORMALIZED])
def test_a_config_survives_json(config):
    assert from_dict(EncodecConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"overlap": 1.0}, "overlap"),
        ({"segment_seconds": 0.0}, "segment_seconds"),
        ({"codebook_size": 0}, "codebook_size"),
        ({"causal": True, "norm": "time_group_norm"}, "causal"),
    ],
)
def test_settings_that_make_no_codec_are_refused(change, hint):
    with pytest.raises(ConfigError, match=hint):
        from_dict(EncodecConfig, to_dict(TINY) | change)


def test_folding_weight_norm_changes_no_output_and_the_config_says_what_is_left():
    codec, waveform = tiny(), noise(TINY, 50)
    latent, codes = codec.encoder(waveform), codec.encode(waveform)
    decoded, fingerprint = codec.decode(codes), codec.fingerprint()
    folded = codec.fold_weight_norm()
    torch.testing.assert_close(folded.encoder(waveform), latent)
    assert torch.equal(folded.encode(waveform), codes)
    torch.testing.assert_close(folded.decode(codes), decoded)
    assert folded.fingerprint() == fingerprint
    assert not any("parametrizations" in name for name in folded.state_dict())
    again = Encodec(folded.config).eval()
    again.load_state_dict(folded.state_dict())
    assert torch.equal(again.decode(codes), folded.decode(codes))


# ---- the same numbers as others


def fixture_folder(kind):
    """AUDIOLM_FIXTURES names a folder that holds audiocraft/<kind>; without it, ../shared/fixtures beside the clone."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
    folder = Path(os.environ.get("AUDIOLM_FIXTURES", beside)) / "audiocraft" / kind
    if not folder.is_dir():
        pytest.skip(f"no AudioCraft fixtures at {folder}; set AUDIOLM_FIXTURES to the folder that holds them")
    return folder


def audiocraft_config(text):
    yaml = pytest.importorskip("yaml")
    xp = yaml.safe_load(text)
    seanet = xp["seanet"]
    assert (seanet["activation"], seanet["disable_norm_outer_blocks"]) == ("ELU", 0)
    same = ("channels", "dimension", "causal", "norm", "pad_mode", "true_skip", "compress", "dilation_base")
    kernels = ("kernel_size", "residual_kernel_size", "last_kernel_size")
    return EncodecConfig(
        **{name: seanet[name] for name in (*same, *kernels)},
        sample_rate=xp["sample_rate"],
        ratios=tuple(seanet["ratios"]),
        num_filters=seanet["n_filters"],
        num_residual_layers=seanet["n_residual_layers"],
        lstm_layers=seanet["lstm"],
        elu_alpha=seanet["activation_params"]["alpha"],
        trim_right_ratio=seanet["decoder"]["trim_right_ratio"],
        normalize=xp["encodec"]["renormalize"],
        num_codebooks=xp["rvq"]["n_q"],
        codebook_size=xp["rvq"]["bins"],
    )


def audiocraft(kind):
    folder = fixture_folder(kind)
    (file,) = folder.glob("models--facebook--*/snapshots/*/compression_state_dict.bin")
    package = torch.load(file, weights_only=True)
    codec = Encodec(audiocraft_config(package["xp.cfg"])).eval()
    codec.load_state_dict(rename(package["best_state"], AUDIOCRAFT_NAMES))
    return codec, {name: torch.from_numpy(array) for name, array in np.load(folder / "expected.npz").items()}


@pytest.mark.parametrize("folded", [False, True], ids=["weight norm", "folded"])
@pytest.mark.parametrize("kind", ["audiogen", "musicgen"])
def test_audiocraft_weights_give_audiocraft_codes_and_sound(kind, folded):
    codec, expected = audiocraft(kind)
    if folded:
        codec.fold_weight_norm()
    assert torch.equal(codec.encode(expected["wav"]), expected["codes"])
    with torch.no_grad():
        torch.testing.assert_close(codec.decode(expected["codes"]), expected["recon"], atol=1e-4, rtol=0)
        torch.testing.assert_close(codec.decode(expected["tokens"]), expected["audio"], atol=1e-4, rtol=0)


@torch.no_grad()
def transformers_model(config):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.EncodecModel(
        transformers.EncodecConfig(
            # four bits at 100 frames per second, so that 1.2 kbps are three codebooks
            target_bandwidths=[1.2],
            sampling_rate=config.sample_rate,
            audio_channels=config.channels,
            normalize=config.normalize,
            hidden_size=config.dimension,
            num_filters=config.num_filters,
            num_residual_layers=config.num_residual_layers,
            kernel_size=config.kernel_size,
            last_kernel_size=config.last_kernel_size,
            residual_kernel_size=config.residual_kernel_size,
            upsampling_ratios=list(config.ratios),
            norm_type=config.norm,
            dilation_growth_rate=config.dilation_base,
            use_causal_conv=config.causal,
            pad_mode=config.pad_mode,
            compress=config.compress,
            num_lstm_layers=config.lstm_layers,
            trim_right_ratio=config.trim_right_ratio,
            codebook_size=config.codebook_size,
            use_conv_shortcut=not config.true_skip,
        )
    ).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("original0") or ".norm." in name:
            tensor.uniform_(0.4, 1.2)
    place_codebooks_among(model.encoder(noise(config, 100 * config.hop_length))[0].T, model.quantizer)
    return model


def place_codebooks_among(vectors, quantizer):
    """Untrained latents hardly move, and codebooks far from them would say the same code for ever."""
    for layer in quantizer.layers:
        size = layer.codebook.codebook_size
        layer.codebook.embed.copy_(vectors[:size])
        vectors = (vectors - layer.codebook.decode(layer.codebook.encode(vectors)))[size:]


TRANSFORMERS_CONFIGS = {
    "causal, conv shortcut, weight norm, reflect": dataclasses.replace(TINY, pad_mode="reflect", num_residual_layers=2),
    "causal, shifted": dataclasses.replace(TINY, trim_right_ratio=0.5, lstm_layers=2),
    "symmetric, true skip, odd strides": dataclasses.replace(TINY, causal=False, true_skip=True, ratios=(2, 3)),
    "symmetric, group norm, stereo, loudness": dataclasses.replace(NORMALIZED, pad_mode="reflect"),
}


@pytest.mark.parametrize("config", TRANSFORMERS_CONFIGS.values(), ids=TRANSFORMERS_CONFIGS)
@pytest.mark.parametrize("length", [1, 5, 100])
@torch.no_grad()
def test_transformers_weights_give_transformers_codes_and_sound(config, length):
    model, waveform = transformers_model(config), noise(config, length)
    codec = Encodec(config).eval()
    codec.load_state_dict(rename(model.state_dict(), TRANSFORMERS_NAMES))
    theirs = model.encode(waveform, bandwidth=1.2)
    ours = codec.encode_scaled(waveform)
    scale = theirs.audio_scales[0]
    normalized = waveform if scale is None else waveform / scale[:, :, None]
    torch.testing.assert_close(codec.encoder(waveform / ours.scale), model.encoder(normalized), atol=1e-5, rtol=1e-5)
    assert torch.equal(ours.codes, theirs.audio_codes[0])
    assert length < 100 or all(len(stage.unique()) > 3 for stage in ours.codes.unbind(1))
    sound = model.decode(theirs.audio_codes, theirs.audio_scales).audio_values
    torch.testing.assert_close(codec.decode_scaled(ScaledCodes(ours.codes, ours.scale)), sound, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["audiogen", "musicgen"])
@torch.no_grad()
def test_audiocraft_weights_make_the_same_latent_in_transformers(kind):
    """The fixture's codes hardly vary, so they say little about the encoder; its latent says everything."""
    codec, expected = audiocraft(kind)
    encoder = transformers_model(dataclasses.replace(codec.config, codebook_size=16)).encoder
    encoder.load_state_dict({f"layers.{name}": tensor for name, tensor in codec.encoder.state_dict().items()})
    waveform = expected["wav"][..., :-123]  # a length that leaves the last frame of every layer to be completed
    torch.testing.assert_close(codec.encoder(waveform), encoder(waveform), atol=1e-5, rtol=1e-5)
